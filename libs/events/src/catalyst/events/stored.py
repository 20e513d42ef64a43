"""Stored: a message as a stream keeps it, not decoded yet. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from catalyst.events.binding import decode
from catalyst.events.event import Event

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Published:
    """Where an event is now. `duplicate`: it was there already, stored under the same id before."""

    stream: str
    sequence: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Appended:
    """Where an appended event is now, and the body it was sent with. `duplicate`: its id was stored before, perhaps
    with another body.
    """

    sequence: int
    duplicate: bool
    body: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """One message of a stream. What does not decode is not hidden: `event()` raises, and the reader decides."""

    stream: str
    subject: str
    sequence: int
    data: bytes
    headers: Mapping[str, str]
    nanoseconds: int
    """When it was stored, since 1970."""

    @property
    def time(self) -> datetime:
        """When it was stored, UTC, cut to microseconds: never later than it was, so who asks from there on finds it."""
        return EPOCH + timedelta(microseconds=self.nanoseconds // 1000)

    def event(self) -> Event:
        """The event in it. Raises `Reject`, see `binding.decode`."""
        return decode(self.data, self.headers, subject=self.subject)
