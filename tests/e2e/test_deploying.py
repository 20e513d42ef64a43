"""env-controller on the node: real pods by a real kubelet, and what each failure is called. Its images are seeds, so no
builder is needed; the test itself answers for dns-proxy.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from corpus import keep_decisions
from kubectl import Kubectl

from catalyst.events.bus import Bus, BusSettings
from catalyst.events.catalogue import EnvironmentName, RouteChanged
from catalyst.events.event import route_changed
from catalyst.events.users import inbox_prefix
from catalyst.local import cluster, components
from catalyst.local.existing import ExistingCluster
from catalyst.local.installation import install
from catalyst.local.nats import Nats
from catalyst.local.process import Part, free_ports
from catalyst.model.clock import utc_now

IMAGE = "python:3-slim"
SERVES: dict[str, Any] = {
    "image": IMAGE,
    "command": ["python3", "-m", "http.server", "8000"],
    "expose": {"port": 8000},
}


@dataclass
class World:
    """A cluster in which env-controller runs as a process with its own account."""

    kubectl: Kubectl
    nats: Nats
    team: str
    log: Path

    def project(self, secrets: tuple[dict[str, Any], ...] = (), **component: Any) -> None:
        components = [{"name": "web", **component}]
        spec = {"source": {"repository": f"{self.team}/shop"}, "components": components, "secrets": list(secrets)}
        self.kubectl.within(self.team).apply(_resource("Project", self.team, "shop", spec))

    def status(self, environment: str = "demo") -> dict[str, Any]:
        found = self.kubectl.within(f"{self.team}--shop").get("environments.catalyst.dev")["items"]
        status: dict[str, Any] = next((item["status"] for item in found if _is(item, environment)), {})
        return status

    async def until(
        self, phase: str, reason: str | None = None, within: float = 90, environment: str = "demo"
    ) -> dict[str, Any]:
        """The first component's status when the environment is in that phase for that reason."""
        ends = time.monotonic() + within
        while True:
            status = await asyncio.to_thread(self.status, environment)
            seen: list[dict[str, Any]] = status.get("components", [])
            one = seen[0] if seen else {}
            if status.get("phase") == phase and (reason is None or one.get("reason") == reason):
                return one
            assert time.monotonic() < ends, f"{phase} {reason}: {status}\n{self.log.read_text()[-2000:]}"
            await asyncio.sleep(0.3)


@pytest.fixture(scope="module")
def world(node: cluster.ClusterState, kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("deploying")
    binary = components.binaries(components=(components.CONTROL_PLANE,))["kubectl"]
    os.environ["PATH"] = f"{binary.parent}{os.pathsep}{os.environ['PATH']}"
    team = f"team-{time.monotonic_ns() % 10**9}"
    with ExistingCluster(folder / "cluster", Path(node.kubeconfig)) as found, Nats(folder / "nats") as nats:
        nats.apply_topology()
        install(found)
        port = free_ports(1)[0]
        settings = {
            "CATALYST_NATS_URL": nats.url,
            "CATALYST_NATS_SEED_FILE": str(nats.seed("env-controller")),
            "CATALYST_KUBECONFIG": str(found.kubeconfig_for("catalyst-system", "env-controller")),
            "CATALYST_LEASE_SECONDS": "3",
            "CATALYST_OPS_HOST": "127.0.0.1",
            "CATALYST_OPS_PORT": str(port),
        }
        part = Part(
            "env-controller", [sys.executable, "-m", "catalyst.env_controller"], folder / "controller.log", settings
        )
        part.start()
        try:
            _ready(port, part)
            notes = {"catalyst.dev/repositories": f"github/{team}/*"}
            labels = {"catalyst.dev/team": team}
            metadata = {"name": team, "annotations": notes, "labels": labels}
            kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
            yield World(kubectl, nats, team, part.log)
        finally:
            part.stop()
            asyncio.run(_kept(nats, team))
            for namespace in (f"{team}--shop--demo", f"{team}--shop--fork", f"{team}--shop", team):
                kubectl.run("delete", "namespace", namespace, "--wait=false", "--ignore-not-found")


async def _kept(nats: Nats, team: str) -> None:
    """What was decided, for the corpus: nowhere else are pods so real."""
    settings = BusSettings(nats.url, nats.seed("operator"), inbox_prefix=inbox_prefix("operator"))
    bus = await Bus.connect(settings, name="operator", clock=utc_now)
    try:
        await keep_decisions(bus, team, "test_deploying.py")
    finally:
        await bus.drain()


def _ready(port: int, part: Part) -> None:
    ends = time.monotonic() + 30
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < ends, part.log.read_text()[-3000:]
        time.sleep(0.1)


def _is(item: dict[str, Any], name: str) -> bool:
    return bool(item["metadata"]["name"] == name and "status" in item)


def _resource(kind: str, namespace: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"namespace": namespace, "name": name}
    return {"apiVersion": "catalyst.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


@pytest.fixture
async def buses(world: World) -> AsyncIterator[tuple[Bus, Bus]]:
    found = []
    for user in ("dns-proxy", "operator"):
        settings = BusSettings(world.nats.url, world.nats.seed(user), inbox_prefix=inbox_prefix(user))
        found.append(await Bus.connect(settings, name=user, clock=utc_now))
    yield found[0], found[1]
    for bus in found:
        await bus.drain()


async def test_it_runs_and_each_failure_says_why_and_is_healed(world: World, buses: tuple[Bus, Bus]) -> None:
    world.project(**SERVES)
    home = f"{world.team}--shop"
    await _there(world, home)
    environment = {"projectRef": {"team": world.team, "name": "shop"}, "source": {"commit": "a" * 40}}
    world.kubectl.within(home).apply(_resource("Environment", home, "demo", environment))
    await world.until("Deploying")
    await _routed(world, buses)
    began = time.monotonic()
    await world.until("Ready")
    print(f"Ready {time.monotonic() - began:.1f} s after the route was answered")  # noqa: T201

    # The old pod serves until the new one is ready, and each failure has its name; then the next good one heals.
    world.project(**{**SERVES, "command": ["python3", "-c", "print('out of cheese'); raise SystemExit(3)"]})
    broken = await world.until("Degraded", "CrashLoop")
    assert "out of cheese" in broken["message"]
    assert "exit status 3" in broken["message"]
    world.project(**{**SERVES, "image": "mirror.catalyst.test:5001/library/nothing:1"})
    await world.until("Degraded", "ImagePull")
    world.project(**{**SERVES, "command": ["sleep", "600"]})
    await world.until("Degraded", "PortNotListening")
    world.project(**{**SERVES, "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "x"}}}]})
    await world.until("Degraded", "SecretNotFound")
    world.project(**{**SERVES, "resources": {"requests": {"cpu": "1900m"}, "limits": {"cpu": "1900m"}}, "replicas": 3})
    await world.until("Degraded", "Quota")
    world.project(**SERVES)
    await world.until("Ready")


async def test_a_shared_secret_is_in_the_program_and_a_fork_is_told_why_it_is_not(world: World) -> None:
    home, reads = f"{world.team}--shop", {"volumes": [{"name": "files", "secret": {"name": "stripe"}}]}
    mounts = {**SERVES, **reads, "volumeMounts": [{"name": "files", "mountPath": "/files"}]}
    world.project(secrets=({"name": "stripe"},), **mounts)
    await _there(world, home)
    inside = world.kubectl.within(home)
    _share(inside, KEY="first", **{"a.file": "content"})
    sources: dict[str, dict[str, Any]] = {"demo": {}, "fork": {"pullRequest": {"number": 7, "fork": True}}}
    for name, source in sources.items():
        spec = {"projectRef": {"team": world.team, "name": "shop"}, "source": {"commit": "a" * 40, **source}}
        inside.apply(_resource("Environment", home, name, spec))
    await _in_the_program(world, "first first content")

    _share(inside, KEY="rotated-value", **{"a.file": "content"})
    inside.run("annotate", "environment", "demo", "example.test/look=now")
    await _in_the_program(world, "rotated-value rotated-value content")

    # What it prints of it before it ends is not said.
    prints = "import os; print('key is', os.environ['KEY'], 'out of cheese'); raise SystemExit(3)"
    world.project(secrets=({"name": "stripe"},), **{**mounts, "command": ["python3", "-c", prints]})
    broken = await world.until("Degraded", "CrashLoop")
    assert "key is [redacted] out of cheese" in broken["message"]

    withheld = await world.until("Failed", "SecretNotFound", environment="fork")
    assert "web mounts Secret stripe and waits." in withheld["message"]
    assert "environments of forks (forks: false)" in withheld["message"]


def _share(kubectl: Kubectl, **values: str) -> None:
    kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "stripe"}, "stringData": values})


async def _in_the_program(world: World, expected: str, within: float = 90) -> None:
    """What the newest pod that serves has as a variable, and as files."""
    there, ends = world.kubectl.within(f"{world.team}--shop--demo"), time.monotonic() + within
    words = ("deployment/web", "sh", "-c", 'echo "$KEY $(cat /files/KEY) $(cat /files/a.file)"')
    said = ""
    while said != expected:
        assert time.monotonic() < ends, f"expected {expected!r}, got {said!r}: {world.status()}"
        await asyncio.sleep(0.5)
        try:
            said = (await asyncio.to_thread(there.execute, *words)).strip()
        except AssertionError as error:
            said = str(error)


async def _there(world: World, namespace: str) -> None:
    ends = time.monotonic() + 20
    while all(item["metadata"]["name"] != namespace for item in world.kubectl.get("namespaces")["items"]):
        assert time.monotonic() < ends, world.log.read_text()[-2000:]
        await asyncio.sleep(0.2)


async def _routed(world: World, buses: tuple[Bus, Bus]) -> None:
    """As dns-proxy answers the snapshot that names the host."""
    dns_proxy, operator = buses
    subject = f"env.{world.team}.shop.demo.environment.changed"
    ends = time.monotonic() + 30
    while True:
        said = [stored.event() async for stored in operator.replay("EVENTS", subject)]
        snapshot = said[-1].data.snapshot if said else None  # type: ignore[attr-defined]
        if snapshot and snapshot.routes:
            name = EnvironmentName(team=world.team, project="shop", environment="demo", uid=snapshot.uid)
            answer = RouteChanged(environment=name, host=snapshot.routes[0].host, live=True)
            await dns_proxy.publish(route_changed(answer, causing=said[-1], time=utc_now()))
            return
        assert time.monotonic() < ends, world.log.read_text()[-2000:]
        await asyncio.sleep(0.2)
