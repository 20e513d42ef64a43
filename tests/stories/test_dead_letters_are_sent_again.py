"""Somebody on call sends a fact again that had been handled after all: env-controller sees it, and nothing happens."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stage import Stage

from catalyst.cli.operations import dead
from catalyst.events.bus import Bus, BusSettings
from catalyst.events.catalogue import DeadLetter
from catalyst.events.event import dead_letter
from catalyst.events.subjects import pull_request_subject
from catalyst.events.topology import SCM
from catalyst.events.users import inbox_prefix
from catalyst.model.clock import utc_now


@asynccontextmanager
async def bus_of(stage: Stage, user: str) -> AsyncIterator[Bus]:
    nats = stage.installation.nats
    bus = await Bus.connect(BusSettings(nats.url, nats.seed(user), inbox_prefix(user)), name=user, clock=utc_now)
    try:
        yield bus
    finally:
        await bus.drain()


async def sent_again(stage: Stage, number: int) -> int:
    """The first fact of the pull request becomes a dead letter and is sent again; how many facts there are then."""
    subject = pull_request_subject("github", stage.repository, number)
    async with bus_of(stage, "env-controller") as controller, bus_of(stage, "oncall") as oncall:
        fact = (await controller.facts(subject))[0]
        letter = DeadLetter(
            service="env-controller",
            consumer="env-controller",
            stream=SCM,
            sequence=fact.sequence,
            original_subject=subject,
            delivered=5,
            reason="given up after 5 deliveries: the cluster was away",
        )
        buried = await controller.publish(dead_letter(letter, time=utc_now()))
        done = await dead.resend(oncall, buried.sequence, by="hubot", clock=utc_now)
        assert not done.again
        assert (await dead.resend(oncall, buried.sequence, by="hubot", clock=utc_now)).again
        await stage.handled()
        return len(await controller.facts(subject))


async def test_a_fact_that_was_handled_changes_nothing_when_it_is_sent_again(stage: Stage) -> None:
    stage.grant()
    stage.project()
    await stage.accepted()
    await stage.deliver(stage.pull_request(1))
    await stage.ready("pr-1")
    await stage.deliver(stage.pull_request(1, action="synchronize", sha="b" * 40, before="a" * 40))
    await stage.until(lambda: stage.commit("pr-1") == "b" * 40, "the push has arrived")
    await stage.handled()
    before, mark, said = stage.environment("pr-1"), stage.installation.audit.marker(), await stage.said("pr-1")
    assert await sent_again(stage, 1) == 3
    assert stage.environment("pr-1") == before
    assert stage.writes(mark) == []
    assert await stage.said("pr-1") == said
    # Its twin, a fact that is new, changes something.
    await stage.deliver(stage.pull_request(1, action="synchronize", sha="c" * 40, before="b" * 40))
    await stage.until(lambda: stage.commit("pr-1") == "c" * 40, "the next push has arrived")
    assert stage.writes(mark) != []


async def test_an_opening_sent_again_brings_nothing_back(stage: Stage) -> None:
    stage.grant()
    stage.project()
    await stage.accepted()
    await stage.deliver(stage.pull_request(1))
    await stage.ready("pr-1")
    await stage.deliver(stage.pull_request(1, action="closed", state="closed"))
    await stage.gone("pr-1")
    assert await sent_again(stage, 1) == 3
    assert stage.environment("pr-1") is None
    assert stage.namespace("pr-1") is None
