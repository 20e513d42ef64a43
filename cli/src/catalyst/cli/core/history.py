"""History as values: what the streams hold about something, and in which order it came about. Pure.

**Causal before clock.** Each service has its own clock, and in a cluster each stream is stamped by its leader's. So:

```
1  what caused it stands before it    causationid, correlationid; for a dead letter the message it is about
2  one stream keeps its order         a later sequence cannot have caused an earlier one
3  only then the time it was stored
```

An event's word about its cause is a hint: one that contradicts the streams' own order is passed over.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from catalyst.events.dead import Dead, dead
from catalyst.events.errors import Reject
from catalyst.events.event import Event
from catalyst.events.stored import Stored
from catalyst.events.topology import ADVISORY, AUDIT, DEAD, EVENTS, SCM

STREAMS: Final = (SCM, EVENTS, AUDIT, DEAD)
"""The streams of what happened; of two messages of one instant the one of the earlier stream stands first."""

Position = tuple[str, int]
"""Stream and sequence."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One message of a history. `event` None: it cannot be read, and `problem` says why. `dead`: what it buries."""

    stored: Stored
    event: Event | None
    problem: str = ""
    dead: Dead | None = None

    @property
    def position(self) -> Position:
        return self.stored.stream, self.stored.sequence

    @property
    def ref(self) -> str:
        """`EVENTS/17`: how it is named on the command line."""
        return f"{self.stored.stream}/{self.stored.sequence}"

    @property
    def source(self) -> str:
        """Who says so: a service, `nats` for the server's own advisories, `?` for what cannot be read."""
        if self.event is not None:
            return self.event.source
        return "nats" if self.dead is not None else "?"

    @property
    def type(self) -> str:
        """`build.finished`; `dead.advisory` and `unreadable` for what is no event."""
        if self.event is not None:
            return self.event.data.short_type()
        return "dead.advisory" if self.dead is not None else "unreadable"

    @property
    def at(self) -> datetime:
        """When it was stored, by the bus's clock: the only one that all events share."""
        return self.stored.time


def moment(stored: Stored) -> Moment:
    """A message as a moment; one that cannot be read is not left out."""
    if stored.subject.startswith(f"{ADVISORY}."):
        return burial(dead([stored])[0])
    try:
        return Moment(stored, stored.event())
    except Reject as error:
        return Moment(stored, None, error.reason)


def burial(one: Dead) -> Moment:
    """A dead letter, or an advisory of the server's, as a moment."""
    return Moment(one.entry, one.entry.event() if one.letter else None, one.reason, one)


def causal(moments: Iterable[Moment]) -> list[Moment]:
    """In causal order, see above. The same moments give the same order, however they are handed in."""
    streams = _by_stream(moments)
    positions = _positions(streams.values())
    waiting = {one.position for stream in streams.values() for one in stream}
    ordered: list[Moment] = []
    heads = dict.fromkeys(streams, 0)
    while heads:
        ready = [name for name in heads if waiting.isdisjoint(_causes(streams[name][heads[name]], positions))]
        name = min(ready or heads, key=lambda name: _clock(streams[name][heads[name]]))
        one = streams[name][heads[name]]
        ordered.append(one)
        waiting.discard(one.position)
        heads[name] += 1
        if heads[name] == len(streams[name]):
            del heads[name]
    return ordered


def cause_of(one: Moment, history: Sequence[Moment]) -> Moment | None:
    """What led to it, if that is part of the history."""
    positions = _positions([history])
    known = {each.position: each for each in history}
    return next((known[position] for position in _causes(one, positions) if position in known), None)


def _by_stream(moments: Iterable[Moment]) -> dict[str, list[Moment]]:
    streams: dict[str, list[Moment]] = {}
    for one in {one.position: one for one in moments}.values():
        streams.setdefault(one.stored.stream, []).append(one)
    return {name: sorted(found, key=lambda one: one.stored.sequence) for name, found in sorted(streams.items())}


def _positions(streams: Iterable[Sequence[Moment]]) -> dict[str, Position]:
    """Message id → where it stands first; sent again, it stands there once more."""
    positions: dict[str, Position] = {}
    for one in _each(streams):
        if one.event is not None:
            before = positions.setdefault(one.event.message_id, one.position)
            if before[0] == one.stored.stream and before[1] > one.stored.sequence:
                positions[one.event.message_id] = one.position
    return positions


def _each(streams: Iterable[Sequence[Moment]]) -> Iterator[Moment]:
    for stream in streams:
        yield from stream


def _causes(one: Moment, positions: dict[str, Position]) -> list[Position]:
    """Where that stands which led to this one, the nearest first: in its own stream only what stands before it."""
    found: list[Position] = []
    if one.dead is not None:
        found.append((one.dead.stream, one.dead.sequence))
    if one.event is not None:
        ids = (one.event.causation_id, one.event.correlation_id)
        found += [positions[id_] for id_ in ids if id_ and id_ in positions]
    return [(stream, at) for stream, at in found if stream != one.stored.stream or at < one.stored.sequence]


def _clock(one: Moment) -> tuple[int, int, int]:
    name = one.stored.stream
    return one.stored.nanoseconds, STREAMS.index(name) if name in STREAMS else len(STREAMS), one.stored.sequence
