"""The installation that is struck: the overlay `local` with three NATS servers and two env-controllers; each NATS
server and the registry has a small disk of its own; services get their clock by way of libfaketime; and the kubelet
starts a container that ended again after a second, whatever number of times it ended before.

All of it is taken back: then the node has the overlay `local` again, with streams made anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
import yaml

from catalyst.local import cluster, platform
from catalyst.local.installation import SYSTEM_NAMESPACE
from catalyst.local.node.layout import Layout
from chaos.looking import Away, Looks, part_process, until
from chaos.plan import EDGE, NATS, SERVICES
from chaos.support import ROOT, Kubectl, is_ready
from chaos.undo import Undo

LIBRARY: Final = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
IN_PODS: Final = (Path(__file__).parent / "in_pods" / "sitecustomize.py", ROOT / "tests" / "support" / "plants.py")
MEGABYTE: Final = 1024**2
NATS_DISK: Final = 192 * MEGABYTE
ROOM: Final = 384 * MEGABYTE
"""Bytes that the registry's disk has free."""
REPLICAS: Final = {"nats": 3, "env-controller": 2}
STEADY: Final = 12.0
"""Seconds: three probes of readiness, the time for which a pod that lost NATS still counts as ready."""
SWEEP: Final = 10
"""Seconds between two rounds of asking the forge for lost webhooks: the default, two minutes, would be most of the
wait.
"""


def library() -> Path:
    """libfaketime; installed from Debian where it is not there."""
    if not LIBRARY.exists():
        command = ["apt-get", "-qq", "--yes", "--no-install-recommends", "install", "libfaketime"]
        subprocess.run(command, check=True, capture_output=True)
    return LIBRARY


def overlay(folder: Path) -> Path:
    """A kustomization over `local`."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(library(), folder)
    for program in IN_PODS:
        shutil.copy(program, folder)
    base = platform.OVERLAYS / "local"
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [_relative(base, folder)],
        "replicas": [{"name": name, "count": count} for name, count in REPLICAS.items()],
        "configMapGenerator": [
            {"name": "chaos", "namespace": SYSTEM_NAMESPACE, "files": [LIBRARY.name, *(p.name for p in IN_PODS)]}
        ],
        "patches": [
            {"target": {"kind": "Deployment", "name": name}, "patch": json.dumps(_patched(name))} for name in SERVICES
        ],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder


def _patched(service: str) -> dict[str, Any]:
    """A service whose clock and points somebody outside may touch."""
    variables = {
        "LD_PRELOAD": "/chaos/lib/libfaketime.so.1",
        "FAKETIME_TIMESTAMP_FILE": "/chaos/hand/clock",
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
        "PYTHONPATH": "/chaos/lib:/opt/catalyst",
    }
    container = {
        "name": service,
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "volumeMounts": [
            {"name": "chaos-lib", "mountPath": "/chaos/lib", "readOnly": True},
            {"name": "chaos-hand", "mountPath": "/chaos/hand"},
        ],
    }
    volumes = [{"name": "chaos-lib", "configMap": {"name": "chaos"}}, {"name": "chaos-hand", "emptyDir": {}}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": service, "namespace": SYSTEM_NAMESPACE},
        "spec": {"template": {"spec": {"containers": [container], "volumes": volumes}}},
    }


def _relative(path: Path, start: Path) -> str:
    return os.path.relpath(path.resolve(), start.resolve())


# NATS


def forget_streams(system: Kubectl) -> None:
    """NATS and its volumes go: a server that stood alone keeps what three would not read, and the other way round."""
    system.run("delete", "statefulset", "nats", "--ignore-not-found", "--wait=true", "--cascade=foreground")
    system.run("delete", "pvc", "--selector=app.kubernetes.io/name=nats", "--ignore-not-found", "--wait=true")


def stands_alone(system: Kubectl) -> bool:
    """Whether there is a NATS of one server."""
    found = json.loads(system.run("get", "statefulsets", "--output=json"))["items"]
    return any(each["metadata"]["name"] == "nats" and each["spec"]["replicas"] != REPLICAS["nats"] for each in found)


def volume(looks: Looks, server: str) -> Path:
    """Where a server's volume lies on the node. Raises Away."""
    claim = looks.get(f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/persistentvolumeclaims/data-{server}")
    found = looks.get(f"/api/v1/persistentvolumes/{claim['spec'].get('volumeName', '')}") if claim else None
    if found is None:
        raise Away(f"{server} has no volume")
    spec = found["spec"]
    return Path((spec.get("hostPath") or spec["local"])["path"])


# Small disks


@contextmanager
def small_disks(looks: Looks, system: Kubectl, undo: Undo) -> Iterator[None]:
    """NATS' servers and the registry write into file systems of their own while the block runs."""
    places = {server: until(partial(volume, looks, server), f"{server} has a volume", 60) for server in NATS}
    system.run("scale", "statefulset", "nats", "--replicas=0")
    until(lambda: not any(looks.pods(server) for server in NATS), "NATS stops", 90)
    system.run("wait", "pod", "--selector=app.kubernetes.io/name=nats", "--for=delete", "--timeout=90s")
    for place in places.values():
        _small(place, NATS_DISK, undo)
    registry = registry_folder()
    _small(registry, _size(registry) + ROOM, undo)
    _again("registry")
    system.run("scale", "statefulset", "nats", f"--replicas={REPLICAS['nats']}")
    try:
        yield
    finally:
        undo.everything()
        _again("registry")


def registry_folder() -> Path:
    """Where the registry keeps what it was given."""
    return Layout(Path()).data / "registry"


def _small(place: Path, size: int, undo: Undo) -> None:
    """A file system of this size over a folder, with what was in it."""
    before = place.stat()
    with contextlib.ExitStack() as stack:
        held = Path(stack.enter_context(_scratch(place)))
        undo.mounted(place)
        mode = f"mode={before.st_mode & 0o7777:o},uid={before.st_uid},gid={before.st_gid},size={size}"
        subprocess.run(["cp", "-a", f"{place}/.", held], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", mode, "chaos", place], check=True)
        subprocess.run(["cp", "-a", f"{held}/.", place], check=True)


@contextmanager
def _scratch(beside: Path) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="chaos-", dir=beside.parent) as folder:
        yield folder


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def _again(part: str) -> None:
    """It is started again by its supervisor, and reads its files anew."""
    process = until(lambda: part_process(part), f"{part} runs", 30)
    process.kill()
    until(lambda: part_process(part) != process, f"{part} runs again", 30)


# The kubelet


@contextmanager
def restarted_soon(state: cluster.ClusterState) -> Iterator[None]:
    """The kubelet waits a second at most before it starts a container again, while the block runs. It reads its
    configuration when it starts; the supervisor starts it again when it is killed.
    """
    place = Path(state.kubeconfig).parent / "configuration" / "kubelet.yaml"
    before = place.read_text()
    content = yaml.safe_load(before)
    gates = {**content.get("featureGates", {}), "KubeletCrashLoopBackOffMax": True}
    changed = {**content, "featureGates": gates, "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"}}
    place.write_text(yaml.safe_dump(changed, sort_keys=False))
    _again("kubelet")
    try:
        yield
    finally:
        place.write_text(before)
        _again("kubelet")


# All of it


def all_there(looks: Looks) -> list[str]:
    """Of the product: who is not ready; empty when all are. Raises Away."""
    return [name for name in (*SERVICES, *NATS, EDGE) if not _there(looks, name)]


def _there(looks: Looks, name: str) -> bool:
    pods = looks.pods(name)
    return len(pods) == REPLICAS.get(name, 1) and all(map(is_ready, pods))


def wait_for_all(looks: Looks, within: float, steady: float = 0) -> float:
    """Seconds until all are ready and have been for `steady` seconds. Raises Late."""
    began = last = time.monotonic()

    def lasts() -> bool:
        nonlocal last
        if all_there(looks):
            last = time.monotonic()
            return False
        return time.monotonic() - last >= steady

    until(lasts, "all of the product is ready", within, every=0.5)
    return time.monotonic() - began


def ended(process: psutil.Process) -> bool:
    """It is dead, or about to be collected by whoever started it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    return True
