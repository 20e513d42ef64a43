"""Two JSON values, compared for people: where they differ, and how. Pure.

    $.status.conditions[Ready].reason    "Draft" → "Fork"
    $.apply[NetworkPolicy/deny-all]      (nothing) → {"apiVersion": "networking.k8s.io/v1", …

Items of a list are told apart by what names them (type, name, host, …; of a manifest kind and name), if each has one of
its own; so one that was put in between does not make all behind it differ.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

NOTHING: Final = object()
"""Where one side has no value."""
NAMES: Final = ("type", "name", "host", "component")
LONGEST: Final = 160


@dataclass(frozen=True, slots=True)
class Difference:
    """`path`: a JSON path. `before`, `after`: JSON values, or NOTHING."""

    path: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.path}  {_told(self.before)} → {_told(self.after)}"


def differences(before: Any, after: Any, path: str = "$") -> Iterator[Difference]:
    """The smallest parts that differ, in the order of `before`, then what only `after` has."""
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _of_objects(before, after, path, ".")
    elif isinstance(before, list) and isinstance(after, list):
        yield from _of_lists(before, after, path)
    elif before != after or type(before) is not type(after):
        yield Difference(path, before, after)


def _of_objects(before: dict[str, Any], after: dict[str, Any], path: str, style: str) -> Iterator[Difference]:
    for key in [*before, *(key for key in after if key not in before)]:
        place = f"{path}.{key}" if style == "." and key.isidentifier() else f"{path}[{key}]"
        one, other = before.get(key, NOTHING), after.get(key, NOTHING)
        if one is NOTHING or other is NOTHING:
            yield Difference(place, one, other)
        else:
            yield from differences(one, other, place)


def _of_lists(before: list[Any], after: list[Any], path: str) -> Iterator[Difference]:
    names = _names(before), _names(after)
    if names[0] is None or names[1] is None:
        numbered = [{str(number): item for number, item in enumerate(items)} for items in (before, after)]
        yield from _of_objects(numbered[0], numbered[1], path, "[]")
        return
    named = [
        dict(zip(keys, items, strict=True))
        for keys, items in zip(names, (before, after), strict=True)
        if keys is not None
    ]
    yield from _of_objects(named[0], named[1], path, "[]")
    if sorted(named[0]) == sorted(named[1]) and list(named[0]) != list(named[1]):
        yield Difference(f"{path}, in order", list(named[0]), list(named[1]))


def _names(items: list[Any]) -> list[str] | None:
    """One for each item, all of them different; None when they have none."""
    names = [_name(item) for item in items]
    found = [name for name in names if name is not None]
    return found if len(set(found)) == len(items) else None


def _name(item: Any) -> str | None:
    if not isinstance(item, dict):
        return None
    for place in (item, item.get("ref")):
        if isinstance(place, dict) and isinstance(place.get("metadata"), dict):
            return f"{place.get('kind')}/{place['metadata'].get('name')}"
        if isinstance(place, dict) and "kind" in place and "name" in place:
            return f"{place['kind']}/{place['name']}"
    return next((item[key] for key in NAMES if isinstance(item.get(key), str)), None)


def _told(value: Any) -> str:
    if value is NOTHING:
        return "(nothing)"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
