"""docs/operations.md, walked: its commands are typed against a real API server and a real NATS, with webhook-ingest and
env-controller running and the test as the voice of builder and dns-proxy. Pods run nowhere here, so what the page does
to them is seen at the objects that would make them.

The tests run in the order of this file, in one cluster that is installed once and left clean by the last one.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from guide import Guide, StepFailed, Walk
from stage import Stage, operating, services

from catalyst.events.catalogue import BuildCleaned, EnvironmentName, RouteChanged
from catalyst.local.control_plane import ControlPlane
from catalyst.local.installation import Found, Installation, everything
from catalyst.local.nats import Nats
from catalyst.local.supervisor import ROOT

HOST: Final = "pr-1.example.test"
OVERLAY: Final = """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../catalyst/deploy/k8s/overlays/production]
"""
CHANGING: Final = ("events", "events.events.k8s.io", "leases.coordination.k8s.io")
FROM_THE_PAGE: Final = "nats://127.0.0.1:4222"


@dataclass(frozen=True)
class Site:
    """A cluster with everything of the production overlay, and what was in it before."""

    plane: ControlPlane
    folder: Path
    before: frozenset[Found]

    def walk(self, nats: Nats) -> Walk:
        """A shell in the folder of the installation, whose keys are those of this NATS."""
        keys = self.folder / "keys" / "nkeys"
        keys.parent.mkdir(exist_ok=True)
        keys.unlink(missing_ok=True)
        keys.symlink_to(nats.folder / "nkeys")
        path = [str(ROOT / ".venv" / "bin"), str(self.plane.kubectl.parent), os.environ["PATH"]]
        own = {"PATH": os.pathsep.join(path), "KUBECONFIG": str(self.plane.admin_kubeconfig), "NATS_SERVERS": "1"}
        return Walk(Guide.read("operations.md"), self.folder, {**os.environ, **own})


@pytest.fixture(scope="module")
def site(binaries: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("work")
    (folder / "my-overlay").mkdir()
    (folder / "my-overlay" / "kustomization.yaml").write_text(OVERLAY)
    (folder / "catalyst").symlink_to(ROOT)
    with ControlPlane(tmp_path_factory.mktemp("plane"), binaries) as plane:
        before = everything(plane.admin, excluding=CHANGING)
        command: list[str | Path] = [plane.kubectl, "--kubeconfig", plane.admin_kubeconfig, "apply", "--server-side"]
        subprocess.run([*command, "-k", "my-overlay"], cwd=folder, check=True, capture_output=True, text=True)
        yield Site(plane, folder, before)


@pytest.fixture
def own(site: Site, nats: Nats) -> Installation:
    nats.apply_topology()
    return Installation(site.plane, nats)


@pytest.fixture
def walk(site: Site, nats: Nats) -> Walk:
    return site.walk(nats)


async def typed(walk: Walk, *names: str, **replacing: str) -> None:
    for name in names:
        await asyncio.to_thread(walk.step, name, replacing=replacing)


async def on_the_bus(walk: Walk, own: Installation, *names: str) -> None:
    for name in names:
        await asyncio.to_thread(walk.step, name, replacing={FROM_THE_PAGE: own.nats.url})


@asynccontextmanager
async def running(own: Installation) -> AsyncIterator[Stage]:
    """An environment with a route and a build, whose Project the team made."""
    async with operating(own) as operator, services(own) as url:
        stage = Stage(own, url, operator)
        own.team(stage.team, f"github/{stage.team}/*")
        stage.project()
        await stage.accepted()
        await stage.deliver(stage.pull_request(1))
        await stage.ready("pr-1")
        route = {"host": HOST, "namespace": f"{stage.team}--shop--pr-1", "service": "web", "port": 80}
        status = {"routes": [route], "builds": {"web": {"key": "k1", "attempt": 1}}}
        path = f"/apis/catalyst.dev/v1alpha1/namespaces/{stage.team}--shop/environments/pr-1/status"
        stage.patch(path, {"status": status})
        await stage.handled()
        yield stage


def left(own: Installation, before: frozenset[Found]) -> set[Found]:
    """What is there now and was not, but for the teams' own namespaces with what Kubernetes puts into each."""
    return {
        found
        for found in own.everything() - before
        if not (found.namespace or found.name).startswith("team") or "--" in (found.namespace or found.name)
    }


async def test_the_bus_is_restored_and_all_starts_again(own: Installation, walk: Walk) -> None:
    wanted = _replicas(own)
    await on_the_bus(walk, own, "backup")
    with pytest.raises(StepFailed, match="the bus has SCM"):
        await on_the_bus(walk, own, "restore")
    volumes = "/api/v1/namespaces/catalyst-system/persistentvolumeclaims"
    await _until(lambda: _names(own, volumes) == {"data-nats-0", "data-nats-1", "data-nats-2"})
    old = {item["metadata"]["uid"] for item in own.admin.get(volumes).json()["items"]}
    await typed(walk, "stop", "empty")
    await _until(lambda: _names(own, volumes) == {"data-nats-0"})
    assert not old & {item["metadata"]["uid"] for item in own.admin.get(volumes).json()["items"]}
    assert set(_replicas(own).values()) == {0}
    await asyncio.to_thread(own.nats.stop)
    shutil.rmtree(own.nats.store)
    await asyncio.to_thread(own.nats.start)
    await on_the_bus(walk, own, "restore")
    await typed(walk, "restart")
    await on_the_bus(walk, own, "streams")
    await typed(walk, "ingest")
    assert {name for name, count in _replicas(own).items() if count} == {"webhook-ingest"}
    await typed(walk, "start")
    assert _replicas(own) == wanted
    # An upgrade to what is there already changes nothing.
    await on_the_bus(walk, own, "topology")
    await typed(walk, "upgrade")
    assert _replicas(own) == wanted


async def test_who_does_not_answer_holds_nothing_for_ever(own: Installation, walk: Walk) -> None:
    async with running(own) as stage:
        with pytest.raises(StepFailed, match="timed out waiting for the condition"):
            await typed(walk, "teardown", **{"10m": "3s"})
        assert stage.condition(stage.environment("pr-1"), "Terminating")["message"]
    await typed(walk, "release")
    for kind in ("environments", "projects"):
        assert own.admin.get(f"/apis/catalyst.dev/v1alpha1/{kind}").raise_for_status().json()["items"] == []


async def test_nothing_is_left_when_environments_run(site: Site, own: Installation, walk: Walk) -> None:
    async with running(own) as stage:
        environment = stage.environment("pr-1") or {}
        going = asyncio.create_task(typed(walk, "teardown"))
        await stage.until(lambda: stage.is_going("pr-1"), "it is going")
        # A push of another pull request meanwhile.
        await stage.deliver(stage.pull_request(2))
        await stage.handled()
        assert not going.done(), "a route and a build are still out"
        name = EnvironmentName(team=stage.team, project="shop", environment="pr-1", uid=environment["metadata"]["uid"])
        await stage.until(lambda: stage.phase("pr-1") == "Terminating", "both are asked for")
        await stage.answer("dns-proxy", RouteChanged(environment=name, host=HOST, live=False), "pr-1")
        await stage.answer("builder", BuildCleaned(environment=name), "pr-1")
        await going
        assert (stage.environments(), (await stage.phases_said("pr-1"))[-1]) == (set(), "Gone")
        team = stage.team
    builds = {"metadata": {"name": f"{team}--shop--builds", "labels": {"catalyst.dev/trust": "trusted"}}}
    own.apply({"apiVersion": "v1", "kind": "Namespace", **builds})
    await typed(walk, "remove")
    assert left(own, site.before) == set()
    kept = own.admin.get(f"/api/v1/namespaces/{team}").raise_for_status().json()
    assert kept["metadata"]["annotations"]["catalyst.dev/repositories"] == f"github/{team}/*"


def _replicas(own: Installation) -> dict[str, int]:
    found = own.admin.get("/apis/apps/v1/namespaces/catalyst-system/deployments").raise_for_status().json()
    return {item["metadata"]["name"]: item["spec"]["replicas"] for item in found["items"]}


def _names(own: Installation, path: str) -> set[str]:
    return {item["metadata"]["name"] for item in own.admin.get(path).raise_for_status().json()["items"]}


async def _until(holds: Any) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.1)
