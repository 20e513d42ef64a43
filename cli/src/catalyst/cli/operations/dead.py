"""What nobody could handle: seen, sent again, or dropped with a reason. Nothing is removed: who deals with a letter
says so beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from catalyst.cli.core.history import moment
from catalyst.cli.core.resending import is_order_free, is_superseded
from catalyst.cli.operations import NotThere, Refused
from catalyst.events.bus import Bus
from catalyst.events.catalogue import Data, DeadSettled
from catalyst.events.dead import Dead, dead
from catalyst.events.errors import Reject
from catalyst.events.event import Cause, dead_settled
from catalyst.events.stored import Stored
from catalyst.events.topology import DEAD


@dataclass(frozen=True, slots=True)
class Buried:
    """A dead letter, and the message it is about as it still stands in its stream; None: it is not kept any more."""

    dead: Dead
    original: Stored | None


@dataclass(frozen=True, slots=True)
class Settled:
    """What was done. `again`: it had been done before, and this time nothing happened."""

    ref: str
    outcome: str
    again: bool
    resent: str | None = None


async def listed(bus: Bus, *, service: str | None = None, settled: bool = False) -> list[Dead]:
    """What needs a person, oldest first; `settled`: also what somebody has dealt with."""
    found = dead([stored async for stored in bus.messages(DEAD, ">")])
    return [
        one
        for one in found
        if (settled or one.settled is None) and service in (None, one.letter.service if one.letter else one.consumer)
    ]


async def show(bus: Bus, sequence: int) -> Buried:
    """One letter by its number in DEAD. Raises `NotThere`."""
    one = await _one(bus, sequence)
    return Buried(one, await bus.message(one.stream, one.sequence) if one.consumer else None)


async def resend(bus: Bus, sequence: int, *, by: str, clock: Callable[[], datetime]) -> Settled:
    """Publishes the original again, the same event under a new message id, and says so beside the letter. Doing that
    twice, or for a message that was handled meanwhile, has no second effect.

    Raises:
        NotThere: no such letter.
        Refused: it was dropped; the original is lost or cannot be read; something newer has superseded it.
    """
    buried = await show(bus, sequence)
    one = buried.dead
    ref = f"{DEAD}/{sequence}"
    if one.settled is not None:
        if one.settled.outcome == "dropped":
            raise Refused(f"{ref} was dropped by {one.settled.by}: {one.settled.reason}")
        return Settled(ref, "resent", True, f"{one.stream}/{one.settled.resent_sequence}")
    original = buried.original or _carried(one)
    if original is None:
        raise Refused(f"{ref}: its message is not in {one.stream} any more, and the letter does not hold it; drop it")
    try:
        event = original.event()
    except Reject as error:
        raise Refused(
            f"{ref} would die again: {error.reason}. Drop it, or send it again with a version that reads it"
        ) from error
    newest = None if is_order_free(event.data) else await _newest(bus, buried, original, event.data)
    published = await bus.resend(original, unless_after=newest)
    said = DeadSettled(
        consumer=one.consumer,
        stream=one.stream,
        sequence=one.sequence,
        outcome="resent",
        by=by,
        resent_sequence=published.sequence,
    )
    await bus.publish(dead_settled(said, time=clock(), cause=_cause(one)))
    return Settled(ref, "resent", published.duplicate, f"{published.stream}/{published.sequence}")


async def drop(bus: Bus, sequence: int, *, by: str, reason: str, clock: Callable[[], datetime]) -> Settled:
    """Says beside the letter that nothing will be done about it, by whom and why; letter and message stay.

    Raises:
        NotThere: no such letter.
        Refused: it was dealt with in another way; no reason; or the entry names no message.
    """
    one = await _one(bus, sequence)
    ref = f"{DEAD}/{sequence}"
    if not reason.strip():
        raise Refused(f"{ref}: give a reason, for those who look for it later")
    if not one.consumer:
        raise Refused(f"{ref} is neither a letter nor an advisory; it goes by itself after 90 days")
    if one.settled is not None:
        if one.settled.outcome != "dropped":
            raise Refused(f"{ref} was sent again by {one.settled.by}, as {one.stream}/{one.settled.resent_sequence}")
        return Settled(ref, "dropped", True)
    said = DeadSettled(
        consumer=one.consumer,
        stream=one.stream,
        sequence=one.sequence,
        outcome="dropped",
        by=by,
        reason=reason.strip()[:1024],
    )
    await bus.publish(dead_settled(said, time=clock(), cause=_cause(one)))
    return Settled(ref, "dropped", False)


async def _newest(bus: Bus, buried: Buried, original: Stored, data: Data) -> int:
    """The sequence of the newest message on its subject, all of which leave it as it is. Raises `Refused`."""
    newest = original.sequence if buried.original else 0
    async for later in bus.messages(original.stream, original.subject, start=original.sequence + 1):
        newest = later.sequence
        following = moment(later).event
        if following and is_superseded(data, following.data):
            raise Refused(
                f"{DEAD}/{buried.dead.entry.sequence} is superseded by {later.stream}/{later.sequence}, which is "
                "newer: sent again it would undo that. Drop it"
            )
    return newest


async def _one(bus: Bus, sequence: int) -> Dead:
    found = await listed(bus, settled=True)
    for one in found:
        if one.entry.sequence == sequence:
            return one
    numbers = ", ".join(str(one.entry.sequence) for one in found[-5:])
    raise NotThere(f"no dead letter {DEAD}/{sequence}: {f'the last are {numbers}' if numbers else 'there are none'}")


def _carried(one: Dead) -> Stored | None:
    """The message as the letter holds it, if its text fitted."""
    letter = one.letter
    if letter is None or letter.message is None:
        return None
    headers = {"content-type": "application/cloudevents+json"}
    return Stored(
        one.stream, letter.original_subject, one.sequence, letter.message.encode(), headers, one.entry.nanoseconds
    )


def _cause(one: Dead) -> Cause:
    letter = moment(one.entry).event
    return Cause(letter.correlation_id, letter.message_id) if letter else Cause()
