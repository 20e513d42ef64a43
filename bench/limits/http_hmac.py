"""H: the least a webhook can cost. uvicorn, uvloop, httptools, and one HMAC over the body; nothing is stored.

Arguments: host, port, secret. Serves until it is ended.
"""

import gc
import hmac
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

from bench.limits.arguments import given

_OK: Any = {"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"2")]}
_REFUSED: Any = {"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"2")]}
_BODY: Any = {"type": "http.response.body", "body": b"{}"}


def app(secret: bytes) -> Any:
    """The bare ASGI app."""

    async def answer(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        message = await receive()
        body = message["body"]
        while message["more_body"]:
            message = await receive()
            body += message["body"]
        signature = next(value for name, value in scope["headers"] if name == b"x-hub-signature-256")
        expected = b"sha256=" + hmac.digest(secret, body, "sha256").hex().encode()
        await send(_OK if hmac.compare_digest(expected, signature) else _REFUSED)
        await send(_BODY)

    return answer


def main() -> None:
    arguments = given()
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    uvicorn.run(
        app(arguments["secret"].encode()),
        host=arguments["host"],
        port=arguments["port"],
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
    )


if __name__ == "__main__":
    main()
