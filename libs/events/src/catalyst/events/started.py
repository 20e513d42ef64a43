"""Which version of a service started last, for `catalyst status`.

```
stream LOCKS, subject started.<service>: {"version"}, replaced by each process at its start
```

No event: nobody reacts to it, and nothing is decided from it.
"""

import asyncio
import json
import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from catalyst.events.bus import Bus
from catalyst.events.errors import BusError
from catalyst.events.subjects import started_subject
from catalyst.events.topology import LOCKS

logger = logging.getLogger(__name__)

PAUSES: Final = (1.0, 10.0, 60.0)
"""Seconds until it is tried again; the last one repeats. A bus of an older topology has no place for it yet."""


@dataclass(frozen=True, slots=True)
class Started:
    """A commit, with `-dirty` when sources were changed since; or a release and a digest of the sources."""

    version: str
    at: datetime


async def say_started(bus: Bus, service: str, version: str) -> None:
    """Returns when it is stored. Nothing waits for it, so it fails nothing."""
    body, tries = json.dumps({"version": version}).encode(), 0
    while True:
        try:
            return await bus.keep(started_subject(service), body, {})
        except BusError as error:
            logger.info("version not said", extra={"service": service, "reason": error.reason})
        await asyncio.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
        tries += 1


async def last_started(bus: Bus, service: str) -> Started | None:
    """None: nobody said so yet, or what they said cannot be read. Raises `Unread`."""
    stored = await bus.last(LOCKS, started_subject(service))
    if stored is None:
        return None
    try:
        return Started(str(json.loads(stored.data)["version"]), stored.time)
    except (ValueError, KeyError, TypeError):
        return None
