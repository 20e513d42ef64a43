"""P: publish with acknowledgement as fast as the server takes it. One raw socket, NATS' protocol written by hand.

Arguments: host, port, seed (file of an nkey seed), inbox, subject, body (file), headers (name → value or null), windows
(messages in flight, each tried), and either seconds (each) or count (messages). Every message has its own Nats-Msg-Id.
Answers: rates {window: messages/s}, best.
"""

import asyncio
import base64
import json
import secrets
import time
from typing import Any

import nkeys
import uvloop

from bench.limits.arguments import answer, contents, given

_ACKNOWLEDGED = b'"seq":'
_DIGITS = 9


class Publisher(asyncio.Protocol):
    """Keeps `window` messages in flight until the time is over or `count` are sent; then waits for the last answers."""

    def __init__(self, seed: str | None, inbox: str) -> None:
        self._seed = seed
        self._inbox = inbox
        self._tail = b""
        self._sent = self._acknowledged = 0
        self._window = 0
        self._until: float | None = None
        self._count: int | None = None
        self._numbers = 0
        self._run = secrets.token_hex(4)
        self.ready = asyncio.get_running_loop().create_future()
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if b"-ERR" in data or b'"error"' in data:
            self._fail(data)
        elif not self.ready.done():
            self._greet(data)
        else:
            if b"PING\r\n" in data:
                self._transport.write(b"PONG\r\n")
            text = self._tail + data
            self._acknowledged += text.count(_ACKNOWLEDGED)
            self._tail = text[-(len(_ACKNOWLEDGED) - 1) :]
            self._go_on()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(str(error).encode())

    async def publish(
        self,
        subject: str,
        body: bytes,
        headers: dict[str, str] | None,
        window: int,
        seconds: float | None,
        count: int | None,
    ) -> float:
        """Messages acknowledged per second, from the first byte sent to the last answer."""
        self._frame(subject, body, headers)
        self._sent = self._acknowledged = 0
        self._window, self._count = window, count
        self.ended = asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        self._until = None if seconds is None else began + seconds
        self._go_on()
        await self.ended
        return self._acknowledged / (time.perf_counter() - began)

    def _frame(self, subject: str, body: bytes, headers: dict[str, str] | None) -> None:
        """What comes before and after a message's number."""
        if headers is None:
            head = f"PUB {subject} {self._inbox}.ack {len(body) + _DIGITS}\r\n"
            self._before, self._after = head.encode(), body + b"\r\n"
            return
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        after = f"\r\n{lines}\r\n".encode()
        size = len(b"NATS/1.0\r\nNats-Msg-Id: ") + len(self._run) + 1 + _DIGITS + len(after)
        head = f"HPUB {subject} {self._inbox}.ack {size} {size + len(body)}\r\nNATS/1.0\r\nNats-Msg-Id: {self._run}-"
        self._before, self._after = head.encode(), after + body + b"\r\n"

    def _go_on(self) -> None:
        over = self._until is not None and time.perf_counter() >= self._until
        over = over or (self._count is not None and self._sent >= self._count)
        if over:
            if self._acknowledged >= self._sent and not self.ended.done():
                self.ended.set_result(None)
            return
        room = self._window - (self._sent - self._acknowledged)
        if self._count is not None:
            room = min(room, self._count - self._sent)
        if room <= 0:
            return
        parts = []
        for _ in range(room):
            self._numbers += 1
            parts += [self._before, b"%0*d" % (_DIGITS, self._numbers), self._after]
        self._sent += room
        self._transport.write(b"".join(parts))

    def _greet(self, data: bytes) -> None:
        if data.startswith(b"INFO "):
            options: dict[str, Any] = {"verbose": False, "headers": True, "no_responders": True, "lang": "raw"}
            nonce = json.loads(data[5:].split(b"\r\n")[0]).get("nonce")
            if self._seed and nonce:
                keys = nkeys.from_seed(self._seed.encode())
                options["nkey"] = keys.public_key.decode()
                options["sig"] = base64.urlsafe_b64encode(keys.sign(nonce.encode())).rstrip(b"=").decode()
            hello = f"CONNECT {json.dumps(options)}\r\nSUB {self._inbox}.ack 1\r\nPING\r\n"
            self._transport.write(hello.encode())
        elif b"PONG" in data:
            self.ready.set_result(None)

    def _fail(self, data: bytes) -> None:
        for future in (self.ready, self.ended):
            if not future.done():
                future.set_exception(RuntimeError(f"the server says: {data[:500]!r}"))


async def main() -> None:
    arguments = given()
    body = contents(arguments["body"])
    seed = contents(arguments["seed"]).decode().strip() if arguments["seed"] else None
    transport, publisher = await asyncio.get_running_loop().create_connection(
        lambda: Publisher(seed, arguments["inbox"]), arguments["host"], arguments["port"]
    )
    await publisher.ready
    rates = {}
    for window in arguments["windows"]:
        rates[window] = await publisher.publish(
            arguments["subject"],
            body,
            arguments["headers"],
            window,
            arguments.get("seconds"),
            arguments.get("count"),
        )
    answer(rates=rates, best=max(rates.values()))
    transport.abort()


if __name__ == "__main__":
    uvloop.run(main())
