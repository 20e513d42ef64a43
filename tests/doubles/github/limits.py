"""Rate limits as GitHub documents them: a primary one for each sign-in and hour, secondary ones for asking too fast.

Source: https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
"""

import math
from collections import defaultdict, deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from doubles.github.problem import Problem

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
SECONDARY = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."


@dataclass
class Window:
    """What one sign-in used of its hour."""

    ends: datetime
    used: int = 0


@dataclass
class Limits:
    """Change them whenever you like. `primary`, `anonymous`: requests an hour. `points`: a minute, a read costs 1 and a
    write 5. `writes`: comments and the like a minute. `says_when`: whether a secondary limit tells when it ends.
    """

    primary: int = 5000
    anonymous: int = 60
    points: int = 900
    writes: int = 80
    says_when: bool = True
    exceeded: int = 0
    """How often somebody was turned away."""
    _windows: dict[str, Window] = field(default_factory=dict)
    _spent: dict[str, deque[tuple[datetime, int]]] = field(default_factory=lambda: defaultdict(deque))
    _written: dict[str, deque[tuple[datetime, int]]] = field(default_factory=lambda: defaultdict(deque))

    def spend(self, key: str, now: datetime, *, writes: bool) -> None:
        """One request. Raises `Problem` 403."""
        window = self.window(key, now)
        if window.used >= self._most(key):
            self.exceeded += 1
            raise Problem(403, f"API rate limit exceeded for {key}.", headers=self.headers(key, now))
        window.used += 1
        self._secondary(self._spent[key], 5 if writes else 1, self.points, now)
        if writes:
            self._secondary(self._written[key], 1, self.writes, now)

    def give_back(self, key: str, now: datetime) -> None:
        """A 304 costs nothing."""
        self.window(key, now).used -= 1

    def forget(self) -> None:
        """All windows begin anew."""
        self._windows.clear()
        self._spent.clear()
        self._written.clear()

    def window(self, key: str, now: datetime) -> Window:
        """The current hour of a sign-in."""
        window = self._windows.get(key)
        if window is None or now >= window.ends:
            window = self._windows[key] = Window(now.replace(microsecond=0) + HOUR)
        return window

    def headers(self, key: str, now: datetime) -> dict[str, str]:
        """What every answer says of the primary limit."""
        return {f"x-ratelimit-{name}": str(value) for name, value in self.told(key, now).items()}

    def told(self, key: str, now: datetime) -> dict[str, int | str]:
        """The primary limit of a sign-in."""
        window, most = self.window(key, now), self._most(key)
        ends = int(window.ends.timestamp())
        return {
            "limit": most,
            "remaining": max(0, most - window.used),
            "used": window.used,
            "reset": ends,
            "resource": "core",
        }

    def _most(self, key: str) -> int:
        return self.anonymous if key == "anonymous" else self.primary

    def _secondary(self, spent: deque[tuple[datetime, int]], cost: int, most: int, now: datetime) -> None:
        while spent and now - spent[0][0] >= MINUTE:
            spent.popleft()
        if sum(points for _, points in spent) + cost > most:
            self.exceeded += 1
            free = (spent[0][0] + MINUTE - now).total_seconds() if spent else MINUTE.total_seconds()
            headers = {"retry-after": str(max(1, math.ceil(free)))} if self.says_when else {}
            raise Problem(403, SECONDARY, headers=headers)
        spent.append((now, cost))
