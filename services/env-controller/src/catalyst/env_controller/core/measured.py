"""Which stages a change of the status ends, and how long they took. Pure.

A stage is measured once: when the status that says so is written. A push begins the stages of building and deploying
anew and brings a later `triggered`; what comes back to Ready by itself (a pod that was killed) ends no stage and says
nothing.
"""

from collections.abc import Iterator
from datetime import datetime

from catalyst.env_controller.core.stages import find
from catalyst.model.environment import EnvironmentStatus, Phase

Measured = tuple[str, float]
"""A stage of `catalyst.service.stages`, and seconds."""


def measured(before: EnvironmentStatus | None, after: EnvironmentStatus, triggered: datetime) -> Iterator[Measured]:
    """`triggered`: when the webhook came that led to the present spec; of an Environment that a person made, when it
    was made.
    """
    before = before or EnvironmentStatus()
    ended = {name for name in ("Namespace", "Deploy", "Route") if _has_ended(before, after, name)}
    namespace = find(after, "Namespace")
    if "Namespace" in ended and namespace and namespace.finished_at:
        yield "webhook-to-namespace", _seconds(triggered, namespace.finished_at)
    for name, stage in (("Deploy", "deploy"), ("Route", "route")):
        run = find(after, name)
        if name in ended and run and run.finished_at:
            yield stage, _seconds(run.started_at, run.finished_at)
    last = [run.finished_at for run in after.stages if run.name in ended and run.finished_at]
    if after.phase == Phase.READY != before.phase and {"Deploy", "Route"} & ended:
        yield "webhook-to-ready", _seconds(triggered, max(last))


def _has_ended(before: EnvironmentStatus, after: EnvironmentStatus, name: str) -> bool:
    old, new = find(before, name), find(after, name)
    if new is None or new.finished_at is None:
        return False
    return old is None or old.finished_at is None or old.started_at != new.started_at


def _seconds(begun: datetime, ended: datetime) -> float:
    return max(0.0, (ended - begun).total_seconds())
