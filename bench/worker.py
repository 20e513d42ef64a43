"""Our side of the bus benchmarks, as a process of its own: the twin of limits/follow.py and limits/replay.py.

Arguments as theirs, and `work`: follow or replay.
"""

import asyncio
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvloop

from bench.limits.arguments import answer, contents, given
from catalyst.events.binding import decode
from catalyst.events.bus import Bus, BusSettings, Received
from catalyst.events.errors import Unpublished
from catalyst.events.topology import CONSUMERS
from catalyst.model.clock import utc_now
from catalyst.service.run import keep_boot_memory


async def connected(url: str, user: dict[str, str], name: str) -> Bus:
    settings = BusSettings(url, Path(user["seed"]), inbox_prefix=user["inbox"])
    return await Bus.connect(settings, name=name, clock=utc_now)


async def follow(arguments: dict[str, Any]) -> None:
    """Publishes and handles until it is ended; see limits/follow.py."""
    consumer = await connected(arguments["url"], arguments["consumer"], "consumer")
    publisher = await connected(arguments["url"], arguments["publisher"], "publisher")
    declared = next(
        found for found in CONSUMERS if (found.stream, found.name) == (arguments["stream"], arguments["durable"])
    )
    event = decode(contents(arguments["body"]))
    sent: dict[str, float] = {}

    async def handle(received: Received) -> None:
        handled = time.monotonic()
        sys.stdout.write(f"{sent.pop(received.event.id, handled)} {handled}\n")
        sys.stdout.flush()

    async def publish(name: str) -> None:
        sent[name] = time.monotonic()
        try:
            await publisher.publish(replace(event, id=name))
        except Unpublished as error:
            sys.stderr.write(f"{error}\n")

    consuming = asyncio.create_task(consumer.consume(declared, handle, concurrency=declared.max_ack_pending))
    keep_boot_memory()
    running: set[asyncio.Task[Any]] = {consuming}
    loop = asyncio.get_running_loop()
    due, number, run = loop.time(), 0, time.time_ns()
    while not consuming.done():
        due += 1 / arguments["rate"]
        number += 1
        task = asyncio.create_task(publish(f"{run}-{number}"))
        running.add(task)
        task.add_done_callback(running.discard)
        await asyncio.sleep(max(0.0, due - loop.time()))
    await consuming


async def replay(arguments: dict[str, Any]) -> None:
    """Reads a stream from its beginning; see limits/replay.py."""
    bus = await connected(arguments["url"], arguments["user"], "replay")
    left, size = arguments["count"], 0
    began = time.perf_counter()
    async for stored in bus.replay(arguments["stream"], arguments["subject"]):
        left -= 1
        size += len(stored.data)
    seconds = time.perf_counter() - began
    if left:
        raise RuntimeError(f"{left} of {arguments['count']} messages were not read")
    answer(seconds=seconds, bytes=size)
    await bus.drain()


WORK = {"follow": follow, "replay": replay}

if __name__ == "__main__":
    arguments = given()
    uvloop.run(WORK[arguments.pop("work")](arguments))
