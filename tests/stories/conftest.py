"""The services of the stories run anew for each one, so that what one leaves in memory does not help another."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from corpus import keep_decisions
from stage import Stage, operating, services

from catalyst.local.installation import Installation


@pytest.fixture
def controller_settings() -> dict[str, Any]:
    """What env-controller is told besides; a module of stories may say otherwise."""
    return {}


@pytest.fixture
async def stage(
    installation: Installation, controller_settings: dict[str, Any], request: pytest.FixtureRequest
) -> AsyncIterator[Stage]:
    async with operating(installation) as operator:
        async with services(installation, controller_settings) as url:
            stage = Stage(installation, url, operator)
            yield stage
        await keep_decisions(operator.bus, stage.team, request.node.nodeid)
