"""What stands before a pull request can be opened: machine, cluster, GitHub's double, Catalyst, a team and its Project.
Each is a stage; what is there already is left as it is.
"""

from __future__ import annotations

import importlib
import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import yaml
from joserfc.jwk import RSAKey

from catalyst.local import cluster, components
from catalyst.local.demo import parts, places, source
from catalyst.local.demo.forge import Forge
from catalyst.local.demo.places import EDGE, EXAMPLES, FORGE, OWNER, PERSON, SYSTEM, TEAM, WEBHOOKS, DemoFailed, Places
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
            "from its pods. Unset it for the demo; docs/install.md says how Catalyst gets into your cluster."
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


def github(stages: Stages, at: Places, sight: Sight, repository: str) -> Forge:
    """GitHub's double with this repository, and the keys by which it and Catalyst know each other."""
    with stages.stage("GitHub (double)", "real git, API, webhooks; the only part that is not real") as row:
        at.make()
        _share_secrets(at, sight)
        forge = Forge(at)
        parts.set_up(at, _repositories(repository), _webhooks(sight))
        started = parts.up(at)
        _until(lambda: forge.has(repository), f"{FORGE} has {repository}")
        source.sign_in(at, forge.token)
        row.says(f"{'started' if started else 'was running'}: {FORGE}")
    return forge


def catalyst(stages: Stages, state: cluster.ClusterState) -> None:
    """deploy/k8s with images of our services."""
    with stages.stage("Catalyst", "images of the services; deploy/k8s: NATS, five services, edge") as row:
        importlib.import_module("catalyst.local.platform").install(state, out=stages.out)
        row.says("deploy/k8s/overlays/local: NATS, five services, the edge; all available")


def ways(stages: Stages, at: Places, sight: Sight, repository: str) -> None:
    """Webhooks find webhook-ingest, this machine finds the edge and knows its certificate."""
    with stages.stage("Ways in and out") as row:
        edge, webhooks = sight.edge(), _webhooks(sight)
        authority = sight.secret(EDGE, "edge-authority")
        if edge is None or webhooks is None or authority is None:
            raise DemoFailed("Catalyst is installed without its edge or its webhooks; expected deploy/k8s as it is")
        parts.set_up(at, _repositories(repository), webhooks)
        parts.lead_to_edge(at, edge)
        places.write(at.authority, authority["root.crt"].decode())
        row.says(f"{places.LOOPBACK}:{places.HTTPS_PORT} → edge, webhooks → webhook-ingest")


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


def _share_secrets(at: Places, sight: Sight) -> None:
    """What the cluster has already counts: the services read it when they started."""
    key, secret = sight.secret(SYSTEM, "forge"), sight.secret(SYSTEM, "webhook-secrets")
    known_key = key["app.pem"].decode() if key and "app.pem" in key else None
    known_secret = secret["secrets"].decode() if secret and "secrets" in secret else None
    for file, known, new in (
        (at.app_key, known_key, _new_key),
        (at.webhook_secret, known_secret, _new_secret),
    ):
        if known is not None or not file.exists():
            places.write(file, known or new(), 0o600)
    sight.apply(f"/api/v1/namespaces/{SYSTEM}", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}})
    if known_key is None:
        _put_secret(sight, "forge", {"app.pem": at.app_key.read_text()})
    if known_secret is None:
        _put_secret(sight, "webhook-secrets", {"secrets": at.webhook_secret.read_text()})


def _new_key() -> str:
    return RSAKey.generate_key(2048).as_pem(private=True).decode()


def _new_secret() -> str:
    return f"{secrets.token_hex(32)}\n"


def _put_secret(sight: Sight, name: str, data: dict[str, str]) -> None:
    metadata = {"name": name, "namespace": SYSTEM}
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}
    sight.apply(f"/api/v1/namespaces/{SYSTEM}/secrets/{name}", manifest)


def _repositories(repository: str) -> dict[str, dict[str, Any]]:
    names = {f"{OWNER}/{name}" for name in source.examples()} | {repository}
    return {name: {"private": True, "empty": True, "collaborators": {PERSON: "write"}} for name in sorted(names)}


def _webhooks(sight: Sight) -> str | None:
    service, port, path = WEBHOOKS
    address = sight.address(SYSTEM, service)
    return f"http://{address}:{port}{path}" if address else None


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
