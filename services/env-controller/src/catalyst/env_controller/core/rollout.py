"""How far a component's Deployment is, and why no further: read from its status, its newest pods and the end of a log.

    what is seen                                                 reason
    Deployment: ReplicaFailure, "exceeded quota"                 Quota; else RefusedByCluster
    pod: not scheduled                                           Unschedulable
    container waits: ErrImagePull, ImagePullBackOff, …           ImagePull
    container waits: CreateContainerConfigError                  SecretNotFound, or the kubelet's words
    init container ended badly, or again and again               InitFailed
    container ended again and again                              CrashLoop; OutOfMemory when it was killed for that
    container runs and is not ready for a while                  PortNotListening (our probe), else ProbeFailing
    Deployment: Progressing=False                                DeadlineExceeded

What may pass by itself is given a moment first, so that nothing flaps; what was said about one version stays as it was
said, so a program that crashes for ever is written down once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from catalyst.env_controller.core.components import Part
from catalyst.env_controller.core.workload import Image, has_own_probe, port
from catalyst.env_controller.core.world import Observed
from catalyst.model import labels
from catalyst.model.environment import ComponentStatus
from catalyst.model.logs import scrubbed, tail
from catalyst.model.manifest import Manifest

PATIENCE: Final = 30.0
"""Seconds that a running container may take until it answers before we say that it does not."""
NO_PLACE: Final = 10.0
"""Seconds that a pod may wait for a node."""
CRASHES: Final = 2
"""A container that ended this often does not just wait for a neighbour."""
LONGEST: Final = 8000
REASONS: Final = frozenset(
    {
        "CrashLoop",
        "DeadlineExceeded",
        "ImagePull",
        "InitFailed",
        "OutOfMemory",
        "PortNotListening",
        "ProbeFailing",
        "Quota",
        "RefusedByCluster",
        "SecretNotFound",
        "Unschedulable",
    }
)
"""All that is said here; the notifier has a remedy for each."""
_PULL: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})


@dataclass(frozen=True, slots=True)
class LogWish:
    """The end of a container's log, of its last run or the present one."""

    pod: str
    container: str
    previous: bool = False

    @property
    def key(self) -> str:
        return f"{self.pod}/{self.container}"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a component does not become ready; `log`: whose log says more."""

    reason: str
    sentence: str
    log: LogWish | None = None


def is_complete(found: Observed | None) -> bool:
    """Every pod that is wanted is of the present version and ready, as `kubectl rollout status` sees it."""
    if found is None or found.status is None:
        return False
    status, wanted = found.status, found.status.get("wanted", 1)
    if (status.get("observedGeneration") or 0) < (found.generation or 0):
        return False
    updated = status.get("updatedReplicas") or 0
    return bool(
        updated >= wanted
        and (status.get("replicas") or 0) <= updated
        and (status.get("availableReplicas") or 0) >= updated
    )


def serves(found: Observed | None) -> bool:
    """Some version of it answers."""
    return bool(found and found.status and found.status.get("availableReplicas"))


def trouble(
    part: Part, image: Image | None, found: Observed | None, pods: Sequence[Manifest], now: datetime
) -> Trouble | None:
    """What keeps the newest version from becoming ready; None while there is nothing to say."""
    conditions = {item["type"]: item for item in (found.status or {}).get("conditions", ())} if found else {}
    failure = conditions.get("ReplicaFailure", {})
    if failure.get("status") == "True":
        return _refused(part, failure.get("message", ""))
    newest = newest_of(part.name, pods)
    for pod in newest:
        if seen := _trouble_of(part, image, pod, now):
            return seen
    progress = conditions.get("Progressing", {})
    if progress.get("status") == "False" and progress.get("reason") == "ProgressDeadlineExceeded":
        log = LogWish(_name(newest[0]), part.name) if newest and _started(newest[0], part.name) else None
        return Trouble("DeadlineExceeded", f"{part.name} did not become ready in time.", log)
    return None


def newest_of(component: str, pods: Sequence[Manifest]) -> list[Manifest]:
    """The pods of the version made last, the newest first; those that go say nothing any more."""
    own = [
        pod
        for pod in pods
        if pod["metadata"].get("labels", {}).get(labels.COMPONENT) == component
        and "deletionTimestamp" not in pod["metadata"]
    ]
    own.sort(key=lambda pod: (pod["metadata"].get("creationTimestamp", ""), _name(pod)), reverse=True)
    version = own[0]["metadata"].get("labels", {}).get("pod-template-hash") if own else None
    return [pod for pod in own if pod["metadata"].get("labels", {}).get("pod-template-hash") == version]


def told(seen: Trouble, image: Image | None, logs: Mapping[str, str], before: ComponentStatus | None) -> str:
    """The sentence, and from the second line on the end of the log. What was said of the same trouble stays."""
    if before and before.message and was_told(seen, image, before):
        return before.message
    sentence = scrubbed(" ".join(seen.sentence.split()))[:1000]
    log = tail(logs.get(seen.log.key, "")) if seen.log else ""
    return f"{sentence}\n{log}"[:LONGEST].rstrip() if log else sentence


def was_told(seen: Trouble, image: Image | None, before: ComponentStatus | None) -> bool:
    """It is in the status already, with all there is to say."""
    if before is None or before.reason != seen.reason or before.digest != (image.digest if image else None):
        return False
    return seen.log is None or "\n" in (before.message or "")


def _refused(part: Part, message: str) -> Trouble:
    if "exceeded quota" in message:
        return Trouble("Quota", f"{part.name} does not fit into the environment's quota: {message}")
    if "per Container" in message or "per PersistentVolumeClaim" in message:
        return Trouble("Quota", f"{part.name} asks for more than one container may have: {message}")
    return Trouble("RefusedByCluster", f"The cluster refuses a pod of {part.name}: {message}")


def _trouble_of(part: Part, image: Image | None, pod: Manifest, now: datetime) -> Trouble | None:
    status = pod.get("status", {})
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False" and _age(scheduled.get("lastTransitionTime"), now) >= NO_PLACE:
        return Trouble("Unschedulable", f"No node takes a pod of {part.name}: {scheduled.get('message', '')}")
    for container in status.get("initContainerStatuses", ()):
        if seen := _waits(part, pod, container) or _init_failed(part, pod, container):
            return seen
    for container in status.get("containerStatuses", ()):
        seen = (
            _waits(part, pod, container) or _crashes(part, pod, container) or _silent(part, image, pod, container, now)
        )
        if seen:
            return seen
    return None


def _waits(part: Part, pod: Manifest, container: Manifest) -> Trouble | None:
    waiting = container.get("state", {}).get("waiting") or {}
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in _PULL:
        return Trouble(
            "ImagePull", f"The image {container.get('image', '')} of {part.name} cannot be pulled: {message}"
        )
    if reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
        if "not found" in message and ("secret" in message or "configmap" in message or "references" in message):
            return Trouble("SecretNotFound", f"{part.name} names something that is not there: {message}")
        return Trouble("RefusedByCluster", f"A container of {part.name} cannot be started: {message}")
    return None


def _init_failed(part: Part, pod: Manifest, container: Manifest) -> Trouble | None:
    state, last = container.get("state", {}), container.get("lastState", {})
    ended = state.get("terminated") or last.get("terminated") or {}
    if not ended or not ended.get("exitCode"):
        return None
    log = LogWish(_name(pod), container["name"], previous=not state.get("terminated"))
    return Trouble("InitFailed", f"Init container {container['name']} of {part.name} {_how(ended)}.", log)


def _crashes(part: Part, pod: Manifest, container: Manifest) -> Trouble | None:
    state, last = container.get("state", {}), container.get("lastState", {})
    ended = state.get("terminated") or last.get("terminated") or {}
    count = container.get("restartCount", 0)
    if container.get("ready") or not ended:
        return None
    if (state.get("waiting") or {}).get("reason") != "CrashLoopBackOff" and count < CRASHES:
        return None
    log = LogWish(_name(pod), container["name"], previous=not state.get("terminated"))
    if ended.get("reason") == "OOMKilled":
        return Trouble("OutOfMemory", f"{part.name} was killed because it used more memory than it may have.", log)
    return Trouble("CrashLoop", f"{part.name} {_how(ended)} soon after it started, again and again.", log)


def _silent(part: Part, image: Image | None, pod: Manifest, container: Manifest, now: datetime) -> Trouble | None:
    running = container.get("state", {}).get("running")
    if container.get("ready") or not running or _age(running.get("startedAt"), now) < PATIENCE:
        return None
    log = LogWish(_name(pod), container["name"])
    if image is not None and has_own_probe(part, image):
        return Trouble(
            "PortNotListening", f"{part.name} runs, but nothing listens on its port {port(part, image)}.", log
        )
    return Trouble("ProbeFailing", f"{part.name} runs, but does not answer its readiness probe.", log)


def _how(ended: Mapping[str, Any]) -> str:
    if signal := ended.get("signal"):
        return f"was ended by signal {signal}"
    return f"ended with exit status {ended.get('exitCode', 0)}"


def _started(pod: Manifest, container: str) -> bool:
    found = (c for c in pod.get("status", {}).get("containerStatuses", ()) if c["name"] == container)
    return any(not c.get("state", {}).get("waiting") for c in found)


def _condition(pod: Manifest, kind: str) -> Manifest:
    found: Manifest = next((c for c in pod.get("status", {}).get("conditions", ()) if c["type"] == kind), {})
    return found


def _name(pod: Manifest) -> str:
    name: str = pod["metadata"]["name"]
    return name


def _age(since: str | None, now: datetime) -> float:
    return (now - datetime.fromisoformat(since)).total_seconds() if since else 0.0
