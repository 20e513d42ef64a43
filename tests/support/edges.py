"""What dns-proxy's tests begin with: snapshots, a small application behind the edge, and a visitor in front of it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from catalyst.dns_proxy.core.caddy import Layout
from catalyst.dns_proxy.effects.edge import CaddyEdges, EdgeAccess
from catalyst.events.event import Event, environment_changed
from catalyst.local.edge import ZONES, LocalEdge
from catalyst.model.environment import Phase, Route
from catalyst.model.names import Identity, hostname, workload_namespace
from catalyst.model.snapshot import Snapshot, SnapshotIdentity, SnapshotSource

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ZONE = ZONES[0]


def host_of(environment: str = "pr-1", team: str = "acme") -> str:
    return hostname(Identity(team, "shop", environment), ZONE)


def snapshot(
    environment: str = "pr-1",
    phase: Phase = Phase.READY,
    *,
    team: str = "acme",
    uid: str = "",
    port: int = 8080,
    version: int = 1,
    age: int = 0,
    routes: tuple[Route, ...] | None = None,
    **more: Any,
) -> Snapshot:
    """An environment with one route. `age`: hours."""
    identity = Identity(team, "shop", environment)
    route = Route(
        host=hostname(identity, ZONE), namespace=workload_namespace(identity), service="web", port=port, component="web"
    )
    return Snapshot(
        uid=uid or f"uid-{environment}",
        resource_version=str(version),
        created_at=NOW - timedelta(hours=age),
        identity=SnapshotIdentity(team=team, project="shop", environment=environment),
        phase=phase,
        **{"source": SnapshotSource(), **more},
        routes=(route,) if routes is None else routes,
    )


def event(of: Snapshot, *, again: int = 0) -> Event:
    return environment_changed(of, time=NOW, again=again)


def layout(pages: str = "127.0.0.1:1") -> Layout:
    """Services are on this machine, at their port."""
    return Layout(ZONE, ZONES[1:], "127.0.0.1", pages)


@asynccontextmanager
async def listening(handle: Any, port: int = 0) -> AsyncIterator[int]:
    """A server of this test on 127.0.0.1; gives its port."""
    server = await asyncio.start_server(handle, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An application that says who asked for what, and counts what was uploaded."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            lines = head.decode().split("\r\n")
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
            size, got = int(headers.get("content-length", 0)), 0
            while got < size:
                got += len(await reader.read(min(65536, size - got)))
            body = f"{lines[0]} host={headers['host']} proto={headers.get('x-forwarded-proto')} got={got}".encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


_open: list[Any] = []


async def close_all() -> None:
    """What a test opened by `edges` and `Visitor`."""
    while _open:
        await _open.pop().aclose()


def edges(access: EdgeAccess) -> CaddyEdges:
    """The edges as dns-proxy sees them; closed at the end of the test."""
    made = CaddyEdges(access)
    _open.append(made)
    return made


class Visitor:
    """Somebody outside, at one edge: `get("https", host)`."""

    def __init__(self, edge: LocalEdge, address: str | None = None) -> None:
        self._edge = edge
        self._address = address or edge.addresses[0]
        context = ssl.create_default_context(cafile=str(edge.keys / "root.crt"))
        self._client = httpx.AsyncClient(verify=context, trust_env=False, timeout=10)
        _open.append(self._client)

    async def get(self, scheme: str, host: str, path: str = "/", method: str = "GET", **more: Any) -> httpx.Response:
        port = self._edge.http_port if scheme == "http" else self._edge.https_port
        headers = {"Host": host, **more.pop("headers", {})}
        url = f"{scheme}://{self._address}:{port}{path}"
        return await self._client.request(method, url, headers=headers, extensions={"sni_hostname": host}, **more)


async def until(holds: Callable[[], Any], within: float = 10.0, what: str = "") -> Any:
    """Waits for something true; `holds` may be async."""
    deadline = asyncio.get_running_loop().time() + within
    while True:
        found = holds()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert asyncio.get_running_loop().time() < deadline, f"not within {within:g} s: {what or holds}"
        await asyncio.sleep(0.02)
