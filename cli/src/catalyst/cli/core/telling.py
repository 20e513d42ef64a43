"""What an event says, in one line. Pure.

A snapshot is told by what it changed, so the telling of a history goes from one to the next.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from catalyst.cli.core.changes import changes
from catalyst.cli.core.times import took
from catalyst.events.catalogue import (
    AuditRecord,
    BranchPushed,
    BuildCleaned,
    BuildFinished,
    BuildRequested,
    CommandGiven,
    CommentWritten,
    Data,
    DeadLetter,
    DeadSettled,
    EnvironmentChanged,
    PullRequestChanged,
    RouteChanged,
    SessionClosed,
    SessionOpened,
)
from catalyst.model.environment import Phase
from catalyst.model.snapshot import Snapshot

BAD: Final = frozenset({Phase.FAILED, Phase.DEGRADED})
_SHA: Final = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?\Z")
_MOST: Final = 3
"""Fields of a snapshot that are named."""


def told(data: Data) -> str:
    """One line without line breaks."""
    return " ".join(_TELLERS[type(data)](data).split())


def is_bad(data: Data) -> bool:
    """Whether it tells of something that went wrong."""
    match data:
        case EnvironmentChanged():
            return data.snapshot.phase in BAD
        case BuildFinished():
            return data.outcome == "failed"
        case RouteChanged():
            return not data.live and bool(data.reason)
        case AuditRecord():
            return data.outcome in ("refused", "failed")
    return isinstance(data, DeadLetter)


def step(before: Snapshot | None, after: Snapshot) -> str:
    """What a snapshot changed: the phase, else the first fields that differ."""
    if before is None or before.uid != after.uid:
        return _phase(after)
    if before.phase != after.phase:
        return f"{before.phase} → {_phase(after)}"
    differ = changes(before, after)
    found = [change for change in differ if not change.field.startswith("stages.")]
    if not found:
        return f"{after.phase}, stages went on" if differ else f"{after.phase}, said again"
    # A sentence changes with what it is about: it is named only when nothing else is there to name.
    found = [change for change in found if not change.field.endswith("message")] or found
    shown = ", ".join(f"{change.field} {_value(change.before)} → {_value(change.after)}" for change in found[:_MOST])
    more = f" and {len(found) - _MOST} more" if len(found) > _MOST else ""
    return f"{after.phase}: {shown}{more}"


def _phase(snapshot: Snapshot) -> str:
    why = snapshot.reason if snapshot.reason and snapshot.reason != snapshot.phase else ""
    sentence = snapshot.message.strip().partition("\n")[0]
    if snapshot.phase in BAD or snapshot.phase == Phase.WAITING:
        return ": ".join(part for part in (snapshot.phase, why, sentence) if part)
    if snapshot.phase == Phase.TERMINATING and snapshot.deletion:
        return f"{snapshot.phase}: {snapshot.deletion.reason}, {snapshot.deletion.evidence}"
    if snapshot.phase == Phase.GONE:
        return str(snapshot.phase)
    if snapshot.phase == Phase.READY and snapshot.url:
        return f"{snapshot.phase}: {snapshot.url}"
    return f"{snapshot.phase}: {why}" if why else str(snapshot.phase)


def _value(value: Any) -> str:
    text = "–" if value is None else str(value).partition("\n")[0]
    if _SHA.match(text):
        return text[:7]
    return text if len(text) <= 40 else f"{text[:39]}…"


def _pull_request(data: PullRequestChanged) -> str:
    draft, fork = ", a draft" if data.draft else "", ", from a fork" if data.fork else ""
    merged = " and merged" if data.state == "closed" and data.merged else ""
    return (
        f"pull request #{data.number} {data.action}{merged} by {data.sender}: {data.head.sha[:7]} on {data.head.ref}"
        f"{draft}{fork}"
    )


def _push(data: BranchPushed) -> str:
    if data.deleted:
        return f"branch {data.branch} deleted by {data.sender}"
    return f"branch {data.branch} pushed by {data.sender}: {data.before[:7]} → {data.after[:7]}"


def _build_finished(data: BuildFinished) -> str:
    if data.outcome == "failed":
        sentence = (data.message or "").strip().partition("\n")[0]
        return f"build of {data.component} failed after {took(data.duration_seconds)}: {data.reason}. {sentence}"
    return f"build of {data.component} {data.outcome} in {took(data.duration_seconds)}"


def _route(data: RouteChanged) -> str:
    if data.live:
        return f"{data.host} answers"
    return f"{data.host} does not answer: {data.reason}" if data.reason else f"{data.host} is withdrawn"


def _letter(data: DeadLetter) -> str:
    times = "once" if data.delivered == 1 else f"{data.delivered} times"
    return f"{data.service} could not handle {data.stream}/{data.sequence}, tried {times}: {data.reason}"


def _settled(data: DeadSettled) -> str:
    what = f"{data.stream}/{data.sequence} of {data.consumer}"
    if data.outcome == "resent":
        return f"{data.by} sent {what} again, as {data.stream}/{data.resent_sequence}"
    return f"{data.by} dropped {what}: {data.reason}"


_TELLERS: Final[Mapping[type[Data], Callable[[Any], str]]] = {
    PullRequestChanged: _pull_request,
    BranchPushed: _push,
    CommentWritten: lambda data: f"comment by {data.author}: {data.line}",
    CommandGiven: lambda data: (
        f"/catalyst {' '.join((data.command, *data.arguments))} by {data.author}, who may {data.permission}"
    ),
    EnvironmentChanged: lambda data: _phase(data.snapshot),
    BuildRequested: lambda data: (
        f"build of {data.component} asked for, {data.commit[:7]}, attempt {data.attempt}"
        f"{'' if data.trusted else ', not trusted'}"
    ),
    BuildFinished: _build_finished,
    BuildCleaned: lambda _: "nothing of its builds is left",
    RouteChanged: _route,
    SessionOpened: lambda data: f"session of {data.principal} opened by {data.door}",
    SessionClosed: lambda data: f"session of {data.principal} closed{f': {data.reason}' if data.reason else ''}",
    AuditRecord: lambda data: (
        f"{data.principal.name}, {data.door}: {data.operation} {data.target}: {data.outcome}"
        f"{f' ({data.reason})' if data.reason else ''}"
    ),
    DeadLetter: _letter,
    DeadSettled: _settled,
}
