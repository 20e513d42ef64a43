"""AsyncAPI 3.1: the catalogue as a document that people and generators read. Pure: `tools/generate.py` writes it.

A channel is a subject's pattern with its parameters, a message one event type; a service `send`s what it writes and
`receive`s what its consumers ask for.
"""

from typing import Any, Final

from catalyst.events.binding import CONTENT_TYPE, data_document
from catalyst.events.catalogue import (
    CATALOGUE,
    AuditRecord,
    BranchPushed,
    CommandGiven,
    CommentWritten,
    Data,
    DeadLetter,
    DeadSettled,
    EnvironmentChanged,
    EnvironmentData,
    PullRequestChanged,
)
from catalyst.events.event import Event
from catalyst.events.examples import examples
from catalyst.events.schemas import json_schema
from catalyst.events.subjects import dead_subject
from catalyst.events.topology import CONSUMERS

VERSION: Final = "1.0.0"
_PARAMETERS: Final = {
    "forge": "The forge: github.",
    "owner": "The repository's owner, lower case; of nested groups everything before the last slash.",
    "repository": "The repository's name, lower case.",
    "number": "The pull request's number.",
    "branch": "The branch's name, escaped.",
    "team": "The team.",
    "project": "The project.",
    "environment": "The environment.",
    "service": "The service that could not handle the message.",
}
_SCM: Final = {
    PullRequestChanged: "pull_request.{number}",
    BranchPushed: "branch.{branch}",
    CommentWritten: "comment.{number}",
    CommandGiven: "command.{number}",
}
_IDENTITY: Final = "{team}.{project}.{environment}"


def document() -> dict[str, Any]:
    """The AsyncAPI document."""
    shown = examples()
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "Catalyst Environments",
            "version": VERSION,
            "description": "What happens to pull requests, branches and environments: CloudEvents 1.0 in structured "
            "mode on NATS JetStream. Readers ignore unknown fields; writers never remove one.",
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {_key(data): _channel(data) for data in CATALOGUE.values()},
        "operations": _operations(),
        "components": {
            "messages": {_key(data): _message(data, shown[data.TYPE]) for data in CATALOGUE.values()},
            "schemas": {_key(data): _schema(data) for data in CATALOGUE.values()},
        },
    }


def address(data: type[Data]) -> str:
    """The subject's pattern: `env.{team}.{project}.{environment}.build.requested`."""
    if data in _SCM:
        return f"scm.{{forge}}.{{owner}}.{{repository}}.{_SCM[data]}"
    if issubclass(data, EnvironmentChanged):
        return f"env.{_IDENTITY}.environment.changed"
    if issubclass(data, EnvironmentData):
        return f"env.{_IDENTITY}.{data.NOUN}.{data.VERB}"
    if issubclass(data, AuditRecord):
        return f"audit.{_IDENTITY}"
    if issubclass(data, DeadLetter):
        return "dead.{service}"
    if issubclass(data, DeadSettled):
        return dead_subject(data.WRITERS[0])
    raise TypeError(f"{data.__name__} has no address: add it here")


def _channel(data: type[Data]) -> dict[str, Any]:
    pattern = address(data)
    used = {name: {"description": text} for name, text in _PARAMETERS.items() if f"{{{name}}}" in pattern}
    return {
        "address": pattern,
        "messages": {_key(data): {"$ref": f"#/components/messages/{_key(data)}"}},
        "parameters": used,
    }


def _message(data: type[Data], example: Event) -> dict[str, Any]:
    return {
        "name": data.TYPE,
        "title": data.short_type(),
        "summary": (data.__doc__ or "").partition("\n")[0],
        "contentType": CONTENT_TYPE,
        "headers": {
            "type": "object",
            "properties": {
                "Nats-Msg-Id": {"type": "string", "description": "source/id: a repeat within 72 hours is dropped."},
                "traceparent": {"type": "string", "description": "W3C trace context, also in the event."},
            },
            "required": ["Nats-Msg-Id"],
        },
        "payload": _envelope(data),
        "examples": [{"name": example.id, "payload": _example(example)}],
    }


def _envelope(data: type[Data]) -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "type": "object",
        "required": ["specversion", "id", "source", "type", "subject", "time", "dataschema", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {**text, "minLength": 1},
            "source": {**text, "enum": list(data.WRITERS)},
            "type": {"const": data.TYPE},
            "subject": {**text, "description": "The thing it speaks of."},
            "time": {**text, "format": "date-time"},
            "datacontenttype": {"const": "application/json"},
            "dataschema": {"const": data.dataschema()},
            "correlationid": {**text, "description": "The same along a whole causal chain."},
            "causationid": {**text, "description": "The event that led to this one."},
            "actor": {**text, "description": "The principal behind it."},
            "traceparent": text,
            "data": {"$ref": f"#/components/schemas/{_key(data)}"},
        },
    }


def _schema(data: type[Data]) -> dict[str, Any]:
    """The data's schema with its `$defs` found from the document's root."""
    schema = json_schema(data)
    del schema["$schema"], schema["$id"]
    moved: dict[str, Any] = _moved(schema, f"#/components/schemas/{_key(data)}/$defs/")
    return moved


def _moved(value: Any, base: str) -> Any:
    if isinstance(value, dict):
        return {
            key: base + item.removeprefix("#/$defs/") if key == "$ref" and isinstance(item, str) else _moved(item, base)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_moved(item, base) for item in value]
    return value


def _operations() -> dict[str, Any]:
    operations: dict[str, Any] = {}
    for data in CATALOGUE.values():
        channel = {"$ref": f"#/channels/{_key(data)}"}
        for service in data.WRITERS:
            operations[f"{service}.send.{_key(data)}"] = {"action": "send", "channel": channel}
        for consumer in CONSUMERS:
            if any(_matches(pattern, address(data)) for pattern in consumer.filters):
                operations[f"{consumer.service}.receive.{_key(data)}"] = {"action": "receive", "channel": channel}
    return operations


def _matches(pattern: str, subject: str) -> bool:
    wanted, tokens = pattern.split("."), subject.split(".")
    return len(wanted) == len(tokens) and all(want in ("*", token) for want, token in zip(wanted, tokens, strict=True))


def _example(event: Event) -> dict[str, Any]:
    document = data_document(event.data)
    if "payload" in document:
        document["payload"] = {"action": "opened"}
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "subject": event.data.about(),
        "time": event.time.isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "dataschema": event.data.dataschema(),
        "correlationid": event.correlation_id,
        "data": document,
    }


def _key(data: type[Data]) -> str:
    return data.__name__
