"""Conditions as Kubernetes means them: one of a type, its time moves only when its status does."""

from datetime import datetime

from catalyst.env_controller.core.admission import CONDITION, Wait
from catalyst.model.environment import Environment, EnvironmentStatus, Phase
from catalyst.model.resource import Condition


def with_condition(
    conditions: tuple[Condition, ...],
    kind: str,
    holds: bool,
    reason: str,
    message: str,
    *,
    generation: int,
    now: datetime,
) -> tuple[Condition, ...]:
    status = "True" if holds else "False"
    old = next((condition for condition in conditions if condition.type == kind), None)
    since = old.last_transition_time if old and old.status == status else now
    new = Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message,
        observed_generation=generation,
        last_transition_time=since,
    )
    if old is None:
        return (*conditions, new)
    return tuple(new if condition.type == kind else condition for condition in conditions)


def said(
    status: EnvironmentStatus,
    environment: Environment,
    now: datetime,
    kind: str,
    holds: bool,
    reason: str,
    message: str,
) -> EnvironmentStatus:
    """The status with that condition, which speaks of the Environment's present generation."""
    generation = environment.metadata.generation or 0
    conditions = with_condition(status.conditions, kind, holds, reason, message, generation=generation, now=now)
    return status.model_copy(update={"conditions": conditions})


def not_admitted(status: EnvironmentStatus, environment: Environment, wait: Wait, now: datetime) -> EnvironmentStatus:
    """The status of one that waits for the end of a pause, or for a place."""
    status = said(status, environment, now, CONDITION, False, wait.reason, wait.message)
    status = said(status, environment, now, "Ready", False, wait.reason, wait.message)
    return status.model_copy(update={"phase": Phase.WAITING})


def unsaid(status: EnvironmentStatus, kind: str) -> EnvironmentStatus:
    """The status without that condition."""
    return status.model_copy(update={"conditions": tuple(each for each in status.conditions if each.type != kind)})
