"""Serving an ASGI app: uvicorn with httptools on the running loop.

Host and port are given: a pre-bound socket would cost TCP_NODELAY, 44 ms for every small POST.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn


class CannotListen(Exception):
    """The address is taken or not ours."""


@asynccontextmanager
async def serving(
    app: Callable[..., Any],
    *,
    host: str,
    port: int,
    drain_seconds: float = 5.0,
    certificate: Path | None = None,
    key: Path | None = None,
) -> AsyncIterator[int]:
    """Serve `app` while the block runs; yields the port (a free one for 0). With `certificate` and `key`, PEM, by TLS.

    On leaving, no connection is accepted any more; requests in flight get `drain_seconds` to finish, then they are
    cancelled.
    Raises `CannotListen`; if the server dies while the block runs, its error is raised on leaving.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        timeout_graceful_shutdown=max(1, round(drain_seconds)),
    )
    server = uvicorn.Server(config)
    # `serve()` would take over the signals, which belong to `run`.
    task = asyncio.create_task(_until_done(server._serve(), host, port), name=f"http {host}:{port}")  # noqa: SLF001
    try:
        while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn tells by a flag only
            await asyncio.sleep(0.005)
        if task.done():
            await task
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def _until_done(serve: Any, host: str, port: int) -> None:
    try:
        await serve
    except SystemExit as exc:  # uvicorn's answer to a taken port
        raise CannotListen(f"cannot listen on {host}:{port}: the address is taken or not this machine's") from exc
