"""The edge's adapter against real Caddys: programming, authentication, concurrency, what passes, what is answered."""

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from edges import NOW, Visitor, edges, hello, host_of, layout, listening, snapshot, until

from catalyst.dns_proxy.authority import write_keys
from catalyst.dns_proxy.core import caddy
from catalyst.dns_proxy.core.routes import Entry, wanted
from catalyst.dns_proxy.effects.edge import Changed, EdgeError, Replica
from catalyst.local.edge import ZONES, LocalEdge

HOST = host_of()
EdgeOf = Callable[..., LocalEdge]


def entry(port: int, environment: str = "pr-1") -> Entry:
    return wanted([snapshot(environment, port=port)], ZONES[0]).entries[host_of(environment)]


async def write(replica: Replica, *entries: Entry, token: int = 1, pages: str = "127.0.0.1:1") -> None:
    """Programs one edge as the reconciler does."""
    table = caddy.routes(entries, layout(pages), token=token)
    await replica.replace(table, (await replica.current()).etag)
    await until(lambda: _serves(replica, caddy.revision(table)))


async def _serves(replica: Replica, revision: str) -> bool:
    return await replica.revision() == revision


async def only(edge: LocalEdge) -> Replica:
    (replica,) = await edges(edge.access).replicas()
    return replica


async def test_a_table_comes_back_as_it_was_written(edge_of: EdgeOf) -> None:
    replica = await only(edge_of())
    assert (await replica.current()).table == caddy.Table({})
    assert await replica.revision() is None
    await write(replica, entry(8080), entry(9090, "pr-2"), token=7)
    found = (await replica.current()).table
    assert found.entries == {HOST: entry(8080), host_of("pr-2"): entry(9090, "pr-2")}
    assert found.token == 7


async def test_visitors_reach_the_application_by_http_and_https_under_both_names(edge_of: EdgeOf) -> None:
    edge = edge_of()
    async with listening(hello) as port:
        await write(await only(edge), entry(port))
        visitor = Visitor(edge)
        for scheme in ("http", "https"):
            for host in (HOST, HOST.replace("catalyst.localhost", "catalyst.test")):
                answer = await visitor.get(scheme, host, "/a?b=c")
                assert answer.text == f"GET /a?b=c HTTP/1.1 host={host} proto={scheme} got=0"


async def test_certificates_are_by_our_own_authority_and_for_our_zones_only(edge_of: EdgeOf) -> None:
    edge = edge_of()
    await write(await only(edge), entry(1))
    async with httpx.AsyncClient(trust_env=False) as stranger:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await stranger.get(f"https://{edge.addresses[0]}:{edge.https_port}/", extensions={"sni_hostname": HOST})
    with pytest.raises(httpx.ConnectError):
        await Visitor(edge).get("https", "bank.example.org")


async def test_an_unprogrammed_edge_is_not_ready_and_says_so_kindly(edge_of: EdgeOf) -> None:
    edge = edge_of()
    answer = await Visitor(edge).get("http", HOST, caddy.EDGE_PATH)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert "One moment" in answer.text
    await write(await only(edge))
    assert (await Visitor(edge).get("http", HOST, caddy.EDGE_PATH)).status_code == 200


async def test_nobody_else_may_program_it(edge_of: EdgeOf, tmp_path: Path) -> None:
    edge = edge_of()
    write_keys(tmp_path / "other", ZONES, now=NOW.replace(year=NOW.year - 1))
    other = tmp_path / "other" / "dns-proxy"
    # Somebody with a certificate of the same name, and of the same authority.
    impostors = [
        replace(edge.access, certificate=other / "tls.crt", key=other / "tls.key"),
        replace(edge.access, certificate=edge.keys / "edge" / "tls.crt", key=edge.keys / "edge" / "tls.key"),
    ]
    for access in impostors:
        (replica,) = await edges(access).replicas()
        with pytest.raises(EdgeError, match=r"edge 127\.0\.0\.2"):
            await replica.current()
    async with httpx.AsyncClient(trust_env=False, verify=False) as nobody:
        with pytest.raises(httpx.HTTPError):
            await nobody.get(f"https://{edge.addresses[0]}:{edge.admin_port}/config/")
        with pytest.raises(httpx.ConnectError):
            await nobody.get("http://127.0.0.1:2019/config/")
    assert (await (await only(edge)).current()).etag


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/config/"),
        ("POST", "/load"),
        ("POST", "/stop"),
        ("PATCH", "/config/admin"),
        ("DELETE", "/config/apps/http/servers/public/routes"),
        ("GET", "/pki/ca/catalyst"),
    ],
)
async def test_dns_proxy_may_program_routes_and_nothing_else(edge_of: EdgeOf, method: str, path: str) -> None:
    edge = edge_of()
    client = edges(edge.access)._admin
    url = f"https://{edge.addresses[0]}:{edge.admin_port}{path}"
    answer = await client.request(method, url, json={}, extensions={"sni_hostname": "edge.catalyst.internal"})
    assert answer.status_code == 403, answer.text


async def test_dns_proxy_speaks_to_no_false_edge(edge_of: EdgeOf, tmp_path: Path) -> None:
    edge = edge_of()
    write_keys(tmp_path / "other", ZONES, now=NOW)
    (replica,) = await edges(replace(edge.access, authority=tmp_path / "other" / "root.crt")).replicas()
    with pytest.raises(EdgeError, match="CERTIFICATE_VERIFY_FAILED"):
        await replica.current()


async def test_a_write_over_a_table_that_was_not_seen_is_refused(edge_of: EdgeOf) -> None:
    replica = await only(edge_of())
    seen = await replica.current()
    await write(replica, entry(8080), token=2)
    with pytest.raises(Changed, match="changed by somebody else"):
        await replica.replace(caddy.routes([], layout(), token=1), seen.etag)
    assert (await replica.current()).table.token == 2


async def test_what_cannot_be_read_is_no_entry_and_is_overwritten(edge_of: EdgeOf) -> None:
    replica = await only(edge_of())
    odd: list[dict[str, Any]] = [{"@id": "route/u/h", "handle": [{"handler": "static_response"}]}, {"handle": []}]
    await replica.replace(odd, (await replica.current()).etag)
    assert (await replica.current()).table.entries == {}
    await write(replica, entry(8080))


async def test_it_tells_this_from_other_shut_and_silent(edge_of: EdgeOf) -> None:
    edge = edge_of(addresses=("127.0.0.2", "127.0.0.3"))
    one, two = await edges(edge.access).replicas()
    hasty, _ = await edges(replace(edge.access, patience=1.0)).replicas()
    await write(one, entry(8080))
    mine, others = caddy.whose(entry(8080)), caddy.whose(replace(entry(8080), uid="another"))
    assert await one.serves(HOST, mine) == "this"
    assert await one.serves(HOST, others) == "other"
    assert await one.serves(host_of("pr-9"), mine) == "other"
    edge.parts["127.0.0.3"].kill()
    assert await two.serves(HOST, mine) == "refused"
    edge.parts["127.0.0.2"].freeze()
    assert await hasty.serves(HOST, mine) == "silent"
    edge.parts["127.0.0.2"].thaw()


async def test_uploads_pass_whole(edge_of: EdgeOf) -> None:
    edge = edge_of()
    async with listening(hello) as port:
        await write(await only(edge), entry(port))
        answer = await Visitor(edge).get("https", HOST, "/upload", "POST", content=b"x" * 50_000_000)
    assert answer.text.endswith("got=50000000")


async def test_server_sent_events_come_at_once_and_outlive_a_change_of_the_table(edge_of: EdgeOf) -> None:
    edge, again = edge_of(), asyncio.Event()

    async def ticking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: one\n\n")
        await writer.drain()
        await again.wait()
        writer.write(b"data: two\n\n")
        await writer.drain()
        writer.close()

    async with listening(ticking) as port:
        replica = await only(edge)
        await write(replica, entry(port))
        url = f"http://{edge.addresses[0]}:{edge.http_port}/events"
        async with (
            httpx.AsyncClient(trust_env=False, timeout=5) as client,
            client.stream("GET", url, headers={"Host": HOST}) as stream,
        ):
            lines = stream.aiter_lines()
            assert await anext(lines) == "data: one"
            await write(replica, entry(port), entry(port, "pr-2"))
            again.set()
            assert [line async for line in lines if line] == ["data: two"]


async def test_websockets_pass_and_outlive_a_change_of_the_table(edge_of: EdgeOf) -> None:
    edge = edge_of()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"upgrade: websocket" in head.lower()
        key = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        writer.write(key + b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
        while data := await reader.read(1024):
            writer.write(data)
            await writer.drain()
        writer.close()

    async with listening(echo) as port:
        replica = await only(edge)
        await write(replica, entry(port))
        reader, writer = await asyncio.open_connection(edge.addresses[0], edge.http_port)
        key = base64.b64encode(b"the sample nonce").decode()
        head = f"GET /ws HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        writer.write(f"{head}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        for text in (b"before", b"after"):
            writer.write(text)
            assert await asyncio.wait_for(reader.readexactly(len(text)), 5) == text
            await write(replica, entry(port), entry(port, f"pr-{len(text)}"))
        writer.write(b"last")
        assert await asyncio.wait_for(reader.readexactly(4), 5) == b"last"
        writer.close()


async def test_an_application_that_is_not_there_shows_its_page_and_its_own_errors_stay_its_own(edge_of: EdgeOf) -> None:
    seen: list[str] = []

    async def pages(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\nConnection: close\r\n\r\npage")
        await writer.drain()
        writer.close()

    async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\nConnection: close\r\n\r\nown")
        await writer.drain()
        writer.close()

    async with listening(pages) as at, listening(broken) as own:
        edge = edge_of(pages=f"127.0.0.1:{at}")
        await write(await only(edge), entry(1), entry(own, "pr-2"), pages=f"127.0.0.1:{at}")
        visitor = Visitor(edge)
        secret = {"Cookie": "session=1", "Authorization": "Bearer x", "Catalyst-Edge-Error": "lie"}
        missing = await visitor.get("https", HOST, "/deep?q=1", "POST", content=b"body", headers=secret)
        assert (missing.status_code, missing.text) == (502, "page")
        unknown = await visitor.get("http", host_of("pr-404"), headers=secret)
        assert unknown.text == "page"
        assert (await visitor.get("http", host_of("pr-2"))).text == "own"
    for head in seen:
        assert head.startswith("GET / HTTP/1.1")
        assert "session=1" not in head
        assert "Bearer" not in head
        assert "lie" not in head
    assert f"Host: {HOST}" in seen[0]
    assert "Catalyst-Edge-Error: 502" in seen[0]


async def test_without_the_pages_an_apology(edge_of: EdgeOf) -> None:
    edge = edge_of()
    await write(await only(edge), entry(1))
    answer = await Visitor(edge).get("http", HOST)
    assert answer.status_code == 503
    assert "Nothing answers here at the moment." in answer.text
    unknown = await Visitor(edge).get("http", host_of("pr-404"))
    assert "Nothing answers here at the moment." in unknown.text


async def test_behind_a_tunnel_the_visitors_own_protocol_and_address_are_believed(edge_of: EdgeOf) -> None:
    edge = edge_of(tunnel=True)
    async with listening(hello) as port:
        await write(await only(edge), entry(port))
        told = await Visitor(edge).get("http", HOST, headers={"X-Forwarded-Proto": "https"})
        assert "proto=https" in told.text
    open_edge = edge_of(addresses=("127.0.0.5",))
    async with listening(hello) as port:
        await write(await only(open_edge), entry(port))
        told = await Visitor(open_edge).get("http", HOST, headers={"X-Forwarded-Proto": "https"})
        assert "proto=http " in told.text


async def test_a_thousand_routes(edge_of: EdgeOf) -> None:
    edge = edge_of()
    async with listening(hello) as port:
        replica = await only(edge)
        many = [entry(port, f"pr-{number}") for number in range(1, 1001)]
        began = asyncio.get_running_loop().time()
        await write(replica, *many)
        took = asyncio.get_running_loop().time() - began
        assert (await Visitor(edge).get("https", host_of("pr-1000"))).status_code == 200
        assert len(json.dumps((await replica.current()).routes)) < 4_000_000
    assert took < 10, f"{took:.1f} s"
