"""STATE as builder reads it: what each environment said last. It needs no right in the cluster for that."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog

from catalyst.events.bus import Bus
from catalyst.events.catalogue import EnvironmentChanged
from catalyst.events.errors import Reject
from catalyst.events.stored import Stored
from catalyst.events.subjects import environment_subject
from catalyst.model.names import Identity, is_name
from catalyst.model.snapshot import Snapshot

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Told:
    """A snapshot, and when env-controller said it, by its own clock."""

    snapshot: Snapshot
    at: datetime


class Snapshots(Protocol):
    """Reading the last snapshots. Each raises `Unread`."""

    async def last(self, identity: Identity) -> Told | None: ...

    async def of_project(self, team: str, project: str) -> list[Snapshot]: ...


class States:
    """On the bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def last(self, identity: Identity) -> Told | None:
        stored = await self._bus.state(environment_subject(identity, "environment", "changed"))
        return _told(stored) if stored else None

    async def of_project(self, team: str, project: str) -> list[Snapshot]:
        """Of all environments there are and were (`Gone` ones for 90 days); none for what is no project's name."""
        if not is_name(team) or not is_name(project):
            return []
        stored = [found async for found in self._bus.states(f"env.{team}.{project}.*.environment.changed")]
        return [told.snapshot for told in map(_told, stored) if told is not None]


def _told(stored: Stored) -> Told | None:
    try:
        event = stored.event()
    except Reject as error:
        log.warning("unreadable snapshot left out", subject=stored.subject, reason=error.reason)
        return None
    return Told(event.data.snapshot, event.time) if isinstance(event.data, EnvironmentChanged) else None
