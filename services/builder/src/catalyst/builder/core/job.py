"""The Job of a build: suspended until it is its turn, one pod, one try. It is the queue's entry, the record of the
question (an annotation), and, once answered, of the answer.

```
suspended ──admitted──▶ running ──▶ Complete or Failed ──answered──▶ kept for a while, then gone
    └────────────── superseded, or the environment goes: deleted ──────────────┘
```
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict

from catalyst.builder.core.build import Build
from catalyst.builder.core.executor import Executor
from catalyst.builder.core.platform import Platform
from catalyst.events.catalogue import BuildFinished, BuildRequested
from catalyst.events.event import Cause, Event
from catalyst.model import labels
from catalyst.model.manifest import Manifest

FIELD_MANAGER: Final = "catalyst-builder"
BUILD_LABEL: Final = f"{labels.GROUP}/build"
"""On everything of one build: its Job's name."""
REQUEST: Final = f"{labels.GROUP}/build-request"
RESULT: Final = f"{labels.GROUP}/build-result"
SECRETS: Final = f"{labels.GROUP}/build-secrets"
"""The uids of the Secrets made for it, so that they can be deleted without a right to read them."""
SERVICE_ACCOUNT: Final = "build"
FALLBACK: Final = 300
"""Seconds beyond the pod's own deadline, for a pod that never starts: the pod's own keeps its log readable."""


class Asked(BaseModel):
    """The question as it stands on the Job: the request, and what answering it needs."""

    model_config = ConfigDict(frozen=True)

    request: BuildRequested
    at: AwareDatetime
    message_id: str
    correlation_id: str
    actor: str | None = None
    traceparent: str | None = None
    deployment: bool = False

    @classmethod
    def of(cls, event: Event, request: BuildRequested, *, deployment: bool) -> "Asked":
        return cls(
            request=request,
            at=event.time,
            message_id=event.message_id,
            correlation_id=event.correlation_id,
            actor=event.actor,
            traceparent=event.traceparent,
            deployment=deployment,
        )

    @property
    def cause(self) -> Cause:
        """Of the answer."""
        return Cause(self.correlation_id, self.message_id, self.actor)


def job(build: Build, asked: Asked, executor: Executor, platform: Platform, known: tuple[str, ...]) -> Manifest:
    """The suspended Job."""
    marks = _marks(build)
    pod = {
        **executor.pod(build, platform, known),
        "restartPolicy": "Never",
        "serviceAccountName": SERVICE_ACCOUNT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "hostUsers": False,
        "activeDeadlineSeconds": platform.limits.deadline,
        "terminationGracePeriodSeconds": 2,
        "securityContext": {"fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": build.job,
            "namespace": build.namespace,
            "labels": marks,
            "annotations": {REQUEST: asked.model_dump_json(by_alias=True, exclude_none=True)},
        },
        "spec": {
            "suspend": True,
            "backoffLimit": 0,
            "activeDeadlineSeconds": platform.limits.deadline + FALLBACK,
            "ttlSecondsAfterFinished": platform.limits.kept,
            # A node that is drained is nobody's fault: that pod is made anew.
            "podFailurePolicy": {
                "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
            },
            "podReplacementPolicy": "Failed",
            "template": {"metadata": {"labels": marks}, "spec": pod},
        },
    }


def _marks(build: Build) -> dict[str, str]:
    return {
        labels.TEAM: build.identity.team,
        labels.PROJECT: build.identity.project,
        labels.ENVIRONMENT: build.identity.environment,
        labels.ENVIRONMENT_UID: build.uid,
        labels.COMPONENT: build.component,
        labels.TRUST: build.trust,
        BUILD_LABEL: build.job,
    }


def secret(found: Manifest, volume: str, data: dict[str, str]) -> Manifest:
    """A credential of one build's one container; it goes with its Job, and before that when the build has ended."""
    metadata = found["metadata"]
    owner = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": False,
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": f"{metadata['name']}-{volume}",
            "namespace": metadata["namespace"],
            "labels": {BUILD_LABEL: metadata["name"]},
            "ownerReferences": [owner],
        },
        "type": "Opaque",
        "stringData": data,
    }


# Reading a Job back


@dataclass(frozen=True, slots=True)
class End:
    """How a Job ended. `reason` is Kubernetes' own, empty for a success; `seconds` since it was let go."""

    succeeded: bool
    reason: str
    message: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Times:
    """When a Job was made, let go, and ended, in the API server's whole seconds; None for what it did not come to."""

    made: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None


NOT_RUN: Final = Times()


def times_of(found: Manifest) -> Times:
    """Of a Job that ended; of one that did not, what there is."""
    status: dict[str, Any] = found.get("status", {})
    made, started = _moment(found["metadata"].get("creationTimestamp")), _moment(status.get("startTime"))
    return Times(made, started, _moment(_ended(status)))


def asked_of(found: Manifest) -> Asked:
    """The question on a Job. Raises ValueError when somebody changed it."""
    return Asked.model_validate_json(found["metadata"].get("annotations", {}).get(REQUEST, ""))


def result_of(found: Manifest) -> BuildFinished | None:
    """The answer that was published, None before."""
    text = found["metadata"].get("annotations", {}).get(RESULT)
    return BuildFinished.model_validate_json(text) if text else None


def is_waiting(found: Manifest) -> bool:
    """Suspended, and nobody wants it gone."""
    return bool(found["spec"].get("suspend")) and not is_going(found) and end_of(found) is None


def is_running(found: Manifest) -> bool:
    """Takes a place: its pod may exist."""
    return not found["spec"].get("suspend") and end_of(found) is None


def is_going(found: Manifest) -> bool:
    return "deletionTimestamp" in found["metadata"]


def is_alive(found: Manifest) -> bool:
    """Its credential still counts: neither ended nor going."""
    return not is_going(found) and end_of(found) is None


def end_of(found: Manifest) -> End | None:
    """None while it waits or runs."""
    status: dict[str, Any] = found.get("status", {})
    condition = _last_word(status)
    if condition is None:
        return None
    return End(
        condition["type"] == "Complete",
        condition.get("reason", ""),
        condition.get("message", ""),
        _seconds(_moment(status.get("startTime")), _moment(_ended(status))),
    )


def _last_word(status: dict[str, Any]) -> dict[str, Any] | None:
    return next(
        (
            condition
            for condition in status.get("conditions", ())
            if condition.get("status") == "True" and condition.get("type") in ("Complete", "Failed")
        ),
        None,
    )


def _ended(status: dict[str, Any]) -> str | None:
    return status.get("completionTime") or (_last_word(status) or {}).get("lastTransitionTime")


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _seconds(begun: datetime | None, ended: datetime | None) -> float:
    return max(0.0, (ended - begun).total_seconds()) if begun and ended else 0.0
