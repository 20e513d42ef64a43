"""The services of the stories run anew for each one, so that what one leaves in memory does not help another."""

from collections.abc import AsyncIterator

import pytest
from stage import Stage, operating, services

from catalyst.local.installation import Installation


@pytest.fixture
async def stage(installation: Installation) -> AsyncIterator[Stage]:
    async with services(installation) as url, operating(installation) as operator:
        yield Stage(installation, url, operator)
