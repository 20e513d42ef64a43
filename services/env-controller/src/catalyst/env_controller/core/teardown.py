"""Taking an environment down: ask for what was handed out, remove the namespace we recorded, let go.

    Terminating ──(every route off)──▶ workloads deleted      Kubernetes looks into a namespace that goes every five
        │                                                     seconds only: what has ended by then is not waited for
        └──(every route off, builds cleaned)──▶ namespace deleted by its recorded uid ──(gone)──▶ finalizer off

Only what was handed out is awaited: no published route, no answer needed. A question that stays open is asked again
every minute and said in a condition; it is never skipped.
"""

from datetime import datetime

from catalyst.env_controller.core import workload
from catalyst.env_controller.core.conditions import with_condition
from catalyst.env_controller.core.world import Decision, Observed, World
from catalyst.model import labels
from catalyst.model.environment import Answers, Environment, EnvironmentStatus, Phase
from catalyst.model.manifest import Ref
from catalyst.model.resource import NamespaceRef

ASK_AGAIN_SECONDS = 60.0


def decide_teardown(environment: Environment, world: World, now: datetime) -> Decision:
    if labels.FINALIZER not in environment.metadata.finalizers:
        return Decision(announce=False)
    status = _terminating(environment)
    waiting = unanswered(status)
    if waiting:
        return _await_answers(environment, status, waiting, _served(environment, status, world), now)
    status = status.model_copy(update={"namespace": _recorded(environment, status, world)})
    if status.namespace != (environment.status or EnvironmentStatus()).namespace:
        return Decision(
            status=_torn(
                status, environment, "RecordingNamespace", "The namespace is recorded before it is deleted.", now
            ),
            requeue_after=0,
        )
    namespace = _own_namespace(status, world)
    if namespace:
        status = _torn(
            status, environment, "RemovingNamespace", "The namespace and its contents are being removed.", now
        )
        going = () if namespace.terminating else (namespace.ref,)
        return Decision(delete=(*going, *_served(environment, status, world)), status=status)
    return Decision(release=True, announce=False)


def unanswered(status: EnvironmentStatus) -> list[str]:
    """The questions still open: `route <host>`, `builds`."""
    answers = status.answers
    builds = ["builds"] if status.builds and not (answers and answers.builds_cleaned) else []
    return [f"route {host}" for host in _live(status)] + builds


def _live(status: EnvironmentStatus) -> list[str]:
    """Hosts that visitors may still come by."""
    return [route.host for route in status.routes if not _is_off(status.answers, route.host)]


def _is_off(answers: Answers | None, host: str) -> bool:
    answer = answers.routes.get(host) if answers else None
    return answer is not None and not answer.live and not answer.failed


def _terminating(environment: Environment) -> EnvironmentStatus:
    status = environment.status or EnvironmentStatus()
    return status.model_copy(
        update={"phase": Phase.TERMINATING, "observed_generation": environment.metadata.generation}
    )


def _served(environment: Environment, status: EnvironmentStatus, world: World) -> tuple[Ref, ...]:
    """What runs for nobody once no route leads to it; Kubernetes ends its pods."""
    if _live(status):
        return ()
    return tuple(
        found.ref
        for found in world.children.values()
        if found.ref.kind in workload.RUNS
        and found.labels.get(labels.ENVIRONMENT_UID) == environment.metadata.uid
        and not found.terminating
    )


def _await_answers(
    environment: Environment, status: EnvironmentStatus, waiting: list[str], served: tuple[Ref, ...], now: datetime
) -> Decision:
    since = (now - (environment.metadata.deletion_timestamp or now)).total_seconds()
    asked = max(0, int(since // ASK_AGAIN_SECONDS))
    message = (
        f"Waiting for the answer that these are gone: {', '.join(waiting)}. "
        "Asked again every minute; the namespace is not removed before."
    )
    status = _torn(status, environment, "AwaitingAnswers", message, now)
    return Decision(delete=served, status=status, again=asked, requeue_after=(asked + 1) * ASK_AGAIN_SECONDS - since)


def _recorded(environment: Environment, status: EnvironmentStatus, world: World) -> NamespaceRef | None:
    """The recorded namespace; if a crash came between making (or making anew) and recording it, the one that carries
    our uid label.
    """
    found = world.namespace
    if found is None or found.labels.get(labels.ENVIRONMENT_UID) != environment.metadata.uid:
        return status.namespace
    return NamespaceRef(name=found.ref.name, uid=found.ref.uid)


def _own_namespace(status: EnvironmentStatus, world: World) -> Observed | None:
    found = world.namespace
    return found if found and status.namespace and found.ref.uid == status.namespace.uid else None


def _torn(
    status: EnvironmentStatus, environment: Environment, reason: str, message: str, now: datetime
) -> EnvironmentStatus:
    generation = environment.metadata.generation or 0
    conditions = with_condition(status.conditions, "Terminating", True, reason, message, generation=generation, now=now)
    conditions = with_condition(conditions, "Ready", False, "Terminating", message, generation=generation, now=now)
    return status.model_copy(update={"conditions": conditions})
