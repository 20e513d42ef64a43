"""Environments read from a real server: now, at a time, as a timeline, as a difference."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from desk import Desk
from histories import A, Author, B, asked, component, ready

from catalyst.cli.core.timeline import Line
from catalyst.cli.operations import NotThere, environments
from catalyst.events.catalogue import EnvironmentChanged
from catalyst.events.examples import changed, pull_request
from catalyst.events.topology import EVENTS
from catalyst.model.clock import utc_now
from catalyst.model.environment import Phase
from catalyst.model.names import Identity

PR_42 = Identity("acme", "shop", "pr-42")
SUBJECT = "env.acme.shop.pr-42.environment.changed"


async def told(desk: Desk, *authors: Author) -> None:
    """Their words, in the order of their times."""
    said = sorted((each for author in authors for each in author.said), key=lambda each: each[1])
    await desk.publish(event for event, _ in said)


def long_life() -> Author:
    """Several commits, a failure, a teardown, and the beginning of another life."""
    author = ready(Author(now=utc_now()))
    ready(author, commit=B)
    author.is_(Phase.DEGRADED, components=(component(reason="CrashLoop"),))
    author.is_(Phase.READY, components=(component(ready=True),))
    author.is_(Phase.TERMINATING)
    author.cleans()
    author.is_(Phase.GONE)
    second = Author(now=author.now, uid="u-2", said=author.said)
    ready(second)
    return second


async def test_the_state_at_any_moment_is_what_history_held_then(desk: Desk) -> None:
    """At each moment that something was stored, just before, and just after: rebuilt from EVENTS alone."""
    await told(desk, long_life())
    bus = await desk.oncall()
    stored = [one async for one in bus.messages(EVENTS, "env.>")]
    states = [one for one in stored if one.subject == SUBJECT]
    assert len(states) >= 12
    for one in stored:
        for moment in (one.time - timedelta(microseconds=2), one.time, one.time + timedelta(microseconds=2)):
            held = [state for state in states if state.time <= moment]
            if not held:
                with pytest.raises(NotThere, match="the oldest that can be shown is of"):
                    await environments.show(bus, PR_42, moment)
            else:
                found = await environments.show(bus, PR_42, moment)
                assert found.ref == f"EVENTS/{held[-1].sequence}"
                assert held[-1].event().data == EnvironmentChanged(snapshot=found.snapshot)
    assert (await environments.show(bus, PR_42)).snapshot == (await environments.show(bus, PR_42, utc_now())).snapshot


async def test_a_timeline_is_causal_with_clocks_off_by_five_seconds(desk: Desk) -> None:
    skew = {"env-controller": -5.0, "builder": 5.0, "dns-proxy": -2.5}
    author = ready(Author(now=utc_now(), skew=skew, pace=0))
    stranger = Author(environment="pr-7", uid="u-7")
    stranger.is_(Phase.READY)
    await told(desk, author, stranger)
    await desk.publish([pull_request(7, "of another")])
    lines = await environments.timeline(await desk.oncall(), PR_42)
    assert [(line.source, line.type) for line in lines] == [
        (event.source, event.data.short_type()) for event, _ in author.said
    ]
    assert all(line.gap is None or line.gap >= 0 for line in lines)
    places = {line.ref: place for place, line in enumerate(lines)}
    assert all(places[line.cause] < places[line.ref] for line in lines if line.cause)
    clocks = {line.source: line.clock for line in lines}
    assert clocks["env-controller"] is not None
    assert clocks["env-controller"] < 0 < (clocks["builder"] or 0)


async def test_a_timeline_holds_facts_commands_and_the_dead(desk: Desk) -> None:
    author = Author(now=utc_now())
    fact = author.opens()
    author.is_(Phase.BUILDING, builds=asked(web="k-a"))
    author.commands("deploy")
    author.buries(fact, reason="the cluster is away")
    await told(desk, author)
    elsewhere = Author(environment="pr-8", uid="u-8", now=author.now)
    elsewhere.is_(Phase.BUILDING)
    elsewhere.buries(elsewhere.asks(), service="builder", reason="not ours")
    await told(desk, elsewhere)
    lines = await environments.timeline(await desk.oncall(), PR_42)
    assert [line.type for line in lines] == [
        "scm.pull_request.changed",
        "environment.changed",
        "scm.command.given",
        "dead.letter",
    ]
    assert lines[-1].cause == lines[0].ref


async def test_a_timeline_is_followed(desk: Desk) -> None:
    author = Author(now=utc_now())
    author.opens()
    author.is_(Phase.BUILDING, builds=asked(web="k-a"))
    await told(desk, author)
    bus, heard = await desk.oncall(), asyncio.Queue[Sequence[Line]]()

    async def follow() -> None:
        async for lines in environments.followed(bus, PR_42):
            heard.put_nowait(lines)

    following = asyncio.create_task(follow())
    try:
        async with asyncio.timeout(10):
            assert [line.type for line in await heard.get()] == ["scm.pull_request.changed", "environment.changed"]
            await desk.publish([author.builds(author.asks(key="k-a"))])
            (line,) = await heard.get()
            assert line.type == "build.finished"
            late = author.commands("deploy")
            await desk.publish([late])
            assert [line.type for line in await heard.get()] == ["scm.command.given"]
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_differences_and_reasons(desk: Desk) -> None:
    author = ready(Author(now=utc_now()))
    await told(desk, author)
    bus = await desk.oncall()
    between = utc_now()
    said = len(author.said)
    ready(author, commit=B)
    await desk.publish(event for event, _ in author.said[said:])
    found = {one.field: one for one in await environments.diff(bus, PR_42, between, utc_now())}
    assert (found["source.commit"].before, found["source.commit"].after) == (A, B)
    assert found["source.commit"].because.startswith("pull request #42 synchronize by mona")
    assert await environments.diff(bus, PR_42, utc_now(), utc_now()) == []
    with pytest.raises(NotThere, match="does not reach back"):
        await environments.diff(bus, PR_42, between - timedelta(days=2), between - timedelta(days=1))


async def test_lists_are_filtered_and_leave_out_who_is_gone(desk: Desk) -> None:
    names = {"pr-1": Phase.READY, "pr-2": Phase.FAILED, "pr-3": Phase.GONE}
    await desk.publish([changed(environment=name, phase=phase, uid=name) for name, phase in names.items()])
    bus = await desk.oncall()

    async def listed(**fields: object) -> list[str]:
        found = await environments.listed(bus, **fields)  # type: ignore[arg-type]
        return [one.snapshot.key.environment for one in found]

    async with asyncio.timeout(5):  # STATE follows EVENTS by itself
        while await listed(gone=True) != ["pr-1", "pr-2", "pr-3"]:
            await asyncio.sleep(0.02)
    assert await listed() == ["pr-1", "pr-2"]
    assert await listed(phase="Failed") == ["pr-2"]
    assert await listed(phase="Gone") == ["pr-3"]
    assert await listed(team="acme", project="shop") == ["pr-1", "pr-2"]
    assert await listed(team="other") == []


async def test_who_is_unknown_gets_the_nearest_names(desk: Desk) -> None:
    await desk.publish([changed(environment=name, uid=name) for name in ("pr-42", "pr-43", "main")])
    bus = await desk.oncall()
    for asked_ in (environments.show, environments.timeline):
        with pytest.raises(NotThere, match="did you mean acme/shop/pr-4"):
            await asked_(bus, Identity("acme", "shop", "pr-24"))
    with pytest.raises(NotThere, match=r"3 are known; `catalyst env list` names them\. Whether its Project is "):
        await environments.show(bus, Identity("zzz", "yyy", "xxx"))
    author = Author(now=utc_now())
    author.buries(author.opens(), reason="the cluster is away")
    await told(desk, author)
    with pytest.raises(NotThere, match=r"What nobody could handle may be why: `catalyst dead list` \(1\)"):
        await environments.why(bus, Identity("zzz", "yyy", "xxx"), utc_now())
