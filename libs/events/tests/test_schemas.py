"""Schemas and AsyncAPI: valid, true to what is written, and only ever changed compatibly."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest

from catalyst.events import asyncapi
from catalyst.events.binding import encode
from catalyst.events.catalogue import CATALOGUE, EnvironmentChanged, PullRequestChanged
from catalyst.events.compatibility import incompatibilities
from catalyst.events.event import Event
from catalyst.events.examples import examples
from catalyst.events.schemas import json_schema, json_schemas

HERE = Path(__file__).resolve().parent
SCHEMAS = HERE.parent / "schemas"
ASYNCAPI = HERE.parents[2] / "tests" / "data" / "asyncapi" / "asyncapi-3.1.0.schema.json"
NAME = PullRequestChanged.schema_file()


@pytest.mark.parametrize("event", examples().values(), ids=examples())
def test_what_is_written_fits_its_schema(event: Event) -> None:
    schema = json_schema(type(event.data))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(orjson.loads(encode(event)[0])["data"], schema, jsonschema.Draft202012Validator)


def test_every_type_has_a_schema_with_its_address() -> None:
    found = json_schemas()
    assert len(found) == len(CATALOGUE)
    for data in CATALOGUE.values():
        assert found[data.schema_file()]["$id"] == data.dataschema()
        assert data.TYPE.startswith("dev.catalyst.")
        assert data.TYPE.rpartition(".")[2] == "v1"


def test_no_incompatible_change_since_the_committed_schemas() -> None:
    committed = {path.name: json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")}
    assert committed, "make generate has not been run"
    assert incompatibilities(committed, json_schemas()) == []


def test_the_asyncapi_document_is_valid() -> None:
    document = json.loads(json.dumps(asyncapi.document()))
    jsonschema.Draft7Validator(json.loads(ASYNCAPI.read_text())).validate(document)
    for event in examples().values():
        payload = document["components"]["messages"][type(event.data).__name__]["payload"]
        inlined = {**payload, "components": document["components"]}
        jsonschema.Draft202012Validator(inlined).validate(orjson.loads(encode(event)[0]))


def test_the_asyncapi_validator_does_refuse() -> None:
    document = json.loads(json.dumps(asyncapi.document()))
    document["operations"]["builder.send.BuildFinished"]["action"] = "shout"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(json.loads(ASYNCAPI.read_text())).validate(document)


def planted(**change: Any) -> dict[str, Any]:
    """The pull request's schema with properties replaced; None removes one."""
    schema = copy.deepcopy(json_schema(PullRequestChanged))
    for name, value in change.items():
        if value is None:
            del schema["properties"][name]
            schema["required"] = [field for field in schema["required"] if field != name]
        else:
            schema["properties"][name] = value
    return schema


def required(schema: dict[str, Any], *, add: str = "", remove: str = "") -> dict[str, Any]:
    fields = (set(schema["required"]) | {add}) - {remove, ""}
    return {**schema, "required": sorted(fields)}


TEXT = {"type": "string"}
BREAKS = {
    "a field removed": (planted(title=None), "data.title: the field was removed"),
    "a nested field removed": (
        (lambda schema: schema["$defs"]["Repository"]["properties"].pop("cloneUrl") and schema)(planted()),
        "data.repository.cloneUrl: the field was removed",
    ),
    "a type changed": (planted(title={"type": "integer"}), "data.title: type narrowed, string is no longer accepted"),
    "null no longer accepted": (
        planted(closedAt={"type": "string", "format": "date-time"}),
        "data.closedAt: type narrowed, null is no longer accepted",
    ),
    "number to integer": (
        planted(number={"type": "integer", "minimum": 5}),
        "data.number: minimum tightened from 1 to 5",
    ),
    "an enum value removed": (
        planted(state={"type": "string", "enum": ["open"]}),
        "data.state: enum value 'closed' was removed",
    ),
    "text became words": (
        planted(action={"type": "string", "enum": ["opened"]}),
        "data.action: type narrowed, only opened are accepted now",
    ),
    "an optional made required": (
        required(planted(), add="labels"),
        "data.labels: an optional field was made required",
    ),
    "a required made optional": (
        required(planted(), remove="title"),
        "data.title: a required field was made optional",
    ),
    "a required field added": (
        required(planted(mergeable=TEXT), add="mergeable"),
        "data.mergeable: a required field was added",
    ),
    "a pattern tightened": (
        planted(title={"type": "string", "pattern": "^[a-z]+$"}),
        "data.title: pattern changed from none to ^[a-z]+$",
    ),
    "items narrowed": (
        planted(labels={"type": "array", "items": {"type": "integer"}}),
        "data.labels[]: type narrowed, string is no longer accepted",
    ),
    "unknown fields refused": (
        {**planted(), "additionalProperties": False},
        "data: unknown fields are no longer accepted",
    ),
}


@pytest.mark.parametrize(("schema", "problem"), BREAKS.values(), ids=BREAKS)
def test_a_planted_incompatible_change_is_named(schema: dict[str, Any], problem: str) -> None:
    found = incompatibilities({NAME: json_schema(PullRequestChanged)}, {NAME: schema})
    assert found == [f"{NAME}: {problem}"]


def test_a_removed_event_type_is_named() -> None:
    assert incompatibilities({NAME: json_schema(PullRequestChanged)}, {}) == [f"{NAME}: the event type was removed"]


def test_an_enum_value_removed_deep_in_the_snapshot_is_named() -> None:
    schema = copy.deepcopy(json_schema(EnvironmentChanged))
    schema["$defs"]["Phase"]["enum"].remove("Gone")
    found = incompatibilities({"e": json_schema(EnvironmentChanged)}, {"e": schema})
    assert found == ["e: data.snapshot.phase: enum value 'Gone' was removed"]


ALLOWED = {
    "a new optional field": planted(mergeable=TEXT),
    "a wider type": planted(title={"anyOf": [TEXT, {"type": "null"}]}),
    "a new enum value": planted(state={"type": "string", "enum": ["open", "closed", "locked"]}),
    "words became text": planted(state=TEXT),
    "a limit loosened": planted(number={"type": "integer"}),
    "another description": planted(title={"type": "string", "description": "new"}),
}


@pytest.mark.parametrize("schema", ALLOWED.values(), ids=ALLOWED)
def test_a_compatible_change_is_allowed(schema: dict[str, Any]) -> None:
    assert incompatibilities({NAME: json_schema(PullRequestChanged)}, {NAME: schema}) == []
