"""Somebody on call asks what happened to one environment, and is told by what the services really said."""

from collections.abc import AsyncIterator
from datetime import datetime

import pytest
from stage import Stage

from catalyst.cli.operations import NotThere, environments
from catalyst.events.bus import Bus, BusSettings
from catalyst.events.subjects import environment_subject
from catalyst.events.topology import EVENTS
from catalyst.events.users import ONCALL, inbox_prefix
from catalyst.model.clock import utc_now
from catalyst.model.names import Identity


@pytest.fixture
async def oncall(stage: Stage) -> AsyncIterator[Bus]:
    nats = stage.installation.nats
    settings = BusSettings(nats.url, nats.seed(ONCALL), inbox_prefix(ONCALL))
    bus = await Bus.connect(settings, name=ONCALL, clock=utc_now)
    yield bus
    await bus.drain()


async def test_the_life_of_a_pull_request(stage: Stage, oncall: Bus) -> None:
    identity = Identity(stage.team, "shop", "pr-1")
    stage.grant()
    stage.project()
    await stage.accepted()
    await stage.deliver(stage.pull_request(1))
    opened = await said(stage, oncall, identity, "Provisioned", "a" * 40)
    await stage.deliver(stage.pull_request(1, action="synchronize", sha="b" * 40, before="a" * 40))
    pushed = await said(stage, oncall, identity, "Provisioned", "b" * 40)
    await stage.deliver(stage.pull_request(1, action="closed", state="closed"))
    await stage.gone("pr-1")

    lines = await environments.timeline(oncall, identity)
    facts = [line for line in lines if line.type == "scm.pull_request.changed"]
    assert [line.text.split()[3] for line in facts] == ["opened", "synchronize", "closed"]
    assert lines[0] == facts[0]
    assert [line.text for line in lines][-1] == "Terminating → Gone"
    places = {line.ref: place for place, line in enumerate(lines)}
    assert all(places[line.cause] < places[line.ref] for line in lines if line.cause)
    caused = {line.cause for line in lines if line.type == "environment.changed"}
    assert {line.ref for line in facts} <= caused  # each fact led to a snapshot
    assert not any(line.bad or line.clock for line in lines)

    assert (await environments.show(oncall, identity, opened)).snapshot.source.commit == "a" * 40
    assert (await environments.show(oncall, identity, pushed)).snapshot.source.commit == "b" * 40
    assert (await environments.show(oncall, identity)).snapshot.phase == "Gone"
    with pytest.raises(NotThere, match="the oldest that can be shown"):
        await environments.show(oncall, identity, facts[0].at)
    commit = next(
        one for one in await environments.diff(oncall, identity, opened, pushed) if one.field == "source.commit"
    )
    assert (commit.after, commit.because.split()[:4]) == ("b" * 40, ["pull", "request", "#1", "synchronize"])
    why = await environments.why(oncall, identity, utc_now())
    assert why.first is None
    assert why.verdict.startswith("Gone for ")
    assert "Closed: " in why.verdict


async def test_why_names_a_repository_that_was_not_granted(stage: Stage, oncall: Bus) -> None:
    identity = Identity(stage.team, "shop", "pr-1")
    stage.grant()
    stage.project()
    await stage.accepted()
    await stage.deliver(stage.pull_request(1))
    await stage.ready("pr-1")
    stage.grant("github/somebody/else")
    await stage.until(lambda: stage.phase("pr-1") == "Failed", "it is refused")
    await stage.until_async(lambda: is_wrong(oncall, identity, True), "why says so")
    found = await environments.why(oncall, identity, utc_now())
    assert found.first
    assert found.first.reason == "RepositoryNotGranted"
    assert found.first.remedy == "The platform's people have to grant this repository to the team."
    stage.grant()
    await stage.ready("pr-1")
    await stage.until_async(lambda: is_wrong(oncall, identity, False), "why says nothing more")


async def said(stage: Stage, oncall: Bus, identity: Identity, phase: str, commit: str) -> datetime:
    """When the last snapshot said so, by the bus's clock; the resource does so a moment earlier."""
    subject = environment_subject(identity, "environment", "changed")

    async def holds() -> bool:
        found = await stage.said("pr-1")
        return bool(found) and (found[-1]["phase"], found[-1]["source"].get("commit")) == (phase, commit)

    await stage.until_async(holds, f"{phase} is said of {commit[:7]}")
    stored = await oncall.last(EVENTS, subject)
    assert stored is not None
    return stored.time


async def is_wrong(oncall: Bus, identity: Identity, expected: bool) -> bool:
    return ((await environments.why(oncall, identity, utc_now())).first is not None) == expected
