"""The client against a real API server: every error by its name, every precondition beside the request that is let
through.
"""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from catalyst.kube.client import Kube, no_fence
from catalyst.kube.errors import (
    AlreadyExists,
    Conflict,
    Expired,
    FencedOut,
    Forbidden,
    Invalid,
    KubeError,
    NotFound,
    Unauthorized,
    Unavailable,
    error_of,
)
from catalyst.kube.resources import CONFIG_MAP, NAMESPACE, UnknownResource
from catalyst.kube.settings import KubeSettings
from catalyst.local.control_plane import ControlPlane
from catalyst.model.manifest import Manifest, Ref, ref_of


def config_map(namespace: str, name: str = "one", **data: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": namespace, "name": name},
        "data": data or {"a": "1"},
    }


def quota(namespace: str, **hard: Any) -> Manifest:
    metadata = {"namespace": namespace, "name": "quota"}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}}


async def absent(kube: Kube, ref: Ref) -> bool:
    try:
        await kube.get(ref)
    except NotFound:
        return True
    return False


# Errors


async def test_what_is_not_there_is_not_found(kube: Kube, namespace: str) -> None:
    with pytest.raises(NotFound) as caught:
        await kube.get(Ref("v1", "ConfigMap", namespace, "none"))
    assert (caught.value.status, caught.value.reason) == (404, "NotFound")
    assert 'configmaps "none" not found' in caught.value.message


async def test_another_life_of_the_same_name_is_not_found(kube: Kube, namespace: str) -> None:
    made = await kube.create(config_map(namespace))
    ref = ref_of(made)
    assert await kube.get(ref) == made
    with pytest.raises(NotFound, match="expected another-uid"):
        await kube.get(Ref("v1", "ConfigMap", namespace, "one", uid="another-uid"))


async def test_a_second_create_already_exists(kube: Kube, namespace: str) -> None:
    await kube.create(config_map(namespace))
    with pytest.raises(AlreadyExists) as caught:
        await kube.create(config_map(namespace))
    assert (caught.value.status, caught.value.reason) == (409, "AlreadyExists")


async def test_an_invalid_object_names_its_fields(kube: Kube, namespace: str) -> None:
    wrong = quota(namespace, pods="-1")
    wrong["spec"]["hard"]["nonsense"] = "1"
    with pytest.raises(Invalid) as caught:
        await kube.apply(wrong)
    assert caught.value.reason == "Invalid"
    assert {"spec.hard[pods]", "spec.hard[nonsense]"} <= {cause.field for cause in caught.value.causes}
    await kube.apply(quota(namespace, pods="1"))


async def test_an_unknown_field_is_refused_and_named(kube: Kube, namespace: str) -> None:
    with pytest.raises(Invalid, match="dataa"):
        await kube.create(config_map(namespace) | {"dataa": {}})
    assert await absent(kube, Ref("v1", "ConfigMap", namespace, "one"))


async def test_a_service_account_without_rights_is_forbidden(plane: ControlPlane, namespace: str, kube: Kube) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": namespace, "name": "weak"}}
    await kube.apply(account)
    config = await asyncio.to_thread(plane.kubeconfig_for, namespace, "weak")
    async with await Kube.connect(KubeSettings(config), field_manager="weak") as weak:
        with pytest.raises(Forbidden, match=f"system:serviceaccount:{namespace}:weak"):
            await weak.create(config_map(namespace))
    assert await absent(kube, Ref("v1", "ConfigMap", namespace, "one"))
    await kube.create(config_map(namespace))


async def test_an_unknown_token_is_unauthorized(plane: ControlPlane, tmp_path: Path) -> None:
    config = yaml.safe_load(plane.admin_kubeconfig.read_text())
    config["users"][0]["user"] = {"token": "nobody"}
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))
    async with await Kube.connect(KubeSettings(path), field_manager="x") as stranger:
        with pytest.raises(Unauthorized):
            await stranger.get(Ref("v1", "Namespace", "", "default"))


async def test_a_server_that_is_away_is_unavailable(plane: ControlPlane, tmp_path: Path) -> None:
    config = yaml.safe_load(plane.admin_kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))
    async with await Kube.connect(KubeSettings(path), field_manager="x") as kube:
        with pytest.raises(Unavailable, match="GET /api/v1/namespaces/default"):
            await kube.get(Ref("v1", "Namespace", "", "default"))


async def test_a_frozen_server_is_unavailable_after_the_timeout(plane: ControlPlane, settings: KubeSettings) -> None:
    ref = Ref("v1", "Namespace", "", "default")
    async with await Kube.connect(settings, field_manager="x", request_timeout=0.5) as kube:
        await kube.get(ref)
        plane.apiserver.freeze()
        begun = time.monotonic()
        try:
            with pytest.raises(Unavailable, match=r"no answer within 0\.5 s"):
                await kube.get(ref)
        finally:
            plane.apiserver.thaw()
        assert 0.4 < time.monotonic() - begun < 1.5
        await kube.get(ref)


def test_a_proxys_page_is_translated_too() -> None:
    error = error_of(502, "<html>bad gateway</html>")
    assert isinstance(error, Unavailable)
    assert "bad gateway" in str(error)
    assert isinstance(error_of(418, {}), KubeError)
    assert isinstance(error_of(410, {"reason": "Expired"}), Expired)
    assert isinstance(error_of(500, {"reason": "InternalError"}), Unavailable)


async def test_a_kind_without_a_path_names_itself(kube: Kube) -> None:
    with pytest.raises(UnknownResource, match="'Gateway'"):
        await kube.create({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "x"}})


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "a%2fb"])
async def test_a_hostile_name_does_not_leave_its_path(kube: Kube, namespace: str, name: str) -> None:
    with pytest.raises(ValueError, match="expected a Kubernetes name"):
        await kube.get(Ref("v1", "ConfigMap", namespace, name))


async def test_a_namespaced_object_needs_its_namespace(kube: Kube) -> None:
    with pytest.raises(ValueError, match=r"set metadata\.namespace"):
        await kube.get(Ref("v1", "ConfigMap", "", "one"))


# Server-side apply and its preconditions


async def test_apply_creates_then_leaves_alone(kube: Kube, namespace: str) -> None:
    first = await kube.apply(config_map(namespace, a="1"))
    second = await kube.apply(config_map(namespace, a="1"))
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
    assert (await kube.apply(config_map(namespace, b="2")))["data"] == {"b": "2"}


async def test_apply_to_a_certain_life(kube: Kube, namespace: str) -> None:
    made = await kube.apply(config_map(namespace))
    with pytest.raises(Conflict, match="uid"):
        await kube.apply(config_map(namespace, a="2"), uid="00000000-0000-0000-0000-000000000000")
    assert (await kube.get(ref_of(made)))["data"] == {"a": "1"}
    assert (await kube.apply(config_map(namespace, a="2"), uid=made["metadata"]["uid"]))["data"] == {"a": "2"}


async def test_apply_with_a_uid_resurrects_nothing(kube: Kube, namespace: str) -> None:
    with pytest.raises(Conflict):
        await kube.apply(config_map(namespace), uid="00000000-0000-0000-0000-000000000000")
    assert await absent(kube, Ref("v1", "ConfigMap", namespace, "one"))


async def test_apply_to_a_certain_version(kube: Kube, namespace: str) -> None:
    old = await kube.apply(config_map(namespace, a="1"))
    new = await kube.apply(config_map(namespace, a="2"))
    with pytest.raises(Conflict):
        await kube.apply(config_map(namespace, a="3"), resource_version=old["metadata"]["resourceVersion"])
    assert (await kube.get(ref_of(old)))["data"] == {"a": "2"}
    await kube.apply(config_map(namespace, a="3"), resource_version=new["metadata"]["resourceVersion"])


async def test_a_field_of_another_manager_is_a_conflict_without_force(
    kube: Kube, namespace: str, settings: KubeSettings
) -> None:
    async with await Kube.connect(settings, field_manager="somebody") as other:
        await other.apply(config_map(namespace, a="theirs"))
    with pytest.raises(Conflict) as caught:
        await kube.apply(config_map(namespace, a="ours"), force=False)
    assert [cause.field for cause in caught.value.causes] == [".data.a"]
    assert (await kube.apply(config_map(namespace, a="ours")))["data"] == {"a": "ours"}


async def test_a_dry_run_writes_nothing(kube: Kube, namespace: str) -> None:
    assert (await kube.apply(config_map(namespace), dry_run=True))["data"] == {"a": "1"}
    assert await absent(kube, Ref("v1", "ConfigMap", namespace, "one"))


async def test_status_is_applied_alone(kube: Kube, namespace: str) -> None:
    made = await kube.apply(quota(namespace, pods="5"))
    status = quota(namespace) | {"status": {"hard": {"pods": "5"}, "used": {"pods": "3"}}}
    del status["spec"]
    answer = await kube.apply_status(status, uid=made["metadata"]["uid"])
    assert answer["status"]["used"] == {"pods": "3"}
    assert answer["spec"] == {"hard": {"pods": "5"}}
    with pytest.raises(Conflict):
        await kube.apply_status(status, uid="00000000-0000-0000-0000-000000000000")


# The other writes


async def test_replace_refuses_a_stale_version(kube: Kube, namespace: str) -> None:
    old = await kube.create(config_map(namespace, a="1"))
    new = await kube.replace(old | {"data": {"a": "2"}})
    with pytest.raises(Conflict):
        await kube.replace(old | {"data": {"a": "3"}})
    assert (await kube.get(ref_of(new)))["data"] == {"a": "2"}


@pytest.mark.parametrize("kind", ["merge", "json", "strategic"])
async def test_patch_with_preconditions(kube: Kube, namespace: str, kind: Any) -> None:
    made = await kube.create(config_map(namespace, a="1"))
    ref = ref_of(made)

    def body(value: str) -> Any:
        return [{"op": "add", "path": "/data/a", "value": value}] if kind == "json" else {"data": {"a": value}}

    stale = Ref(ref.api_version, ref.kind, ref.namespace, ref.name, resource_version="1")
    other = Ref(ref.api_version, ref.kind, ref.namespace, ref.name, uid="00000000-0000-0000-0000-000000000000")
    for wrong in (stale, other):
        with pytest.raises(Conflict):
            await kube.patch(wrong, body("2"), kind)
    assert (await kube.get(ref))["data"] == {"a": "1"}
    assert (await kube.patch(ref, body("2"), kind))["data"] == {"a": "2"}
    with pytest.raises(NotFound):
        await kube.patch(Ref("v1", "ConfigMap", namespace, "none"), body("1"), kind)


async def test_delete_hits_one_life_only(kube: Kube, namespace: str) -> None:
    made = await kube.create(config_map(namespace))
    ref = ref_of(made)
    with pytest.raises(Conflict):
        await kube.delete(ref, uid="00000000-0000-0000-0000-000000000000")
    with pytest.raises(Conflict):
        await kube.delete(ref, uid=made["metadata"]["uid"], resource_version="1")
    with pytest.raises(ValueError, match="expected the uid"):
        await kube.delete(ref, uid="")
    assert not await absent(kube, ref)
    await kube.delete(ref, uid=made["metadata"]["uid"], resource_version=made["metadata"]["resourceVersion"])
    assert await absent(kube, ref)
    with pytest.raises(NotFound):
        await kube.delete(ref, uid=made["metadata"]["uid"])


# Lists


async def test_2500_objects_come_in_pages_without_a_stall(kube: Kube, namespace: str) -> None:
    turns = asyncio.Semaphore(16)

    async def make(index: int) -> None:
        async with turns:
            await kube.create(config_map(namespace, f"m{index:04}", payload="x" * 1500))

    await asyncio.gather(*(make(index) for index in range(2500)))
    longest = 0.0

    async def feel() -> None:
        nonlocal longest
        while True:
            begun = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - begun)

    feeling = asyncio.create_task(feel())
    pages = [page async for page in kube.list(CONFIG_MAP, namespace)]
    feeling.cancel()
    names = {item["metadata"]["name"] for page in pages for item in page.items}
    assert len([name for name in names if name.startswith("m")]) == 2500
    assert len(pages) >= 5
    assert len({page.resource_version for page in pages}) == 1
    assert pages[0].remaining > 0
    assert pages[-1].remaining == 0
    assert pages[0].items[0]["kind"] == "ConfigMap"
    assert longest < 0.2


async def test_a_list_of_metadata_leaves_the_data_out(kube: Kube, namespace: str) -> None:
    labelled = config_map(namespace)
    labelled["metadata"]["labels"] = {"x": "y"}
    made = await kube.create(labelled)
    pages = [page async for page in kube.list(CONFIG_MAP, namespace, label_selector="x=y", metadata_only=True)]
    assert [item["metadata"]["uid"] for item in pages[0].items] == [made["metadata"]["uid"]]
    assert "data" not in pages[0].items[0]
    assert ref_of(pages[0].items[0]) == ref_of(made)


# The fence


async def test_a_shut_fence_stops_every_write_and_no_read(kube: Kube, namespace: str) -> None:
    made = await kube.create(config_map(namespace))
    ref = ref_of(made)

    def shut() -> None:
        raise FencedOut("not the leader")

    fenced = kube.fenced(shut)
    writes = [
        fenced.create(config_map(namespace, "two")),
        fenced.apply(config_map(namespace, a="2")),
        fenced.apply_status(quota(namespace)),
        fenced.replace(made),
        fenced.patch(ref, {"data": {"a": "2"}}),
        fenced.delete(ref, uid=made["metadata"]["uid"]),
    ]
    for write in writes:
        with pytest.raises(FencedOut, match="not the leader"):
            await write
    assert await fenced.get(ref) == made
    assert await absent(kube, Ref("v1", "ConfigMap", namespace, "two"))
    assert (await kube.fenced(no_fence).apply(config_map(namespace, a="2")))["data"] == {"a": "2"}


async def test_the_fence_is_asked_after_the_last_wait(settings: KubeSettings, kube: Kube, namespace: str) -> None:
    """A leader that loses its lease while it hangs at the point before a write, or waits for its turn, writes
    nothing.
    """
    leading = True

    def fence() -> None:
        if not leading:
            raise FencedOut("not the leader")

    async def lose(name: str) -> None:
        nonlocal leading
        if name == "kube.before:apply:ConfigMap":
            leading = False

    async with await Kube.connect(settings, field_manager="x", fence=fence, points=lose) as fenced:
        with pytest.raises(FencedOut):
            await fenced.apply(config_map(namespace))
    assert await absent(kube, Ref("v1", "ConfigMap", namespace, "one"))

    leading = True
    one_at_a_time = KubeSettings(settings.kubeconfig, in_flight=1)
    async with await Kube.connect(one_at_a_time, field_manager="x", fence=fence) as fenced:
        first = asyncio.create_task(fenced.create(config_map(namespace, "first")))
        second = asyncio.create_task(fenced.create(config_map(namespace, "second")))
        await asyncio.sleep(0)  # both begun: the first under way, the second waiting for its turn
        leading = False
        await first
        with pytest.raises(FencedOut):
            await second
    assert await absent(kube, Ref("v1", "ConfigMap", namespace, "second"))


async def test_points_surround_every_request(settings: KubeSettings, namespace: str) -> None:
    seen: list[str] = []

    async def note(name: str) -> None:
        seen.append(name)

    async with await Kube.connect(settings, field_manager="x", points=note) as kube:
        await kube.apply(config_map(namespace))
        async for _ in kube.list(NAMESPACE):
            pass
    assert seen == [
        "kube.before:apply:ConfigMap",
        "kube.after:apply:ConfigMap",
        "kube.before:list:Namespace",
        "kube.after:list:Namespace",
    ]
