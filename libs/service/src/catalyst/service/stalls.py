"""How long the event loop was held up. What computes on it for too long lets everything else wait: the lease's renewal,
a webhook's answer, the next key.

```
catalyst_loop_stall_seconds            histogram of the stalls of 10 ms and more
catalyst_loop_longest_stall_seconds    the longest since the process began
```

A process that got no processor looks the same: whoever waits for it cannot tell either.
"""

import asyncio
import time
from collections.abc import Iterable
from typing import Final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

EVERY: Final = 0.02
"""Seconds between two looks; a stall is seen as up to that much shorter than it was. 50 looks a second take 0.3 % of a
processor.
"""
LEAST: Final = 0.01
"""Seconds: what is shorter is no stall."""
BUCKETS: Final = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Stalls:
    """Looks until cancelled. `longest`, in seconds."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def run(self, every: float = EVERY) -> None:
        seen = self._measures()
        while True:
            began = time.monotonic()  # the loop's own clock stands still while something holds it up
            await asyncio.sleep(every)
            late = time.monotonic() - began - every
            if late >= LEAST:
                seen.record(late)
                self.longest = max(self.longest, late)

    def _measures(self) -> metrics.Histogram:
        meter = metrics.get_meter("catalyst.service")

        def longest(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(self.longest)]

        meter.create_observable_gauge(
            "catalyst_loop_longest_stall_seconds", [longest], description="since the process began"
        )
        return meter.create_histogram(
            "catalyst_loop_stall_seconds",
            unit="s",
            description="stalls of the event loop of 10 ms and more",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
