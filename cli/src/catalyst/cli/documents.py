"""Results as documents: what `--output json` and `yaml` print, and what a later door can answer with. Pure.

Names are camelCase, times ISO 8601 in UTC, durations seconds. They are the same whatever the door.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from catalyst.cli.core.history import Moment
from catalyst.cli.operations.dead import Buried
from catalyst.events.binding import data_document
from catalyst.events.dead import Dead
from catalyst.events.stored import Stored
from catalyst.model.names import Identity


def document(value: Any) -> Any:
    """Any result as JSON values."""
    match value:
        case Moment():
            return _moment(value)
        case Dead():
            return _dead(value)
        case Buried():
            return {**_dead(value.dead), "original": _stored(value.original) if value.original else None}
        case Identity() | Path():
            return str(value)
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case Enum():
            return value.value
        case BaseModel():
            return value.model_dump(mode="json", by_alias=True, exclude_none=True)
        case Mapping():
            return {str(name): document(child) for name, child in value.items()}
        case list() | tuple():
            return [document(child) for child in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {to_camel(field.name): document(getattr(value, field.name)) for field in fields(value)}
    return value


def _moment(one: Moment) -> dict[str, Any]:
    """The place in the stream, and the event as it is stored; what cannot be read as its text, with the reason."""
    head = {"ref": one.ref, "subject": one.stored.subject, "storedAt": document(one.at)}
    if one.event is None:
        return {**head, "problem": one.problem, "text": one.stored.data.decode(errors="replace")}
    event = one.event
    return {
        **head,
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "time": document(event.time),
        "correlationId": event.correlation_id,
        "causationId": event.causation_id,
        "actor": event.actor,
        "traceparent": event.traceparent,
        # A forge's payload rides along as the bytes it came in: JSON once more.
        "data": orjson.loads(orjson.dumps(data_document(event.data))),
    }


def _dead(one: Dead) -> dict[str, Any]:
    letter = one.letter
    return {
        "ref": f"{one.entry.stream}/{one.entry.sequence}",
        "at": document(one.entry.time),
        "service": letter.service if letter else one.consumer,
        "consumer": one.consumer,
        "message": f"{one.stream}/{one.sequence}" if one.consumer else None,
        "subject": letter.original_subject if letter else None,
        "eventType": letter.event_type if letter else None,
        "eventId": letter.event_id if letter else None,
        "delivered": letter.delivered if letter else None,
        "reason": one.reason,
        "settled": document(one.settled) if one.settled else None,
    }


def _stored(stored: Stored) -> dict[str, Any]:
    return {
        "ref": f"{stored.stream}/{stored.sequence}",
        "subject": stored.subject,
        "storedAt": document(stored.time),
        "text": stored.data.decode(errors="replace"),
    }
