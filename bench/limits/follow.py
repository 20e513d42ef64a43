"""A bare standing pull: nats-py's own subscription, one pull request, re-armed on reconnect; publishes 100 a second
to itself.

Arguments: url, publisher {seed, inbox}, consumer {seed, inbox}, stream, durable, subject, body (file), headers, rate.
Prints `<sent> <handled>` (CLOCK_MONOTONIC, seconds) for each message, until it is ended.
"""

import asyncio
import contextlib
import gc
import json
import sys
import time
from typing import Any

import nats.errors
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg

from bench.limits.arguments import contents, given

BATCH = 64


async def connected(url: str, user: dict[str, str], on_reconnect: Any = None) -> Client:
    client = Client()
    await client.connect(
        url,
        nkeys_seed=user["seed"],
        inbox_prefix=user["inbox"],
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.25,  # type: ignore[arg-type]
        reconnected_cb=on_reconnect,
        error_cb=_ignore,
    )
    return client


async def _ignore(_error: Exception) -> None:
    """The harness ends the server on purpose."""


async def main() -> None:
    arguments = given()
    sent: dict[str, float] = {}
    ask = f"$JS.API.CONSUMER.MSG.NEXT.{arguments['stream']}.{arguments['durable']}"
    asked = 0

    async def arm() -> None:
        nonlocal asked
        asked = BATCH
        await consumer.publish(ask, json.dumps({"batch": BATCH, "expires": 30 * 10**9}).encode(), reply=inbox)

    async def handle(message: Msg) -> None:
        nonlocal asked
        if not message.reply:
            await asyncio.sleep(0.01)
            return await arm()
        handled = time.monotonic()
        name = (message.headers or {})["Nats-Msg-Id"]
        sys.stdout.write(f"{sent.pop(name, handled)} {handled}\n")
        sys.stdout.flush()
        await message.ack()
        asked -= 1
        if asked < BATCH // 2:
            await arm()
        return None

    consumer = await connected(arguments["url"], arguments["consumer"], on_reconnect=arm)
    inbox = consumer.new_inbox()
    await consumer.subscribe(inbox, cb=handle)
    await arm()

    publisher = await connected(arguments["url"], arguments["publisher"])
    jetstream = publisher.jetstream()
    body = contents(arguments["body"])

    async def publish(name: str) -> None:
        sent[name] = time.monotonic()
        with contextlib.suppress(TimeoutError, nats.errors.Error):
            headers = {**arguments["headers"], "Nats-Msg-Id": name}
            await jetstream.publish(arguments["subject"], body, timeout=1.5, headers=headers)

    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    running: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()
    due, number, run = loop.time(), 0, time.time_ns()
    while True:
        due += 1 / arguments["rate"]
        number += 1
        task = asyncio.create_task(publish(f"{run}-{number}"))
        running.add(task)
        task.add_done_callback(running.discard)
        await asyncio.sleep(max(0.0, due - loop.time()))


if __name__ == "__main__":
    uvloop.run(main())
