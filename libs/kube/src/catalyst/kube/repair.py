"""Bringing objects back to what was decided: undoing drift, removing what is no longer wanted."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from catalyst.kube.client import Kube
from catalyst.kube.drift import RESERVED, drifted
from catalyst.kube.errors import NotFound
from catalyst.kube.resources import Resource
from catalyst.model.manifest import Manifest, Ref, ref_of


async def repair(kube: Kube, manifest: Manifest, *, uid: str | None = None) -> Manifest:
    """Applies `manifest`; if fields that others *added* survive that, replaces the object, keeping its metadata. 1 or
    2 writes.

    Raises Conflict for another uid, or when somebody writes between the two: read and decide again.
    """
    applied = await kube.apply(manifest, uid=uid)
    if not drifted(applied["metadata"], kube.field_manager):
        return applied
    return await kube.replace(_purged(applied, manifest))


def _purged(applied: Manifest, manifest: Manifest) -> Manifest:
    """The object with our content only. Its metadata stays (uid and version are preconditions), but for reserved
    names.
    """
    metadata = dict(applied["metadata"])
    for part in ("labels", "annotations"):
        ours = manifest["metadata"].get(part) or {}
        metadata[part] = {
            key: value
            for key, value in (metadata.get(part) or {}).items()
            if key in ours or not key.startswith(RESERVED)
        }
    kept = {key: applied[key] for key in ("status",) if key in applied}
    return {**manifest, "metadata": metadata, **kept}


async def prune(
    kube: Kube, resources: Iterable[Resource], namespace: str, selector: str, keep: Collection[Ref]
) -> list[Ref]:
    """Deletes what carries our label and is not in `keep` (compared by kind and name). Returns what was deleted.

    `selector` is the owner's, such as `catalyst.dev/environment-uid=<uid>`. Every deletion names the uid and version
    that were seen, so an object that was replaced or changed meanwhile raises Conflict instead of being deleted.
    ValueError without a selector: that would be everything.
    """
    if not selector:
        raise ValueError(f"selector for pruning {namespace}: expected the owner's label, got nothing")
    wanted = {(ref.api_version, ref.kind, ref.name) for ref in keep}
    gone: list[Ref] = []
    for resource in resources:
        async for page in kube.list(resource, namespace, label_selector=selector, metadata_only=True):
            for found in page.items:
                ref = ref_of(found)
                if (ref.api_version, ref.kind, ref.name) in wanted or "deletionTimestamp" in found["metadata"]:
                    continue
                if await _deleted(kube, ref):
                    gone.append(ref)
    return gone


async def _deleted(kube: Kube, ref: Ref) -> bool:
    try:
        await kube.delete(ref, uid=ref.uid or "", resource_version=ref.resource_version)
    except NotFound:
        return False
    return True
