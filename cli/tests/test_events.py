"""Any stream of a real server: its end, one message, and history in order."""

import asyncio
from collections.abc import Sequence

import pytest
from desk import Desk
from histories import Author, ready

from catalyst.cli.core.history import Moment
from catalyst.cli.core.selection import Selection
from catalyst.cli.operations import NotThere, events
from catalyst.events.examples import comment
from catalyst.model.clock import utc_now
from catalyst.model.names import Identity


def kinds(found: Sequence[Moment]) -> list[str]:
    return [one.event.data.short_type() if one.event else "unreadable" for one in found]


async def life(desk: Desk) -> Author:
    author = ready(Author(now=utc_now()))
    await desk.publish(event for event, _ in author.said)
    return author


async def test_the_end_of_all_streams(desk: Desk) -> None:
    author = await life(desk)
    whole = [event.data.short_type() for event, _ in author.said]
    bus = await desk.oncall()
    assert kinds(await events.tail(bus, Selection(), 20)) == whole
    assert kinds(await events.tail(bus, Selection(), 2)) == whole[-2:]
    assert kinds(await events.tail(bus, Selection(), 0)) == []
    assert kinds(await events.tail(bus, Selection(service="builder"), 5)) == ["build.finished"]
    assert kinds(await events.tail(bus, Selection(type="build.*"), 1)) == ["build.finished"]
    assert kinds(await events.tail(bus, Selection(team="other"), 5)) == []


async def test_a_rare_event_is_found_far_from_the_end(desk: Desk) -> None:
    ingest = await desk.bus_of("webhook-ingest")
    await desk.publish([comment(delivery="rare")])
    author = Author()
    for _ in range(120):
        await ingest.publish(author.opens())
    found = await events.tail(await desk.oncall(), Selection(type="scm.comment.written"), 1)
    assert kinds(found) == ["scm.comment.written"]


async def test_the_end_is_followed(desk: Desk) -> None:
    author = await life(desk)
    bus, heard = await desk.oncall(), asyncio.Queue[list[Moment]]()
    chosen = Selection(environment=Identity("acme", "shop", "pr-42"), service="env-controller")

    async def follow() -> None:
        async for found in events.follow(bus, chosen, 1):
            heard.put_nowait(found)

    following = asyncio.create_task(follow())
    try:
        async with asyncio.timeout(10):
            assert kinds(await heard.get()) == ["environment.changed"]
            await desk.publish([author.routes(live=False), author.asks(key="k-z")])
            assert kinds(await heard.get()) == ["build.requested"]
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_one_message_whole(desk: Desk) -> None:
    author = await life(desk)
    bus = await desk.oncall()
    assert (await events.show(bus, "SCM", 1)).event == author.said[0][0]
    with pytest.raises(NotThere, match="SCM holds 1 to 1"):
        await events.show(bus, "SCM", 2)
    with pytest.raises(NotThere, match="no stream NONE: there are SCM, EVENTS"):
        await events.show(bus, "NONE", 1)


async def test_history_in_order_between_two_times(desk: Desk) -> None:
    author = await life(desk)
    bus = await desk.oncall()
    whole = [one async for one in events.replay(bus, Selection())]
    assert kinds(whole) == [event.data.short_type() for event, _ in author.said]
    times = [one.at for one in whole]
    assert times == sorted(times)
    some = [one async for one in events.replay(bus, Selection(since=times[2], until=times[4]))]
    assert kinds(some) == kinds(whole[2:5])
    builds = [one async for one in events.replay(bus, Selection(type="build.*"))]
    assert kinds(builds) == ["build.requested", "build.finished"]


async def test_a_damaged_message_is_shown_with_what_was_expected(desk: Desk) -> None:
    ingest = await desk.bus_of("webhook-ingest")
    good = await life(desk)
    await ingest._client.jetstream().publish(good.said[0][0].subject, b"{broken")
    found = await events.tail(await desk.oncall(), Selection(), 20)
    assert kinds(found).count("unreadable") == 1
    damaged = next(one for one in found if one.event is None)
    assert damaged.ref == "SCM/2"
    assert damaged.problem == "content-type None: expected application/cloudevents+json"
