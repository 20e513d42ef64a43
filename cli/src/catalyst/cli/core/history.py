"""History as values: what the streams hold about something, and in which order it came about. Pure.

**Causal before clock.** Each service has a clock of its own, and in a cluster each stream is stamped by its leader's. So:

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

from catalyst.events.dead import Dead
from catalyst.events.errors import Reject
from catalyst.events.event import Event
from catalyst.events.stored import Stored
from catalyst.events.topology import AUDIT, DEAD, EVENTS, SCM

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
    def at(self) -> datetime:
        """When it was stored, by the bus's clock: the only one that all events share."""
        return self.stored.time


def moment(stored: Stored) -> Moment:
    """A message as a moment; one that cannot be read is not left out."""
    try:
        return Moment(stored, stored.event())
    except Reject as error:
        return Moment(stored, None, error.reason)


def burial(dead: Dead) -> Moment:
    """A dead letter, or an advisory of the server's, as a moment."""
    try:
        event = dead.entry.event() if dead.letter else None
    except Reject:
        event = None
    return Moment(dead.entry, event, dead.reason, dead)


def causal(moments: Iterable[Moment]) -> list[Moment]:
    """In causal order, see above. The same moments give the same order, however they are handed in."""
    streams = _by_stream(moments)
    positions = _positions(streams.values())
    waiting = {one.position for stream in streams.values() for one in stream}
    ordered: list[Moment] = []
    heads = {name: 0 for name in streams}
    while heads:
        ready = [name for name in heads if not waiting & _causes(streams[name][heads[name]], positions)]
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


def _causes(one: Moment, positions: dict[str, Position]) -> set[Position]:
    """Where that stands which led to this one: in its own stream only what stands before it."""
    found: set[Position] = set()
    if one.dead is not None:
        found.add((one.dead.stream, one.dead.sequence))
    if one.event is not None:
        for id_ in (one.event.causation_id, one.event.correlation_id):
            if id_ and id_ in positions:
                found.add(positions[id_])
    return {(stream, at) for stream, at in found if stream != one.stored.stream or at < one.stored.sequence}


def _clock(one: Moment) -> tuple[int, int, int]:
    name = one.stored.stream
    return one.stored.nanoseconds, STREAMS.index(name) if name in STREAMS else len(STREAMS), one.stored.sequence
