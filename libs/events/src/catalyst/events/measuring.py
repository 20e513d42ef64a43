"""The bus as metrics: how far each consumer is behind. The server is asked now and then, by each service for its own
consumers. How full the streams are: watching.py.

A consumer that is stuck brings no messages that could say so, hence the server is asked instead of counting them.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from catalyst.events.bus import Bus
from catalyst.events.errors import BusError
from catalyst.events.topology import consumers

logger = logging.getLogger(__name__)

EVERY: Final = 10.0
"""Seconds between two looks; Prometheus commonly comes every 30."""


class BusMetrics:
    """What was seen last. A look that fails leaves nothing: an old figure would look like a good one."""

    def __init__(self, bus: Bus, service: str) -> None:
        self._bus = bus
        self._consumers = tuple(consumers([service]))
        self._seen: dict[tuple[str, str], Mapping[str, Any]] = {}
        meter = metrics.get_meter("catalyst.events")
        for name, text, read in CONSUMER_METRICS:
            meter.create_observable_gauge(name, [self._of_consumers(read)], description=text)
        meter.create_observable_gauge(
            "catalyst_bus_problems",
            [lambda _options: [Observation(len(bus.problems()))]],
            description="why the bus does not do its work now",
        )

    async def run(self, every: float = EVERY) -> None:
        """Looks until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(every)

    async def look(self) -> None:
        """Ask the server once."""
        seen: dict[tuple[str, str], Mapping[str, Any]] = {}
        try:
            for consumer in self._consumers:
                found = await self._bus.consumer_info(consumer.stream, consumer.name)
                if found is not None:
                    seen[consumer.stream, consumer.name] = found
        except BusError as error:
            logger.warning("the bus could not be measured", extra={"reason": error.reason})
        self._seen = seen

    def _of_consumers(self, read: Callable[[Mapping[str, Any]], float]) -> Callable[..., Iterable[Observation]]:
        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            for (stream, name), found in self._seen.items():
                yield Observation(read(found), {"stream": stream, "consumer": name})

        return observe


def fill(found: Mapping[str, Any]) -> float:
    """Of what fills up first: bytes or messages."""
    state, config = found["state"], found["config"]
    shares = (
        state["bytes"] / config["max_bytes"] if config.get("max_bytes", -1) > 0 else 0.0,
        state["messages"] / config["max_msgs"] if config.get("max_msgs", -1) > 0 else 0.0,
    )
    return max(shares)


Reading = tuple[str, str, Callable[[Mapping[str, Any]], float]]
CONSUMER_METRICS: Final[tuple[Reading, ...]] = (
    ("catalyst_consumer_pending", "messages that were not delivered yet", lambda found: found["num_pending"]),
    ("catalyst_consumer_in_hand", "messages delivered and not answered for", lambda found: found["num_ack_pending"]),
    ("catalyst_consumer_redelivered", "of those, delivered before", lambda found: found["num_redelivered"]),
)
