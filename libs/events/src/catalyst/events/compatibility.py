"""Whether a schema may replace the one in git: stored events stay readable, readers keep what they count on. Pure.

| Change | Allowed |
|---|---|
| a new optional field, a wider type, a new enum value | yes: readers are deployed before writers |
| a field removed | no: writers never remove |
| a type narrowed, an enum value removed, a limit tightened | no: an event of last month would no longer be read |
| an optional field made required, a required one added | no: older events do not have it |
| a required field made optional | no: readers count on it |

What has to change all the same becomes a new version of the type (`….v2`) beside the old one.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from catalyst.events.schemas import JsonSchema

_LOWER_LIMITS = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER_LIMITS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_ANY = frozenset({"null", "boolean", "object", "array", "number", "string"})


def incompatibilities(committed: Mapping[str, JsonSchema], current: Mapping[str, JsonSchema]) -> list[str]:
    """What breaks when `current` replaces `committed`, as sentences; both map file name → schema."""
    found: list[str] = []
    for name, old in sorted(committed.items()):
        if name not in current:
            found.append(f"{name}: the event type was removed")
        else:
            found.extend(f"{name}: {problem}" for problem in _Comparison(old, current[name]).problems())
    return found


class _Comparison:
    """Two documents, whose `$ref`s are resolved on the way."""

    def __init__(self, old: JsonSchema, new: JsonSchema) -> None:
        self._old, self._new = old, new
        self._seen: set[tuple[str, str]] = set()

    def problems(self) -> Iterator[str]:
        yield from self._compare(self._old, self._new, "data")

    def _compare(self, old: JsonSchema, new: JsonSchema, path: str) -> Iterator[str]:
        pair = (old.get("$ref", ""), new.get("$ref", ""))
        if all(pair):
            if pair in self._seen:
                return
            self._seen.add(pair)
        old, new = _resolved(old, self._old), _resolved(new, self._new)
        old_options, new_options = _options(old, self._old), _options(new, self._new)
        old_types, new_types = _types(old_options), _types(new_options)
        for lost in sorted(old_types - new_types):
            if not (lost == "integer" and "number" in new_types):
                yield f"{path}: type narrowed, {lost} is no longer accepted"
        yield from _values(old_options, new_options, path)
        for old_option in old_options:
            match = _counterpart(old_option, new_options)
            if match is not None:
                yield from _limits(old_option, match, path)
                yield from self._children(old_option, match, path)

    def _children(self, old: JsonSchema, new: JsonSchema, path: str) -> Iterator[str]:
        yield from self._fields(old, new, path)
        if isinstance(old.get("items"), dict) and isinstance(new.get("items"), dict):
            yield from self._compare(old["items"], new["items"], f"{path}[]")
        old_values, new_values = old.get("additionalProperties"), new.get("additionalProperties")
        if new_values is False and old_values is not False:
            yield f"{path}: unknown fields are no longer accepted"
        elif isinstance(new_values, dict):
            yield from self._compare(old_values if isinstance(old_values, dict) else {}, new_values, f"{path}.*")

    def _fields(self, old: JsonSchema, new: JsonSchema, path: str) -> Iterator[str]:
        old_fields, new_fields = old.get("properties", {}), new.get("properties", {})
        old_required, new_required = set(old.get("required", ())), set(new.get("required", ()))
        for name in old_fields:
            where = f"{path}.{name}"
            if name not in new_fields:
                yield f"{where}: the field was removed"
                continue
            if name in new_required - old_required:
                yield f"{where}: an optional field was made required"
            if name in old_required - new_required:
                yield f"{where}: a required field was made optional"
            yield from self._compare(old_fields[name], new_fields[name], where)
        for name in sorted(new_required - set(old_fields)):
            yield f"{path}.{name}: a required field was added"


def _resolved(schema: JsonSchema, document: JsonSchema) -> JsonSchema:
    while "$ref" in schema:
        target: JsonSchema = document["$defs"][schema["$ref"].removeprefix("#/$defs/")]
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


def _options(schema: JsonSchema, document: JsonSchema) -> list[JsonSchema]:
    """The alternatives of a schema, one type each."""
    alternatives = schema.get("anyOf") or schema.get("oneOf")
    if alternatives:
        return [
            option for alternative in alternatives for option in _options(_resolved(alternative, document), document)
        ]
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": kind} for kind in schema["type"]]
    return [schema]


def _types(options: list[JsonSchema]) -> set[str]:
    found: set[str] = set()
    for option in options:
        if "type" in option:
            found.add(option["type"])
        elif "enum" in option or "const" in option:
            found |= {_type_of(value) for value in _allowed(option) or ()}
        else:
            found |= _ANY
    return found


def _type_of(value: Any) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null", dict: "object"}
    return names.get(type(value), "array")


def _allowed(option: JsonSchema) -> list[Any] | None:
    if "const" in option:
        return [option["const"]]
    return option.get("enum")


def _values(old: list[JsonSchema], new: list[JsonSchema], path: str) -> Iterator[str]:
    """Values that were possible and are no longer; free text that became a list of words."""
    open_types = {kind for option in new if _allowed(option) is None for kind in _types([option])}
    listed = [value for option in new for value in _allowed(option) or ()]
    for option in old:
        values = _allowed(option)
        if values is None:
            kinds = _types([option])
            if kinds & {_type_of(value) for value in listed} and not kinds & open_types:
                yield f"{path}: type narrowed, only {', '.join(map(str, listed))} are accepted now"
            continue
        for value in values:
            if value not in listed and _type_of(value) not in open_types and _type_of(value) in _types(new):
                yield f"{path}: enum value {value!r} was removed"


def _counterpart(old: JsonSchema, options: list[JsonSchema]) -> JsonSchema | None:
    """The alternative of the new schema that takes the old one's values."""
    wanted = _types([old]) | ({"number"} if "integer" in _types([old]) else set())
    same = [option for option in options if _types([option]) & wanted]
    # Of several objects the one with most fields in common.
    fields = set(old.get("properties", ()))
    return max(same, key=lambda option: len(fields & set(option.get("properties", ()))), default=None)


def _limits(old: JsonSchema, new: JsonSchema, path: str) -> Iterator[str]:
    for limit in _LOWER_LIMITS:
        if limit in new and (limit not in old or new[limit] > old[limit]):
            yield f"{path}: {limit} tightened from {old.get(limit, 'none')} to {new[limit]}"
    for limit in _UPPER_LIMITS:
        if limit in new and (limit not in old or new[limit] < old[limit]):
            yield f"{path}: {limit} tightened from {old.get(limit, 'none')} to {new[limit]}"
    for form in ("pattern", "format"):
        if form in new and new[form] != old.get(form):
            yield f"{path}: {form} changed from {old.get(form, 'none')} to {new[form]}"
