"""When each stage on the way last ran: begun, ended, or begun anew."""

from datetime import datetime

from catalyst.model.environment import EnvironmentStatus, Stage


def begun(status: EnvironmentStatus, name: str, at: datetime) -> EnvironmentStatus:
    """It runs since then; one that ran already stays as it was."""
    return status if find(status, name) else _with(status, Stage(name=name, started_at=at))


def begun_anew(status: EnvironmentStatus, name: str, at: datetime) -> EnvironmentStatus:
    """It runs since then, whatever was before."""
    return _with(status, Stage(name=name, started_at=at))


def ended(status: EnvironmentStatus, name: str, at: datetime, *, began: datetime | None = None) -> EnvironmentStatus:
    """It has ended; what had ended before stays as it was. `began`: when, if nobody saw it begin."""
    old = find(status, name)
    if old and old.finished_at:
        return status
    return _with(status, Stage(name=name, started_at=old.started_at if old else began or at, finished_at=at))


def without(status: EnvironmentStatus, names: set[str]) -> EnvironmentStatus:
    return status.model_copy(update={"stages": tuple(stage for stage in status.stages if stage.name not in names)})


def find(status: EnvironmentStatus, name: str) -> Stage | None:
    return next((stage for stage in status.stages if stage.name == name), None)


def of_component(stage: str, component: str) -> str:
    """`Build`, `api-server` → `BuildApiServer`."""
    return stage + "".join(word.capitalize() for word in component.split("-"))


def _with(status: EnvironmentStatus, stage: Stage) -> EnvironmentStatus:
    others = (each for each in status.stages if each.name != stage.name)
    return status.model_copy(update={"stages": (*others, stage)})
