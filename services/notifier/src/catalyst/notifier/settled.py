"""Up to when all news were told with all their reports, for whoever leads next.

```
stream LOCKS, subject settled.notifier: {"until"}, by the bus' clock; replaced by the one that leads
```

A comment that is right does not say that its reports were made: they take longer, and whoever was to make them may have
been killed in between. What is older than this was made; all the rest is asked about.
"""

import json
from datetime import datetime
from typing import Final, Protocol

from catalyst.events.errors import Unpublished
from catalyst.events.stored import Stored
from catalyst.events.subjects import settled_subject
from catalyst.events.topology import LOCKS

SUBJECT: Final = settled_subject("notifier")


class Records(Protocol):
    """Where it is kept; the Bus is one."""

    async def last(self, stream: str, subject: str) -> Stored | None:
        """See `Bus.last`."""

    async def keep(self, subject: str, body: bytes, headers: dict[str, str]) -> None:
        """See `Bus.keep`."""


async def settled(records: Records) -> datetime | None:
    """None: nobody said so, or what they said cannot be read. Raises `Unread`."""
    stored = await records.last(LOCKS, SUBJECT)
    if stored is None:
        return None
    try:
        return datetime.fromisoformat(json.loads(stored.data)["until"])
    except (ValueError, KeyError, TypeError):
        return None


async def settle(records: Records, until: datetime) -> bool:
    """Whether it is stored. It fails nothing: the next lead only asks about more."""
    try:
        await records.keep(SUBJECT, json.dumps({"until": until.isoformat()}).encode(), {})
    except Unpublished:
        return False
    return True
