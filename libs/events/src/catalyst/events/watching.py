"""How the bus itself is, as metrics and as words in the log: each said once when it begins and once when it ends.

```
catalyst_stream_there{stream}          1, or 0: the stream does not exist
catalyst_stream_fill{stream}           of what fills up first, bytes or messages: the share of its limit
catalyst_stream_bytes{stream}, catalyst_stream_messages{stream}
catalyst_dead_letters{owner,reason}    in DEAD, and nobody has dealt with them; `owner`: the service that could not
```

What the bus cannot tell of itself is counted where it is noticed: `catalyst_bus_unpublished_total{why}` (bus.py) and
`catalyst_bus_unreadable_consumers{consumer}` (consuming.py). Thresholds and remedies: deploy/k8s/monitoring.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from catalyst.events.catalogue import DeadSettled
from catalyst.events.dead import Dead, joined, lean, read
from catalyst.events.errors import BusError
from catalyst.events.measuring import Reading, fill
from catalyst.events.stored import Stored
from catalyst.events.topology import CDEVENTS, DEAD, DECISIONS, SERVICES, STATE, streams

logger = logging.getLogger(__name__)

NEARLY_FULL: Final = 0.70
"""Of a stream's bytes: from here on somebody should look. Full, it refuses what is new."""
WELL_AGAIN: Final = 0.65
"""Of a stream's bytes: below it, what was nearly full is well again. Lower, so that nothing is said at each message."""
MAY_BE_FULL: Final = (DECISIONS, CDEVENTS)
"""Records that are no truth: their oldest go as a matter of course."""
EVERY: Final = 5.0
"""Seconds between two looks."""
GONE: Final = "the stream is not there: apply the topology (runbook CatalystBusVolumeGone)"
TAKEN: Final = f"more than {NEARLY_FULL:.0%} of its bytes are taken (runbook CatalystStreamFilling)"


class Streams(Protocol):
    """`catalyst.events.bus.Bus` is it."""

    async def stream_info(self, stream: str) -> dict[str, Any] | None:
        """None: there is none. Raises `Unread`."""

    def messages(self, stream: str, filter_subject: str, *, start: int = 1) -> AsyncIterator[Stored]:
        """What a stream holds, oldest first. Raises `Unread`."""


class Watch:
    """Looks until cancelled. `state_is_new`: set when STATE is another stream than before: what was said is lost."""

    def __init__(self, bus: Streams) -> None:
        self._bus = bus
        self._seen: dict[str, Mapping[str, Any]] = {}
        self._there: dict[str, bool] = {}
        self._ill: dict[str, str] = {}
        self._born: dict[str, str] = {}
        self._dead: dict[int, Dead | DeadSettled] = {}
        """By their sequence in DEAD, without the messages: DEAD may hold more than fits into memory."""
        self._letters: Counter[tuple[str, str]] = Counter()
        self.state_is_new = asyncio.Event()

    async def run(self, every: float = EVERY) -> None:
        self._measure()
        while True:
            await self.look()
            await asyncio.sleep(every)

    async def look(self) -> None:
        """One look at every stream. Of one that does not answer nothing is known: an old figure would look like a
        good one.
        """
        for config in streams():
            name = config.name or ""
            try:
                info = await self._bus.stream_info(name)
                if info is not None:
                    await self._lives(name, info)
            except BusError as error:
                # Whoever publishes says louder that the bus is away.
                logger.debug("stream not looked at", extra={"stream": name, "reason": error.reason})
                self._there.pop(name, None)
                self._seen.pop(name, None)
                continue
            self._note(name, info)
            self._tell(name)

    def letters(self) -> Counter[tuple[str, str]]:
        """How many nobody has dealt with, by service and reason."""
        return self._letters

    async def _lives(self, name: str, info: dict[str, Any]) -> None:
        before, born = self._born.get(name), str(info["created"])
        self._born[name] = born
        if before not in (None, born):
            logger.error("stream was lost and made anew", extra={"stream": name, "since": born})
            if name == STATE:
                self.state_is_new.set()
            if name == DEAD:
                self._dead.clear()
        if name == DEAD:
            await self._count(info["state"]["first_seq"], info["state"]["last_seq"])

    async def _count(self, first: int, last: int) -> None:
        old = [sequence for sequence in self._dead if sequence < first]
        start = max(self._dead, default=0) + 1
        if not old and start > last:
            return
        for sequence in old:
            del self._dead[sequence]
        async for stored in self._bus.messages(DEAD, ">", start=start):
            self._dead[stored.sequence] = lean(read(stored))
        self._letters = counted(joined(self._dead.values()))

    def _note(self, name: str, info: dict[str, Any] | None) -> None:
        self._there[name] = info is not None
        if info is None:
            self._seen.pop(name, None)
            return
        self._seen[name] = info

    def _tell(self, name: str) -> None:
        ill, before = self._illness(name), self._ill.get(name, "")
        if ill == before:
            return
        self._ill[name] = ill
        if ill:
            logger.error("bus is sick", extra={"stream": name, "reason": ill, "fill": round(self._fill(name), 3)})
        else:
            logger.info("bus is well again", extra={"stream": name})

    def _illness(self, name: str) -> str:
        if not self._there[name]:
            return GONE
        bound = WELL_AGAIN if self._ill.get(name) == TAKEN else NEARLY_FULL
        return TAKEN if name not in MAY_BE_FULL and self._fill(name) >= bound else ""

    def _fill(self, name: str) -> float:
        return fill(self._seen[name]) if name in self._seen else 0.0

    def _measure(self) -> None:
        meter = metrics.get_meter("catalyst.events")

        # On copies: an exporter reads from another thread.
        def there(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(int(value), {"stream": name}) for name, value in self._there.copy().items()]

        def letters(_: CallbackOptions) -> Iterable[Observation]:
            none = {(service, "rejected"): 0 for service in SERVICES}  # a series before the first letter
            counts = {**none, **self._letters.copy()}
            return [Observation(count, {"owner": owner, "reason": reason}) for (owner, reason), count in counts.items()]

        for name, text, reading in STREAM_METRICS:
            meter.create_observable_gauge(name, [self._of_streams(reading)], description=text)
        meter.create_observable_gauge("catalyst_stream_there", [there], description="0: it does not exist")
        meter.create_observable_gauge("catalyst_dead_letters", [letters], description="nobody has dealt with them yet")

    def _of_streams(self, read: Callable[[Mapping[str, Any]], float]) -> Callable[..., Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(read(info), {"stream": name}) for name, info in self._seen.copy().items()]

        return observe


STREAM_METRICS: Final[tuple[Reading, ...]] = (
    ("catalyst_stream_messages", "messages in the stream", lambda found: found["state"]["messages"]),
    ("catalyst_stream_bytes", "bytes in the stream", lambda found: found["state"]["bytes"]),
    ("catalyst_stream_fill", "share of the stream's limit that is used", fill),
)


def counted(found: Sequence[Dead]) -> Counter[tuple[str, str]]:
    """(service, reason) → how many; those that were dealt with count nothing, so a gauge falls back to 0. Pure."""
    counts: Counter[tuple[str, str]] = Counter()
    for one in found:
        counts[one.service, one.kind] += one.settled is None
    return counts
