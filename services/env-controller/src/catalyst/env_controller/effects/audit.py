"""The audit: one record an operation, each behind the one before it on its subject, in the stream AUDIT.

A record is stored only if the message it follows is still the last one of its subject. Whoever was overtaken, by
another replica or by a leader that was, reads what is there and tries again: no chain forks. The same entry told again
is found by its id: within 72 hours by the bus, later by looking.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from weakref import WeakValueDictionary

import structlog
from opentelemetry import metrics

from catalyst.env_controller.core.api_audit import is_old
from catalyst.env_controller.core.audit import Entry
from catalyst.events.binding import MESSAGE_ID
from catalyst.events.bus import Bus
from catalyst.events.chain import digest, number_of
from catalyst.events.errors import BusError, Retry
from catalyst.events.event import Cause, audit_recorded
from catalyst.events.subjects import audit_subject
from catalyst.events.topology import AUDIT, DUPLICATE_WINDOW
from catalyst.model.clock import Clock

log = structlog.get_logger()
meter = metrics.get_meter("catalyst.env_controller")
recorded = meter.create_counter("catalyst_audit_records", description="operations recorded, by door and outcome")

SOURCE: Final = "env-controller"
TRIES: Final = 8
"""Times that others may be faster at one subject, before the message waits for its turn."""
REMEMBERED: Final = 4096
"""Chains whose heads are kept in memory."""


@dataclass(frozen=True, slots=True)
class _Head:
    """The last record of a chain: its sequence in the stream, its number, its digest."""

    sequence: int
    number: int
    digest: str | None


_NONE: Final = _Head(0, 0, None)


class Audit:
    """The only writer of AUDIT."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._heads: dict[str, _Head] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def record(self, entry: Entry, cause: Cause | None = None) -> None:
        """Returns when it is stored. Raises Retry when the bus cannot take it now."""
        subject = audit_subject(entry.team, entry.project, entry.environment)
        turn = self._turns.setdefault(subject, asyncio.Lock())
        async with turn:
            try:
                await self._append(subject, entry, cause or Cause(actor=entry.principal.name))
            except BusError as error:
                self._heads.pop(subject, None)
                raise Retry(f"the audit does not take it: {error.reason}", timedelta(seconds=1)) from error

    async def _append(self, subject: str, entry: Entry, cause: Cause) -> None:
        if is_old(entry, self._clock(), DUPLICATE_WINDOW) and await self._holds(subject, entry, after=0):
            return
        for _ in range(TRIES):
            head = self._heads.get(subject) or await self._head(subject)
            data = entry.record(head.number + 1, head.digest)
            event = audit_recorded(data, operation=entry.id, time=self._clock(), source=SOURCE, cause=cause)
            stored = await self._bus.append(event, after=head.sequence)
            if stored is not None and not stored.duplicate:
                self._remember(subject, _Head(stored.sequence, data.number, digest(stored.body)))
                recorded.add(1, {"door": entry.door, "outcome": entry.judgement.outcome})
                return
            self._heads.pop(subject, None)
            if stored is not None or await self._holds(subject, entry, after=head.sequence):
                return
        raise Retry(f"{subject}: others were faster {TRIES} times", timedelta(milliseconds=200))

    async def _head(self, subject: str) -> _Head:
        last = await self._bus.last(AUDIT, subject)
        if last is None:
            return _NONE
        number = number_of(last.data)
        if number is None:
            log.error("the last audit record cannot be read", subject=subject, sequence=last.sequence)
            raise Retry(f"{subject}: AUDIT/{last.sequence} is no record of ours", timedelta(seconds=60))
        return _Head(last.sequence, number, digest(last.data))

    async def _holds(self, subject: str, entry: Entry, *, after: int) -> bool:
        """Whether it is there, behind that sequence."""
        wanted = f"{SOURCE}/{entry.id}"
        async for stored in self._bus.messages(AUDIT, subject, start=after + 1):
            if stored.headers.get(MESSAGE_ID) == wanted:
                return True
        return False

    def _remember(self, subject: str, head: _Head) -> None:
        if len(self._heads) >= REMEMBERED:
            self._heads.clear()
        self._heads[subject] = head
