"""How fast we may write, and what the forge's refusals teach. Pure: the time comes in, in seconds of any clock.

GitHub allows an App in one account 80 writes a minute and 500 an hour that make content, and counts every write 5
points of 900 a minute. What exactly makes content it does not say, so each write counts for the minute:

| Bucket | Holds | Refills | Counts |
|---|---|---|---|
| minute | 48 | 0.5 a second | every write |
| hour | 300 | 0.05 a second | what creates: comment, deployment, status, check |

So its own limiter, which locks out for minutes, stays quiet.

A write that must wait is made later with what is true then: a burst costs fewer writes the longer it lasts. What
matters less leaves a reserve to what matters more: deployments and checks to comments, a comment on the way (building,
deploying) to one that says how it ended.
"""

from dataclasses import dataclass, field
from typing import Final

FOR_COMMENTS: Final = 24.0
"""What deployments and checks leave in each bucket."""
FOR_OUTCOMES: Final = 12.0
"""What a comment leaves that is about to change again."""


@dataclass(slots=True)
class Bucket:
    """Tokens that come back with time. `level` as of `at`."""

    capacity: float
    refill: float
    level: float
    at: float

    def wait(self, now: float, *, reserve: float) -> float:
        """Seconds until one may be taken."""
        self._fill(now)
        missing = 1.0 + reserve - self.level
        return max(0.0, missing / self.refill)

    def take(self, now: float) -> None:
        self._fill(now)
        self.level -= 1.0

    def _fill(self, now: float) -> None:
        self.level = min(self.capacity, self.level + max(0.0, now - self.at) * self.refill)
        self.at = max(self.at, now)


@dataclass(slots=True)
class Pace:
    """One account's limits at the forge."""

    now: float
    paused_until: float = field(default=float("-inf"))
    minute: Bucket = field(init=False)
    hour: Bucket = field(init=False)

    def __post_init__(self) -> None:
        self.minute = Bucket(48, 0.5, 48, self.now)
        self.hour = Bucket(300, 0.05, 300, self.now)

    def wait(self, now: float, *, creates: bool, reserve: float = 0.0) -> float:
        """Seconds until such a write may be made that leaves `reserve`, 0 when it may be made now."""
        waits = [self.paused_until - now, self.minute.wait(now, reserve=reserve)]
        if creates:
            waits.append(self.hour.wait(now, reserve=reserve))
        return max(0.0, *waits)

    def take(self, now: float, *, creates: bool) -> None:
        """A write is made now."""
        self.minute.take(now)
        if creates:
            self.hour.take(now)

    def pause(self, now: float, seconds: float) -> None:
        """The forge wants to be left alone for so long; the longest wish counts."""
        self.paused_until = max(self.paused_until, now + seconds)
