"""A queue of keys: what has to be looked at, by whom, how soon and how often. It holds no objects and no events.

    add ──▶ waiting (ordered by priority, then age) ──get──▶ processing ──done──▶ forgotten
     │          ▲                                                │
     └─after──▶ delayed          an add meanwhile marks it dirty ┘ and it waits again

As in client-go: a key waits once however often it is added, and is never processed twice at the same time. Only the
event loop's clock is used, so all of it runs on virtual time. Not thread-safe: one loop, one queue.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from catalyst.kube.turns import urgency

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

INTERACTIVE, NORMAL, BULK = -10, 0, 10
"""Customary priorities: the lower number is served first."""

_FAIR = 8  # every eighth key served is the one that has waited longest, whatever its priority: nothing starves


class Stopped(Exception):
    """`get` on a queue that was shut down and has nothing left to hand out."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays in seconds after the 1st, 2nd, … failure in a row: `base`, doubled each time, at most `cap`.

    `cap` is well below the minute after an outage in which all has to be as the facts say: what failed up to its end,
    and once more while the API server or the quota's controller was not quite there, gets two more tries in it.
    `jitter` 0.25 spreads each delay over 75–125 %, so that keys which failed together do not come back together.
    `rate` and `burst` bound the retries of all keys taken together, per second: an outage ends without a stampede.
    """

    base: float = 0.05
    cap: float = 15.0
    jitter: float = 0.25
    rate: float = 50.0
    burst: int = 100

    def delay(self, failures: int, spread: float) -> float:
        """Seconds to wait after so many failures (1 or more); `spread` in [0, 1) is the random part."""
        exact = min(self.cap, self.base * 2.0 ** min(failures - 1, 60))
        return exact * (1 + self.jitter * (2 * spread - 1))


@dataclass(slots=True)
class _Waiting:
    priority: int
    since: float


OnError = Callable[[K, Exception, float], None]


class Queue(Generic[K]):
    """See the module. For metrics: `depth`, `delayed`, `processing`, `failing`, `oldest`; counters `added`,
    `retried`.
    """

    def __init__(
        self,
        *,
        backoff: Backoff = Backoff(),
        spread: Callable[[], float] = random.random,
        on_error: OnError[K] | None = None,
    ) -> None:
        """`spread` gives numbers in [0, 1). `on_error(key, error, delay)` hears of workers that raised; else they are
        logged.
        """
        self._backoff = backoff
        self._spread = spread
        self._on_error = on_error or _log
        self._waiting: OrderedDict[K, _Waiting] = OrderedDict()  # in order of age
        self._heap: list[tuple[int, int, K]] = []  # may hold entries that were overtaken; `_waiting` is the truth
        self._due: dict[K, tuple[float, int]] = {}  # delayed keys: when, priority
        self._timers: list[tuple[float, int, K]] = []
        self._processing: dict[K, int] = {}  # key: the priority it was taken with
        self._dirty: dict[K, int] = {}  # added while processing: priority
        self._failures: dict[K, int] = {}
        self._budget = float("-inf")  # loop time up to which the shared retry rate is spent
        self._sequence = 0
        self._served = 0
        self._alarm: asyncio.Handle | None = None
        self._rings_at = 0.0  # uvloop's handle for a moment that is here already cannot say when
        self._ready = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False
        self.added = 0
        self.retried = 0

    # What is measured

    @property
    def depth(self) -> int:
        """Keys that wait to be processed now; those delayed or under way are not counted."""
        return len(self._waiting)

    @property
    def delayed(self) -> int:
        """Keys whose time has not come."""
        return len(self._due)

    @property
    def processing(self) -> int:
        """Keys under way."""
        return len(self._processing)

    @property
    def failing(self) -> int:
        """Keys whose last attempt failed."""
        return len(self._failures)

    @property
    def oldest(self) -> float:
        """Seconds the longest waiting key has waited, 0 when none does."""
        first = next(iter(self._waiting.values()), None)
        return asyncio.get_running_loop().time() - first.since if first else 0.0

    def failures(self, key: K) -> int:
        """Failures in a row of this key."""
        return self._failures.get(key, 0)

    # Putting in

    def add(self, key: K, *, after: float = 0.0, priority: int = NORMAL) -> None:
        """Have `key` processed, not before `after` seconds. The earliest of several delays and the lowest priority
        count.

        After `shutdown` nothing is taken any more.
        """
        if self._stopping:
            return
        self.added += 1
        if after > 0:
            self._delay(key, after, priority)
        else:
            self._enqueue(key, priority)

    def retry(self, key: K, *, priority: int = NORMAL) -> float:
        """Have `key` processed after its backoff, one failure longer than last time. Returns the delay in seconds."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = max(self._backoff.delay(failures, self._spread()), self._reserved())
        self.retried += 1
        self.add(key, after=delay, priority=priority)
        return delay

    def forget(self, key: K) -> None:
        """The key is well again: its next failure waits `base` seconds."""
        self._failures.pop(key, None)

    def _enqueue(self, key: K, priority: int) -> None:
        if key in self._processing:
            self._dirty[key] = min(priority, self._dirty.get(key, priority))
            return
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = _Waiting(priority, asyncio.get_running_loop().time())
            self._idle.clear()
        elif priority < waiting.priority:
            waiting.priority = priority
        else:
            return
        self._sequence += 1
        heapq.heappush(self._heap, (priority, self._sequence, key))
        self._ready.set()

    def _delay(self, key: K, after: float, priority: int) -> None:
        when = asyncio.get_running_loop().time() + after
        known = self._due.get(key)
        if known is not None:
            when, priority = min(when, known[0]), min(priority, known[1])
        self._due[key] = (when, priority)
        if known is None or when < known[0]:
            self._sequence += 1
            heapq.heappush(self._timers, (when, self._sequence, key))
            self._set_alarm()

    def _set_alarm(self) -> None:
        when = self._timers[0][0] if self._timers else None
        if self._alarm is not None:
            if when is not None and self._rings_at <= when:
                return
            self._alarm.cancel()
        self._alarm = None
        if when is not None:
            self._alarm, self._rings_at = asyncio.get_running_loop().call_at(when, self._ring), when

    def _ring(self) -> None:
        self._alarm = None
        now = asyncio.get_running_loop().time()
        while self._timers and self._timers[0][0] <= now:
            when, _, key = heapq.heappop(self._timers)
            if key in self._due and self._due[key][0] == when:
                self._enqueue(key, self._due.pop(key)[1])
        self._set_alarm()

    def _reserved(self) -> float:
        """Seconds until the shared budget of retries (a token bucket) has room; the room is taken."""
        now = asyncio.get_running_loop().time()
        self._budget = max(self._budget, now - self._backoff.burst / self._backoff.rate) + 1 / self._backoff.rate
        return max(0.0, self._budget - now)

    # Taking out

    async def get(self) -> K:
        """The next key; call `done(key)` whatever happens. Raises Stopped after a shutdown, when nothing waits."""
        while not self._waiting:
            if self._stopping:
                raise Stopped
            self._ready.clear()
            await self._ready.wait()
        key = self._next()
        self._processing[key] = self._waiting.pop(key).priority
        return key

    def done(self, key: K) -> None:
        """The key is no longer under way. If it was added meanwhile, it waits again."""
        self._processing.pop(key, None)
        priority = self._dirty.pop(key, None)
        if priority is not None:
            self._enqueue(key, priority)
        if not self._processing and not self._waiting:
            self._idle.set()

    async def run(self, worker: Callable[[K], Awaitable[None]], concurrency: int) -> None:
        """Processes keys, `concurrency` at once, until `shutdown` or cancelled.

        A worker that returns has succeeded (unless it called `retry` itself); one that raises is retried with backoff
        and the error reported. Cancelled workers leave their keys waiting for the next `run`.
        """
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(self._work(worker))

    async def shutdown(self, *, drain: bool = True) -> None:
        """Takes no more keys and returns when nothing is under way. Delayed keys are dropped.

        With `drain` the waiting keys are still processed; without, they are dropped too. Either way a successor that
        lists the world afresh finds them again.
        """
        self._stopping = True
        self._due.clear()
        self._timers.clear()
        self._set_alarm()
        if not drain:
            self._waiting.clear()
            self._heap.clear()
            self._dirty.clear()
        if not self._processing and not self._waiting:
            self._idle.set()
        self._ready.set()
        await self._idle.wait()

    async def _work(self, worker: Callable[[K], Awaitable[None]]) -> None:
        while True:
            try:
                key = await self.get()
            except Stopped:
                return
            await self._process(worker, key)
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError  # something below swallowed it (asyncio.wait_for can, before Python 3.12)

    async def _process(self, worker: Callable[[K], Awaitable[None]], key: K) -> None:
        failures = self.failures(key)
        urgency.set(self._processing[key])  # its requests keep the key's place among others' requests
        try:
            await worker(key)
        except Exception as error:  # noqa: BLE001 (reported and retried, never swallowed)
            self._on_error(key, error, self.retry(key, priority=self._processing[key]))
        except BaseException:
            self._dirty.setdefault(key, self._processing[key])
            raise
        else:
            if self.failures(key) == failures:
                self.forget(key)
        finally:
            self.done(key)

    def _next(self) -> K:
        self._served += 1
        if self._served % _FAIR == 0:
            return next(iter(self._waiting))
        while True:
            priority, _, key = heapq.heappop(self._heap)
            waiting = self._waiting.get(key)
            if waiting is not None and waiting.priority == priority:
                return key


def _log(key: object, error: Exception, delay: float) -> None:
    logger.error("worker failed, will retry", extra={"key": str(key), "delay": delay}, exc_info=error)
