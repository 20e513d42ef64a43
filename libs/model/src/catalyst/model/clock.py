"""What time it is, as an argument.

Nothing in Catalyst asks the machine for the time in the middle of a decision: a `Clock` comes in from the edge, so that
tests, simulations and replays choose it.
"""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Returns the present moment as an aware `datetime` in UTC."""


def utc_now() -> datetime:
    """The machine's clock: the default that `__main__` hands in."""
    return datetime.now(UTC)
