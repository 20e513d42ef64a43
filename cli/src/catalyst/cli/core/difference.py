"""What changed between two moments, and why: each field with the snapshot that brought its last value. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from catalyst.cli.core.changes import changes, flat
from catalyst.cli.core.history import Moment, cause_of
from catalyst.cli.core.telling import told
from catalyst.events.catalogue import BuildCleaned, BuildFinished, EnvironmentChanged, RouteChanged
from catalyst.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Changed:
    """One field. `at`, `ref`: the snapshot that said so first; `because`: what led to it, as far as history tells."""

    field: str
    before: Any
    after: Any
    at: datetime
    ref: str
    because: str


def difference(history: Sequence[Moment], since: datetime, until: datetime) -> list[Changed]:
    """Each field that differs between the states at two times; `history` in causal order."""
    states = [(one, snapshot) for one in history if (snapshot := _snapshot(one)) is not None]
    before = next((snapshot for one, snapshot in reversed(states) if one.at <= since), None)
    after = next((snapshot for one, snapshot in reversed(states) if one.at <= until), None)
    between = [(one, snapshot) for one, snapshot in states if since < one.at <= until]
    fields = [(one, flat(snapshot)) for one, snapshot in between]
    found = []
    for change in changes(before, after):
        one = _brought(fields, change.field, change.after)
        found.append(
            Changed(change.field, change.before, change.after, one.at, one.ref, _because(one, history, states))
        )
    return found


def _brought(fields: Sequence[tuple[Moment, dict[str, Any]]], field: str, value: Any) -> Moment:
    """The first of the last snapshots in a row that hold the value."""
    brought = fields[-1][0]
    for one, found in reversed(fields):
        if found.get(field) != value:
            break
        brought = one
    return brought


def _because(one: Moment, history: Sequence[Moment], states: Sequence[tuple[Moment, Snapshot]]) -> str:
    """The fact that led to the snapshot, if it is another one's than the snapshot's before; else the answers that came
    between the two; else nothing that the bus knows, which is what env-controller saw in the cluster.
    """
    place = next(number for number, (each, _) in enumerate(states) if each is one)
    previous = states[place - 1][0] if place else None
    cause = cause_of(one, history)
    if cause is not None and cause.event and (previous is None or cause_of(previous, history) is not cause):
        return told(cause.event.data)
    begin = history.index(previous) if previous is not None else 0
    answers = [
        told(each.event.data)
        for each in history[begin : history.index(one)]
        if each.event is not None and isinstance(each.event.data, BuildFinished | BuildCleaned | RouteChanged)
    ]
    return "; ".join(answers) or "seen in the cluster"


def _snapshot(one: Moment) -> Snapshot | None:
    data = one.event.data if one.event else None
    return data.snapshot if isinstance(data, EnvironmentChanged) else None
