"""Catalyst as it is installed: images from the services' Dockerfiles, every pod under its own rights and policies, NATS
for those with a key. Then production's overlay with three NATS servers, on the one node there is.
"""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from doubles.github import GitHubDouble
from kubectl import Kubectl, pod

from catalyst.events.keys import write_keys
from catalyst.events.users import OPERATOR, inbox_prefix
from catalyst.local import cluster, components, platform
from catalyst.local.installation import SYSTEM_NAMESPACE
from catalyst.local.node import layout, services

PORT = 8900
FORGE = f"http://github.catalyst.test:{PORT}"
MEMORY = 150 * 1024**2
"""Bytes that a service may take."""
KNOCK = """
import json, socket, sys
def knock(target):
    host, port = target.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=3).close()
    except OSError as error:
        return type(error).__name__
    return "open"
print(json.dumps({target: knock(target) for target in sys.argv[1:]}))
"""


@dataclass
class World:
    """The installation, GitHub's double, and what is needed to look."""

    state: cluster.ClusterState
    github: GitHubDouble
    forge: platform.Forge
    done: platform.Platform
    system: Kubectl

    @property
    def folder(self) -> Path:
        return Path(self.state.kubeconfig).parent / "platform"

    def pods(self, namespace: str = SYSTEM_NAMESPACE) -> dict[str, dict[str, Any]]:
        """Name → pod, of those that are not on their way out."""
        items = self.system.within(namespace).get("pods")["items"]
        return {p["metadata"]["name"]: p for p in items if "deletionTimestamp" not in p["metadata"]}

    def pod_of(self, service: str) -> str:
        return next(name for name in self.pods() if name.startswith(f"{service}-"))

    def knocks(self, service: str, *targets: str) -> dict[str, str]:
        """From the service's own container."""
        said = self.system.execute(self.pod_of(service), "python3", "-c", KNOCK, *targets)
        found: dict[str, str] = json.loads(said)
        return found


@pytest.fixture(scope="module")
def world(node: cluster.ClusterState, kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("platform")
    with GitHubDouble(folder / "github", host=layout.ADDRESS, port=PORT, public_url=FORGE) as github:
        github.repository("acme/shop", files={"Dockerfile": "FROM python:3-slim\n"})
        github.install("acme")
        key = folder / "app.pem"
        key.write_text(github.private_key)
        forge = platform.Forge(github.app.id, key, github.url, github.git_url)
        done = platform.install(node, forge, out=sys.stderr, within=180)
        try:
            yield World(node, github, forge, done, kubectl.within(SYSTEM_NAMESPACE))
        finally:
            for namespace in platform.NAMESPACES:
                kubectl.run("delete", "namespace", namespace, "--ignore-not-found", "--wait=false")


def test_every_service_says_that_it_is_ready(world: World) -> None:
    found = world.pods()
    assert len(found) == 1 + len(services.SERVICES)
    for name, each in found.items():
        (status,) = each["status"]["containerStatuses"]
        assert (name, status["ready"], status["restartCount"]) == (name, True, 0)
        if not name.startswith("nats"):
            answer = httpx.get(f"http://{each['status']['podIP']}:9090/readyz", trust_env=False)
            assert answer.status_code == 200, answer.text


def test_a_second_install_changes_nothing(world: World) -> None:
    before = {p["metadata"]["uid"] for p in world.pods().values()}
    again = platform.install(world.state, world.forge, out=sys.stderr, within=60)
    assert {p["metadata"]["uid"] for p in world.pods().values()} == before
    assert again.seconds < 30


def test_a_signed_webhook_is_stored_and_an_unsigned_one_is_not(world: World) -> None:
    payload, url = {"zen": "Design for failure."}, world.done.webhook_url
    headers = {"X-GitHub-Event": "ping", "X-GitHub-Delivery": "d9a3b9c2-0000-4000-8000-000000000001"}
    assert httpx.post(url, json=payload, headers=headers, trust_env=False).status_code == 401
    world.github.hook(url, world.done.webhook_secret.read_text().strip())
    world.github.commit("acme/shop", "feature", {"index.html": "hello"})
    world.github.open_pull_request("acme/shop", head="feature")
    seed = world.folder / "nkeys" / f"{OPERATOR}.seed"
    until = time.monotonic() + 20
    while "pull_request" not in (said := _last_fact(world, seed)):
        assert time.monotonic() < until, said
        time.sleep(0.3)


def _last_fact(world: World, seed: Path) -> str:
    """The subject of the last message in SCM, or the error."""
    code = (
        "import asyncio, sys, nats\n"
        "async def main():\n"
        f"    client = await nats.connect({_nats(world)!r}, nkeys_seed=sys.argv[1], "
        f"inbox_prefix={inbox_prefix(OPERATOR)!r})\n"
        "    info = await client.jetstream().stream_info('SCM', subjects_filter='>')\n"
        "    print(list(info.state.subjects or {}))\n"
        "    await client.close()\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, seed], capture_output=True, text=True, timeout=20, check=False)
    return done.stdout + done.stderr


def _nats(world: World) -> str:
    return f"nats://{world.system.get('service', 'nats')['spec']['clusterIP']}:4222"


def test_nats_serves_only_who_has_a_key(world: World, tmp_path: Path) -> None:
    def checked(*seed: Path) -> tuple[int, str]:
        command = [sys.executable, "-m", "catalyst.events", "check", "--url", _nats(world)]
        command += [word for file in seed for word in ("--seed", str(file))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return done.returncode, done.stdout + done.stderr

    assert checked(world.folder / "nkeys" / f"{OPERATOR}.seed")[0] == 0
    write_keys(tmp_path, ["stranger"])
    for key in ((), (tmp_path / "stranger.seed",)):
        code, said = checked(*key)
        assert (code, "no connection" in said) == (2, True), said
    host, port = _nats(world).removeprefix("nats://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as line:
        assert b'"auth_required":true' in line.recv(4096)
        line.sendall(b"CONNECT {}\r\nPING\r\n")
        assert b"-ERR 'Authorization Violation'" in line.recv(4096)


def test_each_pod_reaches_what_it_needs_and_nothing_else(world: World, kubectl: Kubectl) -> None:
    edge = world.pods(platform.EDGE_NAMESPACE)
    admin = f"{next(iter(edge.values()))['status']['podIP']}:2021"
    bus, api = "nats.catalyst-system.svc:4222", "kubernetes.default.svc:443"
    forge, registry, mirror = f"github.catalyst.test:{PORT}", layout.REGISTRY, layout.MIRROR
    places = (bus, api, forge, registry, mirror, admin, "internet.test:80", f"{layout.METADATA}:80")
    allowed = {
        "webhook-ingest": {bus, forge},
        "env-controller": {bus, api},
        "builder": {bus, api, forge, registry},
        "dns-proxy": {bus, admin},
        "notifier": {bus, forge},
    }
    assert {s: {t for t, how in world.knocks(s, *places).items() if how == "open"} for s in allowed} == allowed
    # A pod that no policy holds back reaches all doors but those that do not let it in.
    with kubectl.new_namespace() as other:
        other.apply(pod("knocks", "python:3-slim", "python3", "-c", KNOCK, *places))
        found = json.loads(other.finished("knocks"))
    assert {t for t, how in found.items() if how == "open"} == set(places) - {bus, admin}


def test_a_stranger_at_the_edge_sees_a_friendly_page(world: World) -> None:
    host = "nobody--knows--this.catalyst.localhost"
    trust = ssl.create_default_context(cafile=str(world.done.edge_authority))
    with httpx.Client(verify=trust, trust_env=False) as visitor:
        answer = visitor.get(
            f"https://{world.done.edge_address}/",
            headers={"host": host, "accept": "text/html"},
            extensions={"sni_hostname": host},
        )
    assert answer.status_code == 404
    assert "text/html" in answer.headers["content-type"]


def test_pods_are_small_and_have_no_token_without_need(world: World, kubectl: Kubectl) -> None:
    summary = json.loads(kubectl.run("get", "--raw", f"/api/v1/nodes/{layout.NODE}/proxy/stats/summary"))
    sizes = {
        found["podRef"]["name"]: sum(each["memory"]["workingSetBytes"] for each in found["containers"])
        for found in summary["pods"]
        if found["podRef"]["namespace"] in platform.NAMESPACES
    }
    for name, size in sorted(sizes.items()):
        sys.stderr.write(f"{name:<40} {size / 1024**2:6.1f} MiB\n")
    assert set(world.pods()) <= set(sizes)
    assert {name: size for name, size in sizes.items() if size > MEMORY} == {}
    token = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    look = f"import os; print(os.path.exists('{token}'), os.getuid())"
    said = {s: world.system.execute(world.pod_of(s), "python3", "-c", look).strip() for s in services.SERVICES}
    assert said == {s: f"{s in ('env-controller', 'builder')} 65532" for s in services.SERVICES}


def test_production_comes_up_on_one_node(world: World, kubectl: Kubectl, tmp_path: Path) -> None:
    """Three NATS servers that store everything three times, two of each service. Without cloudflared, whose image and
    other end are not here, and with addresses that lead nowhere in place of Cloudflare's.
    """
    for namespace in platform.NAMESPACES:
        kubectl.run("delete", "namespace", namespace, "--timeout=120s", within=130)
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    binaries = components.binaries(components=components.COMPONENTS + components.NODE)
    digests = services.build(binaries, sys.stderr)
    settings = [
        "CATALYST_CLOUDFLARE_URL=https://internet.test",
        "CATALYST_REGISTRY=registry.catalyst.test:5000",
    ]
    away = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "cloudflared", "namespace": "catalyst-edge"},
    }
    content = {
        "resources": [_relative(platform.OVERLAYS / "production", overlay)],
        "images": [
            {"name": f"registry.example.org/{name}", "newName": name, "digest": digest}
            for name, digest in digests.items()
        ],
        "configMapGenerator": [
            {"name": "settings", "namespace": "catalyst-system", "behavior": "merge", "literals": settings}
        ],
        "patches": [{"patch": json.dumps({**away, "$patch": "delete"})}],
    }
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(content))
    token = tmp_path / "token"
    token.write_text("not-a-token\n")
    done = platform.install_into(
        Path(world.state.kubeconfig),
        tmp_path / "keys",
        overlay,
        settings=platform.Forge(world.forge.app_id, world.forge.private_key, world.github.url).settings,
        secrets={
            "forge": {"app.pem": world.forge.private_key},
            "realm-key": {"key.pem": Path(world.state.kubeconfig).parent / "realm" / "key.pem"},
            "cloudflare": {"token": token},
        },
        kubectl=binaries["kubectl"],
        out=sys.stderr,
        within=150,
    )
    names = sorted(world.pods())
    assert [name for name in names if name.startswith("nats-")] == ["nats-0", "nats-1", "nats-2"]
    assert all(sum(name.startswith(f"{s}-") for name in names) == 2 for s in services.SERVICES)
    seed = tmp_path / "keys" / "nkeys" / f"{OPERATOR}.seed"
    check = [sys.executable, "-m", "catalyst.events", "check", "--url", _nats(world), "--seed", str(seed)]
    check += ["--replicas", "3"]
    said = subprocess.run(check, capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    # A server that ends is not missed: the others have everything, and lead on.
    kubectl.within("catalyst-system").run("delete", "pod", "nats-0", "--wait=false")
    until = time.monotonic() + 30
    while subprocess.run(check, capture_output=True, timeout=60, check=False).returncode:
        assert time.monotonic() < until
        time.sleep(0.5)
    assert done.seconds < 150


def _relative(path: Path, folder: Path) -> str:
    """kustomize takes no absolute paths."""
    return str(Path(*[".."] * (len(folder.resolve().parts) - 1)) / path.resolve().relative_to("/"))
