"""A real nats-server with the topology, the services' users to tell a history, and `catalyst` as people run it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from desk import Desk

from catalyst.local.nats import Nats


@pytest.fixture
async def desk(nats: Nats, tmp_path: Path) -> AsyncIterator[Desk]:
    await asyncio.to_thread(nats.apply_topology)
    async with AsyncExitStack() as stack:
        yield Desk(nats, tmp_path, stack)
