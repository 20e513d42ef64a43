"""F and its rate: recorded requests sent to an API server again, raw HTTP/1.1 over warm TLS connections.

A recording is a list of requests in the order in which they were made for one environment: `{"method", "target",
"content_type", "body"}`. `@NAME@` in target and body stands for the environment's name; `@UID@` and `@VERSION@` for
the uid and the newest resourceVersion of what a request to an Environment was answered; `@NAMESPACE_UID@` for the uid
of the created namespace.

Arguments: kubeconfig, recording (file), prefix, count (environments), and connections (environments at once, each its
own connection) or spread (connections that share the requests of one environment, after the namespace exists).
Answers: seconds, rate, each (seconds of every environment).
"""

import asyncio
import base64
import json
import ssl
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httptools
import uvloop
import yaml

from bench.limits.arguments import answer, contents, given

Request = dict[str, str]


class Refused(RuntimeError):
    """The API server did not do what the recording did."""


class Server:
    """Where the API server is and as whom it is spoken to: a kubeconfig with a token or a client certificate."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        address = cluster["server"].removeprefix("https://")
        self.host, _, port = address.partition(":")
        self.port = int(port)
        self.context = ssl.create_default_context(cadata=_decoded(cluster["certificate-authority-data"]))
        self.authorization = f"Authorization: Bearer {user['token']}\r\n" if "token" in user else ""
        if "client-certificate-data" in user:
            self._load(user)

    def _load(self, user: dict[str, str]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = Path(folder) / "certificate", Path(folder) / "key"
            certificate.write_text(_decoded(user["client-certificate-data"]))
            key.write_text(_decoded(user["client-key-data"]))
            self.context.load_cert_chain(certificate, key)


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()


class Connection(asyncio.Protocol):
    """One warm connection; one request at a time. `on_line` hears the lines of a watch."""

    def __init__(self, server: Server, on_line: Callable[[bytes], None] | None = None) -> None:
        self._server = server
        self._on_line = on_line
        self._rest = b""
        self._new_response()

    @classmethod
    async def open(cls, server: Server, on_line: Callable[[bytes], None] | None = None) -> Self:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: cls(server, on_line), server.host, server.port, ssl=server.context
        )
        return connection

    async def request(
        self,
        method: str,
        target: str,
        body: str = "",
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> tuple[int, bytes]:
        """Status and body of the answer."""
        self._answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        data = body.encode()
        content = f"Content-Type: {content_type}\r\nContent-Length: {len(data)}\r\n" if data else ""
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: {self._server.host}:{self._server.port}\r\n"
            f"Accept: {accept}\r\nUser-Agent: bench\r\n{self._server.authorization}{content}\r\n"
        )
        self._transport.write(head.encode() + data)
        return await self._answer

    def close(self) -> None:
        self._transport.abort()

    # asyncio.Protocol and httptools

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, error: Exception | None) -> None:
        answer = getattr(self, "_answer", None)
        if answer is not None and not answer.done():
            answer.set_exception(error or ConnectionError("the API server closed the connection"))

    def _new_response(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []

    def on_body(self, body: bytes) -> None:
        if self._on_line is None:
            self._parts.append(body)
            return
        *lines, self._rest = (self._rest + body).split(b"\n")
        for line in lines:
            self._on_line(line)

    def on_message_complete(self) -> None:
        status, body = self._parser.get_status_code(), b"".join(self._parts)
        self._new_response()
        self._answer.set_result((status, body))


class Replay:
    """The recorded requests of one environment after the other, on one connection or a few."""

    def __init__(self, recording: list[Request], connections: list[Connection]) -> None:
        self._recording = recording
        self._connections = connections

    async def run(self, name: str) -> float:
        """Seconds from the first request to the last answer."""
        known = {"@NAME@": name}
        began = time.perf_counter()
        if len(self._connections) == 1:
            for request in self._recording:
                await self._send(self._connections[0], request, known)
        else:
            await self._run_spread(known)
        return time.perf_counter() - began

    async def _run_spread(self, known: dict[str, str]) -> None:
        """What belongs to the Environment stays in order, what lies in its namespace waits for that; all else at
        once.
        """
        made = asyncio.Event()
        first, *others = self._connections
        ordered = [r for r in self._recording if _is_ordered(r)]
        free = [r for r in self._recording if not _is_ordered(r)]
        early = 1 + next(i for i, r in enumerate(ordered) if r["target"].startswith("/api/v1/namespaces?"))

        async def in_order() -> None:
            for request in ordered[:early]:
                await self._send(first, request, known)
            made.set()
            # The last status says that the baseline is complete, so it comes after it.
            for request in ordered[early:-1]:
                await self._send(first, request, known)

        async def share(connection: Connection) -> None:
            await made.wait()
            while free:
                await self._send(connection, free.pop(0), known)

        await asyncio.gather(in_order(), *(share(connection) for connection in others))
        await self._send(first, ordered[-1], known)

    async def _send(self, connection: Connection, request: Request, known: dict[str, str]) -> None:
        target, body = request["target"], request["body"]
        for placeholder, value in known.items():
            target, body = target.replace(placeholder, value), body.replace(placeholder, value)
        status, text = await connection.request(request["method"], target, body, request["content_type"])
        if status >= 300:
            raise Refused(f"{request['method']} {target}: {status} {text[:500]!r}")
        if "/environments" in target:
            metadata = json.loads(text)["metadata"]
            known |= {"@UID@": metadata["uid"], "@VERSION@": metadata["resourceVersion"]}
        elif target.startswith("/api/v1/namespaces?"):
            known["@NAMESPACE_UID@"] = json.loads(text)["metadata"]["uid"]


def _is_ordered(request: Request) -> bool:
    """The Environment and its namespace."""
    target = request["target"]
    return "/environments" in target or target.startswith("/api/v1/namespaces?")


async def main() -> None:
    arguments = given()
    server = Server(Path(arguments["kubeconfig"]))
    recording = json.loads(contents(arguments["recording"]))
    names = [f"{arguments['prefix']}-{number:05}" for number in range(arguments["count"])]
    spread, at_once = arguments.get("spread", 1), arguments.get("connections", 1)
    replays = [Replay(recording, [await Connection.open(server) for _ in range(spread)]) for _ in range(at_once)]
    each: list[float] = []

    async def work(replay: Replay) -> None:
        while names:
            each.append(await replay.run(names.pop(0)))

    began = time.perf_counter()
    await asyncio.gather(*map(work, replays))
    seconds = time.perf_counter() - began
    answer(seconds=seconds, rate=arguments["count"] / seconds, each=each)


if __name__ == "__main__":
    uvloop.run(main())
