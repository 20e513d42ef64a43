"""One environment's history as lines: what, when, how long after the line before, and how long it took. Pure.

Times are the bus's: when it was stored. A service whose own clock says something else by more than a second is named,
because its times in snapshots and logs are off by as much. In a cluster each stream is stamped by its leader's clock:
where these contradict the causal order by more than a second, the line says so, because gaps and durations across the
two streams are uncertain by at least as much.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from catalyst.cli.core.history import Moment, causal
from catalyst.cli.core.telling import is_bad, step, told
from catalyst.events import tracing
from catalyst.events.catalogue import (
    BuildFinished,
    BuildRequested,
    DeadSettled,
    EnvironmentChanged,
    RouteChanged,
    ScmData,
    SessionClosed,
    SessionOpened,
)
from catalyst.events.event import Event
from catalyst.model.environment import Phase
from catalyst.model.snapshot import Snapshot

SKEW: Final = 1.0
"""Seconds by which a clock may differ from the bus's without being mentioned: the way there takes time, too."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `gap`: seconds since the line before, never negative. `took`: seconds that what ends here lasted.
    `clock`: seconds by which the service's clock is ahead of the bus's, `back`: seconds by which it was stored before
    what stands above it, when that is worth a word.
    """

    at: datetime
    gap: float | None
    took: float | None
    source: str
    type: str
    text: str
    ref: str
    cause: str | None
    actor: str | None
    bad: bool
    clock: float | None
    trace: str | None = None
    """The trace it was published in."""
    back: float | None = None


def timeline(moments: Iterable[Moment]) -> list[Line]:
    """All lines, in causal order."""
    return Telling().lines(causal(moments))


@dataclass
class Telling:
    """What has been told so far; `lines` goes on from there, so a history can be followed."""

    previous: datetime | None = None
    snapshot: Snapshot | None = None
    phase_since: datetime | None = None
    begun: dict[tuple[str, ...], datetime] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    """Message id → where it stands."""

    def lines(self, ordered: Sequence[Moment]) -> list[Line]:
        """The next lines, of moments in causal order."""
        return [self._line(one) for one in ordered]

    def _line(self, one: Moment) -> Line:
        event = one.event
        again = event is not None and event.message_id in self.places
        text, duration = self._told(one, again=again)
        line = Line(
            at=one.at,
            gap=max(0.0, (one.at - self.previous).total_seconds()) if self.previous else None,
            took=duration,
            source=one.source,
            type=one.type,
            text=text,
            ref=one.ref,
            cause=self._cause(one),
            actor=event.actor if event else None,
            bad=one.dead is not None or event is None or is_bad(event.data),
            clock=_clock(one, event),
            trace=tracing.trace_id(event.traceparent) if event else None,
            back=_back(one, self.previous),
        )
        self.previous = max(one.at, self.previous) if self.previous else one.at
        if event is not None:
            self.places.setdefault(event.message_id, one.ref)
        return line

    def _told(self, one: Moment, *, again: bool) -> tuple[str, float | None]:
        if one.event is None:
            if one.dead is not None and one.dead.stream != one.stored.stream:
                return f"{one.dead.consumer} lost {one.dead.stream}/{one.dead.sequence}: {one.problem}", None
            return f"cannot be read: {one.problem}", None
        data = one.event.data
        duration = self._duration(one, one.event)
        text = told(data)
        if isinstance(data, EnvironmentChanged) and not again:
            text = step(self.snapshot, data.snapshot)
            if self.snapshot is None or (self.snapshot.uid, self.snapshot.phase) != (
                data.snapshot.uid,
                data.snapshot.phase,
            ):
                self.phase_since = one.at
            self.snapshot = data.snapshot
        return (f"again: {text}" if again else text), duration

    def _duration(self, one: Moment, event: Event) -> float | None:
        """Of a phase that ends here, a build from question to answer, a route from its first mention, a session."""
        match event.data:
            case EnvironmentChanged(snapshot=snapshot):
                for route in snapshot.routes:
                    self.begun.setdefault(("route", snapshot.uid, route.host), one.at)
                before = self.snapshot
                if before is not None and before.uid == snapshot.uid and before.phase != snapshot.phase:
                    return _between(self.phase_since, one.at)
            case BuildRequested() as data:
                self.begun.setdefault(_build(data), one.at)
            case BuildFinished() as data:
                return _between(self.begun.get(_build(data)), one.at)
            case RouteChanged() as data if data.live:
                return _between(self.begun.get(("route", data.environment.uid, data.host)), one.at)
            case SessionOpened() as data:
                self.begun.setdefault(("session", data.session), one.at)
            case SessionClosed() as data:
                return _between(self.begun.get(("session", data.session)), one.at)
        return None

    def _cause(self, one: Moment) -> str | None:
        if one.dead is not None:
            return f"{one.dead.stream}/{one.dead.sequence}" if one.dead.consumer else None
        if one.event is None:
            return None
        if isinstance(one.event.data, DeadSettled):
            return f"{one.event.data.stream}/{one.event.data.sequence}"
        return self.places.get(one.event.causation_id or "")


def subjects_of_facts(moments: Iterable[Moment]) -> set[tuple[str, str, int | None, str | None]]:
    """Forge, repository, pull request, branch: whose facts made this environment, by its snapshots."""
    found: set[tuple[str, str, int | None, str | None]] = set()
    for one in moments:
        if one.event is not None and isinstance(one.event.data, EnvironmentChanged):
            source = one.event.data.snapshot.source
            if source.forge and source.repository:
                number = source.pull_request.number if source.pull_request else None
                found.add((source.forge, source.repository, number, None if number else source.branch))
    return found


def ended(moments: Sequence[Moment]) -> bool:
    """Whether the last snapshot says that the environment is gone."""
    snapshots = [m.event.data.snapshot for m in moments if m.event and isinstance(m.event.data, EnvironmentChanged)]
    return bool(snapshots) and snapshots[-1].phase == Phase.GONE


def _clock(one: Moment, event: Event | None) -> float | None:
    # A forge's fact may be sent days late, and what is sent again keeps its time: neither says anything about a clock.
    if event is None or isinstance(event.data, ScmData) or one.dead is not None:
        return None
    if one.stored.headers.get("Nats-Msg-Id", "").startswith("resent/"):
        return None
    ahead = (event.time - one.at).total_seconds()
    return round(ahead, 1) if abs(ahead) > SKEW else None


def _back(one: Moment, previous: datetime | None) -> float | None:
    seconds = (previous - one.at).total_seconds() if previous else 0.0
    return round(seconds, 1) if seconds > SKEW else None


def _build(data: BuildRequested | BuildFinished) -> tuple[str, ...]:
    return ("build", data.environment.uid, data.component, data.key, str(data.attempt))


def _between(begun: datetime | None, ended: datetime) -> float | None:
    return max(0.0, (ended - begun).total_seconds()) if begun else None
