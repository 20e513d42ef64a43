"""What can go wrong on the way of an event, in few words.

```
Retry        a handler says: not now, try again later            → nak with a delay
Reject       a handler says: never                               → dead letter, then term
└─ Oversized   the event is larger than the bus takes
BusError     the bus says
├─ Unreachable  no connection at the start
├─ NotAllowed   the key has no right to it
├─ Unread       a read got no answer
└─ Unpublished  not stored durably, or not known to be
```
"""

from datetime import timedelta


class Retry(Exception):
    """The message cannot be handled now. `after` None: the consumer's own backoff."""

    def __init__(self, reason: str, after: timedelta | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


class Reject(Exception):
    """The message can never be handled; `reason` names the field, what was expected and what was found."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Oversized(Reject):
    """An event larger than the server's `max_payload`: it will not fit the next time either."""


class BusError(Exception):
    """The bus failed; `reason` says how, for an operator."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unreachable(BusError):
    """No connection could be made: wrong address, server away, or the key is not accepted."""


class NotAllowed(BusError):
    """The user has no right to a subject; the reason names it."""


class Unread(BusError):
    """What is stored could not be read: no answer in time, or no right to it."""


class Unpublished(BusError):
    """No durable acknowledgement came in time. The event *may* be stored: publish it again under the same id."""


class WrongLast(Unpublished):
    """Not stored: something newer is on its subject than the message it was to follow."""
