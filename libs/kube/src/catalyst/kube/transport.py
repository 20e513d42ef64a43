"""HTTP to one API server: bytes out, bytes in, every failure a KubeError. Knows nothing of kinds.

Requests go over aiohttp's session directly: kubernetes_asyncio's `call_api` costs twice the CPU per request (README).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from yarl import URL

from catalyst.kube.auth import load_configuration, ssl_context
from catalyst.kube.errors import KubeError, Unavailable, error_of
from catalyst.kube.settings import KubeSettings

JSON = "application/json"
_LINE_LIMIT = 8 * 1024 * 1024  # an object is at most 1.5 MB in etcd; a watch event is one line
_KEEPALIVE = 60.0  # seconds; the API server closes idle connections after 90


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. `target` is path and query, already encoded; `body` is JSON."""

    method: str
    target: str
    body: bytes | None = None
    content_type: str = JSON
    accept: str = JSON


class Transport:
    """A pool of warm connections with the credentials of one configuration."""

    def __init__(self, configuration: Any, session: aiohttp.ClientSession) -> None:
        self._configuration = configuration
        self._session = session
        self._base = configuration.host
        self._proxy = configuration.proxy
        self._server_name = configuration.tls_server_name

    @classmethod
    async def connect(cls, settings: KubeSettings) -> Transport:
        """Reads the credentials; the first connection is made by the first request."""
        configuration = await load_configuration(settings)
        context = await asyncio.to_thread(ssl_context, configuration)
        connector = aiohttp.TCPConnector(
            limit=0,  # the client bounds what is in flight; a queue here would come after the fence
            ssl=context if context is not None else True,
            keepalive_timeout=_KEEPALIVE,
        )
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "catalyst", "Accept-Encoding": "identity"},
            skip_auto_headers=("User-Agent", "Accept", "Content-Type"),
            read_bufsize=2**20,
        )
        return cls(configuration, session)

    async def close(self) -> None:
        """Closes every connection."""
        await self._session.close()

    async def credentials(self) -> str | None:
        """The Authorization header, refreshed when it is due. To be awaited before the fence: it may take a while."""
        if not self._configuration.api_key:
            return None
        token: str | None = await self._configuration.get_api_key_with_prefix("BearerToken")
        return token

    async def send(self, request: Request, credentials: str | None, seconds: float) -> bytes:
        """The body of a 2xx answer. Raises KubeError; Unavailable when no answer came within `seconds`."""
        timeout = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._open(request, credentials, timeout) as response:
                body: bytes = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise _unavailable(request, error, seconds) from error
        if response.status >= 300:
            raise _refusal(response.status, response.headers.get("Retry-After"), body)
        return body

    async def lines(
        self, request: Request, credentials: str | None, *, connect_seconds: float, idle_seconds: float
    ) -> AsyncGenerator[bytes, None]:
        """The lines of a streamed answer. A silence longer than `idle_seconds` means the connection is dead:
        Unavailable.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds, sock_read=idle_seconds)
        try:
            async with self._open(request, credentials, timeout) as response:
                if response.status >= 300:
                    raise _refusal(response.status, response.headers.get("Retry-After"), await response.read())
                pending = b""
                async for chunk in response.content.iter_any():
                    head, newline, tail = chunk.rpartition(b"\n")
                    if not newline:
                        pending += chunk
                        if len(pending) > _LINE_LIMIT:
                            raise Unavailable(
                                0, "TooLong", f"{request.target}: a line of more than {_LINE_LIMIT} bytes"
                            )
                        continue
                    for line in (pending + head).split(b"\n"):
                        yield line
                    pending = tail
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise _unavailable(request, error, idle_seconds) from error

    def _open(self, request: Request, credentials: str | None, timeout: aiohttp.ClientTimeout) -> Any:
        headers = {"Accept": request.accept}
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        if credentials:
            headers["Authorization"] = credentials
        return self._session.request(
            request.method,
            URL(self._base + request.target, encoded=True),
            data=request.body,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
            proxy=self._proxy,
            server_hostname=self._server_name,
        )


def _refusal(status: int, retry_after: str | None, body: bytes) -> KubeError:
    try:
        answer: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = body[:500].decode(errors="replace")
    error = error_of(status, answer)
    if retry_after and retry_after.isdigit():
        error.details.setdefault("retryAfterSeconds", int(retry_after))
    return error


def _unavailable(request: Request, error: BaseException, seconds: float) -> Unavailable:
    what = f"no answer within {seconds:g} s" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
    return Unavailable(0, type(error).__name__, f"{request.method} {request.target.partition('?')[0]}: {what}")
