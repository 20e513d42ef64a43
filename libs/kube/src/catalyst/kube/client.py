"""The Kubernetes client: dicts in, dicts out, one method a verb, every failure a KubeError.

What it adds to HTTP: preconditions on every write that could hit the wrong object, a fence asked right before a write
leaves, paging, and named points for fault injection. It never retries: a caller that re-reads and decides again is
always right, a client that repeats a write is sometimes wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Self
from urllib.parse import urlencode

import orjson

from catalyst.kube.errors import Expired, KubeError, error_of
from catalyst.kube.resources import Resource, resource_of
from catalyst.kube.settings import KubeSettings
from catalyst.kube.transport import JSON, Request, Transport
from catalyst.kube.turns import Turns
from catalyst.model.manifest import Manifest, Ref
from catalyst.model.points import Points, no_points

APPLY = "application/apply-patch+yaml"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
PAGE = 250
"""Objects of one list request, unless the caller wants another number: each page is parsed in one piece, and 500
Environments are 3 MB."""

Fence = Callable[[], None]
Propagation = Literal["Background", "Foreground", "Orphan"]
PatchKind = Literal["merge", "json", "strategic"]
EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]

_PATCHES: dict[PatchKind, str] = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}


def no_fence() -> None:
    """The fence of a process that may always write: a test, a tool, or the elector itself."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of one list, each object with its apiVersion and kind, at one resourceVersion."""

    items: list[Manifest]
    resource_version: str
    remaining: int


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """What the server told: ADDED, MODIFIED, DELETED with the whole object, or BOOKMARK with only a resourceVersion."""

    type: EventType
    object: Manifest


class Kube:
    """One API server, one field manager, one right to write.

    Points, awaited around every request: `kube.before:<verb>:<Kind>`, `kube.after:<verb>:<Kind>` with the verbs get,
    list, watch, create, apply, apply-status, replace, patch, delete. `after` means the server has answered that it is
    done.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        field_manager: str,
        fence: Fence = no_fence,
        points: Points = no_points,
        request_timeout: float = 5.0,
        slots: Turns | None = None,
    ) -> None:
        self._transport = transport
        self._fence = fence
        self._points = points
        self._slots = slots
        self.field_manager = field_manager
        self.request_timeout = request_timeout

    @classmethod
    async def connect(
        cls,
        settings: KubeSettings,
        *,
        field_manager: str,
        fence: Fence = no_fence,
        points: Points = no_points,
        request_timeout: float = 5.0,
    ) -> Kube:
        """A client with credentials loaded and no connection made yet. `request_timeout` is in seconds, per request.

        Raises BadKubeSettings when the credentials cannot be read.
        """
        return cls(
            await Transport.connect(settings),
            field_manager=field_manager,
            fence=fence,
            points=points,
            request_timeout=request_timeout,
            slots=Turns(settings.in_flight),
        )

    def fenced(self, fence: Fence) -> Kube:
        """The same connections and turns, but every write asks `fence` first. Closing is left to the original."""
        return Kube(
            self._transport,
            field_manager=self.field_manager,
            fence=fence,
            points=self._points,
            request_timeout=self.request_timeout,
            slots=self._slots,
        )

    def apart(self) -> Kube:
        """The same connections, unfenced and without waiting for a turn: for the lease, whose renewal must not
        queue.
        """
        return Kube(
            self._transport,
            field_manager=self.field_manager,
            points=self._points,
            request_timeout=self.request_timeout,
        )

    async def aclose(self) -> None:
        """Closes all connections, of the views made by `fenced` and `apart` too."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # Reading

    async def get(self, ref: Ref, *, metadata_only: bool = False) -> Manifest:
        """The object, verbatim, or only its metadata: then the rest does not leave the server. `ref.uid`, when set,
        must match. Raises NotFound, also for another uid of that name.
        """
        resource = resource_of(ref.api_version, ref.kind)
        accept = METADATA if metadata_only else JSON
        request = Request("GET", resource.path(ref.namespace, ref.name), accept=accept)
        found = await self._read("get", resource, request)
        found["apiVersion"], found["kind"] = resource.api_version, resource.kind
        if ref.uid is not None and found["metadata"]["uid"] != ref.uid:
            raise error_of(404, f"{ref.kind} {ref.name} has uid {found['metadata']['uid']}, expected {ref.uid}")
        return found

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
        limit: int = PAGE,
        resource_version: str | None = None,
    ) -> AsyncGenerator[Page, None]:
        """Pages of at most `limit` objects, consistent with each other. Other tasks run between two pages.

        `resource_version="0"` takes the server's cache in one piece (paging is then the server's choice). Raises
        Expired when the server forgot the list's version before the last page was read (minutes): list again.
        """
        query: dict[str, str] = {"limit": str(limit)}
        query |= _selectors(label_selector, field_selector)
        if resource_version is not None:
            query["resourceVersion"] = resource_version
        accept = METADATA_LIST if metadata_only else JSON
        while True:
            target = f"{resource.path(namespace)}?{urlencode(query)}"
            answer = await self._read("list", resource, Request("GET", target, accept=accept))
            meta = answer["metadata"]
            items = answer["items"] or []  # an empty list of metadata comes as null
            for item in items:
                item["apiVersion"], item["kind"] = resource.api_version, resource.kind
            yield Page(items, meta["resourceVersion"], int(meta.get("remainingItemCount") or 0))
            if not meta.get("continue"):
                return
            query.pop("resourceVersion", None)
            query["continue"] = meta["continue"]
            await asyncio.sleep(0)

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        seconds: float,
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Changes since `resource_version`, bookmarks among them, until the server ends the stream after `seconds`.

        The server sends a bookmark about every minute; a silence of 100 s counts as a dead connection. Raises Expired
        for 410, be it the HTTP status or an ERROR event, and Unavailable when the connection breaks.
        """
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, int(seconds))),
        } | _selectors(label_selector, field_selector)
        request = Request(
            "GET", f"{resource.path(namespace)}?{urlencode(query)}", accept=METADATA if metadata_only else JSON
        )
        await self._points(f"kube.before:watch:{resource.kind}")
        lines = self._transport.lines(
            request,
            await self._transport.credentials(),
            connect_seconds=self.request_timeout,
            idle_seconds=min(100.0, seconds + self.request_timeout),
        )
        try:
            async for line in lines:
                if line:
                    yield _watch_event(resource, orjson.loads(line))
        finally:
            await lines.aclose()

    async def log(
        self, ref: Ref, container: str, *, tail_lines: int, limit_bytes: int = 1024 * 1024, previous: bool = False
    ) -> str:
        """The last `tail_lines` lines of a container's log; bytes that are no UTF-8 are replaced. `ref` is a Pod.

        `limit_bytes` cuts after so many bytes, counted from the first of those lines. Raises NotFound; Invalid while
        the container has not started.
        """
        resource = resource_of(ref.api_version, ref.kind)
        query = {"container": container, "tailLines": str(tail_lines), "limitBytes": str(limit_bytes)}
        query |= {"previous": "true"} if previous else {}
        target = f"{resource.path(ref.namespace, ref.name, 'log')}?{urlencode(query)}"
        body = await self._sent(Request("GET", target, accept="text/plain, application/json"), no_fence)
        return body.decode(errors="replace")

    # Writing

    async def create(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """POST. Returns the object as stored. Raises AlreadyExists, Invalid, Forbidden."""
        resource = _resource(manifest)
        query = self._write_query(dry_run)
        request = Request("POST", f"{resource.path(_namespace(manifest))}?{query}", orjson.dumps(manifest))
        return await self._write("create", resource, request)

    async def apply(
        self,
        manifest: Manifest,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        force: bool = True,
        dry_run: bool = False,
    ) -> Manifest:
        """Server-side apply: the fields of `manifest` become ours, fields we applied before and left out now go away.

        `uid` and `resource_version` are preconditions. Seen on 1.36: another uid of that name, a missing object with
        `uid` given (so nothing is resurrected), and a stale resourceVersion are all Conflict. Without `force` a field
        that another manager owns with another value is Conflict too, its `causes` naming the fields. Without
        preconditions a missing object is created.
        """
        return await self._apply("apply", manifest, None, uid, resource_version, force=force, dry_run=dry_run)

    async def apply_status(
        self,
        manifest: Manifest,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        force: bool = True,
    ) -> Manifest:
        """Server-side apply of the status subresource: apiVersion, kind, metadata names and `status` are used. As
        `apply`.
        """
        return await self._apply("apply-status", manifest, "status", uid, resource_version, force=force, dry_run=False)

    async def replace(self, manifest: Manifest, *, subresource: str | None = None) -> Manifest:
        """PUT of the whole object. `metadata.resourceVersion` (and uid, when there) in the manifest are
        preconditions: Conflict.
        """
        resource = _resource(manifest)
        path = resource.path(_namespace(manifest), manifest["metadata"]["name"], subresource)
        request = Request("PUT", f"{path}?{self._write_query(False)}", orjson.dumps(manifest))
        return await self._write("replace", resource, request)

    async def patch(
        self,
        ref: Ref,
        body: Any,
        kind: PatchKind = "merge",
        *,
        subresource: str | None = None,
    ) -> Manifest:
        """PATCH. `ref.uid` and `ref.resource_version`, when set, are preconditions (Conflict): merged into the body,
        or `test`ed.

        `body` is an object for merge and strategic, a list of operations for json. Raises NotFound when there is no
        object.
        """
        resource = resource_of(ref.api_version, ref.kind)
        guarded = _guarded(body, kind, ref)
        path = resource.path(ref.namespace, ref.name, subresource)
        request = Request("PATCH", f"{path}?{self._write_query(False)}", orjson.dumps(guarded), _PATCHES[kind])
        return await self._write("patch", resource, request)

    async def delete(
        self,
        ref: Ref,
        *,
        uid: str,
        resource_version: str | None = None,
        propagation: Propagation = "Background",
    ) -> Manifest:
        """DELETE of exactly this uid (and resourceVersion). Returns the object that is going, or a `Status` when it
        is gone.

        Raises NotFound when nothing of that name is there, Conflict when it is another object or has changed.
        ValueError for an empty uid: deleting by name alone is not offered.
        """
        if not uid:
            raise ValueError(f"uid of {ref.kind} {ref.name}: expected the uid of the object to delete, got nothing")
        resource = resource_of(ref.api_version, ref.kind)
        preconditions = {"uid": uid} | ({"resourceVersion": resource_version} if resource_version else {})
        options = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "preconditions": preconditions,
            "propagationPolicy": propagation,
        }
        request = Request("DELETE", resource.path(ref.namespace, ref.name), orjson.dumps(options))
        return await self._write("delete", resource, request)

    async def _apply(
        self,
        verb: str,
        manifest: Manifest,
        subresource: str | None,
        uid: str | None,
        resource_version: str | None,
        *,
        force: bool,
        dry_run: bool,
    ) -> Manifest:
        resource = _resource(manifest)
        metadata = manifest["metadata"]
        guards = {
            key: value for key, value in (("uid", uid), ("resourceVersion", resource_version)) if value is not None
        }
        body = {**manifest, "metadata": {**metadata, **guards}} if guards else manifest
        path = resource.path(_namespace(manifest), metadata["name"], subresource)
        query = self._write_query(dry_run) + ("&force=true" if force else "")
        return await self._write(verb, resource, Request("PATCH", f"{path}?{query}", orjson.dumps(body), APPLY))

    def _write_query(self, dry_run: bool) -> str:
        query = {"fieldManager": self.field_manager, "fieldValidation": "Strict"}
        return urlencode(query | ({"dryRun": "All"} if dry_run else {}))

    # The two ways to the server

    async def _read(self, verb: str, resource: Resource, request: Request) -> Manifest:
        return await self._exchange(verb, resource, request, no_fence)

    async def _write(self, verb: str, resource: Resource, request: Request) -> Manifest:
        return await self._exchange(verb, resource, request, self._fence)

    async def _exchange(self, verb: str, resource: Resource, request: Request, fence: Fence) -> Manifest:
        await self._points(f"kube.before:{verb}:{resource.kind}")
        body = await self._sent(request, fence)
        answer: Manifest = orjson.loads(body)
        await self._points(f"kube.after:{verb}:{resource.kind}")
        return answer

    async def _sent(self, request: Request, fence: Fence) -> bytes:
        async with self._slots or nullcontext():
            credentials = await self._transport.credentials()
            fence()  # the last thing before the request leaves: whatever waits stands above this line
            return await self._transport.send(request, credentials, self.request_timeout)


def _resource(manifest: Manifest) -> Resource:
    return resource_of(manifest["apiVersion"], manifest["kind"])


def _namespace(manifest: Manifest) -> str | None:
    namespace: str | None = manifest["metadata"].get("namespace")
    return namespace


def _selectors(label_selector: str | None, field_selector: str | None) -> dict[str, str]:
    pairs = (("labelSelector", label_selector), ("fieldSelector", field_selector))
    return {key: value for key, value in pairs if value is not None}


def _guarded(body: Any, kind: PatchKind, ref: Ref) -> Any:
    """The body with the preconditions of `ref`. A json patch tests the uid and sets the resourceVersion, which the
    server compares.
    """
    guards = {
        key: value for key, value in (("uid", ref.uid), ("resourceVersion", ref.resource_version)) if value is not None
    }
    if not guards:
        return body
    if kind == "json":
        tests = [{"op": "replace", "path": f"/metadata/{key}", "value": value} for key, value in guards.items()]
        return [*tests, *body]
    return {**body, "metadata": {**body.get("metadata", {}), **guards}}


def _watch_event(resource: Resource, event: dict[str, Any]) -> WatchEvent:
    if event["type"] == "ERROR":
        raise _watch_error(event["object"])
    event["object"]["apiVersion"], event["object"]["kind"] = resource.api_version, resource.kind
    return WatchEvent(event["type"], event["object"])


def _watch_error(status: dict[str, Any]) -> KubeError:
    error = error_of(int(status.get("code") or 500), status)
    if error.reason == "Expired" and not isinstance(error, Expired):
        return Expired(410, "Expired", error.message, error.details)
    return error
