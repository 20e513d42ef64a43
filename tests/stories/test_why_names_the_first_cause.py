"""Incidents as they really happen, each beside a twin to which nothing happened: `catalyst why` names the
first cause of the one, by the command as people run it, and nothing of the other.

webhook-ingest and env-controller run, on a real NATS and a real API server. builder's and dns-proxy's words are made by
their own cores; the kubelet is played. Each history is then told once more with every clock off by up to five seconds.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from desk import Desk
from played import Story
from skews import SERVICES, STREAMS, assert_causal, drawn, skewed
from stage import Stage

from catalyst.cli.core.why import why
from catalyst.cli.operations import environments
from catalyst.dns_proxy.core.cloudflare import Record, Tunnel, record_plan
from catalyst.dns_proxy.core.routes import wanted
from catalyst.events.bus import Bus
from catalyst.events.catalogue import BuildCleaned, BuildRequested
from catalyst.events.consuming import Received
from catalyst.events.errors import Reject
from catalyst.events.event import scm_event
from catalyst.events.topology import BUILDER
from catalyst.forge.github import GitHub
from catalyst.model.clock import utc_now
from catalyst.model.names import Identity
from catalyst.model.snapshot import Snapshot
from catalyst.webhook_ingest.sweep import state_id

SEEDS = 20
ZONE = "catalyst.localhost"
IMAGES = [{"name": "web", "image": "nginx", "expose": {"port": 80}}]
CRASHES = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 3, "lastState": "ended"}
UNPULLED = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}
SILENT = {"state": {"running": {"startedAt": "before"}}}


@pytest.fixture
def controller_settings() -> dict[str, Any]:
    return {"registry": "registry.test:5000", "public_port": 8443}


@dataclass
class Pair:
    """Two pull requests of one Project: `ill`, to which it happens, and `well`, its twin."""

    stage: Stage
    desk: Desk
    ill: Story
    well: Story

    async def opened(self, **spec: Any) -> None:
        self.stage.grant()
        self.stage.project(**spec)
        await self.stage.accepted()
        await asyncio.gather(self.ill.pulled(), self.well.pulled())

    async def images(self) -> None:
        """Both run an image, which nobody has to build."""
        await self.opened(components=IMAGES)

    async def with_a_route(self) -> Snapshot:
        """What dns-proxy reads of the ill one, as soon as it was given a host."""
        found: list[Snapshot] = []

        async def said() -> bool:
            found[:] = [Snapshot.model_validate(await self.stage.last_said(self.ill.name))]
            return bool(found[0].routes)

        await self.stage.until_async(said, "the route is said")
        return found[0]

    async def why(self, story: Story) -> dict[str, Any]:
        ran = await self.desk.catalyst("why", f"{self.stage.team}/shop/{story.name}", "-o", "json")
        found: dict[str, Any] = json.loads(ran.out)
        assert ran.code == int(bool(found["first"] or found["waitsFor"])), ran.out
        return found

    async def named(self, reason: str | None, *, beside: int = 0) -> None:
        """Waits until `why` names it, or nothing, of the ill one, and so many troubles beside it."""
        oncall, identity = await self.desk.oncall(), Identity(self.stage.team, "shop", self.ill.name)

        async def so() -> bool:
            found = await environments.why(oncall, identity, utc_now())
            return ((found.first.reason if found.first else None), len(found.also) >= beside) == (reason, True)

        await self.stage.until_async(so, f"why names {reason}", within=20)

    async def skewed(self, component: str | None, reason: str | None) -> None:
        """The history of the ill one, told with every clock off by up to five seconds: causal, and the same cause."""
        history = await environments.history(await self.desk.oncall(), Identity(self.stage.team, "shop", self.ill.name))
        for seed in range(SEEDS):
            random = Random(f"{reason} {seed}")
            services, streams, elected = drawn(random, SERVICES), drawn(random, STREAMS), drawn(random, STREAMS)
            off = skewed(history, services, streams, elected=elected, after=random.randint(0, len(history)))
            assert_causal(off)
            found = why(off, utc_now())
            assert found
            first = (found.first.component, found.first.reason) if found.first else (None, None)
            assert first == (component, reason)
            assert all(stage.seconds >= 0 for stage in found.slowest)

    async def screen(self, story: Story) -> str:
        return (await self.desk.catalyst("why", f"{self.stage.team}/shop/{story.name}")).out

    async def bus(self, user: str) -> Bus:
        return await self.desk.bus_of(user)


@pytest.fixture
async def pair(stage: Stage, tmp_path: Path) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        yield Pair(stage, Desk(stage.installation.nats, tmp_path, stack), Story(stage, 1), Story(stage, 2))


# The incidents. Each leaves `ill` as it is when somebody asks, and `well` on its way or Ready.


async def dockerfile_is_broken(pair: Pair) -> None:
    await pair.opened()
    log = "error building image: parsing dockerfile: dockerfile parse error line 3: unknown instruction: RUNN"
    await pair.ill.build_breaks({"fetch": (0, "source f1"), "kaniko": (1, "")}, log)


async def commit_vanished(pair: Pair) -> None:
    await pair.opened()
    words = "CommitNotFound: the repository has no commit aaaaaaa: it was removed by a forced push. Push again."
    await pair.ill.build_breaks({"fetch": (1, words)})


async def image_cannot_be_pulled(pair: Pair) -> None:
    await pair.images()
    pair.ill.breaks(await pair.ill.pod(), UNPULLED)


async def program_crashes_and_its_neighbour_with_it(pair: Pair) -> None:
    """api ends, and web, which cannot do without it, a moment later: the Project names web first."""
    await pair.opened(components=[*IMAGES, {"name": "api", "image": "nginx"}])
    pair.ill.breaks(await pair.ill.pod("api"), {"name": "api", **CRASHES})
    await pair.named("CrashLoop")
    pair.ill.breaks(await pair.ill.pod(), CRASHES)
    await pair.named("CrashLoop", beside=1)


async def port_does_not_listen(pair: Pair) -> None:
    await pair.opened()
    await pair.ill.built(ports=(8000,))
    pair.ill.breaks(await pair.ill.pod(), SILENT)


async def quota_is_exceeded(pair: Pair) -> None:
    """Refused by the API server's own quota. The Project's quota shrinks: what runs stays, what is to run does not."""
    await pair.opened(components=IMAGES)
    await pair.well.comes_up()
    pair.stage.project(components=IMAGES, development={"quota": {"pods": 0}})

    def pods() -> str:
        most: str = pair.stage.object("ResourceQuota", "pr-1", "environment")["spec"]["hard"]["pods"]
        return most

    await pair.stage.until(lambda: pods() == "0", "the quota is there")
    pair.stage.delete(pair.stage.path_of("Pod", "pr-1", (await pair.ill.pod())["metadata"]["name"]))


async def fork_waits_for_approval(pair: Pair) -> None:
    pair.stage.grant()
    pair.stage.project(components=IMAGES)
    await pair.stage.accepted()
    await pair.stage.deliver(pair.stage.pull_request(1, fork=True))
    await pair.well.pulled()


async def two_claim_one_host(pair: Pair) -> None:
    await pair.images()
    pair.ill.run(await pair.ill.pod())
    mine = await pair.with_a_route()
    identity = mine.identity.model_copy(update={"project": "older"})
    namespace = f"{pair.stage.team}--older--pr-1"
    route = mine.routes[0].model_copy(update={"namespace": namespace})
    assert mine.created_at
    older = mine.model_copy(
        update={
            "uid": "u-older",
            "identity": identity,
            "routes": (route,),
            "created_at": mine.created_at - timedelta(hours=1),
        }
    )
    (reason,) = wanted([mine, older], ZONE).refused.values()
    await pair.ill.routed(pair.ill.host, live=False, reason=reason)


async def cloudflare_has_the_name_already(pair: Pair) -> None:
    await pair.images()
    pair.ill.run(await pair.ill.pod())
    mine = await pair.with_a_route()
    foreign = Record(pair.ill.host, "192.0.2.1", "", type="A", id="r-1")
    tunnel = Tunnel("account", "zone", "catalyst", ZONE, "http://edge", "installation", wildcard=False)
    table = wanted([mine], ZONE).entries.values()
    plan = record_plan([foreign], table, tunnel, "t.cfargotunnel.com", [mine])
    await pair.ill.routed(pair.ill.host, live=False, reason=plan.taken[pair.ill.host])


async def webhook_is_lost_and_the_sweep_finds_it(pair: Pair) -> None:
    """Its webhook never came; 12 minutes later webhook-ingest's sweep publishes what the forge says."""
    pair.stage.grant()
    pair.stage.project(components=IMAGES)
    await pair.stage.accepted()
    github, payload = GitHub(), pair.stage.pull_request(1)
    stamp = f"{utc_now() - timedelta(minutes=12):%Y-%m-%dT%H:%M:%SZ}"
    payload["pull_request"] |= {"created_at": stamp, "updated_at": stamp}
    headers = {"x-github-event": "pull_request", "x-github-delivery": "lost", "content-type": "application/json"}
    fact = github.translate(github.delivery(headers), json.dumps(payload).encode())
    ingest = await pair.bus("webhook-ingest")
    await ingest.publish(scm_event(fact, delivery=state_id(fact), time=utc_now()))  # type: ignore[arg-type]
    await pair.stage.until(lambda: pair.stage.phase("pr-1"), "its environment is there")
    await pair.ill.comes_up()
    await pair.well.pulled()


async def nats_is_away_while_it_breaks(pair: Pair) -> None:
    """What broke in the outage is told afterwards, and the outage itself leaves no trouble behind."""
    await pair.images()
    pod = await pair.ill.pod()
    nats = pair.stage.installation.nats
    await asyncio.to_thread(nats.stop)
    try:
        asked = await pair.desk.catalyst("why", f"{pair.stage.team}/shop/pr-1")
        assert (asked.code, f"no connection to {nats.url}" in asked.err) == (4, True), asked.err
        pair.ill.breaks(pod, CRASHES)
    finally:
        await asyncio.to_thread(nats.start)


async def builder_cannot_handle_the_question(pair: Pair) -> None:
    """builder's consumer, whose handler rejects: the bus buries the message, and the build is never answered."""
    await pair.opened()
    await pair.ill.asked()

    async def handler(received: Received) -> None:
        data = received.event.data
        if isinstance(data, BuildRequested) and data.environment == pair.ill.identity():
            raise Reject("inputs.target: expected the name of a stage")

    bus = await pair.bus("builder")
    work = asyncio.create_task(bus.consume(BUILDER, handler, concurrency=16))
    try:
        await pair.named("NotHandled")
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def teardown_waits_for_an_answer(pair: Pair) -> None:
    """builder has answered; dns-proxy has not."""
    await pair.opened()
    await asyncio.gather(pair.ill.comes_up(), pair.well.comes_up())
    await pair.stage.deliver(pair.stage.pull_request(1, action="closed", state="closed"))
    await pair.stage.until(lambda: pair.stage.phase("pr-1") == "Terminating", "it is terminating")
    await pair.stage.answer("builder", BuildCleaned(environment=pair.ill.identity()), "pr-1")


Incident = Callable[[Pair], Awaitable[None]]
FIRST: list[tuple[Incident, str | None, str]] = [
    (dockerfile_is_broken, "web", "DockerfileInvalid"),
    (commit_vanished, "web", "CommitNotFound"),
    (image_cannot_be_pulled, "web", "ImagePull"),
    (program_crashes_and_its_neighbour_with_it, "api", "CrashLoop"),
    (port_does_not_listen, "web", "PortNotListening"),
    (quota_is_exceeded, "web", "Quota"),
    (fork_waits_for_approval, None, "Fork"),
    (two_claim_one_host, None, "HostTaken"),
    (cloudflare_has_the_name_already, None, "RouteFailed"),
    (nats_is_away_while_it_breaks, "web", "CrashLoop"),
    (builder_cannot_handle_the_question, None, "NotHandled"),
]


@pytest.mark.full(sample=3)
@pytest.mark.parametrize(("incident", "component", "reason"), FIRST, ids=[each[0].__name__ for each in FIRST])
async def test_the_first_cause_is_named_and_none_of_its_twin(
    pair: Pair, incident: Incident, component: str | None, reason: str
) -> None:
    await incident(pair)
    await pair.named(reason)
    found, screen, twin = await asyncio.gather(pair.why(pair.ill), pair.screen(pair.ill), pair.why(pair.well))
    assert (found["first"]["component"], found["first"]["reason"]) == (component, reason)
    assert found["first"]["remedy"]
    where = f"{component}: " if component else ""
    assert f"first cause  {where}{reason}, " in screen
    assert (twin["first"], twin["also"], twin["waitsFor"], twin["late"]) == (None, [], [], None)
    await pair.skewed(component, reason)


async def test_a_grant_that_is_taken_back(pair: Pair) -> None:
    """It hits the whole Project, so the twin is the same environment before and after."""
    await pair.opened(components=IMAGES)
    await pair.ill.comes_up()
    assert (await pair.why(pair.ill))["first"] is None
    pair.stage.grant("github/somebody-else/*")
    await pair.named("RepositoryNotGranted")
    assert (await pair.why(pair.ill))["first"]["reason"] == "RepositoryNotGranted"
    await pair.skewed(None, "RepositoryNotGranted")
    pair.stage.grant()
    await pair.named(None)


async def test_a_repository_that_was_never_granted_has_no_environment_to_ask_about(pair: Pair) -> None:
    """What the bus does not hold `why` cannot know: it says where to look."""
    pair.stage.grant("github/somebody-else/*")
    pair.stage.project()
    await pair.stage.until(lambda: pair.stage.project_condition("Accepted").get("status") == "False", "it is refused")
    await pair.stage.deliver(pair.stage.pull_request(1))
    await pair.stage.handled()
    ran = await pair.desk.catalyst("why", f"{pair.stage.team}/shop/pr-1")
    assert ran.code == 3
    assert f"Whether its Project is accepted: `kubectl -n {pair.stage.team} describe project shop`." in ran.err


async def test_a_lost_webhook_that_the_sweep_finds_late(pair: Pair) -> None:
    """No trouble any more: why it took so long is named, and not of the one whose webhook came."""
    await webhook_is_lost_and_the_sweep_finds_it(pair)
    found, screen, twin = await asyncio.gather(pair.why(pair.ill), pair.screen(pair.ill), pair.why(pair.well))
    assert found["first"] is None
    assert found["late"].startswith("heard of about 12 min ")
    assert "the sweep found it, its webhook never came" in found["late"]
    assert f"late: {found['late']}" in screen
    assert twin["late"] is None
    await pair.skewed(None, None)


async def test_a_teardown_that_waits(pair: Pair) -> None:
    """Nothing failed: whose answer is missing is named, and nobody else's."""
    await teardown_waits_for_an_answer(pair)
    found, screen, twin = await asyncio.gather(pair.why(pair.ill), pair.screen(pair.ill), pair.why(pair.well))
    (waits,) = found["waitsFor"]
    assert waits.startswith(f"dns-proxy has not said that {pair.ill.host} is withdrawn, asked ")
    assert f"waits: dns-proxy has not said that {pair.ill.host} is withdrawn" in screen
    assert (found["first"], twin["waitsFor"]) == (None, [])
    await pair.skewed(None, None)
    await pair.ill.routed(pair.ill.host, live=False)
    assert (await pair.why(pair.ill))["waitsFor"] == []
