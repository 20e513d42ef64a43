"""One request to GitHub's API: conditional, paged, its limits obeyed, its errors in our words. No retries: whoever asks
decides, and the bus already tries again.

A limit that GitHub announced is kept without asking again: until it ends, whoever asks gets `RateLimited` at once.
Writes go one after the other, as GitHub asks for.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import httpx
import orjson
from pydantic import SecretStr

from catalyst.forge.errors import (
    ForgeError,
    ForgeUnavailable,
    NotPermitted,
    NotThere,
    RateLimited,
    Refused,
    Unauthorized,
)
from catalyst.model.clock import Clock

API_VERSION: Final = "2022-11-28"
PER_PAGE: Final = 100
MAX_PAGES: Final = 1000
MAX_REDIRECTS: Final = 2
REMEMBERED: Final = 512
REMEMBERED_BYTES: Final = 256 * 1024
"""An answer larger than this is not kept for a conditional request."""
WITHOUT_A_WORD: Final = 60.0
"""Seconds to wait when GitHub does not say how long; it asks for at least a minute."""
LONGEST_REASON: Final = 300


@dataclass(frozen=True, slots=True)
class Credential:
    """`key`: whose rate limit a request counts for."""

    token: SecretStr
    key: str


@dataclass(frozen=True, slots=True)
class Got:
    """An answer: its JSON (None: no content), and the address of the next page."""

    body: Any
    next: str | None = None


@dataclass(frozen=True, slots=True)
class _Remembered:
    etag: str
    got: Got


class GitHubApi:
    """`url` is the API's address. Ended by `close`."""

    def __init__(self, url: str, *, clock: Clock, timeout: float = 10.0) -> None:
        """`timeout`: seconds for connecting, and for each piece of an answer."""
        self.url = url.rstrip("/")
        self._clock = clock
        self._http = httpx.AsyncClient(
            timeout=timeout,
            headers={
                "accept": "application/vnd.github+json",
                "user-agent": "catalyst-environments",
                "x-github-api-version": API_VERSION,
            },
        )
        self._remembered: OrderedDict[tuple[str, str], _Remembered] = OrderedDict()
        self._blocked_until: dict[str, datetime] = {}
        self._writing = asyncio.Lock()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def get(self, path: str, credential: Credential, **query: str | int) -> Any:
        """One document. Raises `ForgeError`."""
        return (await self._read(self._address(path, query), credential)).body

    async def pages(self, path: str, credential: Credential, **query: str | int) -> AsyncIterator[Any]:
        """The documents of all pages, each asked for when the one before was used. Raises `ForgeError`."""
        address: str | None = self._address(path, {"per_page": PER_PAGE, **query})
        for _ in range(MAX_PAGES):
            if address is None:
                return
            got = await self._read(address, credential)
            yield got.body
            address = got.next
        raise ForgeUnavailable(f"GET {path}", f"more than {MAX_PAGES} pages")

    async def write(self, method: str, path: str, credential: Credential, body: Any = None) -> Any:
        """POST, PATCH, PUT or DELETE; gives the answer's JSON, None without one. Raises `ForgeError`."""
        async with self._writing:
            return (await self._answer(method, self._address(path, {}), credential, body)).body

    async def _read(self, address: str, credential: Credential) -> Got:
        key = (credential.key, address)
        known = self._remembered.get(key)
        if known is None:
            return await self._answer("GET", address, credential, remember=key)
        self._remembered.move_to_end(key)
        return await self._answer("GET", address, credential, remember=key, known=known)

    async def _answer(
        self,
        method: str,
        address: str,
        credential: Credential,
        body: Any = None,
        *,
        remember: tuple[str, str] | None = None,
        known: _Remembered | None = None,
    ) -> Got:
        asked = f"{method} {urlsplit(address).path}"
        self._still_blocked(asked, credential)
        answer = await self._sent(asked, method, address, credential, body, known)
        if answer.status_code == httpx.codes.NOT_MODIFIED and known is not None:
            return known.got
        if not answer.is_success:
            raise self._error(asked, answer, credential)
        got = Got(_json(asked, answer), self._next(asked, answer))
        etag = answer.headers.get("etag")
        if remember and etag and len(answer.content) <= REMEMBERED_BYTES:
            self._remembered[remember] = _Remembered(etag, got)
            while len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
        return got

    async def _sent(
        self, asked: str, method: str, address: str, credential: Credential, body: Any, known: _Remembered | None
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {credential.token.get_secret_value()}"}
        if known is not None:
            headers["if-none-match"] = known.etag
        content = None
        if body is not None:
            content, headers["content-type"] = orjson.dumps(body), "application/json"
        try:
            for _ in range(MAX_REDIRECTS + 1):
                answer = await self._http.request(method, address, content=content, headers=headers)
                if not answer.has_redirect_location:
                    return answer
                address = self._own(asked, urljoin(address, answer.headers["location"]))
        except httpx.HTTPError as exc:
            raise ForgeUnavailable(asked, f"no answer: {exc or type(exc).__name__}") from exc
        raise ForgeUnavailable(asked, f"more than {MAX_REDIRECTS} redirects")

    def _address(self, path: str, query: Mapping[str, str | int]) -> str:
        return str(httpx.URL(self.url + path, params=dict(query) or None))

    def _next(self, asked: str, answer: httpx.Response) -> str | None:
        link = answer.links.get("next", {}).get("url")
        return self._own(asked, link) if link else None

    def _own(self, asked: str, address: str) -> str:
        """A credential goes nowhere else, whatever an answer says."""
        mine, theirs = urlsplit(self.url), urlsplit(address)
        if (mine.scheme, mine.netloc) != (theirs.scheme, theirs.netloc):
            raise ForgeUnavailable(asked, f"it leads away from {mine.netloc}, to {theirs.netloc[:100]!r}")
        return address

    def _still_blocked(self, asked: str, credential: Credential) -> None:
        until = self._blocked_until.get(credential.key)
        if until is None:
            return
        left = (until - self._clock()).total_seconds()
        if left <= 0:
            del self._blocked_until[credential.key]
            return
        raise RateLimited(asked, "not asked: GitHub wants to be left alone", retry_after=left)

    def _error(self, asked: str, answer: httpx.Response, credential: Credential) -> ForgeError:
        status, reason = answer.status_code, _reason(answer)
        if status == httpx.codes.TOO_MANY_REQUESTS or (status == httpx.codes.FORBIDDEN and _is_limit(answer, reason)):
            wait = self._wait(answer)
            self._blocked_until[credential.key] = self._clock() + timedelta(seconds=wait)
            return RateLimited(asked, reason, retry_after=wait, status=status)
        match status:
            case httpx.codes.UNAUTHORIZED:
                return Unauthorized(asked, reason, status=status)
            case httpx.codes.FORBIDDEN:
                wanted = answer.headers.get("x-accepted-github-permissions")
                remedy = f"give the App or the token one of: {wanted}" if wanted else None
                return NotPermitted(asked, reason, status=status, remedy=remedy)
            case httpx.codes.NOT_FOUND | httpx.codes.GONE:
                return NotThere(asked, reason, status=status)
            case _ if status < httpx.codes.INTERNAL_SERVER_ERROR:
                return Refused(asked, reason, status=status)
            case _:
                return ForgeUnavailable(asked, reason, status=status)

    def _wait(self, answer: httpx.Response) -> float:
        """Seconds, by whichever of its headers GitHub used."""
        after = answer.headers.get("retry-after", "")
        if after.isascii() and after.isdigit():
            return max(1.0, float(after))
        reset = answer.headers.get("x-ratelimit-reset", "")
        if answer.headers.get("x-ratelimit-remaining") == "0" and reset.isascii() and reset.isdigit():
            return max(1.0, float(reset) - self._clock().timestamp())
        return WITHOUT_A_WORD


def _is_limit(answer: httpx.Response, reason: str) -> bool:
    headers = answer.headers
    return "retry-after" in headers or headers.get("x-ratelimit-remaining") == "0" or "rate limit" in reason.lower()


def _json(asked: str, answer: httpx.Response) -> Any:
    if not answer.content:
        return None
    try:
        return orjson.loads(answer.content)
    except orjson.JSONDecodeError as exc:
        raise ForgeUnavailable(asked, "the answer is not JSON", status=answer.status_code) from exc


def _reason(answer: httpx.Response) -> str:
    """GitHub's own sentence, with the fields that it names."""
    try:
        told = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        told = None
    if not isinstance(told, dict) or not isinstance(told.get("message"), str):
        return answer.reason_phrase or "no reason given"
    errors = told.get("errors")
    fields = [
        f"{error.get('field')}: {error.get('message') or error.get('code')}"
        for error in (errors if isinstance(errors, list) else ())
        if isinstance(error, dict)
    ]
    return "; ".join([told["message"], *fields])[:LONGEST_REASON]
