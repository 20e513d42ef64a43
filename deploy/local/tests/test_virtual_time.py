"""A day passes in milliseconds, in order; what would hang or lie is refused."""

import asyncio
import time

import pytest

from catalyst.local.virtual_time import Deadlock, VirtualLoop, virtual_loop


def test_a_day_passes_at_once_and_in_order() -> None:
    seen: list[tuple[float, str]] = []

    async def wake(after: float, name: str) -> None:
        await asyncio.sleep(after)
        seen.append((asyncio.get_running_loop().time(), name))

    async def day() -> None:
        await asyncio.gather(wake(86_400, "evening"), wake(3_600, "morning"), wake(0, "now"))

    begun = time.monotonic()
    with virtual_loop() as runner:
        runner.run(day())
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        assert loop.utc_now().isoformat() == "2026-01-02T00:00:00+00:00"
    assert time.monotonic() - begun < 1
    assert seen == [(0, "now"), (3_600, "morning"), (86_400, "evening")]


def test_timeouts_fire_at_their_time() -> None:
    async def patient() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.sleep(31)
        return asyncio.get_running_loop().time()

    with virtual_loop() as runner:
        assert runner.run(patient()) == 30


def test_waiting_for_nothing_is_a_deadlock() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    with virtual_loop() as runner, pytest.raises(Deadlock):
        runner.run(forever())


def test_threads_may_still_answer() -> None:
    with virtual_loop() as runner:
        assert runner.run(asyncio.to_thread(lambda: 42)) == 42


def test_sockets_are_refused() -> None:
    with virtual_loop() as runner, pytest.raises(RuntimeError, match="opens no connection"):
        runner.run(asyncio.open_connection("127.0.0.1", 1))
