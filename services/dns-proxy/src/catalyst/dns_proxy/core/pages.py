"""What a visitor sees when there is no application to answer. Pure.

| The environment of this host | Status | Says | Reloads |
|---|---|---|---|
| none known | 404 | nothing lives here | – |
| waits for a person, the end of a pause, or a place | 503 | what for | 15 s |
| is on its way | 503 | the stages, done and to come | 3 s |
| should answer, but does not | 502 | the application does not answer | 5 s |
| failed | 503 | the reason in a word, where to read more | 15 s |
| has a private URL | 403 | not supported yet | – |
| goes, or is gone | 410 | gone | – |

The URL is public, so a page tells no stranger what only the team should read: no log, no message of the application.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Literal

from catalyst.model.environment import Phase
from catalyst.model.names import InvalidName, hostname
from catalyst.model.snapshot import Snapshot

Mood = Literal["working", "waiting", "failed", "gone", "unknown"]
Progress = Literal["done", "now", "next"]

STAGES: Final = (
    (Phase.PROVISIONING, "Prepare a namespace"),
    (Phase.BUILDING, "Build the image"),
    (Phase.DEPLOYING, "Start the application"),
)
_PASSES: Final = ("Paused", "MaximumReached", "MaximumInvalid")
"""Reasons to wait that nobody has to lift for this environment alone."""
_ORDER: Final = (
    Phase.PENDING, Phase.PROVISIONING, Phase.PROVISIONED, Phase.BUILDING, Phase.DEPLOYING, Phase.READY,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Page:
    """One page. `refresh`: seconds until it reloads by itself, None never; `link`: where to read more."""

    status: HTTPStatus
    mood: Mood
    title: str
    text: str
    environment: str = ""
    commit: str = ""
    reason: str = ""
    stages: tuple[tuple[str, Progress], ...] = ()
    refresh: int | None = None
    link: str | None = None


def by_host(snapshots: Iterable[Snapshot], zone: str) -> dict[str, Snapshot]:
    """Whose page a host shows: of two, the one that is not gone, then the younger."""
    found: dict[str, Snapshot] = {}
    for snapshot in sorted(snapshots, key=_prominence):
        for host in (*_derived(snapshot, zone), *(route.host for route in snapshot.routes)):
            found[host] = snapshot
    return found


def host_of(header: str, zone: str, alias_zones: Iterable[str]) -> str:
    """The host a visitor asked for, without port, in lower case, under the first of our zones."""
    host = header.partition(":")[0].lower().rstrip(".")
    for alias in alias_zones:
        if host.endswith(f".{alias}"):
            return f"{host.removesuffix(f'.{alias}')}.{zone}"
    return host


def page(host: str, error: str, known: Mapping[str, Snapshot]) -> Page:
    """The page for a host; `error`: the edge's own status when it had a route but got no answer, else ""."""
    snapshot = known.get(host)
    if snapshot is None:
        return Page(
            HTTPStatus.NOT_FOUND,
            "unknown",
            "Nothing lives here",
            "No environment has this address. Perhaps it is misspelt, or it was removed a long time ago.",
        )
    made = _of(snapshot, host, error)
    pull_request = snapshot.source.pull_request
    url = pull_request.url if pull_request else None
    return Page(
        **{name: getattr(made, name) for name in ("status", "mood", "title", "text", "reason", "stages", "refresh")},
        environment=str(snapshot.key),
        commit=(snapshot.commit or "")[:7],
        link=url if url and url.startswith("https://") else None,
    )


def _of(snapshot: Snapshot, host: str, error: str) -> Page:
    phase = snapshot.phase
    if phase in (Phase.TERMINATING, Phase.GONE):
        text = "It was removed together with its pull request. Reopening the pull request makes a new one."
        return Page(HTTPStatus.GONE, "gone", "This environment is gone", text)
    if any(route.private for route in snapshot.routes if route.host == host):
        text = "This address is private, and private addresses are not supported yet, so it is not served at all."
        return Page(HTTPStatus.FORBIDDEN, "waiting", "Private address", text)
    if phase == Phase.WAITING and snapshot.reason in _PASSES:
        text = "It begins by itself. The pull request says what it waits for."
        return Page(
            HTTPStatus.SERVICE_UNAVAILABLE, "waiting", "Waiting for its turn", text, reason=_words(snapshot.reason),
            refresh=15,
        )  # fmt: skip
    if phase == Phase.WAITING:
        text = "Somebody with write access has to agree first. The pull request says what is missing."
        return Page(
            HTTPStatus.SERVICE_UNAVAILABLE, "waiting", "Waiting for a person", text, reason=_words(snapshot.reason),
            refresh=15,
        )  # fmt: skip
    if phase == Phase.FAILED:
        text = "The pull request shows why, with the end of the log. The next good commit heals it."
        return Page(
            HTTPStatus.SERVICE_UNAVAILABLE, "failed", "This environment failed", text, reason=_words(snapshot.reason),
            refresh=15,
        )  # fmt: skip
    if phase in (Phase.READY, Phase.DEGRADED):
        text = "It is running, but the application did not answer the edge. It is tried again."
        reason = _words(snapshot.reason) if phase == Phase.DEGRADED else ""
        status = HTTPStatus.BAD_GATEWAY if error else HTTPStatus.SERVICE_UNAVAILABLE
        return Page(status, "failed", "The application does not answer", text, reason=reason, refresh=5)
    text = "It will be here as soon as it answers."
    return Page(
        HTTPStatus.SERVICE_UNAVAILABLE, "working", "On its way", text, stages=_stages(phase), refresh=3
    )  # fmt: skip


def _stages(phase: Phase) -> tuple[tuple[str, Progress], ...]:
    at = _ORDER.index(phase) if phase in _ORDER else 0
    reached = max((_ORDER.index(stage) for stage, _ in STAGES if _ORDER.index(stage) <= at), default=-1)

    def progress(stage: Phase) -> Progress:
        position = _ORDER.index(stage)
        return "now" if position == reached else "done" if position < at else "next"

    return tuple((words, progress(stage)) for stage, words in STAGES)


def _words(reason: str) -> str:
    """`CrashLoop` → `Crash loop`. Reasons are single words of our own; anything else is left out."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]{0,63}", reason):
        return ""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", reason).capitalize()


def _derived(snapshot: Snapshot, zone: str) -> tuple[str, ...]:
    try:
        return (hostname(snapshot.key, zone),)
    except InvalidName:
        return ()


def _prominence(snapshot: Snapshot) -> tuple[bool, bool, str]:
    """Later ones overwrite: gone first, then going, then by age."""
    created = snapshot.created_at.isoformat() if snapshot.created_at else ""
    return snapshot.phase != Phase.GONE, snapshot.phase != Phase.TERMINATING, created
