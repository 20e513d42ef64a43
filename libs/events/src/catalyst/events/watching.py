"""How the bus itself is, as metrics and as words in the log: each said once when it begins and once when it ends.

```
catalyst_bus_stream_fill{stream}       of its bytes, 0 to 1          nearly full from 0.7 on
catalyst_bus_stream_there{stream}      1, or 0: the stream does not exist
catalyst_dead_letters{service,reason}  in DEAD, and nobody has dealt with them
```

What the bus cannot tell of itself is counted where it is noticed: `catalyst_bus_unpublished_total{why}` (bus.py) and
`catalyst_bus_unreadable_consumers{consumer}` (consuming.py). Thresholds and remedies: deploy/k8s/monitoring.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final, Protocol

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from catalyst.events.dead import Dead, dead
from catalyst.events.errors import BusError
from catalyst.events.stored import Stored
from catalyst.events.topology import DEAD, DECISIONS, STATE, streams

logger = logging.getLogger(__name__)

NEARLY_FULL: Final = 0.70
"""Of a stream's bytes: from here on somebody should look. Full, it refuses what is new."""
MAY_BE_FULL: Final = (DECISIONS,)
"""Records that are no truth: their oldest go as a matter of course."""
EVERY: Final = 5.0
"""Seconds between two looks."""


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
        self._fill: dict[str, float] = {}
        self._there: dict[str, bool] = {}
        self._ill: dict[str, str] = {}
        self._entries: list[Stored] = []
        self._born: dict[str, str] = {}
        self.state_is_new = asyncio.Event()

    async def run(self, every: float = EVERY) -> None:
        self._measure()
        while True:
            try:
                await self.look()
            except BusError as error:
                # Whoever publishes says louder that the bus is away.
                logger.debug("bus not looked at", extra={"reason": error.reason})
            await asyncio.sleep(every)

    async def look(self) -> None:
        """One look at every stream. Raises `Unread`."""
        for config in streams():
            name = config.name or ""
            info = await self._bus.stream_info(name)
            self._there[name] = info is not None
            if info is None:
                self._fill.pop(name, None)
            else:
                limit = info["config"].get("max_bytes", -1)
                self._fill[name] = info["state"]["bytes"] / limit if limit > 0 else 0.0
                await self._lives(name, info)
            self._tell(name)

    def letters(self) -> Counter[tuple[str, str]]:
        """How many nobody has dealt with, by service and reason."""
        return counted(dead(self._entries))

    async def _lives(self, name: str, info: dict[str, Any]) -> None:
        before = self._born.get(name)
        self._born[name] = born = str(info["created"])
        if before is not None and before != born:
            logger.error("stream was lost and made anew", extra={"stream": name, "created": born})
            if name == STATE:
                self.state_is_new.set()
            if name == DEAD:
                self._entries.clear()
        if name == DEAD:
            start = self._entries[-1].sequence + 1 if self._entries else 1
            # An advisory or letter says enough by its first lines; what it is about stays in its own stream.
            if info["state"]["last_seq"] >= start:
                self._entries += [stored async for stored in self._bus.messages(DEAD, ">", start=start)]
            first = info["state"]["first_seq"]
            self._entries = [entry for entry in self._entries if entry.sequence >= first]

    def _tell(self, name: str) -> None:
        ill, before = self._illness(name), self._ill.get(name, "")
        if ill == before:
            return
        self._ill[name] = ill
        if ill:
            logger.error("bus is sick", extra={"stream": name, "reason": ill, "fill": round(self._fill.get(name, 0), 3)})
        else:
            logger.info("bus is well again", extra={"stream": name})

    def _illness(self, name: str) -> str:
        if not self._there[name]:
            return "the stream is not there: apply the topology (runbook BusVolumeGone)"
        if name not in MAY_BE_FULL and self._fill[name] >= NEARLY_FULL:
            return f"more than {NEARLY_FULL:.0%} of its bytes are taken (runbook BusNearlyFull)"
        return ""

    def _measure(self) -> None:
        meter = metrics.get_meter("catalyst.events")

        def fill(_: CallbackOptions) -> Iterable[Observation]:
            # On copies: an exporter reads from another thread.
            return [Observation(value, {"stream": name}) for name, value in self._fill.copy().items()]

        def there(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(int(value), {"stream": name}) for name, value in self._there.copy().items()]

        def letters(_: CallbackOptions) -> Iterable[Observation]:
            return [
                Observation(count, {"service": service, "reason": reason})
                for (service, reason), count in self.letters().items()
            ]

        meter.create_observable_gauge("catalyst_bus_stream_fill", [fill])
        meter.create_observable_gauge("catalyst_bus_stream_there", [there])
        meter.create_observable_gauge("catalyst_dead_letters", [letters])


def counted(found: Sequence[Dead]) -> Counter[tuple[str, str]]:
    """(service, reason) → how many; those that were dealt with count nothing, so a gauge falls back to 0. Pure."""
    counts: Counter[tuple[str, str]] = Counter()
    for one in found:
        counts[one.service, one.kind] += one.settled is None
    return counts
