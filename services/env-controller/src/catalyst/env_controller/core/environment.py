"""decide(environment, world, now): if the world were like this, what should be done?

Pending ──accepted──▶ Provisioning ──baseline complete──▶ Provisioned: nothing to run, or nothing that could build it
   │                                          └──▶ Building ──▶ Deploying ──▶ Ready ⇄ Degraded, Failed   deploying.py
   └─held (draft, fork), paused, in line─▶ Waiting
any ──evidence recorded──▶ deleted ──▶ Terminating ──answers in, namespace gone──▶ released
refused (unsafe, not granted, name taken) ──▶ Failed, and what exists stays as it is
"""

from dataclasses import replace
from datetime import datetime
from functools import partial

from catalyst.env_controller.core import acceptance, admission, baseline, deploying, shares, teardown, workload
from catalyst.env_controller.core.acceptance import Problem
from catalyst.env_controller.core.baseline import Subject
from catalyst.env_controller.core.conditions import not_admitted, said
from catalyst.env_controller.core.difference import difference
from catalyst.env_controller.core.stages import begun, ended
from catalyst.env_controller.core.world import Decision, Observed, Patch, World
from catalyst.model import labels
from catalyst.model.environment import Deletion, Environment, EnvironmentStatus, Phase
from catalyst.model.manifest import Manifest
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
    subject = Subject(environment.identity, environment.metadata.uid or "", environment, world.project, world.platform)
    status = _accepted(environment, world, now)
    if environment.spec.hold and world.namespace is None:
        return Decision(status=_waiting(status, environment, now), requeue_after=_until_expiry(environment, now))
    paused = admission.pause(world.project, world.pauses, world.platform.system_namespace)
    is_new = world.namespace is None and status.namespace is None
    wait = admission.wait(world.project, world.pauses, world.place, world.platform.system_namespace) if is_new else None
    if wait:
        return Decision(
            status=not_admitted(status, environment, wait, now),
            requeue_after=_sooner(_until_expiry(environment, now), wait.look_again),
        )
    return _materialise(subject, world, status if paused else _admitted(status, environment, world, now), now)


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


def _begin(environment: Environment) -> EnvironmentStatus:
    status = environment.status or EnvironmentStatus()
    return status.model_copy(
        update={"observed_generation": environment.metadata.generation, "commit": environment.spec.source.commit}
    )


def _refused(environment: Environment, problem: Problem, now: datetime) -> EnvironmentStatus:
    status = said(_begin(environment), environment, now, "Accepted", False, problem.reason, problem.message)
    status = said(status, environment, now, "Ready", False, problem.reason, problem.message)
    return status.model_copy(update={"phase": Phase.FAILED if problem.reason != "ProjectNotFound" else Phase.PENDING})


def _accepted(environment: Environment, world: World, now: datetime) -> EnvironmentStatus:
    status = said(
        _begin(environment), environment, now, "Accepted", True, "Accepted", "Everything that was asked for is allowed."
    )
    fields = [f"Project {path}" for path in acceptance.unsupported_in_project(world.project)] if world.project else []
    fields += acceptance.unsupported_in_environment(environment)
    if fields:
        message = f"Not implemented yet, and without effect: {', '.join(fields)}. Everything else is made."
        status = said(status, environment, now, "Supported", False, "NotImplemented", message)
    else:
        status = said(
            status, environment, now, "Supported", True, "Supported", "Everything that was asked for is implemented."
        )
    hold = environment.spec.hold
    if hold:
        status = said(status, environment, now, "Approved", False, hold.reason, hold.message or f"Held: {hold.reason}.")
    else:
        status = said(status, environment, now, "Approved", True, "NotHeld", "Nothing holds this environment back.")
    return ended(status, "Accepted", now, began=environment.metadata.creation_timestamp)


def _waiting(status: EnvironmentStatus, environment: Environment, now: datetime) -> EnvironmentStatus:
    hold = environment.spec.hold
    reason, message = (hold.reason, hold.message or "") if hold else ("Held", "")
    status = said(status, environment, now, "Ready", False, reason, message)
    return status.model_copy(update={"phase": Phase.WAITING})


def _admitted(status: EnvironmentStatus, environment: Environment, world: World, now: datetime) -> EnvironmentStatus:
    """Said only of those who stood in line, or waited for the end of a pause."""
    if world.place is None and status.condition(admission.CONDITION) is None:
        return status
    return said(status, environment, now, admission.CONDITION, True, "Admitted", "It need not wait for others.")


# The namespace and its baseline.


def _materialise(subject: Subject, world: World, status: EnvironmentStatus, now: datetime) -> Decision:
    environment, wanted = subject.environment, baseline.namespace(subject)
    requeue = _until_expiry(environment, now)
    if world.namespace is None:
        status = status.model_copy(update={"pull": None})  # the Secret went with it
        status = _provisioning(begun(begun(status, "Namespace", now), "Baseline", now), environment, now)
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

    status = ended(status, "Namespace", now)
    status = status.model_copy(update={"namespace": NamespaceRef(name=subject.namespace, uid=world.namespace.ref.uid)})
    status = said(status, environment, now, "NamespaceReady", True, "Created", f"Namespace {subject.namespace} exists.")
    patch = _relabelled(wanted, world.namespace)
    there = {key: found for key, found in world.children.items() if found.ref.kind not in workload.KINDS}
    differs = difference(subject.uid, baseline.children(subject), there, keeps=partial(_is_needed, world))
    foreign = tuple(found.ref for found in differs.foreign)  # nobody else has business among these: made anew
    if differs.is_none and not foreign and not patch:
        decision = deploying.deploy(subject, world, _provisioned(status, environment, now), now)
        return replace(decision, requeue_after=_sooner(requeue, decision.requeue_after))
    return Decision(
        apply=differs.apply,
        delete=(*foreign, *differs.delete),
        patch=patch,
        status=status if _was_complete(status) else _provisioning(begun(status, "Baseline", now), environment, now),
        announce=not _was_complete(status),
        requeue_after=requeue,
    )


def _is_needed(world: World, found: Observed) -> bool:
    """Our right to keep copies of Secrets goes after the last copy."""
    seen = world.secrets
    return (found.ref.kind, found.ref.name) == ("RoleBinding", shares.BINDING) and bool(
        seen is None or seen.copies or seen.closed
    )


def _sooner(one: float | None, other: float | None) -> float | None:
    return min((seconds for seconds in (one, other) if seconds is not None), default=None)


def _was_complete(status: EnvironmentStatus) -> bool:
    """Repairing drift is no news: conditions do not flap for it."""
    ready = status.condition("BaselineReady")
    return ready is not None and ready.status == "True"


def _relabelled(wanted: Manifest, found: Observed) -> tuple[Patch, ...]:
    missing = {key: value for key, value in wanted["metadata"]["labels"].items() if found.labels.get(key) != value}
    return (Patch(found.ref, {"metadata": {"labels": missing}}),) if missing else ()


def _provisioning(
    status: EnvironmentStatus,
    environment: Environment,
    now: datetime,
    reason: str = "Provisioning",
    message: str = "The namespace and its baseline are being made.",
) -> EnvironmentStatus:
    status = said(status, environment, now, "BaselineReady", False, reason, message)
    status = said(status, environment, now, "Ready", False, reason, message)
    return status.model_copy(update={"phase": Phase.PROVISIONING})


def _provisioned(status: EnvironmentStatus, environment: Environment, now: datetime) -> EnvironmentStatus:
    return said(
        ended(status, "Baseline", now),
        environment,
        now,
        "BaselineReady",
        True,
        "Complete",
        "Quota, limits, network policies, accounts and roles are in place.",
    )


def _taken(status: EnvironmentStatus, environment: Environment, found: Observed, now: datetime) -> EnvironmentStatus:
    message = (
        f"Namespace {found.ref.name} exists and does not belong to this Environment (label {labels.ENVIRONMENT_UID} is "
        f"{found.labels.get(labels.ENVIRONMENT_UID)!r}): remove that namespace, or give the Environment another name"
    )
    status = said(status, environment, now, "NamespaceReady", False, "NamespaceTaken", message)
    status = said(status, environment, now, "Ready", False, "NamespaceTaken", message)
    return status.model_copy(update={"phase": Phase.FAILED})


def refused_by_cluster(environment: Environment, reason: str, now: datetime) -> EnvironmentStatus:
    """The API server would not take something: say what and why; it is tried again with backoff."""
    status = _begin(environment)
    if _was_complete(status):
        return deploying.refused(status, environment, reason, now)
    message = f"The API server refuses a part of the baseline: {reason}"[:1024]
    return _provisioning(status, environment, now, "RefusedByCluster", message)
