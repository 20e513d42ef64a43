"""A history as it would be if every service's clock, and every stream leader's, were off: the same events, other times.

What is off with a service's clock is all that it says of time: the event's own, and the stages of a snapshot. What is
off with a leader's is when a message was stored. Sequences, ids, causes and the forge's own times stay as they are.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Final

from catalyst.cli.core.history import Moment, burial, causal, moment
from catalyst.cli.core.timeline import timeline
from catalyst.events.binding import encode
from catalyst.events.catalogue import EnvironmentChanged
from catalyst.events.dead import dead
from catalyst.events.event import Event
from catalyst.events.stored import Stored
from catalyst.events.topology import AUDIT, DEAD, EVENTS, SCM
from catalyst.model.environment import Stage

MOST: Final = 5.0
SERVICES: Final = ("webhook-ingest", "env-controller", "builder", "dns-proxy", "oncall")
STREAMS: Final = (SCM, EVENTS, AUDIT, DEAD)


def drawn(random: Random, names: Sequence[str]) -> dict[str, float]:
    """Name → seconds by which its clock is ahead, each its own, up to five either way."""
    return {name: random.uniform(-MOST, MOST) for name in names}


def skewed(
    moments: Sequence[Moment],
    services: Mapping[str, float],
    streams: Mapping[str, float],
    *,
    elected: Mapping[str, float] | None = None,
    after: int = 0,
) -> list[Moment]:
    """In no order, read again from bytes as from a stream. `elected`: after so many messages each stream gets another
    leader, whose clock is off, too: then even one stream's times go backwards.
    """
    numbers = {
        stream: sorted(one.stored.sequence for one in moments if one.stored.stream == stream) for stream in STREAMS
    }

    def leader(one: Moment) -> Mapping[str, float]:
        stream, sequence = one.position
        is_later = elected is not None and sequence in numbers.get(stream, [])[after:]
        return elected if is_later and elected is not None else streams

    kept = [_stored(one, services, leader(one)) for one in moments]
    letters = [one for one in kept if one.stream == DEAD]
    buried = dead(letters)
    places = {each.entry.sequence for each in buried}
    others = [moment(one) for one in kept if one.stream != DEAD or one.sequence not in places]
    return [*others, *map(burial, buried)]


def _stored(one: Moment, services: Mapping[str, float], streams: Mapping[str, float]) -> Stored:
    nanoseconds = one.stored.nanoseconds + int(streams.get(one.stored.stream, 0.0) * 1e9)
    if one.event is None:
        return replace(one.stored, nanoseconds=nanoseconds)
    body, headers = encode(_event(one.event, timedelta(seconds=services.get(one.event.source, 0.0))))
    return replace(one.stored, data=body, headers={**one.stored.headers, **headers}, nanoseconds=nanoseconds)


def _event(event: Event, ahead: timedelta) -> Event:
    data = event.data
    if isinstance(data, EnvironmentChanged):
        stages = tuple(
            Stage(
                name=stage.name,
                started_at=stage.started_at + ahead,
                finished_at=stage.finished_at + ahead if stage.finished_at else None,
            )
            for stage in data.snapshot.stages
        )
        data = EnvironmentChanged(snapshot=data.snapshot.model_copy(update={"stages": stages}))
    return replace(event, time=event.time + ahead, data=data)


def assert_causal(moments: Sequence[Moment]) -> None:
    """Causes stand before their effects, streams keep their order, nothing is lost, and no time is negative."""
    ordered = causal(moments)
    assert sorted(one.position for one in ordered) == sorted({one.position for one in moments})
    places = {one.position: place for place, one in enumerate(ordered)}
    first: dict[str, int] = {}
    for one in ordered:
        if one.event is not None:
            first.setdefault(one.event.message_id, places[one.position])
    for one in ordered:
        if one.event is not None:
            for id_ in {one.event.causation_id, one.event.correlation_id} - {None, one.event.message_id}:
                assert first.get(str(id_), -1) < places[one.position], (one.ref, id_)
        if one.dead is not None and (one.dead.stream, one.dead.sequence) in places:
            assert places[one.dead.stream, one.dead.sequence] <= places[one.position]
    for stream in {one.stored.stream for one in ordered}:
        sequences = [one.stored.sequence for one in ordered if one.stored.stream == stream]
        assert sequences == sorted(sequences)
    lines = timeline(moments)
    assert all(seconds >= 0 for line in lines for seconds in (line.gap, line.took) if seconds is not None)
    for before, line in itertools.pairwise(lines):
        if (before.at - line.at).total_seconds() > 1.0:
            assert line.back, f"{line.ref} is stored before {before.ref}, and nobody says so"
