"""What env-controller is told about each host, and when.

| The environment | Its host | Told |
|---|---|---|
| lives | is refused | `live: false` and the reason |
| lives | is served by the edge, asked just now | `live: true` |
| lives | is not served yet | nothing |
| is `Terminating` | is served nowhere any more | `live: false` |
| is `Terminating` | is still served, or somebody did not answer | nothing: it is asked again |
| is `Gone` | | nothing |

Told once; again only when the question was asked again (`…/again-3`), for env-controller writes down when it heard it,
which is a new snapshot: who answers every snapshot would never end.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from catalyst.dns_proxy.core.routes import LEAVING
from catalyst.events.event import Event
from catalyst.model.environment import Phase
from catalyst.model.snapshot import Snapshot

Seen = Literal["served", "absent", "unclear"]
"""What all edges (and Cloudflare) said about a host of one environment; `unclear`: one did not answer, or differs."""

MAX_REASON: Final = 1024


@dataclass(frozen=True, slots=True)
class Known:
    """The newest snapshot of an environment, the event that brought it, and its place among all (a sequence)."""

    snapshot: Snapshot
    event: Event
    order: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """One `route.changed` to publish. `cause`: the event it follows from, which is part of its id: when two claim one
    host, what one gets may follow from what the other did.
    """

    known: Known
    host: str
    live: bool
    cause: Event
    reason: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Whose host."""
        return self.known.snapshot.uid, self.host

    @property
    def said(self) -> "Said":
        """To remember that it was published."""
        return Said(self.live, self.reason, self.known.event.id)


@dataclass(frozen=True, slots=True)
class Said:
    """What was told last about a host, and in answer to which event."""

    live: bool
    reason: str | None
    cause: str


def answers(
    known: Iterable[Known],
    refused: Mapping[tuple[str, str], str],
    seen: Mapping[tuple[str, str], Seen],
    said: Mapping[tuple[str, str], Said],
) -> list[Answer]:
    """What is to be published now. `refused`, `seen`, `said`: by (uid, host)."""
    claims: dict[str, list[Known]] = {}
    for one in known:
        for host in hosts(one.snapshot):
            claims.setdefault(host, []).append(one)
    found = (
        _answer(one, host, _cause(one, rivals), refused, seen) for host, rivals in claims.items() for one in rivals
    )
    return [answer for answer in found if answer is not None and _is_due(answer, said.get(answer.key))]


def hosts(snapshot: Snapshot) -> tuple[str, ...]:
    """The hosts an environment was given, each once."""
    return tuple(dict.fromkeys(route.host for route in snapshot.routes))


def _cause(one: Known, rivals: Iterable[Known]) -> Event:
    if _is_repeat(one.event):
        return one.event
    return max(rivals, key=lambda rival: rival.order).event


def _is_repeat(event: Event) -> bool:
    """Whether env-controller asks again what was not answered."""
    return "/again-" in event.id


def _answer(
    one: Known, host: str, cause: Event, refused: Mapping[tuple[str, str], str], seen: Mapping[tuple[str, str], Seen]
) -> Answer | None:
    key = one.snapshot.uid, host
    if one.snapshot.phase == Phase.GONE:
        return None
    if one.snapshot.phase in LEAVING:
        return Answer(one, host, live=False, cause=cause) if seen.get(key) == "absent" else None
    if key in refused:
        return Answer(one, host, live=False, cause=cause, reason=refused[key][:MAX_REASON])
    return Answer(one, host, live=True, cause=cause) if seen.get(key) == "served" else None


def _is_due(answer: Answer, last: Said | None) -> bool:
    if last is None or (last.live, last.reason) != (answer.live, answer.reason):
        return True
    return repeats(answer.known.event, last)


def repeats(event: Event, last: Said) -> bool:
    """Whether the question was asked again since it was answered."""
    return _is_repeat(event) and last.cause != event.id
