"""What differs between two states of an environment, field by field. Pure.

A field is named as in the resource, an entry of a list by its own name: `conditions.Ready.status`,
`components.web.digest`. What changes with every write and says nothing is left out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from catalyst.model.snapshot import Snapshot

_NOISE: Final = frozenset({"resourceVersion", "generation", "observedGeneration", "lastTransitionTime"})
_NAMED_BY: Final = ("name", "type", "host")
"""By which field an entry of a list is known."""


@dataclass(frozen=True, slots=True)
class Change:
    """One field; None: it is not there."""

    field: str
    before: Any
    after: Any


def changes(before: Snapshot | None, after: Snapshot | None) -> tuple[Change, ...]:
    """What differs, in the order of the fields; None stands for no environment."""
    old, new = flat(before), flat(after)
    return tuple(
        Change(field, old.get(field), new.get(field))
        for field in dict.fromkeys([*old, *new])
        if old.get(field) != new.get(field)
    )


def flat(snapshot: Snapshot | None) -> dict[str, Any]:
    """Field → value, without structure."""
    if snapshot is None:
        return {}
    return dict(_leaves(snapshot.model_dump(mode="json", by_alias=True, exclude_none=True), ""))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, child in value.items():
            if name not in _NOISE:
                yield from _leaves(child, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for number, entry in enumerate(value):
            naming = _naming(entry)
            name = entry[naming] if naming else number
            rest = {field: child for field, child in entry.items() if field != naming} if naming else entry
            yield from _leaves(rest, f"{path}.{name}")
    else:
        yield path, value


def _naming(entry: Any) -> str | None:
    """The field by which an entry of a list is known, if it has one."""
    if not isinstance(entry, Mapping):
        return None
    return next((field for field in _NAMED_BY if isinstance(entry.get(field), str)), None)
