"""Conditions as Kubernetes means them: one of a type, its time moves only when its status does."""

from datetime import datetime

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
