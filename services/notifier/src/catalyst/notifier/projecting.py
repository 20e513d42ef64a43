"""Our facts, said again in the words of CDEvents, each replica as it gets them: no memory, no lock, no forge.

The snapshot before one is asked of the stream, so what is said depends on the message alone and not on who reads it, or
how often. The message is acknowledged when all of it is stored.
"""

from collections.abc import Mapping
from typing import Final

from catalyst.events.bus import Bus, Received
from catalyst.events.catalogue import BuildFinished, BuildRequested, Data, EnvironmentChanged, PullRequestChanged
from catalyst.events.errors import Reject, Retry, Unpublished, Unread
from catalyst.model.snapshot import Snapshot
from catalyst.notifier.core.cdevents import projected

PROJECTED: Final[Mapping[type[Data], str]] = {
    PullRequestChanged: "change.*",
    EnvironmentChanged: "environment.*, service.*",
    BuildRequested: "build.queued",
    BuildFinished: "build.finished, artifact.published",
}


async def project(bus: Bus, received: Received) -> None:
    """Raises Retry while the bus does not answer, Reject for what has no word in CDEvents."""
    if type(received.event.data) not in PROJECTED:
        raise Reject(f"type {received.event.type}: expected {', '.join(each.TYPE for each in PROJECTED)}")
    try:
        for each in projected(received.event, await _before(bus, received)):
            await bus.project(each.subject, each.id, each.body)
    except (Unread, Unpublished) as exc:
        raise Retry(str(exc)) from exc


async def _before(bus: Bus, received: Received) -> Snapshot | None:
    if not isinstance(received.event.data, EnvironmentChanged):
        return None
    stored = await bus.last_before(received.stream, received.subject, received.sequence)
    if stored is None:
        return None
    try:
        data = stored.event().data
    except Reject:
        return None  # nobody can read it; its reader has a dead letter
    return data.snapshot if isinstance(data, EnvironmentChanged) else None
