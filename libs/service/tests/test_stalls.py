"""A loop that something holds up is seen; one that waits is not held up."""

import asyncio
import time

from catalyst.service.stalls import Stalls


async def test_what_holds_the_loop_up_is_seen_as_long_as_it_was() -> None:
    stalls = Stalls()
    looking = asyncio.create_task(stalls.run(every=0.01))
    await asyncio.sleep(0.05)
    time.sleep(0.3)  # noqa: ASYNC251 - this is what it is about
    await asyncio.sleep(0.05)
    looking.cancel()
    assert stalls.longest >= 0.28


async def test_waiting_is_no_stall() -> None:
    stalls = Stalls()
    looking = asyncio.create_task(stalls.run(every=2.0))
    await asyncio.sleep(2.2)
    looking.cancel()
    assert stalls.longest < 1.5, "nobody held it up; a busy machine may, for less than it waits"
