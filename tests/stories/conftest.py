"""The services of the stories run anew for each one, so that what one leaves in memory does not help another."""

import os
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from stage import Stage, operating, services

from catalyst.events.topology import DECISIONS
from catalyst.local.installation import Installation


@pytest.fixture
async def stage(installation: Installation, request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    async with operating(installation) as operator:
        async with services(installation) as url:
            stage = Stage(installation, url, operator)
            yield stage
        if folder := os.environ.get("CATALYST_CORPUS"):
            lines = [zlib.decompress(s.data) + b"\n" async for s in operator.bus.replay(DECISIONS, f"decision.{stage.team}.>")]
            name = request.node.nodeid.replace("/", "-").replace("[", "-").replace("]", "")
            (Path(folder) / f"{name}.jsonl").write_bytes(b"".join(lines))
