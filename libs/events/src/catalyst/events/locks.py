"""Who leads among the replicas of a service that has no rights in the cluster: a lock on the bus, fenced.

```
stream LOCKS, subject lock.<service>: one record {"holder", "token", "beat"}, replaced by compare-and-swap on its
sequence ("expected last subject sequence")

seconds after the send of the last beat that was stored (defaults)
0 ───────────────── 4 ─────────────────────── 6
valid, writes begin │ lost: the leading task   │ a candidate that saw the same record for 6 s on its own clock
                    │ is cancelled and awaited │ replaces it
```

No clock is compared with another machine's. `token` is the sequence of the record that began the leadership: it only
grows. What we write to carries it, so a leader that was frozen beyond its time is refused by whoever has seen a later
one. A holder that stops in order leaves an empty record, and its successor starts at its next look.

A pinned consumer (priority groups) would elect, too, but pins only with the first message: on a quiet bus nobody would
lead, and nobody could rebuild what a restart lost.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from catalyst.events.errors import BusError
from catalyst.events.stored import Stored
from catalyst.events.subjects import lock_subject
from catalyst.events.topology import LOCKS

logger = logging.getLogger(__name__)

_NOBODY = b'{"holder": ""}'


class Records(Protocol):
    """The two ways to a record; `catalyst.events.bus.Bus` is it."""

    async def last(self, stream: str, subject: str) -> Stored | None:
        """The newest message of one subject. Raises `Unread`."""

    async def swap(self, subject: str, body: bytes, *, expected: int) -> int | None:
        """Replaces the message of sequence `expected`; None: somebody was first. Raises `Unpublished`."""


class LostLock(Exception):
    """We do not lead, or cannot know that we still do: a write may not begin."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A record as a candidate saw it: unchanged since `since` on our clock."""

    sequence: int
    since: float


class Lock:
    """Leads when nobody else does. `identity` is unique per process. All durations in seconds."""

    def __init__(
        self,
        records: Records,
        service: str,
        identity: str,
        *,
        duration: float = 6.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.subject = lock_subject(service)
        self.identity = identity
        self.token = 0
        self._records = records
        self._duration = duration
        self._fence_after = duration * 2 / 3
        self._every = duration / 4
        self._now = clock or (lambda: asyncio.get_running_loop().time())
        self._sequence = 0  # of our own record, 0 while we hold nothing
        self._beats = 0
        self._beat_at = float("-inf")  # when the last beat that was stored was sent
        self._seen: _Seen | None = None

    @property
    def valid(self) -> bool:
        """Whether a write begun now ends before anybody else may lead, if it takes less than a third of `duration`."""
        return self._sequence > 0 and self._now() - self._beat_at < self._fence_after

    def fence(self) -> int:
        """The token to write with. Raises `LostLock`."""
        if not self.valid:
            raise LostLock(f"{self.identity} does not hold {self.subject}, or could not say in time that it does")
        return self.token

    async def confirm(self) -> None:
        """Asks the bus, now, whether we lead. Raises `LostLock`."""
        if not await self._written(self._sequence, self.fence()):
            raise LostLock(f"{self.identity} does not hold {self.subject} any more")

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Campaigns, leads, and campaigns again when the lock is lost. Returns when `lead` returns; its errors are
        raised. Cancelling it stops the lead, then gives the lock away.
        """
        while True:
            while not await self._acquired():  # noqa: ASYNC110 (a lock is polled: there is nobody to wake us)
                await asyncio.sleep(self._every)
            logger.info("leading", extra={"lock": self.subject, "identity": self.identity, "token": self.token})
            try:
                if await self._led(lead):
                    return
            finally:
                await self._release()
            logger.warning("leadership lost", extra={"lock": self.subject, "identity": self.identity})

    async def _led(self, lead: Callable[[], Awaitable[None]]) -> bool:
        """True when `lead` returned, False when the lock was lost."""
        work = asyncio.ensure_future(lead())
        beats = asyncio.ensure_future(self._keep())
        try:
            await asyncio.wait({work, beats}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
                return True
            return False
        finally:
            for task in (work, beats):
                task.cancel()
            await asyncio.gather(work, beats, return_exceptions=True)

    async def _keep(self) -> None:
        """Returns when the lock is lost."""
        while self.valid:
            await asyncio.sleep(self._every)
            if await self._written(self._sequence, self.token) is False:
                self._sequence = 0

    async def _acquired(self) -> bool:
        try:
            found = await self._records.last(LOCKS, self.subject)
        except BusError as error:
            logger.warning("lock not read", extra={"lock": self.subject, "reason": error.reason})
            return False
        sequence = found.sequence if found else 0
        if found is not None and _holder(found.data):
            now = self._now()
            if self._seen is None or self._seen.sequence != sequence:
                self._seen = _Seen(sequence, now)
            if now - self._seen.since < self._duration:
                return False
        self._seen = None
        return bool(await self._written(sequence, 0))

    async def _written(self, expected: int, token: int) -> bool | None:
        """One beat; with `token` 0 the first. False: somebody else wrote; None: nobody answered, so it is not known."""
        self._beats += 1
        sent = self._now()
        body = json.dumps({"holder": self.identity, "token": token, "beat": self._beats}).encode()
        try:
            sequence = await self._records.swap(self.subject, body, expected=expected)
            if sequence is None:
                # Perhaps our own: a beat that was stored, though its acknowledgement came too late.
                found = await self._records.last(LOCKS, self.subject)
                if found is None or not token or _holder(found.data) != self.identity:
                    return False
                sequence = found.sequence
        except BusError as error:
            logger.warning("lock not renewed", extra={"lock": self.subject, "reason": error.reason})
            return None
        self._sequence, self._beat_at = sequence, sent
        self.token = token or sequence
        return True

    async def _release(self) -> None:
        held, self._sequence = self._sequence, 0
        if not held:
            return
        try:
            if await self._records.swap(self.subject, _NOBODY, expected=held) is None:
                # The last beat was cut short, but had arrived.
                found = await self._records.last(LOCKS, self.subject)
                if found is not None and _holder(found.data) == self.identity:
                    await self._records.swap(self.subject, _NOBODY, expected=found.sequence)
        except BusError as error:
            logger.info("lock left to run out", extra={"lock": self.subject, "reason": error.reason})


def _holder(record: bytes) -> str:
    """Who holds it; a record that cannot be read counts as held by somebody: it runs out like any other."""
    try:
        document = json.loads(record)
    except ValueError:
        return "unreadable"
    return str(document.get("holder", "")) if isinstance(document, dict) else "unreadable"
