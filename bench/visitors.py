"""Steady visitors of one URL through the edge: some keep their connection, some make a new one for each request. A
process of its own, so that nothing it measures runs in it.

Arguments: address, port, host, authority (file: the root certificate that is trusted), kept and new (connections of
each kind), rate (requests/s of all together), words (what an answer may contain: of these, the first and the last time
that each was seen is told). Begins with a line `{"ready": true}` after the first good answer, and ends when its
standard input is closed. Answers: requests, seconds, failed (what → how often), seen (word → [first, last],
CLOCK_MONOTONIC).

A kept connection that the edge closed while nothing was asked is made anew, as every client does.
"""

import asyncio
import ssl
import sys
import time
from collections import Counter

import uvloop

from bench.limits.arguments import answer, contents, given

PATIENCE = 10.0


class Visitors:
    """What all connections share."""

    def __init__(self, address: str, port: int, host: str, authority: str, words: list[str]) -> None:
        self._place = address, port
        self._host = host
        self._trust = ssl.create_default_context(cadata=contents(authority).decode())
        self._words = words
        self.requests = 0
        self.failed: Counter[str] = Counter()
        self.seen: dict[str, tuple[float, float]] = {}
        self.over = asyncio.Event()

    async def keep_asking(self, *, every: float, later: float, keep: bool) -> None:
        """On one connection, or on a new one each time, until it is over."""
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        loop = asyncio.get_running_loop()
        due = loop.time() + later
        while not await self._is_over(due - loop.time()):
            due += every
            if connection is not None and (not keep or connection[0].at_eof()):
                connection[1].close()
                connection = None
            try:
                async with asyncio.timeout(PATIENCE):
                    connection = connection or await self._connected()
                    await self._ask(*connection, keep=keep)
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                self.failed[f"{type(error).__name__}: {error}"[:80]] += 1
                if connection is not None:
                    connection[1].close()
                connection = None
            self.requests += 1
        if connection is not None:
            connection[1].close()

    async def _is_over(self, wait: float) -> bool:
        try:
            async with asyncio.timeout(max(0.0, wait)):
                await self.over.wait()
        except TimeoutError:
            pass
        return self.over.is_set()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self._place, ssl=self._trust, server_hostname=self._host)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, keep: bool) -> None:
        kind = "keep-alive" if keep else "close"
        writer.write(f"GET / HTTP/1.1\r\nhost: {self._host}\r\naccept: */*\r\nconnection: {kind}\r\n\r\n".encode())
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        body = await self._body(reader, head)
        status = head.partition(" ")[2][:3]
        if status != "200":
            self.failed[f"status {status}"] += 1
            return
        now, text = time.monotonic(), body.decode(errors="replace")
        for word in self._words:
            if word in text:
                self.seen[word] = (self.seen.get(word, (now, now))[0], now)

    async def _body(self, reader: asyncio.StreamReader, head: str) -> bytes:
        if "transfer-encoding: chunked" in head:
            parts = []
            while size := int((await reader.readline()).strip(), 16):
                parts.append(await reader.readexactly(size))
                await reader.readline()
            await reader.readline()
            return b"".join(parts)
        return await reader.readexactly(int(head.partition("content-length:")[2].partition("\r\n")[0]))


async def main() -> None:
    arguments = given()
    place = (arguments[name] for name in ("address", "port", "host", "authority", "words"))
    visitors = Visitors(*place)
    count = arguments["kept"] + arguments["new"]
    every = count / arguments["rate"]
    began = time.monotonic()
    asking = [
        asyncio.create_task(
            visitors.keep_asking(every=every, later=number * every / count, keep=number < arguments["kept"])
        )
        for number in range(count)
    ]
    while not visitors.seen and not visitors.over.is_set():
        await asyncio.sleep(0.02)
        if time.monotonic() - began > PATIENCE:
            raise TimeoutError(f"no good answer within {PATIENCE:g} s: {dict(visitors.failed)}")
    visitors.requests, began = 0, time.monotonic()
    visitors.failed.clear()
    answer(ready=True)
    await asyncio.to_thread(sys.stdin.read)
    seconds = time.monotonic() - began
    visitors.over.set()
    await asyncio.gather(*asking)
    answer(requests=visitors.requests, seconds=seconds, failed=dict(visitors.failed), seen=visitors.seen)


if __name__ == "__main__":
    uvloop.run(main())
