"""Kubernetes objects as plain dicts, and how one points at another."""

from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]
"""One Kubernetes object in its JSON form: `apiVersion`, `kind`, `metadata`, …"""


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """Which object is meant, and optionally which life (`uid`) and version of it.

    `namespace` is "" for a cluster-wide object.
    """

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str | None = None
    resource_version: str | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def ref_of(manifest: Manifest) -> Ref:
    """The Ref of a manifest; `uid` and `resource_version` when it carries them.

    Raises:
        KeyError: the manifest has no `apiVersion`, `kind` or `metadata.name`.
    """
    metadata = manifest["metadata"]
    return Ref(
        api_version=manifest["apiVersion"],
        kind=manifest["kind"],
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        uid=metadata.get("uid"),
        resource_version=metadata.get("resourceVersion"),
    )
