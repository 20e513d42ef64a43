"""Bare direct gets over one warm connection: every message of some subjects in one batch each, and the last of one
subject at a time. Decodes nothing.

Arguments: url, user {seed, inbox}, stream, subjects (each may be a filter), last (a subject), at (RFC 3339).
Answers: batch_ms, messages, last_ms.
"""

import asyncio
import json
import time
from typing import Any

import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg

from bench.limits.arguments import answer, given
from bench.limits.follow import connected

BATCH = 1000


async def asked(client: Client, stream: str, request: dict[str, Any]) -> int:
    """How many messages came before the end of the batch."""
    ended, count = asyncio.get_running_loop().create_future(), 0

    async def arrived(message: Msg) -> None:
        nonlocal count
        if message.headers and "Status" in message.headers:
            ended.set_result(None)
        else:
            count += 1

    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox, cb=arrived)
    await client.publish(f"$JS.API.DIRECT.GET.{stream}", json.dumps(request).encode(), reply=inbox)
    await asyncio.wait_for(ended, 60)
    await subscription.unsubscribe()
    return count


async def main() -> None:
    arguments = given()
    client = await connected(arguments["url"], arguments["user"])
    stream = arguments["stream"]
    await client.flush()
    began = time.perf_counter()
    counts = await asyncio.gather(
        *(asked(client, stream, {"batch": BATCH, "next_by_subj": each, "seq": 1}) for each in arguments["subjects"])
    )
    batch = time.perf_counter() - began
    began = time.perf_counter()
    await asked(client, stream, {"multi_last": [arguments["last"]], "up_to_time": arguments["at"], "batch": 1})
    last = time.perf_counter() - began
    answer(batch_ms=batch * 1e3, messages=sum(counts), last_ms=last * 1e3)
    await client.close()


if __name__ == "__main__":
    uvloop.run(main())
