"""decide(environment, world, now): if the world were like this, what should be done?

Pending ──accepted──▶ Provisioning ──baseline complete──▶ Provisioned
   │                       ▲  │ drift
   └─held (draft, fork)─▶ Waiting
any ──evidence recorded──▶ deleted ──▶ Terminating ──answers in, namespace gone──▶ released
refused (unsafe, not granted, name taken) ──▶ Failed, and what exists stays as it is
"""

from dataclasses import dataclass
from datetime import datetime

from catalyst.env_controller.core import acceptance, baseline, teardown
from catalyst.env_controller.core.acceptance import Problem
from catalyst.env_controller.core.conditions import with_condition
from catalyst.env_controller.core.world import Decision, Observed, Patch, World, meant_for, object_key
from catalyst.model import labels
from catalyst.model.environment import Deletion, Environment, EnvironmentStatus, Phase, Stage
from catalyst.model.manifest import Manifest, Ref
from catalyst.model.resource import NamespaceRef


def decide(environment: Environment, world: World, now: datetime) -> Decision:
    """One pass. Whoever acts on it looks at the world and asks again until nothing is left to change."""
    if environment.metadata.deletion_timestamp:
        return teardown.decide_teardown(environment, world, now)
    if labels.FINALIZER not in environment.metadata.finalizers:
        return Decision(
            amend={"metadata": {"finalizers": [*environment.metadata.finalizers, labels.FINALIZER]}}, announce=False
        )
    if environment.spec.deletion:
        return Decision(remove=True)
    if _is_expired(environment, now):
        return Decision(amend={"spec": {"deletion": _expired(environment, now)}}, announce=False)

    problem = acceptance.environment_problem(environment, world.project, world.grants, world.platform)
    if problem or world.project is None:
        return Decision(
            status=_refused(environment, problem or Problem("ProjectNotFound", ""), now),
            requeue_after=_until_expiry(environment, now),
        )
    subject = baseline.Subject(
        environment.identity, environment.metadata.uid or "", environment, world.project, world.platform
    )
    status = _accepted(environment, world, now)
    if environment.spec.hold and world.namespace is None:
        return Decision(status=_waiting(status, environment, now), requeue_after=_until_expiry(environment, now))
    return _materialise(subject, world, status, now)


def _is_expired(environment: Environment, now: datetime) -> bool:
    return environment.spec.expires_at is not None and environment.spec.expires_at <= now


def _expired(environment: Environment, now: datetime) -> Manifest:
    evidence = f"spec.expiresAt {environment.spec.expires_at:%Y-%m-%dT%H:%M:%SZ} has passed"
    return Deletion(reason="Expired", at=now, evidence=evidence).model_dump(
        mode="json", by_alias=True, exclude_none=True
    )


def _until_expiry(environment: Environment, now: datetime) -> float | None:
    return (environment.spec.expires_at - now).total_seconds() if environment.spec.expires_at else None


# What is said about a resource before anything is made.


def _said(
    status: EnvironmentStatus,
    environment: Environment,
    now: datetime,
    kind: str,
    holds: bool,
    reason: str,
    message: str,
) -> EnvironmentStatus:
    generation = environment.metadata.generation or 0
    conditions = with_condition(status.conditions, kind, holds, reason, message, generation=generation, now=now)
    return status.model_copy(update={"conditions": conditions})


def _begin(environment: Environment) -> EnvironmentStatus:
    status = environment.status or EnvironmentStatus()
    return status.model_copy(
        update={"observed_generation": environment.metadata.generation, "commit": environment.spec.source.commit}
    )


def _refused(environment: Environment, problem: Problem, now: datetime) -> EnvironmentStatus:
    status = _said(_begin(environment), environment, now, "Accepted", False, problem.reason, problem.message)
    status = _said(status, environment, now, "Ready", False, problem.reason, problem.message)
    return status.model_copy(update={"phase": Phase.FAILED if problem.reason != "ProjectNotFound" else Phase.PENDING})


def _accepted(environment: Environment, world: World, now: datetime) -> EnvironmentStatus:
    status = _said(
        _begin(environment), environment, now, "Accepted", True, "Accepted", "Everything that was asked for is allowed."
    )
    fields = [f"Project {path}" for path in acceptance.unsupported_in_project(world.project)] if world.project else []
    fields += acceptance.unsupported_in_environment(environment)
    if fields:
        message = f"Not implemented yet, and without effect: {', '.join(fields)}. Everything else is made."
        status = _said(status, environment, now, "Supported", False, "NotImplemented", message)
    else:
        status = _said(
            status, environment, now, "Supported", True, "Supported", "Everything that was asked for is implemented."
        )
    hold = environment.spec.hold
    if hold:
        status = _said(
            status, environment, now, "Approved", False, hold.reason, hold.message or f"Held: {hold.reason}."
        )
    else:
        status = _said(status, environment, now, "Approved", True, "NotHeld", "Nothing holds this environment back.")
    return _stage(status, "Accepted", environment.metadata.creation_timestamp or now, now)


def _waiting(status: EnvironmentStatus, environment: Environment, now: datetime) -> EnvironmentStatus:
    hold = environment.spec.hold
    reason, message = (hold.reason, hold.message or "") if hold else ("Held", "")
    status = _said(status, environment, now, "Ready", False, reason, message)
    return status.model_copy(update={"phase": Phase.WAITING})


# The namespace and its baseline.


@dataclass(frozen=True, slots=True)
class _Difference:
    """How the children differ from what they should be."""

    apply: tuple[Manifest, ...]
    delete: tuple[Ref, ...]
    going: bool
    """One that belongs there is still being deleted, and is made anew when it is gone."""

    @property
    def is_none(self) -> bool:
        return not (self.apply or self.delete or self.going)


def _materialise(subject: baseline.Subject, world: World, status: EnvironmentStatus, now: datetime) -> Decision:
    environment, wanted = subject.environment, baseline.namespace(subject)
    requeue = _until_expiry(environment, now)
    if world.namespace is None:
        status = _provisioning(_stage(_stage(status, "Namespace", now), "Baseline", now), environment, now)
        # A mirror that still shows something in it is behind.
        return Decision(create=(wanted,), apply=tuple(baseline.children(subject)), status=status, requeue_after=requeue)
    if world.namespace.labels.get(labels.ENVIRONMENT_UID) != subject.uid:
        return Decision(status=_taken(status, environment, world.namespace, now), requeue_after=requeue)
    if world.namespace.terminating:
        return Decision(
            status=_provisioning(
                status, environment, now, "NamespaceTerminating", "Somebody deleted the namespace; it is made anew."
            ),
            requeue_after=requeue,
        )

    status = _stage(status, "Namespace", now, now)
    status = status.model_copy(update={"namespace": NamespaceRef(name=subject.namespace, uid=world.namespace.ref.uid)})
    status = _said(
        status, environment, now, "NamespaceReady", True, "Created", f"Namespace {subject.namespace} exists."
    )
    patch = _relabelled(wanted, world.namespace)
    difference = _difference(subject, world)
    if difference.is_none and not patch:
        return Decision(status=_provisioned(status, environment, now), requeue_after=requeue)
    return Decision(
        apply=difference.apply,
        delete=difference.delete,
        patch=patch,
        status=status if _was_complete(status) else _provisioning(_stage(status, "Baseline", now), environment, now),
        announce=not _was_complete(status),
        requeue_after=requeue,
    )


def _was_complete(status: EnvironmentStatus) -> bool:
    """Repairing drift is no news: conditions do not flap for it."""
    return status.phase == Phase.PROVISIONED


def _relabelled(wanted: Manifest, found: Observed) -> tuple[Patch, ...]:
    missing = {key: value for key, value in wanted["metadata"]["labels"].items() if found.labels.get(key) != value}
    return (Patch(found.ref, {"metadata": {"labels": missing}}),) if missing else ()


def _difference(subject: baseline.Subject, world: World) -> _Difference:
    apply, delete, going = [], [], False
    wanted = {
        object_key(m["kind"], m["metadata"]["namespace"], m["metadata"]["name"]): m for m in baseline.children(subject)
    }
    for key, manifest in wanted.items():
        found = world.children.get(key)
        if found is None:
            apply.append(manifest)
        elif found.terminating:
            going = True
        elif found.labels.get(labels.ENVIRONMENT_UID) != subject.uid and not _is_cluster_made(found):
            delete.append(found.ref)
        elif not _is_current(found, manifest):
            apply.append(meant_for(manifest, found.ref))
    delete += [
        found.ref for key, found in world.children.items() if key not in wanted and _is_left_over(found, subject)
    ]
    return _Difference(tuple(apply), tuple(delete), going)


def _is_left_over(found: Observed, subject: baseline.Subject) -> bool:
    return found.labels.get(labels.ENVIRONMENT_UID) == subject.uid and not found.terminating


def _is_cluster_made(found: Observed) -> bool:
    """Kubernetes itself makes the ServiceAccount `default` of every namespace; ours are its fields, not the object."""
    return found.ref.kind == "ServiceAccount" and found.ref.name == "default"


def _is_current(found: Observed, manifest: Manifest) -> bool:
    """It is what we want now, under our labels, and nobody else has written its content."""
    metadata = manifest["metadata"]
    return (
        found.applied == metadata["annotations"][labels.APPLIED]
        and all(found.labels.get(key) == value for key, value in metadata["labels"].items())
        and not found.is_drifted_from(manifest)
    )


def _provisioning(
    status: EnvironmentStatus,
    environment: Environment,
    now: datetime,
    reason: str = "Provisioning",
    message: str = "The namespace and its baseline are being made.",
) -> EnvironmentStatus:
    status = _said(status, environment, now, "BaselineReady", False, reason, message)
    status = _said(status, environment, now, "Ready", False, reason, message)
    return status.model_copy(update={"phase": Phase.PROVISIONING})


def _provisioned(status: EnvironmentStatus, environment: Environment, now: datetime) -> EnvironmentStatus:
    status = _stage(status, "Baseline", now, now)
    status = _said(
        status,
        environment,
        now,
        "BaselineReady",
        True,
        "Complete",
        "Quota, limits, network policies, accounts and roles are in place.",
    )
    status = _said(
        status,
        environment,
        now,
        "Ready",
        False,
        "NothingDeployed",
        "The namespace is ready; deploying into it is not implemented yet.",
    )
    return status.model_copy(update={"phase": Phase.PROVISIONED})


def _taken(status: EnvironmentStatus, environment: Environment, found: Observed, now: datetime) -> EnvironmentStatus:
    message = (
        f"Namespace {found.ref.name} exists and does not belong to this Environment (label {labels.ENVIRONMENT_UID} is "
        f"{found.labels.get(labels.ENVIRONMENT_UID)!r}): remove that namespace, or give the Environment another name"
    )
    status = _said(status, environment, now, "NamespaceReady", False, "NamespaceTaken", message)
    status = _said(status, environment, now, "Ready", False, "NamespaceTaken", message)
    return status.model_copy(update={"phase": Phase.FAILED})


def _stage(
    status: EnvironmentStatus, name: str, started: datetime, finished: datetime | None = None
) -> EnvironmentStatus:
    """Start the stage, or finish the one that runs; a finished stage stays as it was."""
    old = next((stage for stage in status.stages if stage.name == name), None)
    if old and (old.finished_at or not finished):
        return status
    new = Stage(name=name, started_at=old.started_at if old else started, finished_at=finished)
    stages = [stage for stage in status.stages if stage.name != name]
    return status.model_copy(update={"stages": (*stages, new)})


def refused_by_cluster(environment: Environment, reason: str, now: datetime) -> EnvironmentStatus:
    """The API server would not take a part of the baseline: say which and why; it is tried again with backoff."""
    message = f"The API server refuses a part of the baseline: {reason}"[:1024]
    return _provisioning(_begin(environment), environment, now, "RefusedByCluster", message)
