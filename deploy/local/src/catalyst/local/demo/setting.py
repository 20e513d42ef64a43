"""What stands before a pull request can be opened: machine, cluster, GitHub's double, Catalyst, a team and its Project.
Each is a stage; what is there already is left as it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import yaml

from catalyst.local import cluster, components, platform
from catalyst.local.demo import parts, places, source
from catalyst.local.demo.forge import Forge
from catalyst.local.demo.parts import Hook
from catalyst.local.demo.places import APP_ID, EXAMPLES, FORGE, OWNER, PERSON, TEAM, DemoFailed, Places
from catalyst.local.demo.sight import Sight
from catalyst.local.demo.stages import Stages
from catalyst.local.node import images, packages
from catalyst.model import labels

PATIENCE: Final = 60.0


def machine(stages: Stages) -> None:
    """Debian packages, binaries, base images: the first time takes a while, and says what it does."""
    if os.environ.get("CATALYST_KUBECONFIG"):
        raise DemoFailed(
            "CATALYST_KUBECONFIG is set, and the demo brings a cluster of its own: GitHub's double must be reachable "
            "from its pods. Unset it for the demo; deploy/k8s/README.md says how Catalyst gets into your cluster."
        )
    packages.check_machine()
    with stages.stage("Machine", "Debian packages, binaries from Go modules, base images") as row:
        packages.install(stages.out)
        binaries = components.binaries(components=components.COMPONENTS + components.NODE, progress=stages.out)
        images.seed(binaries, stages.out)
        row.says(f"{len(binaries)} binaries and the base images are in the cache")


def node(stages: Stages) -> cluster.ClusterState:
    """The Kubernetes of cluster.py."""
    there = cluster.running() is not None
    with stages.stage("Kubernetes", "etcd, API server, kubelet, containerd, DNS, firewall, registry") as row:
        state = cluster.up(out=stages.out)
        row.says(f"{'was running' if there else 'started'}: KUBECONFIG={state.kubeconfig}")
    return state


def github(stages: Stages, at: Places, repository: str) -> Forge:
    """GitHub's double with this repository."""
    with stages.stage("GitHub (double)", "real git, API, webhooks; the only part that is not real") as row:
        forge = Forge(at)
        parts.set_up(at, _repositories(repository))
        started = parts.up(at)
        _until(lambda: forge.has(repository), f"{FORGE} has {repository}")
        source.sign_in(at, forge.token)
        row.says(f"{'started' if started else 'was running'}: {FORGE}")
    return forge


def catalyst(stages: Stages, at: Places, state: cluster.ClusterState, repository: str) -> None:
    """deploy/k8s with images of our services. Then webhooks find webhook-ingest, and this machine finds the edge."""
    with stages.stage("Catalyst", "images of the services; deploy/k8s: NATS, five services, edge") as row:
        done = platform.install(state, platform.Forge(APP_ID, at.app_key), out=stages.out)
        parts.set_up(at, _repositories(repository), Hook(done.webhook_url, done.webhook_secret))
        parts.lead_to_edge(at, done.edge_address)
        places.write(at.authority, done.edge_authority.read_text())
        row.says("deploy/k8s/overlays/local: NATS, five services and the edge are available")


def project(stages: Stages, sight: Sight, state: cluster.ClusterState, name: str, repository: str) -> None:
    """The team's namespace with its grant, as the platform's people make it; the Project, as the team does."""
    with stages.stage("Project", f"{TEAM}/{name}") as row:
        manifests = [_team(), _project(name, repository)]
        _apply(Path(state.kubeconfig), manifests)
        _until(
            lambda: sight.project_ready(name)[0],
            f"Project {TEAM}/{name} is ready",
            lambda: f"{sight.project_ready(name)[1]}\n{sight.log_end('env-controller')}",
        )
        row.says(f"kubectl apply: team {TEAM} may use github/{OWNER}/*, Project {TEAM}/{name}")


def _repositories(repository: str) -> dict[str, dict[str, Any]]:
    names = {f"{OWNER}/{name}" for name in source.examples()} | {repository}
    return {name: {"private": True, "empty": True, "collaborators": {PERSON: "write"}} for name in sorted(names)}


def _team() -> dict[str, Any]:
    metadata = {
        "name": TEAM,
        "labels": {labels.TEAM: TEAM},
        "annotations": {labels.REPOSITORIES: f"github/{OWNER}/*"},
    }
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def _project(name: str, repository: str) -> dict[str, Any]:
    """The example's, or one that names nothing but its source."""
    file = EXAMPLES / name / "project.yaml"
    if repository == f"{OWNER}/{name}" and file.exists():
        found: dict[str, Any] = next(
            each for each in yaml.safe_load_all(file.read_text()) if each and each["kind"] == "Project"
        )
        found["metadata"]["namespace"] = TEAM
        found["spec"]["source"]["repository"] = repository
        return found
    return {
        "apiVersion": labels.API_VERSION,
        "kind": "Project",
        "metadata": {"namespace": TEAM, "name": name},
        "spec": {"source": {"forge": "github", "repository": repository}},
    }


def _apply(kubeconfig: Path, manifests: list[dict[str, Any]]) -> None:
    kubectl = components.binaries(components=(components.CONTROL_PLANE,))["kubectl"]
    command: list[str | Path] = [
        kubectl,
        "--kubeconfig",
        kubeconfig,
        "apply",
        "--server-side",
        "--force-conflicts",
        "--filename",
        "-",
    ]
    content = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    done = subprocess.run(command, input=content, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DemoFailed(f"kubectl apply of the team and its Project failed:\n{done.stderr.strip()}")


def _until(holds: Callable[[], bool], what: str, why: Callable[[], str] = lambda: "") -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise DemoFailed(f"{what}: not within {PATIENCE:g} s.\n{why()}".rstrip())
        time.sleep(0.1)
