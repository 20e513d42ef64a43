"""P: nats-py's own publish with acknowledgement, a number of them in flight: what a client of the bus can do.

Arguments: url, seed (file of an nkey seed), inbox, subject, body (file), headers (name → value), windows (messages in
flight, each tried), seconds (each). Every message has its own Nats-Msg-Id. Answers: rates {window: messages/s}, best.
"""

import asyncio
import gc
import secrets
import time

import nats
import uvloop

from bench.limits.arguments import answer, contents, given


async def main() -> None:
    arguments = given()
    body = contents(arguments["body"])
    client = await nats.connect(
        arguments["url"],
        nkeys_seed=str(arguments["seed"]),
        inbox_prefix=arguments["inbox"],
        pending_size=64 * 1024 * 1024,
    )
    jetstream = client.jetstream()
    subject, headers, run = arguments["subject"], arguments["headers"], secrets.token_hex(4)
    gc.freeze()
    gc.set_threshold(100000, 50, 100)
    rates = {}
    for window in arguments["windows"]:
        sent = 0
        began = time.perf_counter()
        until = began + arguments["seconds"]

        async def work(window: int = window, until: float = until) -> None:
            nonlocal sent
            while time.perf_counter() < until:
                sent += 1
                named = {**headers, "Nats-Msg-Id": f"{run}-{window}-{sent}"}
                await jetstream.publish(subject, body, timeout=5, headers=named)

        await asyncio.gather(*(work() for _ in range(window)))
        rates[window] = sent / (time.perf_counter() - began)
    answer(rates=rates, best=max(rates.values()))
    await client.close()


if __name__ == "__main__":
    uvloop.run(main())
