"""What a webhook is answered. Pure: bytes and the time in, an event to publish or an answer out.

| The webhook | is answered | `result` |
|---|---|---|
| unsigned, or not by a secret of ours | 401 | `refused` |
| larger than 25 MB | 413 | `refused` |
| slower than 10 s | 408 | `refused` |
| a header missing, invalid JSON, a field missing or wrong | 400 | `refused` |
| a ping | 200 | `pong` |
| nothing that we use yet | 202 | `ignored` |
| a fact, stored durably | 202 | `published` |
| a fact that was stored before | 202 | `duplicate` |
| a fact that the bus could not store | 503, Retry-After | `unavailable` |
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Final, Literal

import orjson

from catalyst.events.catalogue import BranchPushed, CommandGiven, CommentWritten, PullRequestChanged, ScmData
from catalyst.events.event import Event, scm_event
from catalyst.forge.errors import BadPayload, BadSignature
from catalyst.forge.protocol import Delivery, Forge, Headers, Ignored, Ping

MAX_BODY: Final = 26_214_400
"""Bytes. GitHub caps payloads at 25 MB."""
RETRY_AFTER: Final = 10
"""Seconds until trying again makes sense: NATS is back within that after a restart or a change of leader."""
UNKNOWN_EVENT: Final = "other"

Result = Literal["published", "duplicate", "ignored", "pong", "refused", "unavailable"]


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; `reason` says what was expected wherever nothing was published."""

    status: HTTPStatus
    result: Result
    delivery: Delivery | None = None
    subject: str | None = None
    reason: str | None = None
    retry_after: int | None = None

    def body(self) -> bytes:
        """`{"delivery": …, "result": …, "subject": …, "reason": …}`"""
        delivery = self.delivery.id if self.delivery else None
        return orjson.dumps(
            {"delivery": delivery, "result": self.result, "subject": self.subject, "reason": self.reason}
        )


@dataclass(frozen=True, slots=True)
class Fact:
    """An event to publish before the webhook may be answered."""

    delivery: Delivery
    event: Event


def reading(forge: Forge, headers: Headers, body: bytes, secrets: Sequence[bytes], now: datetime) -> Fact | Answer:
    """What a webhook says. The signature comes first: an unsigned sender learns nothing else."""
    delivery = None
    try:
        forge.verify(headers, body, secrets)
        delivery = forge.delivery(headers)
        told = forge.translate(delivery, body)
    except BadSignature as exc:
        return Answer(HTTPStatus.UNAUTHORIZED, "refused", reason=str(exc))
    except BadPayload as exc:
        return Answer(HTTPStatus.BAD_REQUEST, "refused", delivery, reason=str(exc))
    match told:
        case Ping():
            return Answer(HTTPStatus.OK, "pong", delivery)
        case Ignored(reason):
            return Answer(HTTPStatus.ACCEPTED, "ignored", delivery, reason=reason)
        case fact:
            return Fact(delivery, scm_event(fact, delivery=delivery.id, time=now, actor=f"{forge.name}:{_who(fact)}"))


def stored(fact: Fact, *, duplicate: bool) -> Answer:
    """The event is safe."""
    result: Result = "duplicate" if duplicate else "published"
    return Answer(HTTPStatus.ACCEPTED, result, fact.delivery, subject=fact.event.subject)


def unavailable(reason: str, fact: Fact | None = None) -> Answer:
    """Nothing is safe: whoever sent it should send it again."""
    delivery = fact.delivery if fact else None
    return Answer(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", delivery, reason=reason, retry_after=RETRY_AFTER)


def too_large() -> Answer:
    """The body has more than `MAX_BODY` bytes."""
    return Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "refused", reason=f"body: expected at most {MAX_BODY} bytes")


def too_slow(seconds: float) -> Answer:
    """The body did not arrive in time."""
    return Answer(HTTPStatus.REQUEST_TIMEOUT, "refused", reason=f"body: expected all of it within {seconds:g} s")


def _who(fact: ScmData) -> str:
    match fact:
        case PullRequestChanged(sender=who) | BranchPushed(sender=who):
            return who
        case CommentWritten(author=who) | CommandGiven(author=who):
            return who
    raise TypeError(f"{type(fact).__name__}: expected a fact of the catalogue")


def event_label(forge: Forge, answer: Answer) -> str:
    """The event's name as a metric label: whatever a sender makes up counts as one."""
    event = answer.delivery.event if answer.delivery else UNKNOWN_EVENT
    return event if event in forge.events else UNKNOWN_EVENT
