"""Events in: facts settle, answers count only for the life and the question they belong to, the rest is refused."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from in_memory import MemoryBus, MemoryKube, Running, running, with_team
from makers import HOST, environment_manifest, project_manifest

from catalyst.events import examples
from catalyst.events.catalogue import AuditRecord, BuildCleaned, EnvironmentName, RouteChanged
from catalyst.events.errors import Reject, Retry
from catalyst.events.event import build_cleaned, route_changed
from catalyst.local.virtual_time import EPOCH, virtual_loop
from catalyst.model.manifest import Manifest

ENVIRONMENT = ("Environment", "acme--shop", "pr-42")
ASKED = examples.changed()
ROUTES = [{"host": HOST, "namespace": "acme--shop--pr-42", "service": "web", "port": 80}]


def answer(uid: str, *, live: bool, host: str = HOST) -> Any:
    name = EnvironmentName(team="acme", project="shop", environment="pr-42", uid=uid)
    return route_changed(RouteChanged(environment=name, host=host, live=live, reason="why"), causing=ASKED, time=EPOCH)


def cleaned(uid: str) -> Any:
    name = EnvironmentName(team="acme", project="shop", environment="pr-42", uid=uid)
    return build_cleaned(BuildCleaned(environment=name), causing=ASKED, time=EPOCH)


def with_an_environment(story: Callable[[Running, str], Awaitable[None]]) -> None:
    """Tells `story` with an Environment that handed out a route and asked for a build, and its uid."""

    async def told() -> None:
        kube, bus = MemoryKube(), MemoryBus()
        await with_team(kube, project_manifest())
        async with running(kube, bus) as found:
            await asyncio.sleep(5)
            body = environment_manifest()
            body["metadata"] = {key: body["metadata"][key] for key in ("name", "namespace", "finalizers")}
            uid = (await kube.create(body))["metadata"]["uid"]
            await asyncio.sleep(2)
            kube.change(ENVIRONMENT, {"status": {"routes": ROUTES, "builds": {"web": {"key": "k", "attempt": 1}}}})
            await asyncio.sleep(2)
            await story(found, uid)

    with virtual_loop() as runner:
        runner.run(told())


def answers(found: Running) -> Manifest:
    answered: Manifest = found.kube.objects[ENVIRONMENT]["status"].get("answers", {})
    return answered


def test_a_fact_that_the_cluster_refuses_is_recorded_before_it_is_refused() -> None:
    async def told() -> None:
        kube, bus = MemoryKube(), MemoryBus()
        await with_team(kube, project_manifest())
        async with running(kube, bus) as found:
            await asyncio.sleep(5)

            def records() -> list[tuple[int, str, str | None]]:
                data = [stored.event().data for stored in bus.stored.get("audit.acme.shop.pr-42", [])]
                return [(one.number, one.outcome, one.reason) for one in data if isinstance(one, AuditRecord)]

            kube.refused = {"Environment"}
            with pytest.raises(Reject, match="Environment is refused"):
                await found.handlers.handle(bus.deliver(examples.pull_request(delivery="d-1")))
            ((number, outcome, reason),) = records()
            assert (number, outcome) == (1, "refused")
            assert "Environment is refused" in (reason or "")
            kube.refused = set()
            await found.handlers.handle(bus.deliver(examples.pull_request(delivery="d-2")))
            assert records()[1:] == [(2, "done", None)]

    with virtual_loop() as runner:
        runner.run(told())


def test_answers_in_life_and_in_death() -> None:
    async def story(found: Running, uid: str) -> None:
        async def hear(event: Any) -> Manifest:
            await found.handlers.handle(found.bus.deliver(event))
            return answers(found)

        recorded = {"live": True, "at": "2026-01-01T00:00:00Z", "reason": "why", "failed": False}
        assert await hear(answer("an-older-life", live=True)) == {}
        failed = {"routes": {HOST: {**recorded, "live": False, "failed": True}}}
        assert await hear(answer(uid, live=False)) == failed, "an old answer must not answer the teardown to come"
        assert await hear(answer(uid, live=False, host="other.example.org")) == failed, "it was taken back"
        assert await hear(cleaned(uid)) == failed, "nothing has been asked yet"
        assert await hear(answer(uid, live=True)) == {"routes": {HOST: recorded}}

        found.kube.remove(ENVIRONMENT)
        await asyncio.sleep(1)
        assert await hear(answer(uid, live=True)) == {"routes": {HOST: recorded}}
        assert await hear(answer("an-older-life", live=False)) == {"routes": {HOST: recorded}}
        assert await hear(cleaned("an-older-life")) == {"routes": {HOST: recorded}}
        gone = {"routes": {HOST: {**recorded, "live": False}}}
        assert await hear(answer(uid, live=False)) == gone
        await asyncio.sleep(30)
        assert ("Namespace", "", "acme--shop--pr-42") in found.kube.objects, "the builds are not answered yet"
        assert await hear(cleaned(uid)) == {**gone, "buildsCleaned": True}
        await asyncio.sleep(30)
        assert ENVIRONMENT not in found.kube.objects
        # late answers to an environment that is gone are no error
        await found.handlers.handle(found.bus.deliver(answer(uid, live=False)))
        await found.handlers.handle(found.bus.deliver(cleaned(uid)))
        assert ENVIRONMENT not in found.kube.objects

    with_an_environment(story)


def test_an_answer_for_another_host_answers_nothing_that_is_asked() -> None:
    async def story(found: Running, uid: str) -> None:
        found.kube.remove(ENVIRONMENT)
        await asyncio.sleep(1)
        await found.handlers.handle(found.bus.deliver(cleaned(uid)))
        await found.handlers.handle(found.bus.deliver(answer(uid, live=False, host="other.example.org")))
        await asyncio.sleep(30)
        conditions = {item["type"]: item for item in found.kube.objects[ENVIRONMENT]["status"]["conditions"]}
        assert conditions["Terminating"]["reason"] == "AwaitingAnswers"
        assert f"route {HOST}." in conditions["Terminating"]["message"]

    with_an_environment(story)


def test_a_type_that_nobody_handles_is_rejected_and_named() -> None:
    async def story(found: Running, _: str) -> None:
        event = examples.examples()["dev.catalyst.build.requested.v1"]
        with pytest.raises(Reject) as refused:
            await found.handlers.handle(found.bus.deliver(event))
        assert refused.value.reason == (
            "type dev.catalyst.build.requested.v1: env-controller handles dev.catalyst.scm.pull_request.changed.v1, "
            "dev.catalyst.scm.branch.pushed.v1, dev.catalyst.scm.command.given.v1, dev.catalyst.route.changed.v1, "
            "dev.catalyst.build.finished.v1, "
            "dev.catalyst.build.cleaned.v1"
        )

    with_an_environment(story)


def test_whoever_waits_hands_its_message_back_when_leadership_ends() -> None:
    async def story(found: Running, _: str) -> None:
        found.kube.away = True
        fact = found.bus.deliver(examples.pull_request(43, "d-9"))
        handling = asyncio.create_task(found.handlers.handle(fact))
        await asyncio.sleep(3)
        assert not handling.done()
        await found.stop()
        with pytest.raises(Retry) as back:
            await asyncio.wait_for(handling, 60)
        assert (back.value.reason, back.value.after) == (
            "this replica does not lead any more",
            timedelta(seconds=1),
        )

    with_an_environment(story)


def test_an_answer_that_meets_a_newer_version_is_tried_again() -> None:
    async def story(found: Running, uid: str) -> None:
        found.kube.remove(ENVIRONMENT)
        await asyncio.sleep(1)
        found.kube.change(ENVIRONMENT, {"metadata": {"annotations": {"x": "y"}}})  # the mirror has not heard of it
        event = found.bus.deliver(answer(uid, live=False))
        with pytest.raises(Retry):
            await found.handlers.handle(event)
        assert answers(found) == {}
        await asyncio.sleep(1)
        await found.handlers.handle(event)
        assert answers(found)["routes"][HOST]["live"] is False

    with_an_environment(story)


def test_a_push_makes_the_environment_of_its_branch() -> None:
    async def story(found: Running, _: str) -> None:
        found.kube.change(("Project", "acme", "shop"), {"spec": {"triggers": {"branches": [{"pattern": "rel/*"}]}}})
        await asyncio.sleep(1)
        await found.handlers.handle(found.bus.deliver(examples.push("rel/1", "d-5")))
        await found.handlers.handle(found.bus.deliver(examples.push("main", "d-6")))
        made = [
            item["spec"]["source"]["branch"]
            for (kind, _, name), item in found.kube.objects.items()
            if kind == "Environment" and name != "pr-42"
        ]
        assert made == ["rel/1"]

    with_an_environment(story)
