"""Did somebody else change what we applied? Answered from managedFields alone, so a metadata-only watch is enough.
Pure.

The API server books every field to the managers that set it. We apply with `force`, so:

    a field of ours was changed      it is booked to the other manager, and no longer to us
    a field was added beside ours    it is booked to the other manager alone
    a field of ours was removed      it is booked to nobody: seen only by comparing with the manifest
    the same value set by another    it is booked to both: no drift, the world is as we want it
    status (a subresource, or `status` of a kind without one), a label or annotation that is not ours    not our
    business

After a drift, `apply` again; a field that was *added* survives that, because it was never ours: when `drifted` still
says so of the answer, `replace` the object by the manifest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import reduce
from typing import Any

import orjson

from catalyst.model.manifest import Manifest

Fields = Mapping[str, Any]
"""A `fieldsV1` tree: `f:<name>` a field, `k:{…}` and `v:…` list items, `i:<n>` an index, `.` the node itself; {} is a
leaf.
"""

RESERVED = ("catalyst.dev/", "pod-security.kubernetes.io/")
"""Prefixes of labels and annotations that nobody but us may set on what we apply."""


def drifted(metadata: Mapping[str, Any], manager: str, manifest: Manifest | None = None) -> bool:
    """Whether the object with this `metadata` (managedFields included) is no longer as `manager` applied it.

    True when our entry is missing, when another manager owns a field outside metadata and status that we do not own,
    or one of our labels or annotations. With `manifest`, the one last applied, also when a field in it is no longer
    ours: that is the only trace of a removal.
    """
    ours = owned(metadata, manager)
    if ours is None:
        return True
    if any(
        _reaches_beyond(_spec(fields), _spec(ours)) or _took_reserved(fields, ours)
        for fields in _foreign(metadata, manager)
    ):
        return True
    return manifest is not None and not _covers(ours, manifest)


def owned(metadata: Mapping[str, Any], manager: str) -> Fields | None:
    """The fields that `manager` owns, by apply or by plain writes; None when it never wrote, or lost every field."""
    trees = [
        entry.get("fieldsV1") or {}
        for entry in metadata.get("managedFields") or ()
        if entry["manager"] == manager and not entry.get("subresource")
    ]
    return reduce(_union, trees) if trees else None


def _union(one: Fields, other: Fields) -> Fields:
    """Owned in either tree; a leaf owns everything below it."""
    if not one or not other:
        return {}
    return {
        key: _union(one[key], other[key]) if key in one and key in other else one.get(key, other.get(key))
        for key in (*one, *(key for key in other if key not in one))
    }


class Slim:
    """A transform for metadata-only caches: what drift and ownership need, about 1 KB an object instead of 4.

    managedFields keep everything but their times, and equal ones are shared: the children of a thousand environments
    have the same few. Labels are shared, too, which the children of one environment have in common; so give one of
    these to all mirrors of its children. Annotations are dropped except ours.
    """

    def __init__(self) -> None:
        self._shared: dict[bytes, Any] = {}
        self._texts = Texts()

    def __call__(self, manifest: Manifest) -> Manifest:
        """apiVersion, kind and the slim metadata."""
        metadata = manifest["metadata"]
        slim = {key: metadata[key] for key in _KEPT if key in metadata}
        slim |= {key: self._texts.one(slim[key]) for key in ("namespace", "name") if key in slim}
        annotations = {
            key: value for key, value in (metadata.get("annotations") or {}).items() if key.startswith(RESERVED)
        }
        if annotations:
            slim["annotations"] = annotations
        slim["managedFields"] = self._share([_timeless(entry) for entry in metadata.get("managedFields") or ()])
        slim["labels"] = self._share(metadata.get("labels") or {})
        return {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": slim}

    def _share(self, value: Any) -> Any:
        if len(self._shared) >= _MOST_SHARED:
            self._shared.clear()  # what is kept stays kept; what comes is shared among itself
        return self._shared.setdefault(hashlib.sha256(orjson.dumps(value)).digest(), value)


class Texts:
    """Equal texts, kept once: the names, reasons and sentences of ten thousand objects are a few hundred."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def one(self, text: str) -> str:
        if len(self._known) >= _MOST_SHARED:
            self._known.clear()
        return self._known.setdefault(text, text)

    def within(self, value: Any) -> Any:
        """A copy of JSON's values whose texts are each kept once."""
        if isinstance(value, str):
            return self.one(value)
        if isinstance(value, dict):
            return {key: self.within(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.within(item) for item in value]
        return value


_MOST_SHARED = 2**16
"""Of what is shared, so that what lives for ever does not grow for ever."""


_KEPT = (
    "namespace",
    "name",
    "uid",
    "resourceVersion",
    "generation",
    "deletionTimestamp",
    "ownerReferences",
    "finalizers",
)


def _timeless(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in ("time", "fieldsType", "apiVersion")}


def _foreign(metadata: Mapping[str, Any], manager: str) -> Iterator[Fields]:
    """The fields of everybody else. Our own writes outside apply (a replace after a drift) are not foreign."""
    for entry in metadata.get("managedFields") or ():
        if entry["manager"] != manager and entry.get("subresource") != "status":
            yield entry.get("fieldsV1") or {}


def _spec(fields: Fields) -> Fields:
    return {key: value for key, value in fields.items() if key not in ("f:metadata", "f:status")}


def _took_reserved(fields: Fields, ours: Fields) -> bool:
    for part in ("f:labels", "f:annotations"):
        taken = (fields.get("f:metadata") or {}).get(part) or {}
        mine = (ours.get("f:metadata") or {}).get(part) or {}
        if any(key.removeprefix("f:").startswith(RESERVED) and key not in mine for key in taken):
            return True
    return False


def _reaches_beyond(theirs: Fields, ours: Fields) -> bool:
    """Whether `theirs` holds a field that `ours` does not.

    The schema decides what is a leaf, for everybody alike. So where theirs goes on and ours is empty, ours is no leaf:
    we held items of that list or map, and somebody has put others in their place.
    """
    for key, value in theirs.items():
        if key == ".":
            continue
        mine = ours.get(key)
        if mine is None or _reaches_beyond(value, mine):
            return True
    return False


_IDENTITY = ("apiVersion", "kind")
_UNOWNED = ("name", "namespace", "uid", "resourceVersion", "managedFields", "generation", "creationTimestamp")


def _covers(fields: Fields, manifest: Manifest) -> bool:
    """Whether every field of the manifest is in the tree. List items are not compared: only a schema could tell their
    keys.
    """
    wanted = {key: value for key, value in manifest.items() if key not in (*_IDENTITY, "status")}
    wanted["metadata"] = {key: value for key, value in (manifest.get("metadata") or {}).items() if key not in _UNOWNED}
    return all(_holds(fields.get(f"f:{key}"), value) for key, value in wanted.items())


def _holds(node: Fields | None, value: Any) -> bool:
    if isinstance(value, dict) and node:
        return all(_holds(node.get(f"f:{key}"), item) for key, item in value.items())
    # {} is a leaf; a map or list without content may be booked to nobody
    return node is not None or value in ({}, [], None)
