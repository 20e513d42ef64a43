"""Two environments of one kind, compared: one that lived through the faults, one that was undisturbed. Pure.

What may differ is taken out first: names and addresses of the one, times, versions, what a commit is called, and how
often something was made again. All the rest must be equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

Manifest = Mapping[str, Any]

_TIMES: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_UID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_LOST: Final = frozenset(
    {
        "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink", "clusterIP",
        "clusterIPs", "observedGeneration", "lastTransitionTime", "lastUpdateTime", "startedAt", "finishedAt",
        "traceparent", "catalyst.dev/traceparent", "catalyst.dev/applied", "deployment.kubernetes.io/revision",
        "catalyst.dev/cause", "catalyst.dev/triggered-at", "catalyst.dev/deploy", "catalyst.dev/sources",
        "catalyst.dev/pull-sha256", "pull", "stages", "answers", "createdAt", "triggeredAt", "openedAt", "title",
        "number", "builds",
    }
)  # fmt: skip
"""Keys, anywhere in a manifest."""
_NOT_COMPARED: Final = frozenset(
    {"Event", "EndpointSlice", "Endpoints", "Pod", "ReplicaSet", "ControllerRevision", "Lease"}
)
"""Kinds that Kubernetes makes itself, under names of chance; pods are counted instead."""


def normalised(value: Any, names: Mapping[str, str]) -> Any:
    """`names`: what stands only for this one environment → what it is called in every one."""
    if isinstance(value, Mapping):
        return {_text(k, names): normalised(v, names) for k, v in sorted(value.items()) if k not in _LOST}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [normalised(each, names) for each in value]
    return _text(value, names) if isinstance(value, str) else value


def _text(text: str, names: Mapping[str, str]) -> str:
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, names[name])
    for pattern, word in ((_TIMES, "<time>"), (_DIGEST, "<digest>"), (_UID, "<uid>")):
        text = pattern.sub(word, text)
    return text


def names_of(team: str, project: str, number: int, commit: str, branch: str) -> dict[str, str]:
    """Of a pull request's environment."""
    return {
        f"{team}--{project}--pr-{number}": "<namespace>",
        f"pr-{number}--{project}--{team}": "<host>",
        f"pr-{number}": "<environment>",
        f"/pull/{number}": "/pull/<number>",
        branch: "<branch>",
        commit: "<commit>",
        commit[:12]: "<short commit>",
        commit[:7]: "<shorter commit>",
    }


def picture(objects: Iterable[Manifest], names: Mapping[str, str]) -> dict[str, Any]:
    """`<Kind> <name>` → the normalised rest; of pods how many run for each component."""
    found: dict[str, Any] = {}
    for each in objects:
        kind, metadata = each["kind"], each["metadata"]
        if kind == "Pod":
            owner = metadata.get("labels", {}).get("app.kubernetes.io/name") or metadata.get("generateName", "")
            key = f"running pods of {normalised(re.sub('-[0-9a-f]+-$', '', owner), names)}"
            found[key] = found.get(key, 0) + _runs(each)
        elif kind == "Secret":
            keys = sorted(each.get("data") or {})
            found[f"Secret {_text(metadata['name'], names)}"] = {"type": each.get("type"), "keys": keys}
        elif kind not in _NOT_COMPARED:
            rest = {key: value for key, value in each.items() if key not in ("apiVersion", "kind")}
            if kind != "Environment":
                rest.pop("status", None)
            found[f"{kind} {_text(metadata['name'], names)}"] = normalised(rest, names)
    return found


def _runs(pod: Manifest) -> int:
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", ()))
    return int(ready and "deletionTimestamp" not in pod["metadata"])


def differences(undisturbed: Any, found: Any, path: str = "") -> list[str]:
    """Where the two differ, in words: the path, what it would be, and what it is."""
    if isinstance(undisturbed, Mapping) and isinstance(found, Mapping):
        keys = sorted({*undisturbed, *found})
        return [
            line
            for key in keys
            for line in (
                differences(undisturbed[key], found[key], f"{path}/{key}")
                if key in undisturbed and key in found
                else [f"{path}/{key}: {'missing' if key in undisturbed else 'not in an undisturbed one'}"]
            )
        ]
    if isinstance(undisturbed, list) and isinstance(found, list) and len(undisturbed) == len(found):
        pairs = enumerate(zip(undisturbed, found, strict=True))
        return [line for number, (one, other) in pairs for line in differences(one, other, f"{path}/{number}")]
    return [] if undisturbed == found else [f"{path}: {found!r} instead of {undisturbed!r}"]
