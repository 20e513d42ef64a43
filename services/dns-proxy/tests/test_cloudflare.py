"""Cloudflare by its official SDK, strictly validated, against the double: ours is made and removed, others' never."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doubles.cloudflare import CloudflareDouble
from edges import host_of, snapshot
from pydantic import SecretStr

from catalyst.dns_proxy import tunnel as tool
from catalyst.dns_proxy.core.cloudflare import Tunnel, mark
from catalyst.dns_proxy.core.routes import wanted
from catalyst.dns_proxy.effects.cloudflare import CloudflareNames, client
from catalyst.dns_proxy.effects.names import NamesError
from catalyst.events.locks import LostLock
from catalyst.model.environment import Phase
from catalyst.model.snapshot import Snapshot

ZONE = "catalyst.localhost"
HOST, OTHER = host_of("pr-1"), host_of("pr-2")


@pytest.fixture
async def cloud() -> AsyncIterator[CloudflareDouble]:
    async with CloudflareDouble() as double:
        double.state.zone_name = "catalyst.localhost"
        double.state.create_tunnel({"name": "catalyst-test", "config_src": "cloudflare"})
        yield double


def tunnel(cloud: CloudflareDouble, *, wildcard: bool = False) -> Tunnel:
    state = cloud.state
    return Tunnel(state.account, state.zone, "catalyst-test", ZONE, "http://edge:8080", "test", wildcard)


class Caller:
    """Reconciles as the reconciler does, with a client that takes nothing that is not as described."""

    def __init__(self, cloud: CloudflareDouble, to: Tunnel, token: str | None = None) -> None:
        self._api = client(cloud.url, SecretStr(token or cloud.token), strict=True)
        self.names = CloudflareNames(self._api, to)

    async def __call__(self, *snapshots: Snapshot) -> None:
        aim = wanted(snapshots, ZONE)
        await self.names.reconcile(aim.entries.values(), snapshots, lambda: 1)

    async def aclose(self) -> None:
        await self._api.close()


@pytest.fixture
async def call(cloud: CloudflareDouble) -> AsyncIterator[Caller]:
    caller = Caller(cloud, tunnel(cloud))
    yield caller
    await caller.aclose()


@pytest.fixture
async def wild(cloud: CloudflareDouble) -> AsyncIterator[Caller]:
    caller = Caller(cloud, tunnel(cloud, wildcard=True))
    yield caller
    await caller.aclose()


def records(cloud: CloudflareDouble) -> dict[str, tuple[str, str | None]]:
    return {one["name"]: (one["content"], one["comment"]) for one in cloud.state.records.values()}


def target(cloud: CloudflareDouble) -> str:
    return f"{next(iter(cloud.state.tunnels))}.cfargotunnel.com"


def rules(cloud: CloudflareDouble) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = next(iter(cloud.state.configurations.values()))["config"]["ingress"]
    return found


async def test_a_record_for_every_host_comes_and_goes(cloud: CloudflareDouble, call: Caller) -> None:
    assert call.names.seen(HOST) == "unclear"
    await call(snapshot("pr-1"), snapshot("pr-2"))
    assert records(cloud) == {
        HOST: (target(cloud), mark("test", "uid-pr-1")),
        OTHER: (target(cloud), mark("test", "uid-pr-2")),
    }
    assert {one["proxied"] for one in cloud.state.records.values()} == {True}
    assert (call.names.seen(HOST), call.names.seen(host_of("pr-3"))) == ("served", "absent")
    await call(snapshot("pr-1", Phase.TERMINATING), snapshot("pr-2"))
    assert set(records(cloud)) == {OTHER}
    assert (call.names.seen(HOST), call.names.seen(OTHER)) == ("absent", "served")


async def test_one_wildcard_and_one_rule_for_all(cloud: CloudflareDouble, wild: Caller) -> None:
    await wild(snapshot("pr-1"))
    assert records(cloud) == {f"*.{ZONE}": (target(cloud), mark("test", "-"))}
    assert rules(cloud) == [
        {"hostname": f"*.{ZONE}", "service": "http://edge:8080"},
        {"hostname": "", "service": "http_status:404"},
    ]
    assert wild.names.seen(HOST) is None
    await wild()
    assert set(records(cloud)) == {f"*.{ZONE}"}, "the wildcard stays when the last environment goes"


async def test_a_second_look_changes_nothing(cloud: CloudflareDouble, call: Caller) -> None:
    await call(snapshot("pr-1"))
    cloud.requests.clear()
    await call(snapshot("pr-1"))
    assert {request.split()[0] for request in cloud.requests} == {"GET"}


async def test_what_is_not_ours_is_never_touched(cloud: CloudflareDouble, call: Caller) -> None:
    state = cloud.state
    others = [
        state.create_record({"type": "A", "name": HOST, "content": "192.0.2.1", "comment": "by hand"}),
        state.create_record(
            {"type": "CNAME", "name": OTHER, "content": "x.org", "comment": mark("another", "uid-pr-2")}
        ),
        state.create_record({"type": "TXT", "name": host_of("pr-3"), "content": "text"}),
        state.create_record({"type": "CNAME", "name": f"old.{ZONE}", "content": target(cloud)}),
    ]
    tunnel_id = next(iter(state.tunnels))
    foreign = [
        {"hostname": "wiki.example.org", "service": "http://wiki:80", "originRequest": {"noTLSVerify": True}},
        {"service": "http_status:503"},
    ]
    state.configure(tunnel_id, {"config": {"ingress": foreign, "warp-routing": {"enabled": True}, "new": {"x": 1}}})
    before = [dict(one) for one in others]
    await call(snapshot("pr-1"), snapshot("pr-2"), snapshot("pr-3"))
    assert [state.records[one["id"]] for one in before] == before
    assert "is taken by a A record that is not ours" in str(call.names.refused(HOST))
    assert mark("test", "uid-pr-1") in str(call.names.refused(HOST))
    assert call.names.refused(OTHER)
    assert call.names.seen(HOST) == "absent"
    assert call.names.seen(host_of("pr-3")) == "served", "a TXT record is in nobody's way"
    await call(*(snapshot(f"pr-{number}", Phase.TERMINATING) for number in (1, 2, 3)))
    assert [state.records[one["id"]] for one in before] == before
    assert len(state.records) == 4
    config = state.configurations[tunnel_id]["config"]
    assert [rule["hostname"] for rule in config["ingress"]] == ["wiki.example.org", f"*.{ZONE}", ""]
    assert config["ingress"][0]["originRequest"] == {"noTLSVerify": True}
    assert config["ingress"][-1]["service"] == "http_status:503"
    assert (config["warp-routing"], config["new"]) == ({"enabled": True}, {"x": 1})


async def test_what_somebody_changed_of_ours_is_put_right(cloud: CloudflareDouble, call: Caller) -> None:
    await call(snapshot("pr-1"))
    (record,) = cloud.state.records.values()
    cloud.state.edit_record(record["id"], {"content": "elsewhere.example.org", "proxied": False})
    await call(snapshot("pr-1"))
    (record,) = cloud.state.records.values()
    assert (record["content"], record["proxied"]) == (target(cloud), True)


async def test_absence_deletes_no_record(cloud: CloudflareDouble, call: Caller) -> None:
    await call(snapshot("pr-1"), snapshot("pr-2"))
    await call(snapshot("pr-2"))
    assert set(records(cloud)) == {HOST, OTHER}


async def test_an_error_during_deletion_leaves_it_unclear_until_it_is_gone(
    cloud: CloudflareDouble, call: Caller
) -> None:
    await call(snapshot("pr-1"))
    cloud.fail(500, method="DELETE", times=2)
    for _ in range(2):
        with pytest.raises(NamesError, match="Cloudflare answered 500: 10500 Injected fault"):
            await call(snapshot("pr-1", Phase.TERMINATING))
        assert call.names.seen(HOST) == "unclear"
        assert set(records(cloud)) == {HOST}
    await call(snapshot("pr-1", Phase.TERMINATING))
    assert call.names.seen(HOST) == "absent"
    assert not records(cloud)


async def test_an_answer_lost_after_the_effect_doubles_nothing(cloud: CloudflareDouble, call: Caller) -> None:
    cloud.fail(502, method="POST", after=True)
    with pytest.raises(NamesError):
        await call(snapshot("pr-1"))
    await call(snapshot("pr-1"))
    assert len(cloud.state.records) == 1


async def test_many_records_in_pages(cloud: CloudflareDouble, call: Caller) -> None:
    many = [snapshot(f"pr-{number}") for number in range(1, 131)]
    await call(*many)
    assert len(cloud.state.records) == 130
    cloud.requests.clear()
    await call(*many)
    assert not [request for request in cloud.requests if not request.startswith("GET")]


async def test_a_leader_that_is_none_any_more_writes_nothing(cloud: CloudflareDouble) -> None:
    def fence() -> int:
        raise LostLock("lost")

    async with client(cloud.url, SecretStr(cloud.token), strict=True) as api:
        names = CloudflareNames(api, tunnel(cloud))
        with pytest.raises(LostLock):
            await names.reconcile(wanted([snapshot()], ZONE).entries.values(), [snapshot()], fence)
    assert not [request for request in cloud.requests if not request.startswith("GET")]


@pytest.mark.parametrize(
    ("permissions", "words"),
    [({"tunnel:read", "tunnel:edit"}, "403"), ({"dns:read", "dns:edit"}, "403"), ({"tunnel:read"}, "403")],
)
async def test_a_token_that_may_not_is_told(cloud: CloudflareDouble, permissions: set[str], words: str) -> None:
    caller = Caller(cloud, tunnel(cloud), cloud.mint(frozenset(permissions)))
    with pytest.raises(NamesError, match=words):
        await caller(snapshot())
    await caller.aclose()


async def test_a_tunnel_that_is_not_there_is_named_with_the_remedy(cloud: CloudflareDouble) -> None:
    caller = Caller(cloud, replace(tunnel(cloud), name="catalyst-other"))
    with pytest.raises(NamesError, match=r"tunnel catalyst-other does not exist in account .*; make it with"):
        await caller(snapshot())
    await caller.aclose()


async def test_cloudflare_out_of_reach(cloud: CloudflareDouble) -> None:
    async with client("http://127.0.0.1:1/client/v4", SecretStr("x"), strict=True) as api:
        with pytest.raises(NamesError, match="Cloudflare: Connection error"):
            await CloudflareNames(api, tunnel(cloud)).reconcile([], [], lambda: 1)


async def test_the_tool_makes_a_tunnel_once(cloud: CloudflareDouble, tmp_path: Path) -> None:
    token = tmp_path / "api-token"
    token.write_text(cloud.token)
    first = await tool.made(cloud.url, token, cloud.state.account, "catalyst-new")
    assert first == await tool.made(cloud.url, token, cloud.state.account, "catalyst-new")
    assert first[1] == cloud.state.token(first[0])
    assert cloud.state.tunnels[first[0]]["config_src"] == "cloudflare"
