"""A mirror of one kind: list, then watch, for ever. What changed is told to callbacks; what is kept is up to
`transform`.

    list (pages) ──▶ diff with the store ──▶ synced ──▶ watch ──▶ ADDED, MODIFIED, DELETED, BOOKMARK ──▶ watch again
         ▲                                               │ 410, as HTTP status or as ERROR event
         └──────────────── backoff ◀─────────────────────┘ and broken connections (those continue the watch)

No change is lost: a watch continues from the last resourceVersion seen (bookmarks keep it young), and after a relist
the difference to the store is told, deletions included. Intermediate states may be skipped, as everywhere in
Kubernetes.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext

from catalyst.kube.client import Kube, Page, WatchEvent
from catalyst.kube.errors import Expired, KubeError, Unavailable
from catalyst.kube.queue import Backoff
from catalyst.kube.resources import Resource
from catalyst.kube.unhurried import unhurried
from catalyst.model.manifest import Manifest

logger = logging.getLogger(__name__)

Key = tuple[str, str]
"""Namespace ("" for cluster-wide objects) and name."""

OnChange = Callable[[Manifest | None, Manifest | None], None]
"""Told (old, new): (None, new) appeared, (old, new) changed, (old, None) is gone. Synchronous; must be quick; mostly
enqueues.
"""

Transform = Callable[[Manifest], Manifest]
Mark = Callable[[Manifest], str | None]

_BACKOFF = Backoff(base=0.1, cap=10.0)
_GRAVES = 4096  # uids of deleted objects that are remembered
_SHORT = 0.5  # seconds; a server or proxy that ends every watch at once must not be asked in a circle


class Store:
    """The objects as last seen, after `transform`. Read-only for everybody but the reflector; do not change what it
    returns.
    """

    def __init__(self, mark: Mark | None = None) -> None:
        """`mark`: what an object is also known by, see `marked`; many may have the same."""
        self._objects: dict[str, dict[str, Manifest]] = {}
        self._mark = mark
        self._marks: Counter[str] = Counter()

    def get(self, namespace: str, name: str) -> Manifest | None:
        """The object, or None."""
        return self._objects.get(namespace, {}).get(name)

    def within(self, namespace: str) -> list[Manifest]:
        """All objects of one namespace."""
        return list(self._objects.get(namespace, {}).values())

    def marked(self, mark: str) -> bool:
        """Whether some object has this mark."""
        return mark in self._marks

    def keys(self) -> list[Key]:
        """All keys, as a copy."""
        return [(namespace, name) for namespace, objects in self._objects.items() for name in objects]

    def __iter__(self) -> Iterator[Manifest]:
        return iter([found for objects in self._objects.values() for found in objects.values()])

    def __len__(self) -> int:
        return sum(len(objects) for objects in self._objects.values())

    def _put(self, key: Key, manifest: Manifest) -> None:
        objects = self._objects.setdefault(key[0], {})
        self._count(objects.get(key[1]), -1)
        self._count(manifest, 1)
        objects[key[1]] = manifest

    def _count(self, manifest: Manifest | None, by: int) -> None:
        mark = self._mark(manifest) if self._mark and manifest else None
        if mark is not None:
            self._marks[mark] += by
            if not self._marks[mark]:
                del self._marks[mark]

    def _pop(self, key: Key) -> Manifest | None:
        objects = self._objects.get(key[0], {})
        found = objects.pop(key[1], None)
        self._count(found, -1)
        if not objects:
            self._objects.pop(key[0], None)
        return found


def as_is(manifest: Manifest) -> Manifest:
    """Keep everything."""
    return manifest


class Reflector:
    """Mirrors `resource` (of one namespace, or all; selected by label) into `store` while `run` runs."""

    def __init__(
        self,
        kube: Kube,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        metadata_only: bool = False,
        transform: Transform = as_is,
        mark: Mark | None = None,
        gate: asyncio.Semaphore | None = None,
        on_change: OnChange | None = None,
        watch_seconds: float = 300.0,
        backoff: Backoff = _BACKOFF,
        spread: Callable[[], float] = random.random,
    ) -> None:
        """`watch_seconds`: each watch lasts this long to twice as long, so that a thousand of them do not renew
        together. `gate` lets a few of many mirrors list at once: each page is parsed in one piece, and all together
        would hold up the loop. `mark`: for the store.
        """
        self._gate = gate
        self._kube = kube
        self._resource = resource
        self._namespace = namespace
        self._label_selector = label_selector
        self._metadata_only = metadata_only
        self._transform = transform
        self._callbacks: list[OnChange] = [on_change] if on_change else []
        self._watch_seconds = watch_seconds
        self._backoff = backoff
        self._spread = spread
        self._version: str | None = None  # where to watch from; None: list first
        self._failures = 0
        self._buried: dict[str, None] = {}
        self.store = Store(mark)
        self.synced = asyncio.Event()
        self.lists = 0
        self.last_error: KubeError | None = None

    def on_change(self, callback: OnChange) -> None:
        """Also tell `callback`. It hears of nothing that is already in the store: subscribe before `run`."""
        self._callbacks.append(callback)

    def learn(self, manifest: Manifest) -> None:
        """Take in what a write of our own answered, so that the next look already sees it. Nobody is told: the writer
        knows.

        The watch brings it again and is ignored then, as is everything older.
        """
        key, new = _key(manifest), self._transform(manifest)
        if new["metadata"].get("uid") in self._buried:
            return  # the watch was faster and has told of its end already
        if not _is_older(new, self.store.get(*key)):
            self.store._put(key, new)  # noqa: SLF001 (the one writer)

    def unlearn(self, namespace: str, name: str, uid: str) -> None:
        """Take in that a delete of our own removed the object at once."""
        found = self.store.get(namespace, name)
        if found is not None and found["metadata"].get("uid") == uid:
            self.store._pop((namespace, name))  # noqa: SLF001 (the one writer)

    async def run(self) -> None:
        """Until cancelled. Errors are reported (`last_error`, log) and retried with backoff; `synced` stays set once
        set.
        """
        while True:
            try:
                if self._version is None:
                    async with self._gate or nullcontext():
                        self._version = await self._list()
                begun = asyncio.get_running_loop().time()
                await self._watch()
                if asyncio.get_running_loop().time() - begun < _SHORT:
                    await self._pause(Unavailable(0, "ShortWatch", "the watch ended at once"))
            except Expired as error:
                logger.info("watch expired, listing again", extra={"kind": self._resource.kind, "error": error.message})
                self._version = None
                await self._pause(error)
            except KubeError as error:
                logger.warning("watch broken", extra={"kind": self._resource.kind, "error": str(error)})
                await self._pause(error)

    async def _pause(self, error: KubeError) -> None:
        self.last_error = error
        self._failures += 1
        delay = self._backoff.delay(self._failures, self._spread())
        await asyncio.sleep(max(delay, error.retry_after or 0.0))

    async def _list(self) -> str:
        """Lists everything, tells the differences, returns the version to watch from."""
        self.lists += 1
        gone = set(self.store.keys())
        version = ""
        pages = self._kube.list(
            self._resource,
            self._namespace,
            label_selector=self._label_selector,
            metadata_only=self._metadata_only,
        )
        try:
            async for page in pages:
                gone -= await self._keep_page(page)
                version = page.resource_version
        finally:
            await pages.aclose()
        for key in gone:
            found = self.store.get(*key)
            if found is not None and int(found["metadata"]["resourceVersion"]) <= int(version):
                self._drop(key)  # else it was learned after the list was read
        self.synced.set()
        return version

    async def _keep_page(self, page: Page) -> set[Key]:
        return {self._keep(item) async for item in unhurried(page.items)}

    async def _watch(self) -> None:
        seconds = self._watch_seconds * (1 + self._spread())
        events = self._kube.watch(
            self._resource,
            self._namespace,
            resource_version=self._version or "0",
            seconds=seconds,
            label_selector=self._label_selector,
            metadata_only=self._metadata_only,
        )
        try:
            async with asyncio.timeout(seconds + 30):  # the server ends it; if it does not, it is dead
                async for event in events:
                    self._handle(event)
                    self._failures, self.last_error = 0, None
        except TimeoutError:
            logger.warning("watch outlived its time", extra={"kind": self._resource.kind})
        finally:
            await events.aclose()

    def _handle(self, event: WatchEvent) -> None:
        if event.type == "DELETED":
            self._drop(_key(event.object), event.object)
        elif event.type != "BOOKMARK":
            self._keep(event.object)
        self._version = event.object["metadata"]["resourceVersion"]

    def _keep(self, manifest: Manifest) -> Key:
        key = _key(manifest)
        old, new = self.store.get(*key), self._transform(manifest)
        if _is_older(new, old):
            return key
        self.store._put(key, new)  # noqa: SLF001 (the one writer)
        self._tell(old, new)
        return key

    def _drop(self, key: Key, last: Manifest | None = None) -> None:
        old = self.store.get(*key)
        if old and last and old["metadata"].get("uid") != last["metadata"].get("uid") and not _is_earlier(old, last):
            return self._bury(last["metadata"].get("uid"))  # the end of a former life; the new one was learned already
        self.store._pop(key)  # noqa: SLF001 (the one writer)
        self._bury((last or old or {}).get("metadata", {}).get("uid"))
        if old is not None:
            self._tell(self._transform(last) if last else old, None)
        return None

    def _bury(self, uid: str | None) -> None:
        """Remember the dead for a while: the answer to a write of ours may arrive after the news of its end."""
        if uid is not None:
            self._buried[uid] = None
            while len(self._buried) > _GRAVES:
                del self._buried[next(iter(self._buried))]

    def _tell(self, old: Manifest | None, new: Manifest | None) -> None:
        for callback in self._callbacks:
            callback(old, new)


def _key(manifest: Manifest) -> Key:
    metadata = manifest["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def _is_earlier(one: Manifest, other: Manifest) -> bool:
    return int(one["metadata"]["resourceVersion"]) < int(other["metadata"]["resourceVersion"])


def _is_older(new: Manifest, old: Manifest | None) -> bool:
    """Whether `new` is nothing new: the same or an earlier version, or a former life, of what is known.

    resourceVersions of one resource are ordered over all its objects, and documented as comparable (1.35)
    as integers. (Only restoring etcd from a backup turns them back: controllers are restarted then.)
    """
    return old is not None and not _is_earlier(old, new)
