"""The edges: each Caddy is read and programmed by its authenticated admin endpoint, and asked in public what it serves.

Several replicas are programmed one by one. They are found by name, at every look: a restarted pod has another address.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import httpx

from catalyst.dns_proxy.core import caddy
from catalyst.dns_proxy.core.caddy import Table
from catalyst.dns_proxy.core.edge import ADMIN_NAME, ROUTES_PATH

Serves = Literal["this", "other", "refused", "silent"]
"""This environment; something else, such as a page; nobody listens there; nobody answered in time."""


class EdgeError(Exception):
    """An edge could not be read or programmed; the text names it and says why."""


class Changed(EdgeError):
    """The table was replaced between reading and writing: read again."""


@dataclass(frozen=True, slots=True)
class Current:
    """What one edge has, and the mark by which it is replaced only if it is still so."""

    table: Table
    routes: list[dict[str, Any]]
    etag: str


class Replica(Protocol):
    """One edge."""

    address: str

    async def current(self) -> Current:
        """Its table. Raises `EdgeError`."""

    async def replace(self, routes: list[dict[str, Any]], etag: str) -> None:
        """Its whole table, if it is still the one of `etag`. Raises `Changed`, `EdgeError`."""

    async def revision(self) -> str | None:
        """Which table it serves to visitors; None: it has none, or does not answer."""

    async def serves(self, host: str, whose: str) -> Serves:
        """Whether a visitor of `host` comes to `whose`, by every way a visitor may take."""


class Edges(Protocol):
    """All edges."""

    async def replicas(self) -> Sequence[Replica]:
        """Those that exist now. Raises `EdgeError` when nobody can say."""


@dataclass(frozen=True, slots=True)
class EdgeAccess:
    """Where the edges are and how we prove who we are. `hosts`: names or addresses; a name may have many addresses.

    `https_port` None: the edges speak plain HTTP to the tunnel only. All durations in seconds.
    """

    hosts: tuple[str, ...]
    authority: Path
    certificate: Path
    key: Path
    admin_port: int = 2021
    http_port: int = 8080
    https_port: int | None = 8443
    patience: float = 5.0
    writing: float = 30.0


class CaddyEdges:
    """The edges behind the given names."""

    def __init__(self, access: EdgeAccess) -> None:
        self._access = access
        trusted = ssl.create_default_context(cafile=str(access.authority))
        identified = ssl.create_default_context(cafile=str(access.authority))
        identified.load_cert_chain(str(access.certificate), str(access.key))
        # No connection is kept: Caddy closes the admin endpoint's at every change, and a probe should see a new one.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._admin = httpx.AsyncClient(verify=identified, trust_env=False, timeout=access.patience, limits=limits)
        self._visitor = httpx.AsyncClient(verify=trusted, trust_env=False, timeout=access.patience, limits=limits)

    async def replicas(self) -> Sequence[Replica]:
        addresses: set[str] = set()
        for host in self._access.hosts:
            addresses.update(await _addresses(host))
        return [CaddyReplica(address, self._access, self._admin, self._visitor) for address in sorted(addresses)]

    async def aclose(self) -> None:
        """Lets the connections go."""
        await self._admin.aclose()
        await self._visitor.aclose()


class CaddyReplica:
    """One Caddy at one address."""

    def __init__(self, address: str, access: EdgeAccess, admin: httpx.AsyncClient, visitor: httpx.AsyncClient) -> None:
        self.address = address
        self._access = access
        self._admin = admin
        self._visitor = visitor

    async def current(self) -> Current:
        answer = await self._asked("GET", self._access.patience)
        if answer.status_code != httpx.codes.OK:
            raise EdgeError(f"edge {self.address}: its table could not be read: {_told(answer)}")
        routes = answer.json() or []
        return Current(caddy.read(routes), routes, answer.headers.get("etag", ""))

    async def replace(self, routes: list[dict[str, Any]], etag: str) -> None:
        answer = await self._asked("PATCH", self._access.writing, json=routes, headers={"If-Match": etag})
        if answer.status_code == httpx.codes.PRECONDITION_FAILED:
            raise Changed(f"edge {self.address}: its table was changed by somebody else meanwhile")
        if answer.status_code != httpx.codes.OK:
            raise EdgeError(f"edge {self.address}: it did not take the table: {_told(answer)}")

    async def revision(self) -> str | None:
        try:
            answer = await self._visitor.get(f"http://{self._at(self._access.http_port)}{caddy.EDGE_PATH}")
        except httpx.HTTPError:
            return None
        mark: str | None = answer.headers.get(caddy.REVISION_HEADER)
        return mark

    async def serves(self, host: str, whose: str) -> Serves:
        return worst([await self._visited(scheme, port, host, whose) for scheme, port in self._doors()])

    async def _visited(self, scheme: str, port: int, host: str, whose: str) -> Serves:
        try:
            answer = await self._visitor.get(
                f"{scheme}://{self._at(port)}{caddy.ROUTE_PATH}",
                headers={"Host": host},
                extensions={"sni_hostname": host},
            )
        except httpx.ConnectError as exc:
            return "refused" if _is_refusal(exc) else "silent"
        except httpx.HTTPError:
            return "silent"
        return "this" if answer.headers.get(caddy.ROUTE_HEADER) == whose else "other"

    async def _asked(self, method: str, within: float, **request: Any) -> httpx.Response:
        url = f"https://{self._at(self._access.admin_port)}{ROUTES_PATH}"
        try:
            return await self._admin.request(
                method, url, extensions={"sni_hostname": ADMIN_NAME}, timeout=within, **request
            )
        except (httpx.HTTPError, ssl.SSLError) as exc:  # a refused certificate is told while reading, past httpx
            raise EdgeError(f"edge {self.address}: {str(exc) or type(exc).__name__}") from exc

    def _doors(self) -> Iterable[tuple[str, int]]:
        yield "http", self._access.http_port
        if self._access.https_port is not None:
            yield "https", self._access.https_port

    def _at(self, port: int) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{port}"


def worst(answers: Sequence[Serves]) -> Serves:
    """Of several ways to one host: `this` if all say so, `refused` if all are shut, `silent` if they disagree."""
    found = set(answers)
    if len(found) == 1:
        return answers[0]
    return "silent" if found & {"silent", "this"} else "other"


async def _addresses(host: str) -> set[str]:
    try:
        return {str(ipaddress.ip_address(host))}
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise EdgeError(f"edge {host}: the name has no address: {exc}") from exc
    return {str(address[0]) for *_, address in found}


def _is_refusal(error: BaseException) -> bool:
    """Whether somebody said that nobody listens there, which is more than silence."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _told(answer: httpx.Response) -> str:
    return f"{answer.status_code} {answer.text[:300]}"
