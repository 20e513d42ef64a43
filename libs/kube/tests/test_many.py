"""Many objects: others have their turn meanwhile, equal texts are kept once, and nothing is looked for one by one."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from catalyst.kube import drift
from catalyst.kube.client import Kube, Page
from catalyst.kube.drift import Slim, Texts
from catalyst.kube.reflector import Reflector, Store
from catalyst.kube.resources import CONFIG_MAP, SECRET, SERVICE
from catalyst.kube.unhurried import unhurried
from catalyst.model.manifest import Manifest


def child(name: str, environment: str = "pr-1") -> Manifest:
    labels = {"catalyst.dev/environment": environment}
    managed = [{"manager": "env-controller", "operation": "Apply", "time": name, "fieldsV1": {"f:data": {}}}]
    metadata = {"namespace": "acme--shop--pr-1", "name": name, "labels": labels, "managedFields": managed}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


async def _told(items: list[int]) -> AsyncIterator[int]:
    for item in items:
        yield item


@pytest.mark.parametrize("given", [list, _told])
async def test_others_have_their_turn_while_many_things_are_worked_on(given: Any) -> None:
    turns, seen = 0, list[int]()

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    beside = asyncio.create_task(other())
    async for item in unhurried(given(list(range(50)))):
        time.sleep(0.002)  # noqa: ASYNC251 - work
        seen.append(item)
    beside.cancel()
    assert seen == list(range(50))
    assert turns >= 10, "100 ms of work, and a turn after each 5"


def test_what_children_have_in_common_is_kept_once() -> None:
    slim = Slim()
    one, two, other = slim(child("one")), slim(child("two")), slim(child("one", "pr-2"))
    assert one["metadata"]["labels"] is two["metadata"]["labels"]
    assert one["metadata"]["managedFields"] is two["metadata"]["managedFields"]
    assert one["metadata"]["namespace"] is two["metadata"]["namespace"]
    assert other["metadata"]["labels"] == {"catalyst.dev/environment": "pr-2"}


def test_what_is_shared_is_bounded_and_stays_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "_MOST_SHARED", 3)
    slim, texts = Slim(), Texts()
    for number in range(10):
        name = f"pr-{number}"
        assert slim(child("one", name))["metadata"]["labels"] == {"catalyst.dev/environment": name}
        assert texts.within({"a": [name, 1, None, {"b": name}]}) == {"a": [name, 1, None, {"b": name}]}
    assert max(len(slim._shared), len(slim._texts._known), len(texts._known)) <= 3


def test_a_mark_is_known_as_long_as_an_object_has_it() -> None:
    store = Store(lambda found: found["metadata"]["labels"].get("catalyst.dev/environment"))
    store._put(("", "one"), child("one", "pr-1"))
    store._put(("", "two"), child("two", "pr-1"))
    store._pop(("", "one"))
    assert store.marked("pr-1")
    store._put(("", "two"), child("two", "pr-2"))  # somebody changed it
    assert (store.marked("pr-1"), store.marked("pr-2")) == (False, True)
    store._pop(("", "two"))
    assert not store.marked("pr-2")


class Slow:
    """An API server whose lists take a while. `most`: as many as ever ran at once."""

    def __init__(self) -> None:
        self._now = self.most = 0

    async def list(self, *_: Any, **__: Any) -> AsyncIterator[Page]:
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0.05)
        yield Page([], "1", 0)
        self._now -= 1

    async def watch(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        yield


@pytest.mark.parametrize(("places", "most"), [(2, 2), (None, 3)])
async def test_a_gate_lets_a_few_mirrors_list_at_once(places: int | None, most: int) -> None:
    server = Slow()
    gate = asyncio.Semaphore(places) if places else None
    mirrors = [Reflector(cast(Kube, server), each, gate=gate) for each in (CONFIG_MAP, SECRET, SERVICE)]
    tasks = [asyncio.create_task(mirror.run()) for mirror in mirrors]
    async with asyncio.timeout(10):
        for mirror in mirrors:
            await mirror.synced.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert server.most == most
