"""Turns at the API server: bounded, urgent first, none lost."""

import asyncio

import pytest

from catalyst.kube.turns import Turns, urgency


async def test_urgent_work_goes_before_what_waits_already() -> None:
    turns, served = Turns(1), []
    release = asyncio.Event()

    async def hold() -> None:
        async with turns:
            await release.wait()

    async def work(name: str, priority: int) -> None:
        urgency.set(priority)
        async with turns:
            served.append(name)

    async with asyncio.TaskGroup() as group:
        group.create_task(hold())
        await asyncio.sleep(0)
        for name, priority in (("bulk 1", 10), ("bulk 2", 10), ("normal", 0), ("urgent", -10)):
            group.create_task(work(name, priority))
        await asyncio.sleep(0)
        release.set()
    assert served == ["urgent", "normal", "bulk 1", "bulk 2"]


async def test_never_more_at_once_than_allowed() -> None:
    turns, inside, most = Turns(3), 0, 0

    async def work() -> None:
        nonlocal inside, most
        async with turns:
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(work() for _ in range(20)))
    assert most == 3


async def test_a_cancelled_wait_loses_no_turn() -> None:
    turns = Turns(1)
    entered = asyncio.Event()

    async def work() -> None:
        async with turns:
            entered.set()

    await turns.__aenter__()
    given_up, patient = asyncio.create_task(work()), asyncio.create_task(work())
    await asyncio.sleep(0)
    await turns.__aexit__(None, None, None)  # the turn is the first one's now
    given_up.cancel()
    await asyncio.wait_for(patient, 1)
    assert entered.is_set()
    async with asyncio.timeout(1), turns:
        pass


def test_no_turns_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at least 1"):
        Turns(0)
