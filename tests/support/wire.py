"""A wire between a service and the API server that a test can cut, or hold the requests of."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import yaml


class Wire:
    """Forwards TCP from a port of its own on 127.0.0.1. Made by `wire`.

    `hold()`: what the client sends is kept, nothing is answered; `release()` sends on what was kept, also that of
    clients that have given up. To the client both look like a network that lost its way.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            forth = asyncio.ensure_future(self._pump(reader, far_writer))
            back = asyncio.ensure_future(self._pump(far_reader, writer))
            try:
                await asyncio.gather(forth, back)
            finally:
                forth.cancel()
                back.cancel()
                far_writer.close()
                writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
            await self._open.wait()
            writer.write_eof() if writer.can_write_eof() else writer.close()

    async def end(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def wire(port: int) -> AsyncIterator[Wire]:
    """To `port` on 127.0.0.1."""
    made = Wire(port)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.end()


def own_kubeconfig(original: Path, copy: Path, *, port: int | None = None) -> tuple[Path, str]:
    """A copy with another port of the server, and the id of its token, which the audit log tells."""
    config: dict[str, Any] = yaml.safe_load(original.read_text())
    if port is not None:
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    copy.write_text(yaml.safe_dump(config))
    payload = config["users"][0]["user"]["token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return copy, f"JTI={claims['jti']}"
