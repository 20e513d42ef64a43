"""The double of Cloudflare refuses what Cloudflare would refuse, says 501 to what it lacks, and satisfies the SDK."""

from collections.abc import AsyncIterator
from typing import Any

import cloudflare
import httpx
import pytest
from cloudflare import AsyncCloudflare
from doubles.cloudflare import CloudflareDouble

RECORD: dict[str, Any] = {
    "type": "CNAME",
    "name": "a.example.org",
    "content": "b.example.net",
    "proxied": True,
    "ttl": 1,
}


@pytest.fixture
async def double() -> AsyncIterator[CloudflareDouble]:
    async with CloudflareDouble() as one:
        yield one


@pytest.fixture
async def sdk(double: CloudflareDouble) -> AsyncIterator[AsyncCloudflare]:
    async with AsyncCloudflare(
        api_token=double.token, base_url=double.url, max_retries=0, _strict_response_validation=True
    ) as api:
        yield api


async def asked(double: CloudflareDouble, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {double.token}", **more.pop("headers", {})}
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.request(method, f"{double.url}{path}", json=body, headers=headers, **more)


async def test_the_sdk_takes_every_answer(double: CloudflareDouble, sdk: AsyncCloudflare) -> None:
    account, zone = double.state.account, double.state.zone
    tunnels, records = sdk.zero_trust.tunnels.cloudflared, sdk.dns.records
    tunnel = await tunnels.create(account_id=account, name="one", config_src="cloudflare")
    assert tunnel
    assert tunnel.id
    assert (await tunnels.get(tunnel.id, account_id=account)) == tunnel
    assert [one.id async for one in tunnels.list(account_id=account, name="one", is_deleted=False)] == [tunnel.id]
    assert await tunnels.token.get(tunnel.id, account_id=account) == double.state.token(tunnel.id)
    config: Any = {"ingress": [{"service": "http_status:404"}]}
    await tunnels.configurations.update(tunnel.id, account_id=account, config=config)
    got = await tunnels.configurations.get(tunnel.id, account_id=account)
    assert got
    assert got.config
    assert got.config.ingress
    assert got.config.ingress[0].service == "http_status:404"
    made = await records.create(zone_id=zone, **RECORD)
    assert made
    assert await records.get(made.id, zone_id=zone) == made
    edited = await records.edit(made.id, zone_id=zone, **{**RECORD, "comment": "x"})
    assert edited
    assert edited.comment == "x"
    assert [one.id async for one in records.list(zone_id=zone, name={"endswith": ".example.org"})] == [made.id]
    gone = await records.delete(made.id, zone_id=zone)
    assert gone
    assert gone.id == made.id
    await tunnels.delete(tunnel.id, account_id=account)
    assert not [one async for one in tunnels.list(account_id=account, is_deleted=False)]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({**RECORD, "name": "bad name.example.org"}, 9005),
        ({**RECORD, "name": "a.*.example.org"}, 9005),
        ({**RECORD, "ttl": 5}, 9021),
        ({**RECORD, "comment": "x" * 101}, 9301),
        ({**RECORD, "proxied": "yes"}, 9207),
        ({**RECORD, "colour": "red"}, 9207),
        ({"type": "CNAME", "name": "a.example.org"}, 9000),
        ({**RECORD, "type": "TXT"}, 9004),
    ],
)
async def test_bad_records_are_refused(double: CloudflareDouble, body: dict[str, Any], code: int) -> None:
    path = f"/zones/{double.state.zone}/dns_records"
    answer = await asked(double, "POST", path, body)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, code)
    assert not double.state.records
    assert (await asked(double, "POST", path, RECORD)).status_code == 200


async def test_a_second_record_of_a_name_is_refused(double: CloudflareDouble) -> None:
    path = f"/zones/{double.state.zone}/dns_records"
    assert (await asked(double, "POST", path, RECORD)).is_success
    for body, code in (
        (RECORD, 81058),
        ({**RECORD, "content": "c.example.net"}, 81053),
        ({**RECORD, "type": "A", "content": "192.0.2.1"}, 81053),
    ):
        assert (await asked(double, "POST", path, body)).json()["errors"][0]["code"] == code
    assert (await asked(double, "POST", path, {**RECORD, "type": "TXT", "proxied": False})).is_success


@pytest.mark.parametrize(
    "ingress",
    [
        [],
        [{"hostname": "a.example.org", "service": "http://x"}],
        [{"service": "http_status:404"}, {"hostname": "a.example.org", "service": "http://x"}],
        [{"service": "http_status:404"}, {"service": "http_status:404"}],
        [{"service": "gopher://x"}],
        [{"service": "http_status:404", "colour": "red"}],
        ["http_status:404"],
    ],
)
async def test_bad_configurations_are_refused(double: CloudflareDouble, ingress: list[Any]) -> None:
    tunnel = double.state.create_tunnel({"name": "one", "config_src": "cloudflare"})
    path = f"/accounts/{double.state.account}/cfd_tunnel/{tunnel['id']}/configurations"
    assert (await asked(double, "PUT", path, {"config": {"ingress": ingress}})).status_code == 400
    assert (await asked(double, "PUT", path, {"config": {"ingress": [{"service": "http_status:404"}]}})).is_success


async def test_strangers_are_refused(double: CloudflareDouble) -> None:
    path = f"/zones/{double.state.zone}/dns_records"
    for headers in ({"Authorization": "Bearer nobody"}, {"Authorization": "Basic x"}):
        assert (await asked(double, "GET", path, headers=headers)).status_code == 403
    reader = {"Authorization": f"Bearer {double.mint(frozenset({'dns:read'}))}"}
    assert (await asked(double, "GET", path, headers=reader)).is_success
    assert (await asked(double, "POST", path, RECORD, headers=reader)).status_code == 403
    assert (await asked(double, "GET", "/zones/another/dns_records")).status_code == 403
    assert (await asked(double, "GET", "/accounts/another/cfd_tunnel")).status_code == 403


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/user/tokens/verify"),
        ("GET", "/zones/{zone}"),
        ("PUT", "/zones/{zone}/dns_records/x"),
        ("GET", "/zones/{zone}/dns_records?tag=x"),
    ],
)
async def test_what_it_lacks_is_501_and_named(double: CloudflareDouble, method: str, path: str) -> None:
    answer = await asked(double, method, path.format(zone=double.state.zone), RECORD if method == "PUT" else None)
    assert answer.status_code == 501
    assert "the double lacks" in answer.json()["errors"][0]["message"]


async def test_faults_hit_what_they_are_meant_for(double: CloudflareDouble, sdk: AsyncCloudflare) -> None:
    double.fail(500, method="DELETE", path="dns_records", times=1)
    made = await sdk.dns.records.create(zone_id=double.state.zone, **RECORD)
    assert made
    with pytest.raises(cloudflare.InternalServerError):
        await sdk.dns.records.delete(made.id, zone_id=double.state.zone)
    assert double.state.records
    await sdk.dns.records.delete(made.id, zone_id=double.state.zone)
