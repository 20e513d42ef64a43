"""In the middle of a burst of forty pull requests something is killed or frozen, and comes back.

The sender repeats what was not answered 202, with the same id. Nothing that was answered 202 is lost, and 60 s after
the last fault all is as the facts say.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from bursts import disturbed, history
from guarantees import (
    PROCESS_BOOT,
    Scene,
    converges,
    is_ready,
    nothing_acknowledged_is_lost,
    scene,
    wanted,
    with_project,
)
from processes import process

from catalyst.local.installation import Installation

PULL_REQUESTS = 40
CONVERGED = 60.0
FROZEN = 8.0


async def nats_killed(on: Scene) -> None:
    nats = on.stage.installation.nats
    await asyncio.to_thread(nats.kill)
    await asyncio.to_thread(nats.start)


async def nats_frozen(on: Scene) -> None:
    nats = on.stage.installation.nats
    nats.freeze()
    try:
        await asyncio.sleep(FROZEN)  # the fault itself
    finally:
        nats.thaw()


async def apiserver_killed(on: Scene) -> None:
    plane = on.stage.installation.control_plane
    await asyncio.to_thread(plane.apiserver.kill)
    await asyncio.to_thread(plane.restart_apiserver)


async def ingest_killed(on: Scene) -> None:
    await asyncio.to_thread(on.ingest.part.kill)
    await asyncio.to_thread(on.ingest.again)
    await on.stage.until_async(lambda: is_ready(on.ingest), "webhook-ingest is back", within=PROCESS_BOOT)


@pytest.mark.parametrize("fault", [nats_killed, nats_frozen, apiserver_killed, ingest_killed])
async def test_in_the_middle_of_a_burst(
    fault: Callable[[Scene], Awaitable[None]], installation: Installation, tmp_path: Path
) -> None:
    chance = random.Random(fault.__name__)
    ingest = process("webhook-ingest", installation, tmp_path)
    async with scene(installation, ingest, process("env-controller", installation, tmp_path)) as on:
        stage = on.stage
        await with_project(on)
        told = [one for number in range(1, PULL_REQUESTS + 1) for one in history(stage, number, chance, 4)]
        burst, at_once = disturbed(told, chance), asyncio.Semaphore(8)

        async def send(delivery: str, payload: dict[str, object]) -> None:
            async with at_once:
                await on.sender.deliver(payload, delivery)

        sending = asyncio.gather(*(send(*one) for one in burst))
        await on.until(lambda: len(on.sender.accepted) > len(told) // 3, "the middle of the burst")
        assert not sending.done()
        await fault(on)
        over = asyncio.get_running_loop().time()
        await sending
        want = wanted(stage, told)
        await converges(on, want, within=CONVERGED - (asyncio.get_running_loop().time() - over))
        await nothing_acknowledged_is_lost(on)
        await converges(on, want)  # and stays so
