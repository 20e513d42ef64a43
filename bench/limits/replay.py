"""A bare replay: nats-py's ordered consumer with a callback that only counts.

Arguments: url, user {seed, inbox}, stream, subject, count. Answers: seconds, bytes.
"""

import asyncio
import time

import uvloop
from nats.aio.msg import Msg

from bench.limits.arguments import answer, given
from bench.limits.follow import connected


async def main() -> None:
    arguments = given()
    client = await connected(arguments["url"], arguments["user"])
    left, size = arguments["count"], 0
    ended = asyncio.get_running_loop().create_future()

    async def count(message: Msg) -> None:
        nonlocal left, size
        left -= 1
        size += len(message.data)
        if left == 0:
            ended.set_result(time.perf_counter())

    began = time.perf_counter()
    await client.jetstream().subscribe(
        arguments["subject"], stream=arguments["stream"], ordered_consumer=True, cb=count
    )
    until = await asyncio.wait_for(ended, 120)
    answer(seconds=until - began, bytes=size)
    await client.close()


if __name__ == "__main__":
    uvloop.run(main())
