"""Why an environment is as it is: the first cause of a failure with its remedy, what it waits for, what is slow. Pure.

```
Failed, Degraded, or a component with a reason   the trouble that is still there and began first; the rest beside it
Waiting                                          what holds it back, and who can let it go
Terminating                                      which answers to its teardown are missing
on the way                                       the condition that holds it back, questions without an answer
Ready                                            the slowest stages
```

A message about it that no consumer could handle is a trouble, too: the environment may be Ready and yet not what the
last push asked for. The first cause is the first in causal order, so a failure that only followed does not hide it.

No two clocks are compared where one will do, and no duration is negative:

```
since, asked … ago      the bus's clock, against now
a stage that ended      env-controller's clock alone
a stage that runs       env-controller's clock up to its last word, then the bus's
the whole               the bus's clock
the fact came late      the forge's clock against the bus's: the only one that has no other, so it says "about"
```
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from catalyst.cli.core.history import Moment, causal, cause_of
from catalyst.cli.core.telling import BAD, told
from catalyst.cli.core.times import took
from catalyst.events import tracing
from catalyst.events.catalogue import (
    BuildCleaned,
    BuildFinished,
    BuildRequested,
    EnvironmentChanged,
    PullRequestChanged,
    RouteChanged,
)
from catalyst.events.dead import Dead
from catalyst.model.environment import Phase
from catalyst.model.remedies import remedy
from catalyst.model.snapshot import Snapshot

SLOWEST: Final = 5
PATIENCE: Final = 60.0
"""Seconds after which a question without an answer is worth a sentence."""
LOG_LINES: Final = 12
LATE: Final = 60.0
"""Seconds after the forge's own time from which on a fact was heard late. Clocks differ by less."""
SWEPT: Final = "-swept/"
"""How the ids of facts begin that webhook-ingest found by asking (its `sweep.py`)."""
UNWELL: Final = BAD | {Phase.WAITING}
"""The phases that somebody has to do something about."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is wrong now. `began`: where the history says it first; `log`: the end of one, if there is one."""

    component: str | None
    reason: str
    sentence: str
    remedy: str
    runbook: str
    ref: str
    at: datetime
    after: str | None
    log: str = ""


@dataclass(frozen=True, slots=True)
class StageTime:
    """How long a stage took, or takes: `running`."""

    name: str
    seconds: float
    running: bool


@dataclass(frozen=True, slots=True)
class Why:
    """One screen. `first` is the cause, `also` what is wrong beside it, `waits_for` questions without an answer.
    `late`: the fact behind the present commit was heard long after it happened; no trouble, but why it was slow.
    """

    environment: str
    phase: str
    since: datetime
    verdict: str
    first: Trouble | None
    also: tuple[Trouble, ...]
    waits_for: tuple[str, ...]
    late: str | None
    slowest: tuple[StageTime, ...]
    total: float | None
    trace: str | None = None
    """The trace of what was said last."""


def why(moments: Sequence[Moment], now: datetime) -> Why | None:
    """None: the history holds no state of it. `moments` in any order."""
    history = causal(moments)
    snapshots = list(_snapshots(history))
    if not snapshots:
        return None
    _, last = snapshots[-1]
    life = [(one, snapshot) for one, snapshot in snapshots if snapshot.uid == last.uid]
    since = next(one.at for one, snapshot in _unbroken(life))
    found = sorted(_troubles(history, life), key=lambda pair: pair[0])
    troubles = tuple(trouble for _, trouble in found)
    waits_for = tuple(_waits_for(history, last, now))
    first = troubles[0] if troubles else None
    return Why(
        environment=str(last.key),
        phase=last.phase,
        since=since,
        verdict=_verdict(last, first, waits_for, (now - since).total_seconds()),
        first=first,
        also=troubles[1:],
        waits_for=waits_for,
        late=_late(history, last),
        slowest=_slowest(life[-1][0], last, now),
        total=_total(history, life),
        trace=_trace(life),
    )


def _trace(life: Sequence[tuple[Moment, Snapshot]]) -> str | None:
    event = life[-1][0].event
    return tracing.trace_id(event.traceparent) if event else None


def _snapshots(history: Sequence[Moment]) -> Iterator[tuple[Moment, Snapshot]]:
    seen: set[str] = set()
    for one in history:
        if one.event is not None and isinstance(one.event.data, EnvironmentChanged):
            if one.event.message_id not in seen:  # sent again, it says nothing new
                yield one, one.event.data.snapshot
            seen.add(one.event.message_id)


def _unbroken(life: Sequence[tuple[Moment, Snapshot]]) -> list[tuple[Moment, Snapshot]]:
    """The last snapshots of one and the same phase."""
    phase, at = life[-1][1].phase, len(life)
    while at and life[at - 1][1].phase == phase:
        at -= 1
    return list(life[at:])


def _verdict(last: Snapshot, first: Trouble | None, waits_for: Sequence[str], seconds: float) -> str:
    for_ = f"for {took(seconds)}"
    if first is not None:
        where = f"{first.component}: " if first.component else ""
        follows = "because" if last.phase in UNWELL else "but"
        return f"{last.phase} {for_}, {follows} {where}{first.reason}. {first.sentence}".strip()
    if last.phase == Phase.GONE:
        return f"Gone {for_}. {_deletion(last)}"
    if last.phase == Phase.TERMINATING:
        return f"Terminating {for_}. {_deletion(last)}"
    if last.phase == Phase.READY:
        return f"Ready {for_}. Nothing is wrong with it."
    why_ = f"{last.reason}. {_sentence(last.message)}" if last.reason else ""
    return f"{last.phase} {for_}. {why_ or (waits_for[0] if waits_for else '')}".strip()


def _deletion(last: Snapshot) -> str:
    return f"{last.deletion.reason}: {last.deletion.evidence}." if last.deletion else "Nobody recorded why."


# Troubles


def _troubles(history: Sequence[Moment], life: Sequence[tuple[Moment, Snapshot]]) -> Iterator[tuple[int, Trouble]]:
    """What is wrong now, with the place in the history where it began."""
    places = {one.position: place for place, one in enumerate(history)}
    last = life[-1][1]
    if last.phase not in (Phase.GONE, Phase.TERMINATING):
        for component, reason in _wrong(last):
            one = _began(life, component, reason)
            answer = _answer(history, last, component, reason)
            begun = min((one, answer), key=lambda each: places[each.position]) if answer else one
            yield places[begun.position], _trouble(history, last, component, reason, begun, answer)
    for one in history:
        if one.dead is not None and one.dead.settled is None:
            yield places[one.position], _unhandled(one, one.dead)


def _wrong(snapshot: Snapshot) -> list[tuple[str | None, str]]:
    """Component and reason: each component's own, else the environment's when its phase is a bad one. What is held back
    names that before what still runs: nothing else is done until it is let go.
    """
    own: list[tuple[str | None, str]] = [
        (component.name, component.reason)
        for component in snapshot.components
        if component.reason and not component.ready
    ]
    if snapshot.phase == Phase.WAITING or (not own and snapshot.phase in BAD):
        return [(None, snapshot.reason or str(snapshot.phase))]
    return own


def _began(life: Sequence[tuple[Moment, Snapshot]], component: str | None, reason: str) -> Moment:
    """The first of the last snapshots in a row, of this commit, that say so."""
    begun, commit = life[-1][0], life[-1][1].source.commit
    for one, snapshot in reversed(life):
        if snapshot.source.commit != commit or (component, reason) not in _wrong(snapshot):
            break
        begun = one
    return begun


def _answer(history: Sequence[Moment], last: Snapshot, component: str | None, reason: str) -> Moment | None:
    """The failed build, or the route that could not be published, that says the same."""
    for one in reversed(history):
        match one.event.data if one.event else None:
            case BuildFinished() as data if data.environment.uid == last.uid and data.outcome == "failed":
                asked = last.builds.get(data.component)
                current = asked is None or (asked.key, asked.attempt) == (data.key, data.attempt)
                if data.reason == reason and component in (None, data.component) and current:
                    return one
            case RouteChanged() as data if data.environment.uid == last.uid and not data.live and data.reason:
                if data.reason == reason or reason in ("RouteFailed", "HostTaken", "InvalidHost"):
                    return one
    return None


def _trouble(
    history: Sequence[Moment],
    last: Snapshot,
    component: str | None,
    reason: str,
    begun: Moment,
    answer: Moment | None,
) -> Trouble:
    status = next((each for each in last.components if each.name == component), None)
    sentence, _, log = ((status.message if status else None) or last.message or "").strip().partition("\n")
    if answer is not None and answer.event is not None and isinstance(answer.event.data, BuildFinished):
        build = answer.event.data
        component = component or build.component
        sentence, log = _sentence(build.message or "") or sentence, build.log_tail or log
    advice = remedy(reason)
    after = cause_of(begun, history)
    return Trouble(
        component=component,
        reason=reason,
        sentence=sentence,
        remedy=advice.advice,
        runbook=f"docs/runbooks/{advice.runbook}.md",
        ref=begun.ref,
        at=begun.at,
        after=told(after.event.data) if after and after.event else None,
        log="\n".join(log.strip().splitlines()[-LOG_LINES:]),
    )


def _unhandled(one: Moment, dead: Dead) -> Trouble:
    return Trouble(
        component=None,
        reason="NotHandled",
        sentence=f"{dead.consumer} could not handle {dead.stream}/{dead.sequence}: {dead.reason}",
        remedy=f"Mend what the reason says, then `catalyst dead resend {one.ref}`; or drop it, with a reason.",
        runbook="",
        ref=one.ref,
        at=one.at,
        after=None,
    )


# Waiting


def _waits_for(history: Sequence[Moment], last: Snapshot, now: datetime) -> Iterator[str]:
    """Questions of this life without an answer for more than a minute."""
    if last.phase == Phase.GONE:
        return
    if last.phase == Phase.TERMINATING:
        yield from _teardown(history, last, now)
        return
    for (component, key, attempt), asked in _asked(history, last).items():
        wanted = last.builds.get(component)
        seconds = (now - asked).total_seconds()
        if wanted and (wanted.key, wanted.attempt) == (key, attempt) and seconds > PATIENCE:
            yield f"builder has not answered for the build of {component}, asked {took(seconds)} ago."
    answered = {
        data.host for data in _data(history) if isinstance(data, RouteChanged) and data.environment.uid == last.uid
    }
    for route in last.routes:
        seconds = (now - _mentioned(history, last.uid, route.host)).total_seconds()
        if route.host not in answered and seconds > PATIENCE:
            yield f"dns-proxy has not answered for {route.host}, asked {took(seconds)} ago."


def _teardown(history: Sequence[Moment], last: Snapshot, now: datetime) -> Iterator[str]:
    going = [one for one, snapshot in _snapshots(history) if snapshot.uid == last.uid and snapshot.phase == last.phase]
    seconds = (now - going[0].at).total_seconds()
    answers = list(_data(history[history.index(going[0]) :]))
    withdrawn = {each.host for each in answers if isinstance(each, RouteChanged) and not each.live}
    for route in last.routes:
        if route.host not in withdrawn:
            yield f"dns-proxy has not said that {route.host} is withdrawn, asked {took(seconds)} ago."
    if last.builds and not any(isinstance(each, BuildCleaned) for each in answers):
        yield f"builder has not said that its builds are cleaned, asked {took(seconds)} ago."


def _asked(history: Sequence[Moment], last: Snapshot) -> dict[tuple[str, str, int], datetime]:
    """The builds that were asked for first at that time, and not answered."""
    asked: dict[tuple[str, str, int], datetime] = {}
    for one in history:
        data = one.event.data if one.event else None
        if isinstance(data, BuildRequested) and data.environment.uid == last.uid:
            asked.setdefault((data.component, data.key, data.attempt), one.at)
        if isinstance(data, BuildFinished) and data.environment.uid == last.uid:
            asked.pop((data.component, data.key, data.attempt), None)
    return asked


def _mentioned(history: Sequence[Moment], uid: str, host: str) -> datetime:
    return next(
        one.at
        for one, snapshot in _snapshots(history)
        if snapshot.uid == uid and host in {route.host for route in snapshot.routes}
    )


def _data(history: Sequence[Moment]) -> Iterator[object]:
    return (one.event.data for one in history if one.event is not None)


# Time


def _slowest(said: Moment, last: Snapshot, now: datetime) -> tuple[StageTime, ...]:
    """What ended: by env-controller's clock alone. What still runs: by that clock up to its last word, then by the
    bus's. The API server's clock is in it, too (Accepted begins when the resource was made): never below zero.
    """
    since = max(0.0, (now - said.at).total_seconds())
    word = said.event.time if said.event else said.at
    stages = [
        StageTime(
            stage.name,
            max(0.0, ((stage.finished_at or word) - stage.started_at).total_seconds())
            + (0.0 if stage.finished_at else since),
            not stage.finished_at,
        )
        for stage in last.stages
    ]
    return tuple(sorted(stages, key=lambda stage: (-stage.seconds, stage.name))[:SLOWEST])


def _late(history: Sequence[Moment], last: Snapshot) -> str | None:
    """The first fact about the present commit, if it was stored long after the forge says it happened."""
    for one in history:
        match one.event.data if one.event else None:
            case PullRequestChanged() as data if data.head.sha == last.source.commit:
                seconds = (one.at - data.updated_at).total_seconds()
                if seconds < LATE:
                    return None
                how = "the sweep found it, its webhook never came" if _is_swept(one) else "its webhook came late"
                return f"heard of about {took(seconds)} after it happened: {how}. {one.ref}"
    return None


def _is_swept(one: Moment) -> bool:
    return one.event is not None and one.event.id.startswith(SWEPT)


def _total(history: Sequence[Moment], life: Sequence[tuple[Moment, Snapshot]]) -> float | None:
    """Seconds from the fact that asked for this commit, as stored, to the first Ready with it."""
    commit = life[-1][1].source.commit
    of_commit = [(one, snapshot) for one, snapshot in life if snapshot.source.commit == commit]
    ready = next((one for one, snapshot in of_commit if snapshot.phase == Phase.READY), None)
    if ready is None:
        return None
    begun = cause_of(of_commit[0][0], history) or of_commit[0][0]
    return max(0.0, (ready.at - begun.at).total_seconds())


def _sentence(message: str) -> str:
    return message.strip().partition("\n")[0]
