"""The two outer seams of env-controller in memory, for the virtual-time loop: as little of an API server (`MemoryKube`)
and of the bus (`MemoryBus`) as its own code touches. Whatever depends on the real semantics is tested on real servers.
"""

import asyncio
import copy
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

from makers import booked, merged

from catalyst.env_controller.core.platform import Platform
from catalyst.env_controller.core.world import FIELD_MANAGER
from catalyst.env_controller.effects.audit import Audit
from catalyst.env_controller.effects.cluster import Cluster
from catalyst.env_controller.effects.decisions import Decided
from catalyst.env_controller.effects.history import History
from catalyst.env_controller.handlers import Handlers
from catalyst.env_controller.reconcile import Controller
from catalyst.events.binding import encode
from catalyst.events.bus import Bus, Received
from catalyst.events.catalogue import EnvironmentChanged
from catalyst.events.errors import Unpublished
from catalyst.events.event import Event
from catalyst.events.stored import Appended, Published, Stored
from catalyst.kube.client import Kube, Page, WatchEvent
from catalyst.kube.errors import AlreadyExists, Conflict, Forbidden, Invalid, NotFound, Unavailable
from catalyst.kube.resources import Resource
from catalyst.local.virtual_time import VirtualLoop
from catalyst.model import labels
from catalyst.model.manifest import Manifest, Ref, ref_of

Key = tuple[str, str, str]
GRACE = 5.0
"""Seconds a namespace takes to go."""


def utc_now() -> Any:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop.utc_now()


@dataclass
class MemoryKube:
    """Objects by kind, namespace and name. `away`: every request is answered 503. `refused`: kinds no write of which
    is let in. `unheard`: kinds whose creation takes effect but is not answered, and of which a watch says nothing.
    `log`: every change, with its time.
    """

    objects: dict[Key, Manifest] = field(default_factory=dict)
    log: list[tuple[float, str, Manifest]] = field(default_factory=list)
    away: bool = False
    refused: set[str] = field(default_factory=set)
    unheard: set[str] = field(default_factory=set)
    field_manager: str = FIELD_MANAGER
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    # Reading

    async def get(self, ref: Ref) -> Manifest:
        await self._answered()
        return copy.deepcopy(self._found(ref))

    async def list(
        self, resource: Resource, namespace: str | None = None, *, label_selector: str | None = None, **_: Any
    ) -> AsyncGenerator[Page, None]:
        await self._answered()
        found = [item for (kind, _, _), item in self.objects.items() if kind == resource.kind]
        yield Page([copy.deepcopy(item) for item in found if _carries(item, label_selector)], str(len(self.log)), 0)

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        seconds: float,
        label_selector: str | None = None,
        **_: Any,
    ) -> AsyncGenerator[WatchEvent, None]:
        seen = int(resource_version)
        end = asyncio.get_running_loop().time() + seconds
        while True:
            while resource.kind in self.unheard:
                await asyncio.sleep(0.1)
            while seen < len(self.log):
                type_, item = self.log[seen][1:]
                seen += 1
                if item["kind"] == resource.kind and _carries(item, label_selector):
                    yield WatchEvent(cast(Any, type_), copy.deepcopy(item))
            news = self._news
            try:
                async with asyncio.timeout_at(end):
                    await news.wait()
            except TimeoutError:
                return

    # Writing

    async def create(self, manifest: Manifest) -> Manifest:
        await self._answered(manifest)
        key = _key(manifest)
        if key in self.objects:
            raise AlreadyExists(409, "AlreadyExists", f"{key} is there")
        self._check_namespace(manifest)
        metadata = {
            **manifest["metadata"],
            "uid": f"uid-{len(self.log) + 1}",
            "generation": 1,
            "creationTimestamp": utc_now().isoformat(),
            "managedFields": [booked(manifest, self.field_manager)],
        }
        made = self._store("ADDED", {**manifest, "metadata": metadata})
        if made["kind"] in self.unheard:
            raise Unavailable(503, "ServiceUnavailable", "the API server went away before it answered")
        return made

    async def apply(self, manifest: Manifest) -> Manifest:
        """As far as it is used: of a ServiceAccount, there or not."""
        return await (self.replace(manifest) if "uid" in manifest["metadata"] else self.create(manifest))

    async def replace(self, manifest: Manifest) -> Manifest:
        await self._answered(manifest)
        self._check_namespace(manifest)
        found = self.objects.get(_key(manifest))
        if found is None:
            raise NotFound(404, "NotFound", f"{_key(manifest)} is not there")
        for name in ("uid", "resourceVersion"):
            if manifest["metadata"].get(name) != found["metadata"][name]:
                raise Conflict(409, "Conflict", f"{_key(manifest)}: {name} is another")
        metadata = {**manifest["metadata"], "managedFields": [booked(manifest, self.field_manager)]}
        return self._store("MODIFIED", {**manifest, "metadata": metadata})

    async def patch(self, ref: Ref, body: Manifest, *, subresource: str | None = None) -> Manifest:
        await self._answered({"kind": ref.kind})
        found = self._found(ref)
        for name, guard in (("uid", ref.uid), ("resourceVersion", ref.resource_version)):
            if guard is not None and found["metadata"][name] != guard:
                raise Conflict(409, "Conflict", f"{ref}: {name} is not {guard}")
        changed = merged(found, {"status": body["status"]} if subresource == "status" else body)
        if changed.get("spec") != found.get("spec"):
            changed["metadata"]["generation"] += 1
        if changed["metadata"].get("deletionTimestamp") and not changed["metadata"].get("finalizers"):
            return self._drop(_key(found), changed)
        return self._store("MODIFIED", changed)

    async def delete(self, ref: Ref, *, uid: str, resource_version: str | None = None) -> Manifest:
        await self._answered({"kind": ref.kind})
        found = self._found(ref)
        if found["metadata"]["uid"] != uid or resource_version not in (None, found["metadata"]["resourceVersion"]):
            raise Conflict(409, "Conflict", f"{ref} is another object")
        return self.remove(_key(found))

    def remove(self, key: Key) -> Manifest:
        """As a person does it."""
        found = self.objects[key]
        going = merged(found, {"metadata": {"deletionTimestamp": utc_now().isoformat()}})
        if key[0] == "Namespace":
            asyncio.get_running_loop().call_later(GRACE, self._empty, key)
            return self._store("MODIFIED", going)
        if found["metadata"].get("finalizers"):
            return self._store("MODIFIED", going)
        self._drop(key, found)
        return {"kind": "Status"}

    def change(self, key: Key, patch: Manifest) -> Manifest:
        """As a person does it."""
        changed = merged(self.objects[key], patch)
        changed["metadata"]["generation"] = changed["metadata"].get("generation", 1) + 1
        return self._store("MODIFIED", changed)

    # Inside

    def _empty(self, namespace: Key) -> None:
        for key in [key for key in self.objects if key[1] == namespace[2]]:
            self._drop(key, self.objects[key])
        self._drop(namespace, self.objects[namespace])

    async def _answered(self, write: Manifest | None = None) -> None:
        await asyncio.sleep(0.001)
        if self.away:
            raise Unavailable(503, "ServiceUnavailable", "the API server is away")
        if write is not None and write["kind"] in self.refused:
            raise Invalid(422, "Invalid", f"{write['kind']} is refused")

    def _found(self, ref: Ref) -> Manifest:
        found = self.objects.get((ref.kind, ref.namespace, ref.name))
        if found is None:
            raise NotFound(404, "NotFound", f"{ref} is not there")
        return found

    def _check_namespace(self, manifest: Manifest) -> None:
        name = manifest["metadata"].get("namespace")
        if name is None:
            return
        found = self.objects.get(("Namespace", "", name))
        if found is None:
            raise NotFound(404, "NotFound", f"namespace {name} is not there")
        if "deletionTimestamp" in found["metadata"]:
            raise Forbidden(403, "Forbidden", f"namespace {name} is being terminated")

    def _store(self, type_: str, manifest: Manifest) -> Manifest:
        version = {"resourceVersion": str(len(self.log) + 1)}
        item = {**copy.deepcopy(manifest), "metadata": {**copy.deepcopy(manifest["metadata"]), **version}}
        self.objects[_key(item)] = item
        self._tell(type_, item)
        return copy.deepcopy(item)

    def _drop(self, key: Key, last: Manifest) -> Manifest:
        self.objects.pop(key)
        version = {"resourceVersion": str(len(self.log) + 1)}
        self._tell("DELETED", {**last, "metadata": {**last["metadata"], **version}})
        return copy.deepcopy(last)

    def _tell(self, type_: str, item: Manifest) -> None:
        self.log.append((asyncio.get_running_loop().time(), type_, item))
        news, self._news = self._news, asyncio.Event()
        news.set()


def _key(manifest: Manifest) -> Key:
    ref = ref_of(manifest)
    return ref.kind, ref.namespace, ref.name


def _carries(item: Manifest, label: str | None) -> bool:
    return label is None or label in item["metadata"].get("labels", {})


@dataclass
class MemoryBus:
    """Facts by subject, and what was published with its time. `connected` False: NATS is away. `behind`: so many
    questions for facts are answered by a server that lacks the newest of each subject.
    """

    stored: dict[str, list[Stored]] = field(default_factory=dict)
    published: list[tuple[float, Event]] = field(default_factory=list)
    connected: bool = True
    behind: int = 0

    def deliver(self, event: Event) -> Received:
        """Keep the event as its stream does, and hand it over as a consumer does."""
        kept = self._kept(event)
        self.stored.setdefault(event.subject, []).append(kept)
        return Received(event, kept.stream, event.subject, kept.sequence, 1, _nothing)

    async def facts(self, subject: str) -> list[Stored]:
        self.behind -= (is_behind := self.behind > 0)
        found = [stored for stored in self.stored.get(subject, []) if stored.stream == "SCM"]
        return found[:-1] if is_behind else found

    async def subjects(self, _: str, filter_: str) -> list[str]:
        return [subject for subject in self.stored if subject.startswith(filter_.removesuffix(">"))]

    async def state(self, subject: str) -> Stored | None:
        return self.stored.get(subject, [None])[-1]

    async def states(self) -> AsyncIterator[Stored]:
        for kept in [line[-1] for line in self.stored.values() if line[-1].subject.endswith(".environment.changed")]:
            yield kept

    async def last(self, _: str, subject: str) -> Stored | None:
        return self.stored.get(subject, [None])[-1]

    async def append(self, event: Event, *, after: int) -> Appended | None:
        if not self.connected:
            raise Unpublished("NATS is away")
        line = self.stored.setdefault(event.subject, [])
        if (line[-1].sequence if line else 0) != after:
            return None
        kept = self._kept(event)
        line.append(kept)
        return Appended(kept.sequence, False, kept.data)

    async def publish(self, event: Event) -> Published:
        if not self.connected:
            raise Unpublished("NATS is away")
        kept = self._kept(event)
        self.stored.setdefault(event.subject, []).append(kept)
        self.published.append((asyncio.get_running_loop().time(), event))
        return Published(kept.stream, kept.sequence, duplicate=False)

    def snapshots(self) -> list[tuple[str, str]]:
        """(uid, phase) of what was published, in order."""
        found = [event.data.snapshot for _, event in self.published if isinstance(event.data, EnvironmentChanged)]
        return [(snapshot.uid, snapshot.phase) for snapshot in found]

    def _kept(self, event: Event) -> Stored:
        body, headers = encode(event)
        stream = "SCM" if event.subject.startswith("scm.") else "EVENTS"
        sequence = sum(map(len, self.stored.values())) + 1
        return Stored(stream, event.subject, sequence, body, headers, 0)


async def _nothing() -> None:
    return None


@dataclass
class Running:
    """A controller that leads. `stop()`: it does not lead any more. `decided`: what it recorded."""

    kube: MemoryKube
    bus: MemoryBus
    controller: Controller
    handlers: Handlers
    leading: asyncio.Task[None]
    decided: list[Decided] = field(default_factory=list)

    async def stop(self) -> None:
        self.leading.cancel()
        await asyncio.gather(self.leading, return_exceptions=True)


@asynccontextmanager
async def running(kube: MemoryKube, bus: MemoryBus, *, workers: int = 4) -> AsyncIterator[Running]:
    """One replica, leading, with the real Cluster and History over the memory."""
    cluster = Cluster(cast(Kube, kube), cast(Kube, kube), Platform())
    decided: list[Decided] = []
    controller = Controller(cluster, History(cast(Bus, bus), utc_now), utc_now, record=decided.append)
    controller.subscribe()
    mirrors = asyncio.create_task(cluster.run())
    leading = asyncio.create_task(controller.lead(workers=workers, resync_seconds=600))
    await controller.begun.wait()
    found = Running(
        kube, bus, controller, Handlers(controller, cluster, Audit(cast(Bus, bus), utc_now)), leading, decided
    )
    try:
        yield found
    finally:
        await found.stop()
        mirrors.cancel()
        with suppress(asyncio.CancelledError):
            await mirrors


async def with_team(kube: MemoryKube, *projects: Manifest, team: str = "acme") -> None:
    """The team's namespace, granted its own repositories, and its Projects."""
    annotations = {labels.REPOSITORIES: f"github/{team}/*"}
    await kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": team, "annotations": annotations}})
    for manifest in projects:
        await kube.create(manifest)
