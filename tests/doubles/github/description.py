"""GitHub's own description of its API (`@octokit/openapi`): which operation a request is, and whether what is asked,
answered or sent as a webhook is as described.

A request may hold nothing that the description does not know: GitHub ignores a misspelt field, and nobody notices.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError, best_match
from referencing import Registry
from referencing.jsonschema import DRAFT202012

FILE = Path(__file__).resolve().parents[2] / "data" / "github-openapi" / "api.github.com.json"
BASE = "urn:github"
LONGEST = 300


@dataclass(frozen=True)
class Operation:
    """One thing that can be asked. `pointer` is where the description speaks of it."""

    id: str
    verb: str
    path: str
    pointer: str
    parameters: tuple[Mapping[str, Any], ...]
    body: Mapping[str, Any] | None
    statuses: frozenset[str]

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What paths are of this operation."""
        # A Git ref may have slashes; nothing else may.
        parts = (
            re.escape(part) if not part.startswith("{") else f"(?P<{part[1:-1]}>{'.+' if part == '{ref}' else '[^/]+'})"
            for part in re.split(r"(\{\w+\})", self.path)
        )
        return re.compile("".join(parts))


@dataclass(frozen=True)
class Wrong:
    """Why something is not as described, in GitHub's words for a 422's `errors`."""

    field: str
    message: str


class Description:
    """Everything that the double knows how to check."""

    def __init__(self, file: Path = FILE) -> None:
        self._document = _as_json_schema(json.loads(file.read_text(encoding="utf-8")))
        self._registry: Registry[Any] = Registry().with_resource(BASE, DRAFT202012.create_resource(self._document))
        self._validators: dict[str, Draft202012Validator] = {}
        self.operations = {operation.id: operation for operation in self._operations()}

    def operation(self, verb: str, path: str) -> tuple[Operation, dict[str, str]] | None:
        """Which operation this is, with what its path says."""
        for operation in self.operations.values():
            found = operation.pattern.fullmatch(path) if operation.verb == verb else None
            if found:
                return operation, found.groupdict()
        return None

    def wrong_request(
        self, operation: Operation, path: Mapping[str, str], query: Mapping[str, str], body: Any
    ) -> Wrong | None:
        """What of a request is not as described. `body`: None when there is none."""
        known = {parameter["name"]: parameter for parameter in operation.parameters if parameter["in"] == "query"}
        for name in query:
            if name not in known:
                return Wrong(name, f"expected one of {', '.join(sorted(known)) or 'no query parameters'}")
        for parameter in operation.parameters:
            given = (path if parameter["in"] == "path" else query).get(parameter["name"])
            if given is None:
                if parameter.get("required"):
                    return Wrong(parameter["name"], "is missing")
                continue
            if reason := self._wrong_text(parameter["schema"], given):
                return Wrong(parameter["name"], reason)
        return self._wrong_body(operation, body)

    def wrong_answer(self, operation: Operation, status: int, body: Any) -> Wrong | None:
        """What of an answer is not as described; `body` None: there is none."""
        if str(status) not in operation.statuses:
            if status < 400:
                return Wrong("status", f"{status}: expected one of {', '.join(sorted(operation.statuses))}")
            return self._wrong(f"{BASE}#/components/schemas/basic-error", body)
        described = self._resolved(f"{operation.pointer}/responses/{status}")
        content = self._at(described).get("content", {})
        if "application/json" not in content:
            return Wrong("body", "expected none") if body not in (None, b"") else None
        return self._wrong(f"{BASE}#{described}/content/application~1json/schema", body)

    def wrong_webhook(self, name: str, payload: Any) -> Wrong | None:
        """What of a webhook is not as described; `name` as in the description: `pull-request-opened`."""
        return self._wrong(f"{BASE}#/x-webhooks/{name}/post/requestBody/content/application~1json/schema", payload)

    def _wrong_body(self, operation: Operation, body: Any) -> Wrong | None:
        if operation.body is None:
            return Wrong("body", "expected none") if body not in (None, {}) else None
        if body is None:
            return Wrong("body", "is missing") if operation.body.get("required") else None
        schema = self._at(f"{operation.pointer}/requestBody/content/application~1json/schema")
        known = set(_fields(schema))
        if isinstance(body, dict) and known:
            for name in body:
                if name not in known:
                    return Wrong(name, f"expected one of {', '.join(sorted(known))}")
        return self._wrong(f"{BASE}#{operation.pointer}/requestBody/content/application~1json/schema", body)

    def _wrong_text(self, schema: Mapping[str, Any], given: str) -> str | None:
        """Paths and queries are text: 42 is a number where one is expected."""
        value: Any = given
        kinds = schema.get("type", "string")
        if "integer" in kinds and re.fullmatch(r"-?\d{1,18}", given):
            value = int(given)
        if "boolean" in kinds and given in ("true", "false"):
            value = given == "true"
        found = best_match(Draft202012Validator(dict(schema), registry=self._registry).iter_errors(value))
        return found.message[:LONGEST] if found else None

    def _wrong(self, reference: str, value: Any) -> Wrong | None:
        validator = self._validators.get(reference)
        if validator is None:
            validator = Draft202012Validator({"$ref": reference}, registry=self._registry, format_checker=FORMATS)
            self._validators[reference] = validator
        found = best_match(validator.iter_errors(value))
        return None if found is None else Wrong(_place(found), found.message[:LONGEST])

    def _operations(self) -> Iterator[Operation]:
        for path, verbs in self._document["paths"].items():
            for verb, told in verbs.items():
                pointer = f"/paths/{_escaped(path)}/{verb}"
                parameters = (self._parameter(each) for each in told.get("parameters", ()))
                yield Operation(
                    id=told["operationId"],
                    verb=verb.upper(),
                    path=path,
                    pointer=pointer,
                    parameters=tuple(parameters),
                    body=told.get("requestBody"),
                    statuses=frozenset(told["responses"]),
                )

    def _parameter(self, told: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._at(told["$ref"][1:]) if "$ref" in told else told

    def _resolved(self, pointer: str) -> str:
        found = self._at(pointer)
        return found["$ref"][1:] if "$ref" in found else pointer

    def _at(self, pointer: str) -> Any:
        value = self._document
        for step in pointer.split("/")[1:]:
            value = value[step.replace("~1", "/").replace("~0", "~")]
        return value


FORMATS = FormatChecker(formats=())


@FORMATS.checks("date-time", raises=ValueError)
def _is_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


@FORMATS.checks("uri", raises=ValueError)
def _is_uri(value: object) -> bool:
    # An empty one is the default of several fields that are said to be a URI.
    return not value or not isinstance(value, str) or bool(urlsplit(value).scheme)


def _place(error: ValidationError) -> str:
    return ".".join(map(str, error.absolute_path)) or "body"


def _escaped(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1")


def _fields(schema: Mapping[str, Any]) -> Iterator[str]:
    """The names that an object of this schema may have; nothing when any may be there."""
    yield from schema.get("properties", {})
    alternatives: Iterable[Mapping[str, Any]]
    for word in ("oneOf", "anyOf", "allOf"):
        alternatives = schema.get(word, ())
        for each in alternatives:
            yield from _fields(each)


def _as_json_schema(value: Any) -> Any:
    """OpenAPI 3.0 writes `nullable`, which JSON Schema does not know."""
    if isinstance(value, list):
        return [_as_json_schema(each) for each in value]
    if not isinstance(value, dict):
        return value
    made = {key: _as_json_schema(each) for key, each in value.items() if key != "nullable"}
    if value.get("nullable") is not True:
        return made
    return {"anyOf": [made, {"type": "null"}], **({"properties": made["properties"]} if "properties" in made else {})}
