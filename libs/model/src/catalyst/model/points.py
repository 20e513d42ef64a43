"""Named points: the places where a test may kill, freeze, delay or fail a process.

A client awaits `points("bus.before-ack:env-controller")` at the moments that matter for crash safety. In production
that is `no_points`, which does nothing.
"""

from collections.abc import Awaitable, Callable

Points = Callable[[str], Awaitable[None]]
"""Called with the name of the point just reached; may raise, wait for ever, or end the process."""


async def no_points(_name: str) -> None:
    """The default: nothing happens at any point."""
