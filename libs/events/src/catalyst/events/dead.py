"""The dead: what nobody could handle, from our own letters and from the server's advisories. Pure.

A consumer that rejects writes a letter with the reason and then terminates the message; the server reports that
termination too. The advisory says less, so it is dropped when a letter for the same (stream, consumer, sequence) is
there. What remains are messages that killed their handler until the server gave up.

Nothing leaves DEAD before its time. Who has dealt with a message says so beside it: `DeadSettled`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

import orjson

from catalyst.events.catalogue import DeadLetter, DeadSettled
from catalyst.events.errors import Reject
from catalyst.events.stored import Stored
from catalyst.events.topology import ADVISORY, MAX_DELIVERIES, consumers

Kind = Literal["rejected", "given up", "unanswered", "terminated", "unreadable"]


@dataclass(frozen=True, slots=True)
class Dead:
    """One message that needs a person. `letter`: its consumer could still say why; `entry`: where DEAD keeps it;
    `settled`: somebody has dealt with it.
    """

    stream: str
    consumer: str
    sequence: int
    reason: str
    entry: Stored
    letter: DeadLetter | None = None
    settled: DeadSettled | None = None

    @property
    def service(self) -> str:
        """Whose message it was."""
        if self.letter is not None:
            return self.letter.service
        return next((each.service for each in consumers() if each.name == self.consumer), "unknown")

    @property
    def kind(self) -> Kind:
        """The reason, in one of few words: what metrics count by."""
        if self.letter is not None:
            return "given up" if self.letter.reason.startswith(LETTER_GIVEN_UP) else "rejected"
        return "unanswered" if self.reason == GIVEN_UP else "terminated" if self.reason == TERMINATED else "unreadable"


LETTER_GIVEN_UP: Final = "given up after"
"""How the letter of a message begins that was tried as often as allowed, and failed each time."""
GIVEN_UP: Final = "the server gave up: delivered as often as allowed and never answered for"
TERMINATED: Final = "terminated without a letter"
UNREADABLE: Final = "an entry of DEAD that is neither a letter nor an advisory"


def dead(entries: Iterable[Stored]) -> list[Dead]:
    """What stands in DEAD, oldest first, each message once a consumer."""
    return joined(map(read, entries))


def joined(found: Iterable[Dead | DeadSettled]) -> list[Dead]:
    """Letters before advisories of the same, and beside each who has dealt with it; oldest first."""
    letters: dict[tuple[str, str, int], Dead] = {}
    advisories: dict[tuple[str, str, int], Dead] = {}
    settled: dict[tuple[str, str, int], DeadSettled] = {}
    unreadable: list[Dead] = []
    for one in found:
        if isinstance(one, DeadSettled):
            settled[one.stream, one.consumer, one.sequence] = one
        elif one.reason == UNREADABLE:
            unreadable.append(one)
        else:
            (letters if one.letter else advisories).setdefault((one.stream, one.consumer, one.sequence), one)
    known = {key: replace(one, settled=settled.get(key)) for key, one in {**advisories, **letters}.items()}
    return sorted([*unreadable, *known.values()], key=lambda one: one.entry.sequence)


def lean(found: Dead | DeadSettled) -> Dead | DeadSettled:
    """The same without the message: enough to count by, and small."""
    if isinstance(found, DeadSettled):
        return found
    letter = found.letter.model_copy(update={"message": None}) if found.letter else None
    return replace(found, entry=replace(found.entry, data=b""), letter=letter)


def read(entry: Stored) -> Dead | DeadSettled:
    """What one entry of DEAD says."""
    return _told(entry) or Dead(entry.stream, "", entry.sequence, UNREADABLE, entry)


def _told(entry: Stored) -> Dead | DeadSettled | None:
    try:
        if entry.subject.startswith(f"{ADVISORY}."):
            document = orjson.loads(entry.data)
            reason = GIVEN_UP if entry.subject.startswith(f"{MAX_DELIVERIES}.") else TERMINATED
            return Dead(document["stream"], document["consumer"], document["stream_seq"], reason, entry)
        letter = entry.event().data
    except (Reject, ValueError, KeyError, TypeError):
        return None
    if isinstance(letter, DeadSettled):
        return letter
    if not isinstance(letter, DeadLetter):
        return None
    return Dead(letter.stream, letter.consumer, letter.sequence, letter.reason, entry, letter)
