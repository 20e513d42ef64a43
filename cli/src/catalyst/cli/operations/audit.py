"""The audit: who did what, whether its chains are as they were written, and both taken along in a file."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from catalyst.cli.operations import NotThere
from catalyst.events.bus import Bus
from catalyst.events.catalogue import AuditRecord
from catalyst.events.chain import Link
from catalyst.events.errors import Reject
from catalyst.events.stored import Stored
from catalyst.events.subjects import audit_subject
from catalyst.events.topology import AUDIT
from catalyst.model.names import Identity

WHOLE = "audit.>"


@dataclass(frozen=True, slots=True)
class Recorded:
    """One record and where it is. `record` None: it cannot be read, and `problem` says why."""

    stored: Stored
    record: AuditRecord | None
    problem: str = ""

    @property
    def ref(self) -> str:
        return f"{AUDIT}/{self.stored.sequence}"


def subject_of(identity: Identity | None) -> str:
    """One environment's, or all."""
    return audit_subject(identity.team, identity.project, identity.environment) if identity else WHOLE


async def listed(bus: Bus, identity: Identity | None, *, principal: str | None, count: int) -> list[Recorded]:
    """The last `count` records, oldest first; of one environment, by one principal."""
    found = [_recorded(stored) async for stored in bus.messages(AUDIT, subject_of(identity))]
    wanted = [one for one in found if principal is None or (one.record and one.record.principal.name == principal)]
    return wanted[len(wanted) - min(count, len(wanted)) :]


async def show(bus: Bus, sequence: int) -> Recorded:
    """One record. Raises `NotThere`."""
    stored = await bus.message(AUDIT, sequence) if sequence > 0 else None
    if stored is None:
        info = await bus.stream_info(AUDIT)
        last = info["state"]["last_seq"] if info else 0
        raise NotThere(f"{AUDIT}/{sequence} is not there: {AUDIT} holds 1 to {last}")
    return _recorded(stored)


async def links(bus: Bus, subject: str) -> AsyncIterator[Link]:
    """All records of a subject or filter, as they are stored."""
    async for stored in bus.messages(AUDIT, subject):
        yield Link(stored.sequence, stored.subject, stored.data)


def _recorded(stored: Stored) -> Recorded:
    try:
        data = stored.event().data
    except Reject as error:
        return Recorded(stored, None, error.reason)
    return Recorded(stored, data) if isinstance(data, AuditRecord) else Recorded(stored, None, "no audit record")
