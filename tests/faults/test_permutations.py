"""A hundred pull requests at once, each told in another order, some of it twice: each ends as its facts say."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from bursts import disturbed, history
from guarantees import converges, nothing_acknowledged_is_lost, quick, scene, wanted, with_project
from processes import process

from catalyst.local.installation import Installation

PULL_REQUESTS = 100
MOST = 6


async def test_a_hundred_permutations(installation: Installation, tmp_path: Path) -> None:
    chance = random.Random(3)
    ingest, controller = process("webhook-ingest", installation, tmp_path), quick(installation, tmp_path)
    async with scene(installation, ingest, controller) as on:
        stage = on.stage
        await with_project(on)
        histories = [history(stage, number, chance, MOST) for number in range(1, PULL_REQUESTS + 1)]
        at_once = asyncio.Semaphore(16)

        async def tell(number: int) -> None:
            for delivery, payload in disturbed(histories[number], chance):
                async with at_once:
                    await on.sender.deliver(payload, delivery)

        await asyncio.gather(*(tell(number) for number in range(PULL_REQUESTS)))
        want = wanted(stage, [one for told in histories for one in told])
        assert len(want) == PULL_REQUESTS
        assert 10 < sum(commit is None for commit in want.values()) < 90  # both ends are among them
        await converges(on, want)
        await nothing_acknowledged_is_lost(on)
        await converges(on, want)  # what came late has changed nothing
