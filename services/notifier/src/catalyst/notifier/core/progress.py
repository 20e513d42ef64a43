"""How far an environment and each of its components are, as words of a table. Pure.

Stages come from the snapshot: `Accepted`, `Namespace`, `Baseline`, `Build`, `Deploy`, `Route`. A stage of one component
carries its name in CamelCase behind the stage's: `BuildWeb`, `DeployApiServer`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from catalyst.model.environment import ComponentStatus, Phase, Stage
from catalyst.model.snapshot import Snapshot

BY_COMPONENT: Final = ("Build", "Deploy")
"""The stages that each component has for itself."""
BAD: Final = frozenset({Phase.FAILED, Phase.DEGRADED})
GOING: Final = frozenset({Phase.TERMINATING, Phase.GONE})


@dataclass(frozen=True, slots=True)
class Component:
    """One component's line. `state`: ready, failed, building, built, deploying or waiting. `url` if it has a host."""

    name: str
    state: str
    commit: str | None
    url: str | None
    build: Stage | None
    deploy: Stage | None
    reason: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that went wrong: where, why in a word, why in a sentence, and the end of the log if there is one."""

    component: str | None
    reason: str
    sentence: str
    log: str


def components(snapshot: Snapshot) -> tuple[Component, ...]:
    """Every component that has a status, a build or a route, by name."""
    known = {component.name: component for component in snapshot.components}
    routed = {route.component for route in snapshot.routes if route.component}
    return tuple(
        _component(snapshot, name, known.get(name)) for name in sorted(known.keys() | snapshot.builds.keys() | routed)
    )


def shared_stages(snapshot: Snapshot) -> tuple[Stage, ...]:
    """The stages that are not one component's, in the order they began."""
    own = {stage.name for component in components(snapshot) for stage in (component.build, component.deploy) if stage}
    return tuple(sorted((s for s in snapshot.stages if s.name not in own), key=lambda s: (s.started_at, s.name)))


def troubles(snapshot: Snapshot) -> tuple[Trouble, ...]:
    """What went wrong: each component's own reason; without one, the environment's, when its phase is a bad one."""
    if snapshot.phase in GOING:
        return ()
    found = tuple(_troubles_of_components(snapshot))
    if found or snapshot.phase not in BAD:
        return found
    sentence, log = _told(snapshot.message)
    return (Trouble(None, snapshot.reason or snapshot.phase, sentence, log),)


def duration(stage: Stage | None) -> str:
    """`0.4 s`, `12 s`, `2 min 5 s`; `…` while it runs, `–` when there is no such stage."""
    if stage is None:
        return "–"
    return took(stage.finished_at - stage.started_at) if stage.finished_at else "…"


def took(time: timedelta) -> str:
    """`0.4 s`, `12 s`, `2 min 5 s`, `1 h 3 min`."""
    seconds = max(0.0, time.total_seconds())
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _component(snapshot: Snapshot, name: str, status: ComponentStatus | None) -> Component:
    route = next((route for route in snapshot.routes if route.component == name), None)
    return Component(
        name=name,
        state=_state(snapshot, name, status),
        commit=(status.commit if status else None) or snapshot.commit,
        url=f"{_scheme(snapshot)}{route.host}{_port(snapshot)}{route.path or '/'}" if route else None,
        build=_stage_of(snapshot, "Build", name),
        deploy=_stage_of(snapshot, "Deploy", name),
        reason=status.reason if status else None,
        message=status.message if status else None,
    )


def _state(snapshot: Snapshot, name: str, status: ComponentStatus | None) -> str:
    if status is not None and status.ready:
        return "ready"
    if status is not None and status.reason:
        return "failed"
    if name in snapshot.builds and (build := _stage_of(snapshot, "Build", name)) and build.finished_at is None:
        return "building"
    if status is not None and status.digest:
        return "built" if snapshot.phase == Phase.BUILDING else "deploying"
    return "building" if name in snapshot.builds and snapshot.phase not in GOING else "waiting"


def _troubles_of_components(snapshot: Snapshot) -> Iterator[Trouble]:
    for component in components(snapshot):
        if component.state == "failed":
            sentence, log = _told(component.message or "")
            yield Trouble(component.name, component.reason or "", sentence, log)


def _told(message: str) -> tuple[str, str]:
    """A message's first line is the sentence, the rest is the end of a log."""
    sentence, _, log = message.strip().partition("\n")
    return sentence, log


def _stage_of(snapshot: Snapshot, stage: str, component: str) -> Stage | None:
    """The component's own stage; the environment's where nobody else could be meant."""
    own = stage + "".join(part.capitalize() for part in component.split("-"))
    stages = {each.name: each for each in snapshot.stages}
    alone = len(snapshot.components) <= 1 and len(snapshot.builds) <= 1
    return stages.get(own) or (stages.get(stage) if alone else None)


def _scheme(snapshot: Snapshot) -> str:
    return "http://" if snapshot.url is not None and snapshot.url.startswith("http://") else "https://"


def _port(snapshot: Snapshot) -> str:
    """The port of the environment's address, which the edge shares among all hosts; empty when it is the usual one."""
    host = (snapshot.url or "").partition("://")[2].partition("/")[0]
    _, colon, port = host.partition(":")
    return colon + port if port.isdecimal() else ""
