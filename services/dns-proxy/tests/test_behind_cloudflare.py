"""dns-proxy whole, behind Cloudflare: `live` only with a record, `gone` only without, whatever Cloudflare answers."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from doubles.cloudflare import CloudflareDouble
from edges import Visitor, hello, host_of, listening, snapshot, until
from scene import Scene, playing

from catalyst.local.edge import LocalEdge
from catalyst.local.nats import Nats
from catalyst.local.process import free_ports
from catalyst.model.environment import Phase

HOST = host_of()


def settings(cloud: CloudflareDouble, folder: Path, **more: Any) -> dict[str, Any]:
    cloud.state.zone_name = "catalyst.localhost"
    token = folder / "cloudflare-token"
    token.write_text(cloud.token)
    return {
        "cloudflare_token_file": token,
        "cloudflare_account": cloud.state.account,
        "cloudflare_zone": cloud.state.zone,
        "cloudflare_url": cloud.url,
        "cloudflare_records": "hosts",
        "owner": "test",
        **more,
    }


@pytest.fixture
async def scene(nats: Nats, edge_of: Callable[..., LocalEdge]) -> AsyncIterator[Scene]:
    """With one edge behind a tunnel."""
    nats.apply_topology()
    (port,) = free_ports(1)
    async with playing(nats, edge_of(tunnel=True, pages=f"127.0.0.1:{port}"), port) as made:
        yield made


async def test_a_name_at_cloudflare_is_awaited_both_ways(scene: Scene, tmp_path: Path) -> None:
    async with CloudflareDouble() as cloud, listening(hello) as port, scene.serving(**settings(cloud, tmp_path)):
        await scene.say(snapshot(port=port))
        visitor = Visitor(scene.edge)

        async def served() -> bool:
            try:
                return "got=0" in (await visitor.get("http", HOST)).text
            except httpx.TransportError:  # an edge that is just given its first table may end a connection
                return False

        await until(served)
        assert await scene.told() == [], "the tunnel does not exist yet"
        cloud.state.create_tunnel({"name": "catalyst-test", "config_src": "cloudflare"})
        await scene.tells((HOST, True), within=30)
        assert [record["name"] for record in cloud.state.records.values()] == [HOST]

        cloud.fail(500, method="DELETE", times=3)
        await scene.say(snapshot(phase=Phase.TERMINATING, port=port))
        await until(lambda: sum(request.startswith("DELETE") for request in cloud.requests) >= 2, 20)
        assert cloud.state.records
        assert [(host, live) for host, live, _ in await scene.told()] == [(HOST, True)]
        await scene.tells((HOST, True), (HOST, False), within=30)
        assert not cloud.state.records


async def test_a_name_that_belongs_to_somebody_else_is_told_with_the_remedy(scene: Scene, tmp_path: Path) -> None:
    async with CloudflareDouble() as cloud, scene.serving(**settings(cloud, tmp_path)):
        record = cloud.state.create_record({"type": "A", "name": HOST, "content": "192.0.2.1"})
        cloud.state.create_tunnel({"name": "catalyst-test", "config_src": "cloudflare"})
        await scene.say(snapshot())
        await scene.tells((HOST, False), within=20)
        ((_, _, reason),) = await scene.told()
        assert "is taken by a A record that is not ours" in str(reason)
        await scene.say(snapshot(phase=Phase.TERMINATING))
        await scene.tells((HOST, False), (HOST, False), within=20)
        assert cloud.state.records == {record["id"]: record}


async def test_with_a_wildcard_the_edge_decides(scene: Scene, tmp_path: Path) -> None:
    async with CloudflareDouble() as cloud:
        cloud.state.create_tunnel({"name": "catalyst-test", "config_src": "cloudflare"})
        async with scene.serving(**settings(cloud, tmp_path, cloudflare_records="wildcard")):
            await scene.say(snapshot())
            await scene.tells((HOST, True), within=20)
            await scene.say(snapshot(phase=Phase.TERMINATING))
            await scene.tells((HOST, True), (HOST, False), within=20)
        assert [record["name"] for record in cloud.state.records.values()] == ["*.catalyst.localhost"]
