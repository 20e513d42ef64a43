"""The mirror against a real API server that is restarted, frozen and made to forget."""

import asyncio
import gc
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from catalyst.kube.client import Kube, WatchEvent
from catalyst.kube.drift import Slim
from catalyst.kube.queue import Backoff
from catalyst.kube.reflector import Reflector
from catalyst.kube.resources import CONFIG_MAP
from catalyst.kube.settings import KubeSettings
from catalyst.local.control_plane import ControlPlane
from catalyst.model.manifest import Manifest, Ref, ref_of

Until = Callable[..., Awaitable[None]]
Changes = list[tuple[str | None, str | None]]
QUICK = Backoff(base=0.05, cap=0.2)
LABELS = {"mirror": "yes"}


def config_map(namespace: str, name: str, value: str = "1") -> Manifest:
    metadata = {"namespace": namespace, "name": name, "labels": LABELS}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"value": value}}


def value(manifest: Manifest | None) -> str | None:
    return manifest["data"]["value"] if manifest else None


def mirror(kube: Kube, namespace: str | None, **options: Any) -> tuple[Reflector, Changes]:
    changes: Changes = []

    def note(old: Manifest | None, new: Manifest | None) -> None:
        changes.append((value(old), value(new)))

    chosen: dict[str, Any] = {"label_selector": "mirror=yes", "on_change": note, "backoff": QUICK} | options
    return Reflector(kube, CONFIG_MAP, namespace=namespace, **chosen), changes


async def delete(kube: Kube, manifest: Manifest) -> None:
    await kube.delete(ref_of(manifest), uid=manifest["metadata"]["uid"])


async def test_what_is_there_what_changes_and_what_goes_is_told(
    kube: Kube, namespace: str, until: Until, running: Any
) -> None:
    await kube.apply(config_map(namespace, "old"))
    reflector, changes = mirror(kube, namespace)
    async with running(reflector.run()):
        await reflector.synced.wait()
        assert changes == [(None, "1")]
        await kube.apply(config_map(namespace, "new", "a"))
        made = await kube.apply(config_map(namespace, "new", "b"))
        await delete(kube, made)
        await until(lambda: len(changes) == 4)
    assert changes[1:] == [(None, "a"), ("a", "b"), ("b", None)]
    assert reflector.store.keys() == [(namespace, "old")]
    assert len(reflector.store) == 1


async def test_an_object_that_loses_the_label_is_gone(kube: Kube, namespace: str, until: Until, running: Any) -> None:
    reflector, changes = mirror(kube, namespace)
    async with running(reflector.run()):
        await reflector.synced.wait()
        made = await kube.apply(config_map(namespace, "one"))
        await kube.patch(ref_of(made), {"metadata": {"labels": {"mirror": None}}})
        await until(lambda: changes == [(None, "1"), ("1", None)])


async def test_a_watch_that_ends_is_continued_without_a_list(
    kube: Kube, namespace: str, until: Until, running: Any
) -> None:
    reflector, changes = mirror(kube, namespace, watch_seconds=1.0, spread=lambda: 0.0)
    async with running(reflector.run()):
        await reflector.synced.wait()
        for number in range(12):
            await kube.apply(config_map(namespace, "one", str(number)))
            await asyncio.sleep(0.25)
        await until(lambda: len(changes) == 12)
    assert changes[-1] == ("10", "11")
    assert reflector.lists == 1


async def test_nothing_is_missed_over_a_restart_of_the_server(
    plane: ControlPlane, kube: Kube, namespace: str, until: Until, running: Any
) -> None:
    await kube.apply(config_map(namespace, "stays"))
    goes = await kube.apply(config_map(namespace, "goes"))
    reflector, changes = mirror(kube, namespace)
    async with running(reflector.run()):
        await reflector.synced.wait()
        await asyncio.to_thread(plane.restart_apiserver)
        await delete(kube, goes)
        await kube.apply(config_map(namespace, "stays", "2"))
        await until(lambda: len(changes) == 4, 20)
    assert sorted(map(str, changes[2:])) == ["('1', '2')", "('1', None)"]
    assert reflector.last_error is None


async def test_a_forgotten_version_means_a_new_list_and_no_deletion_is_missed(
    plane: ControlPlane, kube: Kube, namespace: str, until: Until, running: Any
) -> None:
    """After its restart the server's watch cache begins later than the version we saw last: 410, for real."""
    goes = await kube.apply(config_map(namespace, "goes"))
    await kube.apply(config_map(namespace, "stays"))
    reflector, changes = mirror(kube, namespace, watch_seconds=1.0)
    async with running(reflector.run()):
        await reflector.synced.wait()
    assert len(changes) == 2
    await delete(kube, goes)
    await kube.apply(config_map(namespace, "stays", "2"))
    await kube.apply(config_map(namespace, "comes", "new"))
    await asyncio.to_thread(plane.restart_apiserver)
    async with running(reflector.run()):
        await until(lambda: len(changes) == 5)
    assert reflector.lists == 2
    assert sorted(map(str, changes[2:])) == ["('1', '2')", "('1', None)", "(None, 'new')"]


async def test_a_connection_that_died_in_silence_is_noticed(
    plane: ControlPlane, settings: KubeSettings, kube: Kube, namespace: str, until: Until, running: Any
) -> None:
    """A frozen server neither sends nor closes: only the bounded watch tells."""
    async with await Kube.connect(settings, field_manager="x", request_timeout=0.5) as impatient:
        reflector, changes = mirror(impatient, namespace, watch_seconds=1.0, spread=lambda: 0.0)
        async with running(reflector.run()):
            await reflector.synced.wait()
            plane.apiserver.freeze()
            try:
                await until(lambda: reflector.last_error is not None, 5)
            finally:
                plane.apiserver.thaw()
            await kube.apply(config_map(namespace, "one"))
            await until(lambda: changes == [(None, "1")], 10)


# asyncio leaves a connection whose server ended in the middle of the handshake to the collector.
@pytest.mark.filterwarnings("ignore:unclosed transport <_SelectorSocketTransport:ResourceWarning")
@pytest.mark.filterwarnings("ignore:unclosed <socket.socket:ResourceWarning")
async def test_a_server_that_is_away_at_first_is_waited_for(
    plane: ControlPlane, kube: Kube, namespace: str, running: Any
) -> None:
    reflector, _ = mirror(kube, namespace)
    await asyncio.to_thread(plane.apiserver.stop)
    try:
        async with running(reflector.run()):
            await asyncio.sleep(0.5)
            assert not reflector.synced.is_set()
            assert reflector.last_error is not None
            await asyncio.to_thread(plane.restart_apiserver)
            await asyncio.wait_for(reflector.synced.wait(), 10)
    finally:
        await asyncio.to_thread(plane.wait_for_apiserver)


async def test_what_we_wrote_is_known_at_once_and_old_news_does_not_undo_it(kube: Kube, namespace: str) -> None:
    reflector, changes = mirror(kube, namespace)
    first = await kube.create(config_map(namespace, "one", "first life"))
    reflector.learn(first)
    gone = await kube.patch(ref_of(first), {"data": {"value": "last words"}})
    await delete(kube, gone)
    second = await kube.create(config_map(namespace, "one", "second life"))
    reflector.learn(second)
    for kind, news in (("ADDED", first), ("MODIFIED", gone), ("DELETED", gone)):
        reflector._handle(WatchEvent(kind, news))  # type: ignore[arg-type]
    found = reflector.store.get(namespace, "one")
    assert found is not None
    assert found["metadata"]["uid"] == second["metadata"]["uid"]
    reflector.learn(gone)
    assert reflector.store.get(namespace, "one") == found
    assert ("last words", None) not in changes


async def test_metadata_only_costs_little(kube: Kube, namespace: str, running: Any) -> None:
    """16 children of one environment in at most 25 KB; here 1,000 children as 62 environments' worth."""

    def child(index: int) -> Manifest:
        manifest = config_map(namespace, f"child-{index}", "x" * 2000)
        manifest["metadata"]["labels"] = LABELS | {
            "catalyst.dev/team": "acme",
            "catalyst.dev/project": "shop",
            "catalyst.dev/environment": f"pr-{index // 16}",
            "catalyst.dev/environment-uid": f"00000000-0000-0000-0000-{index // 16:012}",
        }
        manifest["metadata"]["annotations"] = {"catalyst.dev/applied": "0" * 64}
        return manifest

    turns = asyncio.Semaphore(16)

    async def make(index: int) -> None:
        async with turns:
            await kube.apply(child(index))

    await asyncio.gather(*(make(index) for index in range(1000)))
    reflector = Reflector(
        kube, CONFIG_MAP, namespace=namespace, label_selector="mirror=yes", metadata_only=True, transform=Slim()
    )
    gc.collect()
    tracemalloc.start()
    async with running(reflector.run()):
        await reflector.synced.wait()
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(reflector.store) == 1000
    kept = reflector.store.get(namespace, "child-7")
    assert kept is not None
    assert ref_of(kept).uid == (await kube.get(Ref("v1", "ConfigMap", namespace, "child-7")))["metadata"]["uid"]
    assert held / 1000 * 16 < 25_000
