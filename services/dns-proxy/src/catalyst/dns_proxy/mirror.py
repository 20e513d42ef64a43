"""What is known of all environments, in memory: STATE, read once whole and then from where we were.

Every replica has one, for the friendly pages; only the leader acts on it. Absence deletes nothing: what was known stays
known until something newer comes.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Final, Protocol

import structlog

from catalyst.dns_proxy.core.answers import Known
from catalyst.events.catalogue import EnvironmentChanged
from catalyst.events.errors import Reject
from catalyst.events.event import Event
from catalyst.events.stored import Stored
from catalyst.model.names import InvalidName
from catalyst.model.snapshot import Snapshot

log = structlog.get_logger()

CATCH_UP: Final = 0.5
"""Seconds that STATE may be behind the news; it copies from the stream on which they came."""
PAUSE: Final = 0.01


class States(Protocol):
    """`catalyst.events.bus.Bus` is it."""

    def states(self, *, start: int = 1) -> AsyncIterator[Stored]:
        """The last snapshot of every environment that changed from this sequence on. Raises `Unread`."""


class Mirror:
    """Not for several event loops. `changes` counts what came in, so a reader knows whether something did."""

    def __init__(self, states: States) -> None:
        self._states = states
        self._known: dict[str, Known] = {}
        self._next = 1
        self._reading = asyncio.Lock()
        self.changes = 0
        self.loaded = False

    def known(self) -> Iterable[Known]:
        """The newest of every environment."""
        return self._known.values()

    def snapshots(self) -> list[Snapshot]:
        """The newest snapshot of every environment."""
        return [known.snapshot for known in self._known.values()]

    async def refresh(self) -> None:
        """Reads what is new. Raises `Unread`."""
        async with self._reading:
            async for stored in self._states.states(start=self._next):
                self._next = max(self._next, stored.sequence + 1)
                self._take(stored)
            self.loaded = True

    async def catch_up(self, news: Event) -> None:
        """Reads until `news`, or something newer of its environment, is known; for a moment only: the timer goes on.

        Raises `Unread`.
        """
        for _ in range(round(CATCH_UP / PAUSE)):
            await self.refresh()
            known = self._known.get(news.subject)
            if known is not None and known.event.time >= news.time:
                return
            await asyncio.sleep(PAUSE)

    def _take(self, stored: Stored) -> None:
        try:
            event = stored.event()
        except Reject as exc:
            # One that cannot be read hides no other; its consumer has buried it with the reason.
            log.warning("state not understood", subject=stored.subject, reason=exc.reason)
            return
        if isinstance(event.data, EnvironmentChanged) and _is_named(event.data.snapshot):
            slim = _slim(event.data.snapshot)
            self._known[stored.subject] = Known(slim, _without_data(event, slim), stored.sequence)
            self.changes += 1


def _is_named(snapshot: Snapshot) -> bool:
    try:
        return bool(str(snapshot.key))
    except InvalidName as exc:
        log.warning("state of no environment", reason=str(exc))
        return False


def _slim(snapshot: Snapshot) -> Snapshot:
    """Without what no route and no page needs: thousands that are gone are kept for months."""
    return snapshot.model_copy(update={"components": (), "builds": {}, "conditions": (), "stages": (), "message": ""})


def _without_data(event: Event, slim: Snapshot) -> Event:
    return Event(
        id=event.id,
        source=event.source,
        time=event.time,
        data=EnvironmentChanged(snapshot=slim),
        correlation_id=event.correlation_id,
        causation_id=event.causation_id,
        actor=event.actor,
        traceparent=event.traceparent,
    )
