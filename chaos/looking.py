"""The cluster, the product's pods and the node's processes, looked at while they are struck: a look that gets no answer
raises `Away` soon, and who can wait looks again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import psutil

from catalyst.local import cluster
from catalyst.local.demo.sight import Sight
from catalyst.local.installation import SYSTEM_NAMESPACE
from catalyst.local.node.layout import Layout
from catalyst.local.platform import EDGE_NAMESPACE
from chaos.plan import EDGE, NATS, PARTS, SERVICES
from chaos.support import first_process

T = TypeVar("T")
LOOK: Final = 0.1
PATIENCE: Final = 3.0
"""Seconds that one request may take."""


class Away(Exception):
    """Who was asked does not answer now."""


class Late(AssertionError):
    """Something did not come about in time."""


def until(look: Callable[[], T | None], what: str, within: float, every: float = LOOK) -> T:
    """The first answer that is true; one that is away is asked again. Raises Late."""
    ends, why = time.monotonic() + within, ""
    while True:
        try:
            if found := look():
                return found
            why = ""
        except Away as error:
            why = f" ({error})"
        if time.monotonic() > ends:
            raise Late(f"{what}: not within {within:g} s{why}")
        time.sleep(every)


class Looks:
    """The API server as its admin."""

    def __init__(self, kubeconfig: Path) -> None:
        self._sight = Sight(kubeconfig)
        self._sight._http.timeout = httpx.Timeout(PATIENCE)

    def get(self, path: str, **query: str) -> dict[str, Any] | None:
        """None for 404. Raises Away."""
        try:
            return self._sight.get(path, **query)
        except (httpx.TransportError, httpx.HTTPStatusError, ValueError) as error:
            raise Away(f"API server: {type(error).__name__} {error}"[:200]) from error

    def items(self, path: str, **query: str) -> list[dict[str, Any]]:
        """Of a list. Raises Away."""
        found: list[dict[str, Any]] = (self.get(path, **query) or {}).get("items", [])
        return found

    def send(self, method: str, path: str, body: Any = None, *, merge: bool = False) -> int:
        """The status of a request that changes something. Raises Away."""
        kind = "application/merge-patch+json" if merge else "application/json"
        try:
            return self._sight._http.request(method, path, json=body, headers={"content-type": kind}).status_code
        except httpx.TransportError as error:
            raise Away(f"API server: {error}") from error

    def pods(self, victim: str) -> list[dict[str, Any]]:
        """Of one of ours that are not on their way out."""
        namespace = EDGE_NAMESPACE if victim == EDGE else SYSTEM_NAMESPACE
        if victim in NATS:
            found = self.get(f"/api/v1/namespaces/{namespace}/pods/{victim}")
            items = [found] if found else []
        else:
            items = self.items(f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"app.kubernetes.io/name={victim}")
        return [each for each in items if "deletionTimestamp" not in each["metadata"]]

    def log(self, pod: dict[str, Any], container: str, seconds: int) -> str:
        """What a container said lately. Raises Away."""
        where = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}/log"
        query = {"container": container, "sinceSeconds": str(seconds)}
        try:
            return self._sight._http.get(where, params=query).text
        except httpx.TransportError as error:
            raise Away(f"API server: {error}") from error

    def close(self) -> None:
        self._sight.close()


# Processes


def container_name(victim: str) -> str:
    """In its pod."""
    return "nats" if victim in NATS else "caddy" if victim == EDGE else victim


def container(pod: dict[str, Any], victim: str) -> dict[str, Any]:
    """Its container's status; empty while there is none."""
    statuses = pod.get("status", {}).get("containerStatuses", ())
    return next((each for each in statuses if each["name"] == container_name(victim)), {})


def process_in(pod: dict[str, Any], victim: str) -> psutil.Process:
    """The first of its container. Raises Away while there is none."""
    identifier = container(pod, victim).get("containerID", "").removeprefix("containerd://")
    if not identifier:
        raise Away(f"{victim} has no container")
    try:
        return first_process(identifier)
    except (AssertionError, ValueError, psutil.NoSuchProcess) as error:
        raise Away(f"{victim}: {error}") from error


def part_process(name: str) -> psutil.Process:
    """Of the node. Raises Away while its supervisor is starting it again."""
    assert name in PARTS, name
    state = cluster.running()
    found = next((part for part in state.parts if part.name == name), None) if state else None
    if found is None or not found.runs:
        raise Away(f"{name} does not run")
    try:
        return psutil.Process(found.pid)
    except psutil.NoSuchProcess as error:
        raise Away(f"{name}: {error}") from error


def threads(process: psutil.Process) -> Iterator[tuple[str, int]]:
    """(state, CPU time in ticks) of each."""
    for stat in Path(f"/proc/{process.pid}/task").glob("*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        yield fields[0], int(fields[11]) + int(fields[12])


def empty_dir(pod: dict[str, Any], volume: str) -> Path:
    """Where an emptyDir of a pod lies on the node."""
    uid: str = pod["metadata"]["uid"]
    return Layout(Path()).data / "kubelet" / "pods" / uid / "volumes" / "kubernetes.io~empty-dir" / volume


# Logs


def keep_logs(looks: Looks, folder: Path) -> None:
    """What every pod of the product has said, its containers' former lives too, where that can be had."""
    folder.mkdir(parents=True, exist_ok=True)
    for victim in (*SERVICES, *NATS, EDGE):
        for pod in looks.pods(victim):
            metadata = pod["metadata"]
            where = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/log"
            for previous in ("true", "false"):
                query = {"container": container_name(victim), "previous": previous}
                answer = looks._sight._http.get(where, params=query, timeout=20)
                if answer.status_code == httpx.codes.OK:
                    life = "before" if previous == "true" else "now"
                    (folder / f"{metadata['name']}.{life}.log").write_text(answer.text)
