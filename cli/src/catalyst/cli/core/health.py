"""Whether the bus and the services on it are well, by what the bus itself knows. Pure.

What the bus cannot know is not guessed: why a service does not pull.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from catalyst.cli.core.hidden import Hidden
from catalyst.events.dead import Dead
from catalyst.events.measuring import fill
from catalyst.events.started import Started
from catalyst.events.topology import Consumer, consumers, streams
from catalyst.events.users import LOCKED
from catalyst.events.watching import MAY_BE_FULL, NEARLY_FULL

FULL: Final = 0.95
"""Of a stream's bytes: a large message may be refused already."""
LAG: Final = 1_000
"""Messages that wait for a consumer; more is said, however busy it is."""
_NO_ROOM: Final = "no space left on device"
STALE: Final = 10.0
"""Seconds without a beat after which nobody leads: a lock is beaten every 1.5 s and taken over after 6."""


@dataclass(frozen=True, slots=True)
class StreamHealth:
    """`fill`: of its bytes, 0 to 1. `problem` empty: it is well."""

    name: str
    messages: int
    bytes: int
    fill: float
    last: str | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ConsumerHealth:
    """`lag`: not delivered yet; `unanswered`: delivered, and being worked on; `again`: delivered more than once.
    `pulls`: requests that stand. None of the figures of a consumer that is not there.
    """

    service: str
    stream: str
    lag: int | None
    unanswered: int | None
    again: int | None
    pulls: int | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads a service that elects by a lock on the bus; None: nobody does."""

    service: str
    holder: str | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """`problems`: every one, as a sentence that names what is unwell; empty when all is. `versions`: by service, of
    whoever started last, who may be gone again; None: nobody said it. `server`: what its own page says is wrong; empty
    when nothing is, None when it was not asked.
    """

    streams: tuple[StreamHealth, ...]
    consumers: tuple[ConsumerHealth, ...]
    leaders: tuple[Leader, ...]
    versions: Mapping[str, Started | None]
    dead: Mapping[str, int]
    server: str | None
    problems: tuple[str, ...]

    @property
    def well(self) -> bool:
        return not self.problems


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock's newest record, and when it was stored."""

    holder: str
    at: datetime


def health(
    infos: Mapping[str, Mapping[str, Any] | None],
    found: Mapping[str, Sequence[Mapping[str, Any]]],
    locks: Mapping[str, Lock | None],
    dead: Sequence[Dead],
    now: datetime,
    versions: Mapping[str, Started | None] | None = None,
    page: Mapping[str, Any] | Hidden | None = None,
) -> Health:
    """`infos` and `found`: the server's answers about each stream and its consumers. `page`: its `healthz`."""
    server = None if page is None else _server(page)
    of_streams = tuple(_stream(config.name or "", infos.get(config.name or "")) for config in streams())
    of_consumers = tuple(_consumer(wanted, found.get(wanted.stream, ())) for wanted in consumers())
    leaders = tuple(_leader(service, locks.get(service), now) for service in LOCKED)
    open_ = [one for one in dead if one.settled is None]
    letters = {
        service: sum(one.service == service for one in open_) for service in sorted(one.service for one in open_)
    }
    return Health(
        of_streams,
        of_consumers,
        leaders,
        versions or {},
        letters,
        server,
        (
            *([f"server: {server}"] if server else ()),
            *(f"stream {each.name}: {each.problem}" for each in of_streams if each.problem),
            *(f"{each.service} on {each.stream}: {each.problem}" for each in of_consumers if each.problem),
            *(f"{each.service}: {each.problem}" for each in leaders if each.problem),
            *(
                f"{service}: {count} message{'s' if count > 1 else ''} that nobody could handle; `catalyst dead list` "
                "(runbook CatalystDeadLetters)"
                for service, count in letters.items()
            ),
        ),
    )


def _server(page: Mapping[str, Any] | Hidden) -> str:
    """What is wrong with it; empty: nothing."""
    if isinstance(page, Hidden):
        return page.why
    if page.get("status") == "ok":
        return ""
    said = str(page.get("error") or page.get("status"))
    if _NO_ROOM in said:
        what = "its disk is full, and it does not write again by itself; make room and restart it"
        return f"{what} (runbook CatalystBusDiskFull): {said}"
    return f"its own page says that it is not well: {said}"


def _stream(name: str, info: Mapping[str, Any] | None) -> StreamHealth:
    if info is None:
        gone = "it is not there; `python -m catalyst.events apply` makes it (runbook CatalystBusVolumeGone)"
        return StreamHealth(name, 0, 0, 0.0, None, gone)
    state, taken = info["state"], fill(info)
    problem = ""
    if taken >= NEARLY_FULL and name not in MAY_BE_FULL:
        what = "drops its oldest" if info["config"].get("discard") == "old" else "refuses what is new"
        runbook = "CatalystBusFull" if taken >= FULL else "CatalystStreamFilling"
        problem = f"{taken:.0%} of its bytes are taken; full, it {what}; give it more (runbook {runbook})"
    elif away := lost(info):
        problem = away
    last = state.get("last_ts") if state["messages"] else None
    return StreamHealth(name, state["messages"], state["bytes"], round(taken, 4), last, problem)


def lost(info: Mapping[str, Any]) -> str:
    """Which copies of a stream are behind or away; empty: none."""
    cluster = info.get("cluster") or {}
    if cluster and not cluster.get("leader"):
        return "it has no leader"
    away = [peer["name"] for peer in cluster.get("replicas") or () if peer.get("offline") or not peer.get("current")]
    return f"its copy on {', '.join(away)} is behind or away" if away else ""


def _consumer(wanted: Consumer, infos: Sequence[Mapping[str, Any]]) -> ConsumerHealth:
    info = next((each for each in infos if each["name"] == wanted.name), None)
    if info is None:
        return ConsumerHealth(
            _called(wanted),
            wanted.stream,
            None,
            None,
            None,
            None,
            f"consumer {wanted.name} is not there, so nothing reaches it; `python -m catalyst.events apply` "
            "makes it (runbook CatalystConsumerGone)",
        )
    lag, unanswered = info.get("num_pending", 0), info.get("num_ack_pending", 0)
    pulls = info.get("num_waiting", 0)
    problem = ""
    if info.get("paused"):
        problem = "its consumer is paused"
    elif not pulls and not unanswered:
        problem = f"nobody pulls, so it does not run or cannot reach the bus; {lag} wait"
    elif lag > LAG:
        problem = f"{lag} messages wait"
    elif unanswered >= wanted.max_ack_pending:
        problem = f"all {unanswered} messages it may work on are unanswered; nothing more is delivered"
    return ConsumerHealth(
        _called(wanted), wanted.stream, lag, unanswered, info.get("num_redelivered", 0), pulls, problem
    )


def _leader(service: str, lock: Lock | None, now: datetime) -> Leader:
    if lock is None or not lock.holder:
        return Leader(service, None, "nobody leads")
    quiet = (now - lock.at).total_seconds()
    if quiet > STALE:
        return Leader(service, None, f"nobody leads; {lock.holder} was last heard of {quiet:.0f} s ago")
    return Leader(service, lock.holder)


def _called(wanted: Consumer) -> str:
    """`notifier`, or `notifier/cdevents` for what a service reads beside its main work."""
    return wanted.service if wanted.name == wanted.service else f"{wanted.service}/{wanted.name}"
