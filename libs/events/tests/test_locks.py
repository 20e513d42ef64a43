"""The lock on a real server: one leads, the next takes over when it stops, dies or is cut off; tokens only grow."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from catalyst.events.bus import Bus
from catalyst.events.errors import Unpublished
from catalyst.events.locks import Lock, LostLock
from catalyst.events.topology import LOCKS

QUICK = 2.0


class Leads:
    """What a replica does while it leads: says so, with its token."""

    def __init__(self, bus: Bus, name: str, log: list[tuple[str, int]]) -> None:
        self.lock = Lock(bus, "dns-proxy", name, duration=QUICK)
        self._name, self._log = name, log

    async def __call__(self) -> None:
        self._log.append((self._name, self.lock.fence()))
        await asyncio.Event().wait()


async def until(holds: Callable[[], bool], within: float = 8.0) -> None:
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0.02)


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_one_leads_and_an_orderly_end_hands_over_at_once(bus_of: Any) -> None:
    bus, log = await bus_of("dns-proxy"), list[tuple[str, int]]()
    first, second = Leads(bus, "first", log), Leads(bus, "second", log)
    one = asyncio.create_task(first.lock.run(first))
    await until(lambda: first.lock.valid)
    two = asyncio.create_task(second.lock.run(second))
    await asyncio.sleep(2 * QUICK)
    assert [name for name, _ in log] == ["first"]
    with pytest.raises(LostLock, match=r"second does not hold lock\.dns-proxy"):
        second.lock.fence()
    began = asyncio.get_running_loop().time()
    await ended(one)
    await until(lambda: len(log) == 2)
    assert asyncio.get_running_loop().time() - began < QUICK
    assert [name for name, _ in log] == ["first", "second"]
    assert log[1][1] > log[0][1], "a token that does not grow fences nothing"
    await ended(two)


class Slow:
    """A bus whose answers, once it is `late`, come after a while: what was asked is done at once."""

    def __init__(self, bus: Bus) -> None:
        self.bus, self.late, self.last = bus, 0.0, bus.last
        self.stored = asyncio.Event()

    async def swap(self, subject: str, body: bytes, *, expected: int) -> int | None:
        sequence = await self.bus.swap(subject, body, expected=expected)
        if late := self.late:
            self.late = 0.0
            self.stored.set()
            await asyncio.sleep(late)
        return sequence


async def test_an_orderly_end_in_the_middle_of_a_beat_hands_over_too(bus_of: Any) -> None:
    bus = await bus_of("dns-proxy")
    slow = Slow(bus)
    lock = Lock(slow, "dns-proxy", "first", duration=QUICK)
    one = asyncio.create_task(lock.run(asyncio.Event().wait))  # type: ignore[arg-type]
    await until(lambda: lock.valid)
    slow.late = 60.0
    await slow.stored.wait()
    await ended(one)
    assert await Lock(bus, "dns-proxy", "second", duration=QUICK)._acquired()


async def test_a_leader_that_falls_silent_is_replaced_after_its_time(bus_of: Any) -> None:
    bus, log = await bus_of("dns-proxy"), list[tuple[str, int]]()
    first, second = Leads(bus, "first", log), Leads(bus, "second", log)
    assert await first.lock._acquired()  # and never beats again, like a process that was killed
    two = asyncio.create_task(second.lock.run(second))
    await until(lambda: second.lock.valid)
    assert not first.lock.valid
    with pytest.raises(LostLock):
        first.lock.fence()
    assert second.lock.token > first.lock.token
    await ended(two)


async def test_one_whose_record_was_replaced_stops_leading(bus_of: Any) -> None:
    bus, log = await bus_of("dns-proxy"), list[tuple[str, int]]()
    first = Leads(bus, "first", log)
    one = asyncio.create_task(first.lock.run(first))
    await until(lambda: first.lock.valid)
    newest = await bus.last(LOCKS, "lock.dns-proxy")
    while await bus.swap("lock.dns-proxy", b'{"holder": "thief"}', expected=newest.sequence) is None:
        newest = await bus.last(LOCKS, "lock.dns-proxy")
    await until(lambda: not first.lock.valid)
    await until(lambda: len(log) == 2)  # and leads again once the thief's record has run out
    await ended(one)


async def test_a_lost_server_shuts_the_fence_in_time_and_it_opens_again(server: Any, bus_of: Any) -> None:
    bus, log = await bus_of("dns-proxy"), list[tuple[str, int]]()
    first = Leads(bus, "first", log)
    one = asyncio.create_task(first.lock.run(first))
    await until(lambda: first.lock.valid)
    server.stop()
    await until(lambda: not first.lock.valid)
    with pytest.raises(LostLock):
        first.lock.fence()
    server.start()
    # Nobody else led meanwhile: it goes on where it was, or begins anew with a greater token.
    await until(lambda: first.lock.valid, within=20)
    assert [token for _, token in log] == sorted({token for _, token in log})
    await ended(one)


async def test_a_swap_that_comes_second_is_told(bus_of: Any) -> None:
    bus = await bus_of("dns-proxy")
    first = await bus.swap("lock.dns-proxy", b"{}", expected=0)
    assert first is not None
    assert await bus.swap("lock.dns-proxy", b"{}", expected=0) is None
    assert await bus.swap("lock.dns-proxy", b"{}", expected=first) == first + 1


async def test_another_services_lock_is_refused(bus_of: Any) -> None:
    bus = await bus_of("dns-proxy", publish_timeout=0.5)
    with pytest.raises(Unpublished, match=r"lock\.notifier"):
        await bus.swap("lock.notifier", b"{}", expected=0)
