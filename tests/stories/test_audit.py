"""Who did what stands in the audit: from a forge, from a comment, and from kubectl through a real API server."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from stage import Stage, free_port, operating, services

from catalyst.events.chain import Link, verify
from catalyst.events.topology import SERVICES
from catalyst.local import certs
from catalyst.local.control_plane import APISERVER, ControlPlane
from catalyst.local.installation import Installation, install
from catalyst.local.nats import Nats

TOKEN = "a token of the stories"
POLICY = Path(__file__).parents[2] / "deploy" / "k8s" / "audit" / "policy.yaml"


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    return tmp_path / "audit-ca.crt"


@pytest.fixture
def controller_settings(tmp_path: Path, ca: Path) -> dict[str, Any]:
    """By TLS: to plain HTTP an API server sends no token."""
    file, authority = tmp_path / "audit-token", certs.Authority.new()
    file.write_text(f"{TOKEN}\n")
    certs.write(ca, authority.certificate)
    certificate, key = authority.server("audit", dns=["localhost"], ips=["127.0.0.1"]).write(tmp_path, "audit")
    return {
        "audit_token_file": file,
        "audit_host": "127.0.0.1",
        "audit_port": free_port(),
        "audit_certificate_file": certificate,
        "audit_key_file": key,
    }


def url_of(settings: dict[str, Any]) -> str:
    return f"https://127.0.0.1:{settings['audit_port']}/audit"


async def records(stage: Stage, environment: str | None = "pr-1") -> list[dict[str, Any]]:
    """All of one chain, which must be whole."""
    bus = stage._operator.bus
    subject = ".".join(part for part in ("audit", stage.team, "shop", environment) if part)
    stored = [each async for each in bus.replay("AUDIT", subject)]
    assert verify([Link(each.sequence, each.subject, each.data) for each in stored]).faults == ()
    return [json.loads(each.data)["data"] for each in stored]


def told(record: dict[str, Any]) -> tuple[str, ...]:
    return (record["principal"]["name"], record["door"], record["operation"], record["outcome"])


async def prepared(stage: Stage) -> None:
    stage.grant()
    stage.project()
    await stage.accepted()


async def test_each_operation_of_a_pull_request_is_one_record(stage: Stage) -> None:
    await prepared(stage)
    opened = stage.pull_request(1, draft=True)
    await stage.deliver(opened, delivery="d-1")
    await stage.deliver(opened, delivery="d-1")
    await stage.command(1, "deploy", author="lisa")
    await stage.ready("pr-1")
    await stage.command(1, "sleep", author="lisa")
    await stage.handled()
    sender = opened["sender"]
    found = await records(stage)
    assert [told(one) for one in found] == [
        (sender["login"], "pull-request", "opened", "held"),
        ("lisa", "command", "deploy", "done"),
        ("lisa", "command", "sleep", "refused"),
    ]
    assert found[0]["principal"]["id"] == str(sender["id"])
    assert "/catalyst deploy" in found[0]["reason"]
    assert found[1]["uid"] == stage.uid("pr-1")

    await stage.deliver(stage.pull_request(1, action="closed", state="closed"))
    await stage.gone("pr-1")
    assert told((await records(stage))[-1])[1:] == ("pull-request", "closed", "done"), "kept when it is gone"


async def test_without_room_for_the_record_a_fact_is_not_acknowledged(stage: Stage) -> None:
    """It takes effect all the same; and is recorded, once, when there is room."""
    await prepared(stage)
    jetstream = stage._operator.bus._client.jetstream()
    config = (await jetstream.stream_info("AUDIT")).config
    await jetstream.update_stream(config.evolve(max_bytes=1))
    try:
        await stage.deliver(stage.pull_request(1))
        await stage.ready("pr-1")
        await asyncio.sleep(2)  # it has come again meanwhile
        assert (await stage._operator.consumer("SCM", "env-controller")).num_ack_pending == 1
    finally:
        await jetstream.update_stream(config)
    # The server may keep a message that was handed back with a delay until its ack_wait is over.
    await stage.until_async(stage._idle, "it came again", within=45)
    assert [told(one)[1:] for one in await records(stage)] == [("pull-request", "opened", "done")]


def event(audit_id: str, stage: Stage, **changes: Any) -> dict[str, Any]:
    return {
        "auditID": audit_id,
        "stage": "ResponseComplete",
        "requestURI": "/?command=a-secret-command",
        "verb": "patch",
        "user": {"username": "carol", "uid": "u-9"},
        "objectRef": {
            "resource": "environments",
            "apiGroup": "catalyst.dev",
            "namespace": f"{stage.team}--shop",
            "name": "pr-1",
        },
        "responseStatus": {"code": 200, "message": "a secret message"},
        "requestObject": {"data": {"password": "a secret value"}},
        "requestReceivedTimestamp": "2026-11-23T20:00:00.000000Z",
        **changes,
    }


async def test_a_batch_of_the_webhook(stage: Stage, controller_settings: dict[str, Any], ca: Path) -> None:
    url = url_of(controller_settings)
    ours = {"username": "system:serviceaccount:catalyst-system:env-controller"}
    batch = {
        "kind": "EventList",
        "items": [
            event("a-1", stage),
            event("a-1", stage),
            event("a-2", stage, responseStatus={"code": 403, "reason": "Forbidden", "message": "a secret message"}),
            event("a-3", stage, user=ours),
            event("a-4", stage, verb="get"),
            {"auditID": 7},
        ],
    }
    async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=ca)) as client:
        assert (await client.post(url, json=batch)).status_code == 401
        wrong = {"authorization": "Bearer another"}
        assert (await client.post(url, json=batch, headers=wrong)).status_code == 401
        assert await records(stage) == []
        right = {"authorization": f"Bearer {TOKEN}"}
        assert (await client.post(url, content=b"{", headers=right)).status_code == 400
        large = {**right, "content-length": str(9 * 1024**2)}
        assert (await client.post(url, content=b" " * (9 * 1024**2), headers=large)).status_code == 413
        for _ in range(2):
            assert (await client.post(url, json=batch, headers=right)).status_code == 200
    found = await records(stage)
    assert [(*told(one), one.get("reason")) for one in found] == [
        ("carol", "kubectl", "patch", "done", None),
        ("carol", "kubectl", "patch", "refused", "Forbidden (403)"),
    ]
    assert "secret" not in json.dumps(found)


@pytest.fixture
def watched(
    binaries: dict[str, Path], tmp_path: Path, controller_settings: dict[str, Any], ca: Path
) -> Iterator[Installation]:
    """An API server that tells env-controller what it is asked."""
    config = tmp_path / "webhook.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "catalyst",
                "clusters": [
                    {
                        "name": "catalyst",
                        "cluster": {"server": url_of(controller_settings), "certificate-authority": str(ca)},
                    }
                ],
                "users": [{"name": "api-server", "user": {"token": TOKEN}}],
                "contexts": [{"name": "catalyst", "context": {"cluster": "catalyst", "user": "api-server"}}],
            }
        )
    )
    flags = [
        f"--audit-policy-file={POLICY}",
        f"--audit-webhook-config-file={config}",
        "--audit-webhook-batch-max-wait=1s",
        "--audit-webhook-initial-backoff=1s",
    ]
    with (
        ControlPlane(tmp_path / "control-plane", binaries, extra_flags={APISERVER: flags}) as control_plane,
        Nats(tmp_path / "nats", services=SERVICES) as nats,
    ):
        nats.apply_topology()
        install(control_plane)
        yield Installation(control_plane, nats)


@pytest.fixture
async def watched_stage(watched: Installation, controller_settings: dict[str, Any]) -> AsyncIterator[Stage]:
    async with operating(watched) as operator, services(watched, controller_settings) as url:
        yield Stage(watched, url, operator)


async def test_kubectl_through_a_real_api_server(watched_stage: Stage, tmp_path: Path) -> None:
    stage = watched_stage
    await prepared(stage)
    manifest = tmp_path / "environment.yaml"
    manifest.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "catalyst.dev/v1alpha1",
                "kind": "Environment",
                "metadata": {"namespace": f"{stage.team}--shop", "name": "try"},
                "spec": {"projectRef": {"team": stage.team, "name": "shop"}},
            }
        )
    )

    def kubectl(kubeconfig: Path, *words: str) -> int:
        command = [str(stage.installation.control_plane.kubectl), f"--kubeconfig={kubeconfig}", *words]
        return subprocess.run(command, check=False, capture_output=True).returncode

    control_plane = stage.installation.control_plane
    stranger, admin = control_plane.kubeconfig_as("stranger"), control_plane.admin_kubeconfig
    namespace = f"--namespace={stage.team}--shop"
    assert await asyncio.to_thread(kubectl, stranger, "delete", "environment", "try", namespace) != 0
    assert await asyncio.to_thread(kubectl, admin, "apply", "-f", str(manifest)) == 0

    async def both() -> bool:
        return len(await records(stage, "try")) >= 2

    await stage.until_async(both, "what kubectl did is recorded", within=20)
    found = await records(stage, "try")
    assert {told(one) for one in found} == {
        ("stranger", "kubectl", "delete", "refused"),
        ("catalyst-local-admin", "kubectl", "create", "done"),
    }
    assert not [one for one in found if one["principal"]["name"].startswith("system:")]
