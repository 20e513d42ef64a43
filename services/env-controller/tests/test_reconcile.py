"""The controller on virtual time: webhook facts in, resources and snapshots out. Assertions are on what is there."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from in_memory import MemoryBus, MemoryKube, Running, running, with_team
from makers import HOST, A, B, environment_manifest, project_manifest

from catalyst.env_controller.core.requests import Create
from catalyst.env_controller.reconcile import EnvironmentKey, FactKey, ProjectKey
from catalyst.events import examples
from catalyst.events.catalogue import EnvironmentChanged, EnvironmentName, RouteChanged
from catalyst.events.errors import Reject
from catalyst.events.event import route_changed
from catalyst.local.virtual_time import EPOCH, virtual_loop
from catalyst.model import labels
from catalyst.model.manifest import Manifest, ref_of

ENVIRONMENT = ("Environment", "acme--shop", "pr-42")
WORKLOAD = ("Namespace", "", "acme--shop--pr-42")


def fact(delivery: str, second: int = 0, **fields: Any) -> Any:
    head = {"ref": "basket", "sha": fields.pop("head", A), "repository": "Acme/Shop"}
    times: dict[str, Any] = {"created_at": EPOCH, "updated_at": EPOCH + timedelta(seconds=second)}
    return examples.pull_request(delivery=delivery, head=head, **times, **fields)


def on_virtual_time(story: Callable[[Running], Awaitable[None]], *projects: Manifest, workers: int = 4) -> None:
    """Tells `story` with a controller that leads, over a cluster with these Projects of team acme."""

    async def told() -> None:
        kube, bus = MemoryKube(), MemoryBus()
        await with_team(kube, *(projects or (project_manifest(),)))
        async with running(kube, bus, workers=workers) as found:
            await asyncio.sleep(5)
            await story(found)

    with virtual_loop() as runner:
        runner.run(told())


def kinds_in(kube: MemoryKube, namespace: str) -> list[str]:
    return sorted(kind for kind, where, _ in kube.objects if where == namespace)


def phase(kube: MemoryKube, key: tuple[str, str, str] = ENVIRONMENT) -> str | None:
    found = kube.objects.get(key)
    return found.get("status", {}).get("phase") if found else None


def created(body: Manifest) -> Manifest:
    """As kubectl sends it: without what the API server fills in."""
    given = ("name", "namespace", "finalizers", "annotations")
    return {**body, "metadata": {key: body["metadata"][key] for key in given if key in body["metadata"]}}


COMPLETE = ["LimitRange", *["NetworkPolicy"] * 6, "ResourceQuota", *["RoleBinding"] * 2, *["ServiceAccount"] * 2]


def test_a_pull_request_becomes_a_namespace_and_leaves_nothing() -> None:
    async def story(found: Running) -> None:
        before = set(found.kube.objects)
        await found.handlers.handle(found.bus.deliver(fact("d-1")))
        assert ENVIRONMENT in found.kube.objects, "settled only when it is written"
        await asyncio.sleep(1)
        uid = found.kube.objects[ENVIRONMENT]["metadata"]["uid"]
        assert phase(found.kube) == "Provisioned"
        assert kinds_in(found.kube, "acme--shop--pr-42") == COMPLETE
        await found.handlers.handle(found.bus.deliver(fact("d-2", 5, head=B, before=A, action="synchronize")))
        await asyncio.sleep(1)
        assert found.kube.objects[ENVIRONMENT]["spec"]["source"]["commit"] == B
        await found.handlers.handle(found.bus.deliver(fact("d-3", 9, action="closed", state="closed", head=B)))
        await asyncio.sleep(30)
        assert set(found.kube.objects) == before
        assert found.bus.snapshots()[0][1] == "Provisioning"
        assert found.bus.snapshots()[-1] == (uid, "Gone")
        assert "Terminating" in [said for _, said in found.bus.snapshots()]
        # late and repeated deliveries bring nothing back
        for event in (fact("d-1"), fact("d-4", 9, action="reopened"), fact("d-2", 5, head=B)):
            await found.handlers.handle(found.bus.deliver(event))
        await asyncio.sleep(30)
        assert set(found.kube.objects) == before
        await found.handlers.handle(found.bus.deliver(fact("d-5", 20, action="reopened", head=B)))
        await asyncio.sleep(1)
        assert phase(found.kube) == "Provisioned"
        assert found.kube.objects[ENVIRONMENT]["metadata"]["uid"] != uid

    on_virtual_time(story)


def test_reopened_while_the_older_one_goes_waits_for_it() -> None:
    async def story(found: Running) -> None:
        await found.handlers.handle(found.bus.deliver(fact("d-1")))
        await asyncio.sleep(1)
        first = found.kube.objects[ENVIRONMENT]["metadata"]["uid"]
        await found.handlers.handle(found.bus.deliver(fact("d-2", 5, action="closed", state="closed")))
        await asyncio.sleep(0.5)
        await found.handlers.handle(found.bus.deliver(fact("d-3", 6, action="reopened")))
        assert found.kube.objects[ENVIRONMENT]["metadata"]["uid"] == first
        await asyncio.sleep(30)
        assert phase(found.kube) == "Provisioned"
        assert found.kube.objects[ENVIRONMENT]["metadata"]["uid"] != first

    on_virtual_time(story)


def test_expiry_comes_at_its_time_and_stays_gone() -> None:
    async def story(found: Running) -> None:
        await found.handlers.handle(found.bus.deliver(fact("d-1")))
        await asyncio.sleep(1)
        made = next(time for time, type_, item in found.kube.log if item["kind"] == "Environment")
        await asyncio.sleep(7190)
        assert phase(found.kube) == "Provisioned"
        await asyncio.sleep(60)
        assert ENVIRONMENT not in found.kube.objects
        recorded = next(time for time, _, item in found.kube.log if item.get("spec", {}).get("deletion"))
        assert made + 7200 <= recorded <= made + 7202
        last = next(event for _, event in reversed(found.bus.published))
        assert last.data.snapshot.deletion.reason == "Expired"  # type: ignore[attr-defined]
        await found.handlers.handle(found.bus.deliver(fact("d-2", 9, action="labeled", labels=("x",))))
        assert ENVIRONMENT not in found.kube.objects
        await found.handlers.handle(found.bus.deliver(fact("d-3", 10, action="synchronize", head=B, before=A)))
        assert ENVIRONMENT in found.kube.objects

    on_virtual_time(story, project_manifest(development={"ttl": "2h"}))


def test_open_questions_are_asked_again_every_minute_and_hold_the_finalizer() -> None:
    async def story(found: Running) -> None:
        await found.kube.create(created(environment_manifest()))
        await asyncio.sleep(1)
        routes = [{"host": HOST, "namespace": "acme--shop--pr-42", "service": "web", "port": 80}]
        found.kube.change(ENVIRONMENT, {"status": {"routes": routes}})
        await asyncio.sleep(1)
        started = asyncio.get_running_loop().time()
        found.kube.remove(ENVIRONMENT)
        await asyncio.sleep(200)
        asked = [
            (round((time - started) / 60), event.id.partition("/again-")[2])
            for time, event in found.bus.published
            if time >= started
        ]
        assert asked == [(0, ""), (1, "1"), (2, "2"), (3, "3")]
        assert WORKLOAD in found.kube.objects
        answers = {"routes": {HOST: {"live": False, "at": "2026-01-01T00:00:00Z"}}}
        found.kube.change(ENVIRONMENT, {"status": {"answers": answers}})
        await asyncio.sleep(20)
        assert ENVIRONMENT not in found.kube.objects
        assert WORKLOAD not in found.kube.objects

    on_virtual_time(story)


@pytest.mark.parametrize("kind", ["ResourceQuota", "NetworkPolicy", "RoleBinding", "LimitRange"])
def test_what_is_deleted_by_hand_comes_back_within_two_seconds(kind: str) -> None:
    async def story(found: Running) -> None:
        await found.kube.create(created(environment_manifest()))
        await asyncio.sleep(1)
        key = next(key for key in found.kube.objects if key[:2] == (kind, "acme--shop--pr-42"))
        found.kube.remove(key)
        await asyncio.sleep(2)
        assert key in found.kube.objects
        assert phase(found.kube) == "Provisioned"

    on_virtual_time(story)


def test_a_namespace_deleted_by_hand_is_made_anew_and_recorded() -> None:
    async def story(found: Running) -> None:
        await found.kube.create(created(environment_manifest()))
        await asyncio.sleep(1)
        old = found.kube.objects[WORKLOAD]["metadata"]["uid"]
        found.kube.remove(WORKLOAD)
        await asyncio.sleep(20)
        new = found.kube.objects[WORKLOAD]["metadata"]["uid"]
        assert new != old
        assert found.kube.objects[ENVIRONMENT]["status"]["namespace"]["uid"] == new
        assert kinds_in(found.kube, "acme--shop--pr-42") == COMPLETE

    on_virtual_time(story)


def test_an_outage_of_the_api_server_delays_and_loses_nothing() -> None:
    async def story(found: Running) -> None:
        found.kube.away = True
        handling = asyncio.create_task(found.handlers.handle(found.bus.deliver(fact("d-1"))))
        await asyncio.sleep(30)
        assert not handling.done(), "not acknowledged while it has no effect"
        found.kube.away = False
        await asyncio.wait_for(handling, 90)
        await asyncio.sleep(60)
        assert phase(found.kube) == "Provisioned"

    on_virtual_time(story)


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_namespace_whose_making_was_not_heard_of_goes_with_its_environment(is_ours: bool) -> None:
    async def story(found: Running) -> None:
        before = set(found.kube.objects)
        found.kube.unheard = {"Namespace"}
        await found.kube.create(created(environment_manifest()))
        while WORKLOAD not in found.kube.objects:
            await asyncio.sleep(0.001)
        found.kube.away = True
        if not is_ours:
            found.kube.change(WORKLOAD, {"metadata": {"labels": {labels.ENVIRONMENT_UID: "another's"}}})
        found.kube.remove(ENVIRONMENT)
        await asyncio.sleep(20)
        found.kube.away = False
        await asyncio.sleep(30)
        found.kube.unheard = set()
        await asyncio.sleep(30)
        assert set(found.kube.objects) - before == (set() if is_ours else {WORKLOAD})

    on_virtual_time(story)


def test_an_outage_of_nats_makes_the_environment_all_the_same_and_says_so_later() -> None:
    async def story(found: Running) -> None:
        found.bus.connected = False
        await found.kube.create(created(environment_manifest()))
        await asyncio.sleep(30)
        assert kinds_in(found.kube, "acme--shop--pr-42") == COMPLETE
        assert found.bus.snapshots() == []
        found.bus.connected = True
        await asyncio.sleep(90)
        assert found.bus.snapshots()[-1] == (found.kube.objects[ENVIRONMENT]["metadata"]["uid"], "Provisioned")

    on_virtual_time(story)


def test_a_refusal_of_the_cluster_is_said_and_tried_again() -> None:
    async def story(found: Running) -> None:
        found.kube.refused = {"ResourceQuota"}
        await found.kube.create(created(environment_manifest()))
        await asyncio.sleep(5)
        conditions = {item["type"]: item for item in found.kube.objects[ENVIRONMENT]["status"]["conditions"]}
        assert conditions["BaselineReady"]["reason"] == "RefusedByCluster"
        assert "ResourceQuota is refused" in conditions["BaselineReady"]["message"]
        told = [event.data for _, event in found.bus.published if isinstance(event.data, EnvironmentChanged)]
        assert told[-1].snapshot.reason == "RefusedByCluster", "people hear of it by the bus"
        found.kube.refused = set()
        await asyncio.sleep(90)
        assert phase(found.kube) == "Provisioned"

    on_virtual_time(story)


def test_a_thousand_keys_of_one_project_do_not_hold_up_another() -> None:
    held = {"hold": {"reason": "Manual", "message": ""}}

    async def story(found: Running) -> None:
        for number in range(1000):
            body = created(environment_manifest(f"pr-{number + 1}", **held))
            found.kube._store("ADDED", {**body, "metadata": {**body["metadata"], "uid": f"u-{number}"}})
        other = created(environment_manifest("pr-1", metadata={"namespace": "acme--cart"}, **held))
        other["spec"]["projectRef"]["name"] = "cart"
        found.kube._store("ADDED", {**other, "metadata": {**other["metadata"], "uid": "u-other"}})
        await asyncio.sleep(60)
        served = [item["metadata"]["namespace"] for _, _, item in found.kube.log if _is_first_status(item)]
        assert len(served) == 1001
        assert served.index("acme--cart") < 20

    cart = project_manifest("cart")
    on_virtual_time(story, project_manifest(), cart)


def _is_first_status(item: Manifest) -> bool:
    return bool(item["kind"] == "Environment" and item.get("status", {}).get("phase") == "Waiting")


def test_a_restart_writes_and_says_nothing() -> None:
    async def told() -> None:
        kube, bus = MemoryKube(), MemoryBus()
        await with_team(kube, project_manifest())
        async with running(kube, bus) as first:
            await first.handlers.handle(bus.deliver(fact("d-1")))
            await asyncio.sleep(5)
        written, said = len(kube.log), len(bus.published)
        async with running(kube, bus):
            await asyncio.sleep(700)
        assert (len(kube.log), len(bus.published)) == (written, said)

    with virtual_loop() as runner:
        runner.run(told())


def test_a_gone_that_was_not_said_is_said_by_the_next_leader() -> None:
    async def told() -> None:
        kube, bus = MemoryKube(), MemoryBus()
        await with_team(kube, project_manifest())
        async with running(kube, bus) as first:
            await first.handlers.handle(bus.deliver(fact("d-1")))
            await asyncio.sleep(5)
            uid = kube.objects[ENVIRONMENT]["metadata"]["uid"]
        kube._drop(ENVIRONMENT, kube.objects[ENVIRONMENT])
        bus.deliver(fact("d-2", 5, action="closed", state="closed"))
        async with running(kube, bus):
            await asyncio.sleep(30)
        assert bus.snapshots()[-1] == (uid, "Gone")
        assert ENVIRONMENT not in kube.objects

    with virtual_loop() as runner:
        runner.run(told())


def test_two_projects_of_one_repository_get_one_each_and_an_unknown_one_none() -> None:
    async def story(found: Running) -> None:
        await found.handlers.handle(found.bus.deliver(fact("d-1")))
        await asyncio.sleep(1)
        assert phase(found.kube, ("Environment", "acme--shop", "pr-42")) == "Provisioned"
        assert phase(found.kube, ("Environment", "acme--cart", "pr-42")) == "Provisioned"
        unknown = examples.REPOSITORY.model_copy(update={"full_name": "nobody/nothing"})
        before = set(found.kube.objects)
        await found.handlers.handle(found.bus.deliver(fact("d-2", repository=unknown)))
        assert set(found.kube.objects) == before

    on_virtual_time(story, project_manifest(), project_manifest("cart"))


def test_a_changed_rule_judges_the_open_pull_requests_anew() -> None:
    async def story(found: Running) -> None:
        await found.handlers.handle(found.bus.deliver(fact("d-1")))
        assert ENVIRONMENT not in found.kube.objects
        found.kube.change(("Project", "acme", "shop"), {"spec": {"triggers": None}})
        await asyncio.sleep(5)
        assert phase(found.kube) == "Provisioned"

    on_virtual_time(story, project_manifest(triggers={"pullRequests": {"enabled": False}}))


def test_nothing_is_decided_without_the_fact_that_asks_for_it() -> None:
    """Found by chaos: a server of the bus that was frozen answers before it has caught up. The fact was acknowledged
    without effect and without a record.
    """

    async def story(found: Running) -> None:
        found.bus.behind = 4  # two questions, each for facts and for commands
        await found.handlers.handle(found.bus.deliver(fact("d-1")))
        assert ENVIRONMENT in found.kube.objects
        assert found.bus.behind == 0
        found.bus.behind = 4
        await found.handlers.handle(found.bus.deliver(fact("d-2", 5, action="closed", state="closed")))
        await asyncio.sleep(1)
        metadata = found.kube.objects[ENVIRONMENT]["metadata"] if ENVIRONMENT in found.kube.objects else None
        assert metadata is None or "deletionTimestamp" in metadata

    on_virtual_time(story)


def test_a_key_that_is_no_fact_is_rejected() -> None:
    async def story(found: Running) -> None:
        with pytest.raises(Reject, match="expected an SCM subject"):
            await found.controller.settled(FactKey("env.acme.shop.pr-42.build.finished"))

    on_virtual_time(story)


def test_an_environment_in_a_foreign_namespace_changes_and_says_nothing_there() -> None:
    async def story(found: Running) -> None:
        await found.kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "elsewhere"}})
        await found.kube.create(created(environment_manifest(metadata={"namespace": "elsewhere"})))
        await asyncio.sleep(5)
        assert phase(found.kube, ("Environment", "elsewhere", "pr-42")) == "Failed"
        assert WORKLOAD not in found.kube.objects
        assert found.bus.snapshots() == []
        assert EnvironmentKey("elsewhere", "pr-42").namespace != "acme--shop"
        assert labels.FINALIZER in found.kube.objects[("Environment", "elsewhere", "pr-42")]["metadata"]["finalizers"]

    on_virtual_time(story)


# What is recorded


def test_each_decision_that_changes_something_is_recorded_with_what_led_to_it() -> None:
    async def story(found: Running) -> None:
        assert [type(each.inputs).__name__ for each in found.decided] == ["ProjectInputs"] * len(found.decided)
        assert found.decided
        found.decided.clear()
        event = fact("d-1")
        await found.handlers.handle(found.bus.deliver(event))
        await asyncio.sleep(1)
        first, *others = found.decided
        assert (first.key, first.event) == (f"FactKey {event.subject}", "webhook-ingest/d-1")
        assert isinstance(first.result, Create)
        assert {each.key for each in others} == {"EnvironmentKey acme--shop/pr-42"}
        assert [bool(each.result.create) for each in others] == [True] + [False] * (len(others) - 1)  # type: ignore[union-attr]
        for each in found.decided:
            assert each.inputs.decided() == each.result

        # Looked at again, nothing is recorded; answered, the event is named.
        found.decided.clear()
        found.controller.enqueue(EnvironmentKey("acme--shop", "pr-42"))
        found.controller.enqueue(ProjectKey("acme", "shop"))
        await found.handlers.handle(found.bus.deliver(fact("d-2", 1, action="labeled", labels=("x",))))
        await asyncio.sleep(700)
        assert found.decided == []

    on_virtual_time(story)


def test_a_question_that_is_asked_again_is_a_decision_of_its_own() -> None:
    async def story(found: Running) -> None:
        await found.kube.create(created(environment_manifest()))
        await asyncio.sleep(1)
        routes = [{"host": HOST, "namespace": "acme--shop--pr-42", "service": "web", "port": 80}]
        found.kube.change(ENVIRONMENT, {"status": {"routes": routes}})
        await asyncio.sleep(1)
        found.kube.remove(ENVIRONMENT)
        await asyncio.sleep(10)
        found.decided.clear()
        await asyncio.sleep(180)
        assert [each.result.again for each in found.decided] == [1, 2, 3]  # type: ignore[union-attr]
        found.decided.clear()
        uid = found.kube.objects[ENVIRONMENT]["metadata"]["uid"]
        name = EnvironmentName(team="acme", project="shop", environment="pr-42", uid=uid)
        data = RouteChanged(environment=name, host=HOST, live=False)
        answer = route_changed(data, causing=examples.changed(), time=EPOCH)
        await found.handlers.handle(found.bus.deliver(answer))
        await asyncio.sleep(1)
        assert found.decided[0].event == answer.message_id

    on_virtual_time(story)


def _of_bot(number: int, **fields: Any) -> Any:
    return fact(f"d-{number}-{fields.get('action', 'opened')}", number=number, author="bot", **fields)


def _waiting(kube: MemoryKube) -> dict[str, str]:
    """Names of the Environments that wait, and for what."""
    found = {}
    for (kind, _, name), item in kube.objects.items():
        conditions = {each["type"]: each for each in item.get("status", {}).get("conditions", ())}
        if kind == "Environment" and item.get("status", {}).get("phase") == "Waiting":
            found[name] = conditions["Admitted"]["message"].partition(";")[0]
    return found


def _begun(kube: MemoryKube) -> set[str]:
    return {name.removeprefix("acme--shop--") for kind, _, name in kube.objects if kind == "Namespace"} - {
        "acme",
        "acme--shop",
    }


async def _annotated(kube: MemoryKube, namespace: str, **notes: str | None) -> None:
    ref = ref_of(kube.objects["Namespace", "", namespace])
    named = {f"catalyst.dev/{name.replace('_', '-')}": text for name, text in notes.items()}
    await kube.patch(ref, {"metadata": {"annotations": named}})


async def _opened(found: Running, numbers: range) -> None:
    async with asyncio.TaskGroup() as group:
        for number in numbers:
            group.create_task(found.handlers.handle(found.bus.deliver(_of_bot(number))))


def test_a_hundred_stand_in_line_and_cost_few_writes() -> None:
    async def story(found: Running) -> None:
        await _annotated(found.kube, "acme", maximum_environments="10")
        await asyncio.sleep(1)
        await _opened(found, range(1, 101))
        await asyncio.sleep(320)
        first = _begun(found.kube)
        assert len(first) == 10
        assert sorted(_waiting(found.kube).values()) == sorted(f"Position {n} of 90" for n in range(1, 91))

        written = len(found.kube.log)
        await asyncio.sleep(3000)
        assert len(found.kube.log) == written, "a line at rest writes nothing"

        (next_,) = [name for name, said in _waiting(found.kube).items() if said.startswith("Position 1 ")]
        gone = int(min(first).removeprefix("pr-"))
        await found.handlers.handle(found.bus.deliver(_of_bot(gone, second=9, action="closed", state="closed")))
        await asyncio.sleep(9)  # Kubernetes takes 5 s for the namespace
        assert _begun(found.kube) == first - {f"pr-{gone}"} | {next_}, (
            "the next begins, without waiting to be looked at"
        )
        written = len(found.kube.log)
        await asyncio.sleep(300)
        assert sorted(_waiting(found.kube).values()) == sorted(f"Position {n} of 89" for n in range(1, 90))
        assert len(found.kube.log) - written <= 89, "who stands in line is told once that it moved"

        await _annotated(found.kube, "acme", maximum_environments=None)
        await asyncio.sleep(20)
        assert len(_begun(found.kube)) == 99

    on_virtual_time(story, workers=16)


@pytest.mark.parametrize("where", ["acme", "catalyst-system"])
def test_what_waits_for_the_end_of_a_pause_needs_no_webhook(where: str) -> None:
    async def story(found: Running) -> None:
        await found.kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "catalyst-system"}})
        await _opened(found, range(1, 2))
        await asyncio.sleep(5)
        await _annotated(found.kube, where, paused="moving, ask ann")
        await _opened(found, range(2, 5))
        await asyncio.sleep(5)
        assert _begun(found.kube) - {"catalyst-system"} == {"pr-1"}
        assert len(_waiting(found.kube)) == 3
        written = len(found.kube.log)
        await asyncio.sleep(3000)
        assert len(found.kube.log) == written
        await found.handlers.handle(found.bus.deliver(_of_bot(2, second=9, action="closed", state="closed")))
        await asyncio.sleep(20)
        assert ("Environment", "acme--shop", "pr-2") not in found.kube.objects, "closing removes"
        await _annotated(found.kube, where, paused=None)
        await asyncio.sleep(5)
        assert _begun(found.kube) - {"catalyst-system"} == {"pr-1", "pr-3", "pr-4"}

    on_virtual_time(story)
