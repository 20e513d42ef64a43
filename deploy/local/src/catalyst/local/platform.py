"""`python -m catalyst.local install`: Catalyst into a cluster, by an overlay of deploy/k8s. Run again, it changes only
what differs.

    <folder>/                .run/cluster/platform for the cluster of this machine
      nkeys/                 a seed for each NATS user; those of people, operator and oncall, are only here
      peers                  the password that NATS servers know each other by
      edge/                  the edge's authority; root.crt is what visitors trust, root.key stays here
      webhook-secret         what the forge signs with
      kustomization/         the overlay with the settings and image digests of this installation

    images ─▶ types, rights, policies ─▶ Secrets ─▶ NATS ─▶ streams and consumers ─▶ everything ─▶ all available

Secrets are made once and kept in the folder; from there they go into the cluster by requests, never on a command line.
The folder of a real installation is worth a safe: who has it owns the installation.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

import httpx
import yaml

from catalyst.dns_proxy.authority import write_keys as write_edge_keys
from catalyst.events.keys import PUBLIC, write_keys
from catalyst.events.readers import Reader
from catalyst.events.server import Peers, nats_server_config
from catalyst.events.users import OPERATOR, PEOPLE, users
from catalyst.local import certs, components, installation
from catalyst.local.cluster import ClusterState
from catalyst.local.existing import ExistingCluster
from catalyst.local.installation import FIELD_MANAGER, SYSTEM_NAMESPACE, InstallFailed, checked, object_path
from catalyst.local.node import services
from catalyst.local.process import Part, free_ports, tail

OVERLAYS: Final = Path(__file__).resolve().parents[4] / "k8s" / "overlays"
EDGE_NAMESPACE: Final = "catalyst-edge"
NAMESPACES: Final = (SYSTEM_NAMESPACE, EDGE_NAMESPACE)
KINDS: Final = {"Deployment": "deployments", "StatefulSet": "statefulsets"}

Manifest = dict[str, Any]
Files = Mapping[str, Mapping[str, Path]]
"""Secret → key → file."""


@dataclass(frozen=True, slots=True)
class Forge:
    """GitHub, and the App we are there. Addresses as pods reach them; None: as the overlay says."""

    app_id: int
    private_key: Path
    url: str | None = None
    git_url: str | None = None

    @property
    def settings(self) -> dict[str, str]:
        given = {"CATALYST_GITHUB_URL": self.url, "CATALYST_GIT_URL": self.git_url}
        return {
            "CATALYST_GITHUB_APP_ID": str(self.app_id),
            "CATALYST_GITHUB_PRIVATE_KEY_FILE": "/etc/catalyst/forge/app.pem",
            **{name: value for name, value in given.items() if value},
        }


@dataclass(frozen=True, slots=True)
class Platform:
    """An installation that is available. Addresses are the Services' own, in the cluster."""

    webhook_secret: Path
    edge_authority: Path
    webhook_url: str
    edge_address: str
    seconds: float


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be installed where. `secrets`: files for Secrets that are not made here."""

    cluster: ExistingCluster
    overlay: Path
    folder: Path
    settings: Mapping[str, str]
    secrets: Files
    images: Mapping[str, str]
    within: float
    say: Callable[[str], None]
    begun: float = field(default_factory=time.monotonic)


def install(
    state: ClusterState,
    forge: Forge,
    *,
    settings: Mapping[str, str] | None = None,
    out: TextIO | None = None,
    overlay: Path = OVERLAYS / "local",
    within: float = 300,
) -> Platform:
    """Into the cluster of this machine, with images built from this checkout. `settings`: beside the overlay's.

    Raises InstallFailed, SeedingFailed, PartFailed, httpx.HTTPStatusError.
    """
    out = out or sys.stdout
    begun = time.monotonic()
    home = Path(state.kubeconfig).parent
    binaries = components.binaries(components=components.COMPONENTS + components.NODE, progress=out)
    images = services.build(binaries, out)
    given = {"forge": {"app.pem": forge.private_key}, "realm-key": {"key.pem": home / "realm" / "key.pem"}}
    return install_into(
        Path(state.kubeconfig),
        home / "platform",
        overlay,
        settings={**forge.settings, **(settings or {})},
        secrets=given,
        images=images,
        kubectl=binaries["kubectl"],
        out=out,
        within=within,
        begun=begun,
    )


def install_into(
    kubeconfig: Path,
    folder: Path,
    overlay: Path,
    *,
    settings: Mapping[str, str],
    secrets: Files,
    images: Mapping[str, str] | None = None,
    kubectl: Path | None = None,
    out: TextIO | None = None,
    within: float = 600,
    begun: float | None = None,
) -> Platform:
    """Into any cluster, as its admin. `images`: name in the overlay → digest, where they are not as the overlay says.

    Raises InstallFailed naming what is missing, or the part that does not come up with the end of its log.
    """
    begun = time.monotonic() if begun is None else begun

    def say(text: str) -> None:
        print(f"{time.monotonic() - begun:6.1f} s  {text}", file=out or sys.stdout, flush=True)

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExistingCluster(folder / "cluster", kubeconfig, kubectl) as cluster:
        plan = _Plan(cluster, overlay, folder, settings, secrets, images or {}, within, say, begun)
        return _install(plan)


def secrets_into(kubeconfig: Path, folder: Path, overlay: Path, *, secrets: Files, kubectl: Path | None = None) -> int:
    """Makes the keys that are missing, and the Secrets that the overlay mounts; gives their number. The rest is
    `kubectl apply -k` of the overlay, by whoever likes to do that.

    Raises InstallFailed naming what is missing.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExistingCluster(folder / "cluster", kubeconfig, kubectl) as cluster:
        plan = _Plan(cluster, overlay, folder, {}, secrets, {}, 0, lambda _: None)
        rendered = _render(plan, overlay)
        made = _secrets(plan, rendered)
        _namespaces(plan, rendered)
        for manifest in made:
            _apply(plan.cluster.admin, manifest)
    return len(made)


def _install(plan: _Plan) -> Platform:
    rendered = _render(plan, _customized(plan, {}))
    installation.install(plan.cluster)
    _namespaces(plan, rendered)
    plan.say("resource types, rights, policies")
    made = _secrets(plan, rendered)
    for manifest in made:
        _apply(plan.cluster.admin, manifest)
    plan.say(f"{len(made)} Secrets")
    kustomization = _customized(plan, _checksums(rendered, made))
    _kubectl_apply(plan, kustomization, "--selector=app.kubernetes.io/name=nats")
    _wait(plan, [m for m in _workloads(rendered) if m["metadata"]["name"] == "nats"])
    _apply_topology(plan, _replicas(rendered))
    plan.say("streams and consumers")
    _kubectl_apply(plan, kustomization)
    _wait(plan, [m for m in _workloads(rendered) if m["metadata"]["name"] != "nats"])
    webhooks = _service(plan, SYSTEM_NAMESPACE, "webhook-ingest")
    return Platform(
        webhook_secret=plan.folder / "webhook-secret",
        edge_authority=plan.folder / "edge" / "root.crt",
        webhook_url=f"http://{webhooks}:8080/webhooks/github",
        edge_address=_service(plan, EDGE_NAMESPACE, "edge"),
        seconds=time.monotonic() - plan.begun,
    )


# The overlay


def _customized(plan: _Plan, checksums: Mapping[str, str]) -> Path:
    """The overlay with this installation's settings and images. `checksums`: workload → of the Secrets it mounts, so
    that it restarts when they change.
    """
    place = plan.folder / "kustomization"
    place.mkdir(exist_ok=True)
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(plan.overlay.resolve(), place.resolve())],
        "images": [{"name": name, "newName": name, "digest": digest} for name, digest in plan.images.items()],
        "configMapGenerator": [
            {
                "name": "settings",
                "namespace": SYSTEM_NAMESPACE,
                "behavior": "merge",
                "literals": [f"{name}={value}" for name, value in plan.settings.items()],
            }
        ],
        "patches": [
            {
                "target": {"kind": "|".join(KINDS), "name": name},
                "patch": json.dumps(
                    [
                        {
                            "op": "add",
                            "path": "/spec/template/metadata/annotations",
                            "value": {"catalyst.dev/secrets": checksum},
                        }
                    ]
                ),
            }
            for name, checksum in checksums.items()
        ],
    }
    (place / "kustomization.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return place


def _render(plan: _Plan, kustomization: Path) -> list[Manifest]:
    done = subprocess.run(
        [plan.cluster.kubectl, "kustomize", kustomization], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise InstallFailed(f"{plan.overlay} is no overlay that can be used:\n{done.stderr.strip()}")
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def _workloads(rendered: list[Manifest]) -> list[Manifest]:
    return [manifest for manifest in rendered if manifest["kind"] in KINDS]


def _replicas(rendered: list[Manifest]) -> int:
    """NATS servers."""
    return next(int(m["spec"]["replicas"]) for m in _workloads(rendered) if m["metadata"]["name"] == "nats")


def _settings(rendered: list[Manifest]) -> dict[str, str]:
    return {
        name: value
        for manifest in rendered
        if manifest["kind"] == "ConfigMap" and manifest["metadata"]["namespace"] == SYSTEM_NAMESPACE
        for name, value in (manifest.get("data") or {}).items()
    }


def _namespaces(plan: _Plan, rendered: list[Manifest]) -> None:
    for manifest in rendered:
        if manifest["kind"] == "Namespace":
            _apply(plan.cluster.admin, manifest)


# Secrets


def _secrets(plan: _Plan, rendered: list[Manifest]) -> list[Manifest]:
    """All that the workloads mount and the overlay does not bring. Raises InstallFailed naming what nobody gave."""
    files = {**_made(plan, rendered), **{name: dict(keys) for name, keys in plan.secrets.items()}}
    found, missing = [], []
    for kind, namespace, name, optional in sorted(set(_mounted(rendered))):
        if name in files:
            try:
                content = {key: file.read_bytes() for key, file in files[name].items()}
            except OSError as error:
                raise InstallFailed(f"{kind} {name}: {error}") from error
            found.append(_secret(kind, namespace, name, content))
        elif not optional and not _exists(plan, kind, namespace, name):
            missing.append(f"{namespace}/{name}")
    if missing:
        raise InstallFailed(f"no Secret {', '.join(missing)}: give its files with --secret NAME/KEY=FILE")
    return found


def _made(plan: _Plan, rendered: list[Manifest]) -> dict[str, dict[str, Path]]:
    """What is made here, once. Secret or ConfigMap → key → file."""
    if not (plan.folder / "nkeys").exists() and _exists(plan, "Secret", SYSTEM_NAMESPACE, "nats-config"):
        raise InstallFailed(
            f"this cluster has an installation already, and its keys are not in {plan.folder}: expected the folder "
            "that it was installed from. If that is lost, delete the Secret nats-config: new keys are made then."
        )
    settings = _settings(rendered)
    zones = [settings.get("CATALYST_ZONE", ""), *settings.get("CATALYST_ALIAS_ZONES", "").split(",")]
    write_edge_keys(plan.folder / "edge", [zone for zone in zones if zone], now=datetime.now(UTC))
    own, edge = plan.folder / "edge" / "dns-proxy", plan.folder / "edge" / "edge"
    public = write_keys(plan.folder / "nkeys", [user.name for user in users()])
    _once(plan.folder / "peers")
    _once(plan.folder / "webhook-secret")
    config = nats_server_config(
        store_dir="/data",
        port=4222,
        host="0.0.0.0",  # noqa: S104 -- the services are other pods
        http_port=8222,
        public_keys=public,
        peers=_peers(plan, rendered),
    )
    services = [name for name in public if name not in PEOPLE and Reader.of(name) is None]
    seeds = {f"nats-{name}": {"seed": plan.folder / "nkeys" / f"{name}.seed"} for name in services}
    return {
        **seeds,
        "nats-config": {"nats.conf": certs.write(plan.folder / "nats.conf", config.encode())},
        "webhook-secrets": {"secrets": plan.folder / "webhook-secret"},
        "edge-admin": {name: own / name for name in ("root.crt", "tls.crt", "tls.key")},
        "edge-authority": {name: edge / name for name in ("root.crt", "tls.crt", "tls.key")},
        "edge-client": {"tls.crt": own / "tls.crt"},
    }


def _peers(plan: _Plan, rendered: list[Manifest]) -> Peers | None:
    count = _replicas(rendered)
    if count == 1:
        return None
    hosts = tuple(f"nats-{number}.nats-peers.{SYSTEM_NAMESPACE}.svc" for number in range(count))
    return Peers(hosts, (plan.folder / "peers").read_text().strip())


def _once(path: Path) -> None:
    if not path.exists():
        certs.write(path, (secrets.token_hex(32) + "\n").encode())


def _mounted(rendered: list[Manifest]) -> Iterator[tuple[str, str, str, bool]]:
    """(kind, namespace, name, optional) of every volume from a Secret or a ConfigMap."""
    ours = {
        (m["metadata"]["namespace"], m["metadata"]["name"]) for m in rendered if m["kind"] in ("ConfigMap", "Secret")
    }
    for manifest in _workloads(rendered):
        namespace = manifest["metadata"]["namespace"]
        for volume in manifest["spec"]["template"]["spec"].get("volumes", ()):
            for kind, source, key in (("Secret", "secret", "secretName"), ("ConfigMap", "configMap", "name")):
                if (of := volume.get(source)) and (namespace, of[key]) not in ours:
                    yield kind, namespace, of[key], of.get("optional", False)


def _secret(kind: str, namespace: str, name: str, content: Mapping[str, bytes]) -> Manifest:
    metadata = {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/part-of": "catalyst"}}
    if kind == "ConfigMap":
        texts = {key: value.decode() for key, value in content.items()}
        return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "data": texts}
    encoded = {key: base64.b64encode(value).decode() for key, value in content.items()}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "type": "Opaque", "data": encoded}


def _checksums(rendered: list[Manifest], made: list[Manifest]) -> dict[str, str]:
    contents = {(m["metadata"]["namespace"], m["metadata"]["name"]): m["data"] for m in made}
    return {
        manifest["metadata"]["name"]: hashlib.sha256(json.dumps(mounted, sort_keys=True).encode()).hexdigest()[:16]
        for manifest in _workloads(rendered)
        if (
            mounted := {
                name: contents[namespace, name]
                for _, namespace, name, _ in _mounted([manifest])
                if (namespace, name) in contents
            }
        )
    }


# The cluster


def _apply(admin: httpx.Client, manifest: Manifest) -> None:
    checked(
        admin.patch(
            object_path(admin, manifest),
            params={"fieldManager": FIELD_MANAGER, "force": "true"},
            headers={"content-type": "application/apply-patch+yaml"},
            content=json.dumps(manifest),
        )
    )


def _exists(plan: _Plan, kind: str, namespace: str, name: str) -> bool:
    """Only metadata is asked for: what is in it stays there."""
    path = f"/api/v1/namespaces/{namespace}/{kind.lower()}s/{name}"
    accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
    answer = plan.cluster.admin.get(path, headers={"accept": accept})
    return answer.status_code != httpx.codes.NOT_FOUND and bool(checked(answer))


def _service(plan: _Plan, namespace: str, name: str) -> str:
    address: str = checked(plan.cluster.admin.get(f"/api/v1/namespaces/{namespace}/services/{name}")).json()["spec"][
        "clusterIP"
    ]
    return address


def _kubectl(plan: _Plan) -> list[str | Path]:
    return [plan.cluster.kubectl, "--kubeconfig", plan.cluster.admin_kubeconfig]


def _kubectl_apply(plan: _Plan, kustomization: Path, *options: str) -> None:
    command = [*_kubectl(plan), "apply", "--server-side", "--force-conflicts", "--field-manager", FIELD_MANAGER]
    done = subprocess.run([*command, "-k", kustomization, *options], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InstallFailed(f"kubectl apply -k {kustomization} failed:\n{done.stderr.strip()}")


def _apply_topology(plan: _Plan, replicas: int, patience: float = 60) -> None:
    """Through a forwarded port: the operator's seed stays on this machine."""
    (port,) = free_ports(1)
    command = [*_kubectl(plan), "--namespace", SYSTEM_NAMESPACE, "port-forward", "service/nats", f"{port}:4222"]
    log = plan.folder / "port-forward.log"
    forward = Part("kubectl port-forward", command, log)
    seed = plan.folder / "nkeys" / f"{OPERATOR}.seed"
    apply: list[str | Path] = [sys.executable, "-m", "catalyst.events", "apply", "--url", f"nats://127.0.0.1:{port}"]
    apply += ["--keys", plan.folder / "nkeys" / PUBLIC]
    deadline = time.monotonic() + patience
    log.unlink(missing_ok=True)
    forward.start()
    try:
        forward.wait_until(lambda: "Forwarding from" in tail(log), within=20)
        # The servers of a new cluster need some seconds to elect a leader, and refuse until then.
        while True:
            done = subprocess.run(
                [*apply, "--seed", seed, "--replicas", str(replicas)], capture_output=True, text=True, check=False
            )
            if done.returncode == 0:
                return
            if time.monotonic() > deadline:
                raise InstallFailed(f"python -m catalyst.events apply failed:\n{done.stderr.strip()}")
            time.sleep(1)
    finally:
        forward.stop()


def _wait(plan: _Plan, workloads: list[Manifest]) -> None:
    """Until all are available as they were applied. Raises InstallFailed naming who is not, and why."""
    waiting = {(m["kind"], m["metadata"]["namespace"], m["metadata"]["name"]) for m in workloads}
    deadline = time.monotonic() + plan.within
    while waiting:
        for kind, namespace, name in sorted(waiting):
            path = f"/apis/apps/v1/namespaces/{namespace}/{KINDS[kind]}/{name}"
            if _available(checked(plan.cluster.admin.get(path)).json()):
                waiting.remove((kind, namespace, name))
                plan.say(f"{name} is available")
        if waiting and time.monotonic() > deadline:
            told = "\n".join(_trouble(plan, namespace, name) for _, namespace, name in sorted(waiting))
            raise InstallFailed(f"not available within {plan.within:g} s:\n{told}")
        time.sleep(0.3)


def _available(workload: Manifest) -> bool:
    wanted: int = workload["spec"]["replicas"]
    status: dict[str, int] = workload.get("status", {})
    return (
        status.get("observedGeneration", 0) >= int(workload["metadata"]["generation"])
        and status.get("updatedReplicas", 0) == wanted
        and status.get("availableReplicas", 0) == wanted
        and status.get("replicas", 0) == wanted
    )


def _trouble(plan: _Plan, namespace: str, name: str) -> str:
    """Of the workload's pods that are not ready: why, and the end of the log."""
    selector = {"labelSelector": f"app.kubernetes.io/name={name}"}
    pods = checked(plan.cluster.admin.get(f"/api/v1/namespaces/{namespace}/pods", params=selector)).json()["items"]
    return "\n".join(_pod_trouble(plan, pod) for pod in pods if not _ready(pod)) or f"{name}: it has no pods"


def _ready(pod: Manifest) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _pod_trouble(plan: _Plan, pod: Manifest) -> str:
    namespace, name, status = pod["metadata"]["namespace"], pod["metadata"]["name"], pod.get("status", {})
    containers = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    reasons = [
        f"{each['name']} {state}: {what.get('reason', '')} {what.get('message', '')}".strip()
        for each in containers
        if not each.get("ready")
        for state, what in each.get("state", {}).items()
    ] + [each.get("message", "") for each in status.get("conditions", ()) if each["type"] == "PodScheduled"]
    command = [*_kubectl(plan), "--namespace", namespace, "logs", name, "--all-containers", "--tail=15"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    indented = "\n".join(f"  | {line}" for line in said.splitlines())
    return f"pod {namespace}/{name}: {'; '.join(filter(None, reasons)) or status.get('phase')}\n{indented}"
