"""A load generator for webhooks: raw HTTP/1.1 on a few connections, each sending its next request when the last was
answered. A process of its own, so that it never runs in the event loop it measures.

Arguments: host, port, path, body (file), headers (name → value), connections, warm_up and seconds. Every request has
its own X-GitHub-Delivery. Answers: rate (requests/s), p50 and p99 (seconds), refused (answers that were not 2xx).
"""

import asyncio
import gc
import secrets
import time
from typing import Any

import uvloop

from bench.limits.arguments import answer, contents, given
from bench.stats import percentile


class Load:
    """What all connections share."""

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before, self._after = before, after
        self._run = secrets.token_hex(6)
        self._number = 0
        self.counting = False
        self.over = False
        self.latencies: list[float] = []
        self.refused = 0
        self.first_refusal = b""

    def request(self) -> bytes:
        self._number += 1
        return b"".join((self._before, b"%s-%09d" % (self._run.encode(), self._number), self._after))


class Sender(asyncio.Protocol):
    """One connection."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._began = 0.0
        self._received = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or len(body) < _length(head):
            return
        now = time.perf_counter()
        if self._load.counting:
            self._load.latencies.append(now - self._began)
            if head[9:10] != b"2":
                self._load.refused += 1
                self._load.first_refusal = self._load.first_refusal or self._received
        self._received = b""
        self._send()

    def _send(self) -> None:
        if not self._load.over:
            self._began = time.perf_counter()
            self._transport.write(self._load.request())


def _length(head: bytes) -> int:
    _, _, rest = head.lower().partition(b"content-length:")
    return int(rest.partition(b"\r\n")[0])


async def main() -> None:
    arguments = given()
    body = contents(arguments["body"])
    address = f"{arguments['host']}:{arguments['port']}"
    lines = "".join(f"{name}: {value}\r\n" for name, value in arguments["headers"].items())
    before = f"POST {arguments['path']} HTTP/1.1\r\nhost: {address}\r\n{lines}x-github-delivery: "
    after = f"\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
    load = Load(before.encode(), after)
    gc.disable()
    loop = asyncio.get_running_loop()
    for _ in range(arguments["connections"]):
        await loop.create_connection(lambda: Sender(load), arguments["host"], arguments["port"])
    await asyncio.sleep(arguments["warm_up"])
    load.counting, began = True, time.perf_counter()
    await asyncio.sleep(arguments["seconds"])
    load.counting, elapsed = False, time.perf_counter() - began
    load.over = True
    await asyncio.sleep(0.2)
    answer(
        rate=len(load.latencies) / elapsed,
        p50=percentile(load.latencies, 50),
        p99=percentile(load.latencies, 99),
        refused=load.refused,
        first_refusal=load.first_refusal.decode(errors="replace")[:300],
    )


if __name__ == "__main__":
    uvloop.run(main())
