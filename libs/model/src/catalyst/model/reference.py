"""A JSON Schema as a table for people: one line per field, in the order of the model."""

from collections.abc import Iterator
from typing import Any

from catalyst.model.fields import Json

_HEADER = "| Field | Type | Default | Description |\n|---|---|---|---|\n"


def field_table(schema: Json) -> str:
    """Markdown: every field of an object's schema by dotted path; `[]` marks a list's entries, `{}` a map's.

    Reads structural schemas as well as pydantic's with `$defs`. A model that contains itself is shown once per path.
    """
    definitions = schema.get("$defs", {})
    root, names = _resolved(schema, definitions)
    lines = (
        f"| `{path}` | {kind} | {default} | {description} |\n"
        for path, kind, default, description in _rows(root, "", definitions, names)
    )
    return _HEADER + "".join(lines)


def _rows(node: Json, prefix: str, definitions: Json, seen: tuple[str, ...]) -> Iterator[tuple[str, str, str, str]]:
    required = node.get("required", ())
    for name, child in node.get("properties", {}).items():
        target, names = _resolved(child, definitions)
        path = f"{prefix}{name}"
        kind = _kind(target, definitions)
        description = " ".join(str(target.get("description", "")).split())
        yield path, _cell(kind), _default(target, name in required), _cell(description)
        if not set(names) & set(seen):
            yield from _inside(target, path, definitions, (*seen, *names))


def _inside(node: Json, path: str, definitions: Json, seen: tuple[str, ...]) -> Iterator[tuple[str, str, str, str]]:
    if "properties" in node:
        yield from _rows(node, f"{path}.", definitions, seen)
        return
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(node.get(key), dict):
            target, names = _resolved(node[key], definitions)
            if not set(names) & set(seen):
                yield from _inside(target, f"{path}{mark}", definitions, (*seen, *names))


def _resolved(node: Json, definitions: Json) -> tuple[Json, tuple[str, ...]]:
    """The node without `$ref` and "or null", and the names of the definitions that were followed."""
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[-1]
        target, names = _resolved(definitions[name], definitions)
        return {**target, **{key: value for key, value in node.items() if key != "$ref"}}, (name, *names)
    choices = [choice for choice in node.get("anyOf", ()) if choice.get("type") != "null"]
    if len(choices) == 1:
        target, names = _resolved(choices[0], definitions)
        return {**target, **{key: value for key, value in node.items() if key != "anyOf"}}, names
    return node, ()


def _kind(node: Json, definitions: Json) -> str:
    node, _ = _resolved(node, definitions)
    if node.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if "enum" in node or "const" in node:
        return " ".join(f"`{value}`" for value in node.get("enum", [node.get("const")]))
    if "anyOf" in node:
        return " or ".join(_kind(choice, definitions) for choice in node["anyOf"])
    if node.get("type") == "array":
        return f"list of {_kind(node.get('items', {}), definitions)}"
    values = next(iter(node.get("patternProperties", {}).values()), node.get("additionalProperties"))
    if isinstance(values, dict) and values:
        return f"map to {_kind(values, definitions)}"
    return {"date-time": "time", "uri": "URL"}.get(node.get("format", ""), str(node.get("type", "any")))


def _default(node: Json, required: bool) -> str:
    default: Any = node.get("default")
    if required:
        return "required"
    if default is None or default in ([], {}, "") or isinstance(default, dict):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
