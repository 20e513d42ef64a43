"""What is stored, read: facts, subjects, states and replay, against a real server."""

import asyncio
import signal
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from nats.aio.client import Client

from catalyst.events import catalogue, replaying
from catalyst.events.binding import encode
from catalyst.events.bus import Bus, BusSettings, Stored
from catalyst.events.errors import Reject, Unpublished, Unread
from catalyst.events.examples import changed, pull_request, push
from catalyst.events.reading import PAGE, answered
from catalyst.events.replaying import replay
from catalyst.events.topology import EVENTS, SCM
from catalyst.events.users import inbox_prefix
from catalyst.model.environment import Phase


async def fill(client: Client, count: int, *, subject: str = "scm.github.acme.shop.pull_request.42") -> None:
    """Stores `count` messages of one subject, pipelined."""
    jetstream = client.jetstream()
    futures = [await jetstream.publish_async(subject, b"%d" % number) for number in range(count)]
    await asyncio.gather(*futures)


def numbers(stored: list[Stored]) -> list[int]:
    return [int(one.data) for one in stored]


@pytest.fixture
async def writer(connect: Any) -> Any:
    client = await connect("webhook-ingest")
    yield client
    await client.close()


@pytest.fixture
async def controller(bus_of: Any) -> Bus:
    bus: Bus = await bus_of("env-controller")
    return bus


async def test_facts_are_all_of_one_subject_in_order(bus_of: Any, controller: Bus) -> None:
    ingest: Bus = await bus_of("webhook-ingest")
    for delivery in ("a", "b", "c"):
        await ingest.publish(pull_request(42, delivery))
        await ingest.publish(pull_request(4, f"other-{delivery}"))
    found = await controller.facts(pull_request(42).subject)
    assert [stored.event() for stored in found] == [pull_request(42, delivery) for delivery in ("a", "b", "c")]
    assert [stored.sequence for stored in found] == [1, 3, 5]
    assert all(abs((stored.time - datetime.now(UTC)).total_seconds()) < 60 for stored in found)
    assert await controller.facts(pull_request(7).subject) == []


@pytest.mark.parametrize("count", [1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE + 7])
async def test_facts_span_pages(count: int, writer: Client, controller: Bus) -> None:
    await fill(writer, 3, subject="scm.github.acme.shop.pull_request.4")
    await fill(writer, count)
    assert numbers(await controller.facts("scm.github.acme.shop.pull_request.42")) == list(range(count))


async def test_large_facts_span_pages_by_their_bytes(bus_of: Any, controller: Bus) -> None:
    ingest: Bus = await bus_of("webhook-ingest")
    payload = b'{"a":"' + b"x" * 500_000 + b'"}'
    for number in range(24):
        await ingest.publish(pull_request(delivery=str(number), payload=payload))
    found = await controller.facts(pull_request().subject)
    assert [stored.event().id for stored in found] == [str(number) for number in range(24)]


async def test_what_does_not_decode_is_yielded_and_not_swallowed(writer: Client, controller: Bus) -> None:
    event = pull_request()
    body, headers = encode(event)
    await writer.jetstream().publish(event.subject, b"poison")
    await writer.jetstream().publish(event.subject, body, headers=headers)
    poison, good = await controller.facts(event.subject)
    with pytest.raises(Reject, match="content-type None"):
        poison.event()
    assert good.event() == event


async def test_subjects_match_a_filter(bus_of: Any, controller: Bus) -> None:
    ingest: Bus = await bus_of("webhook-ingest")
    for number in (1, 2, 2):
        await ingest.publish(pull_request(number, f"{number}"))
    await ingest.publish(push("feature/x.y"))
    assert await controller.subjects(SCM, "scm.*.*.*.pull_request.*") == [
        "scm.github.acme.shop.pull_request.1",
        "scm.github.acme.shop.pull_request.2",
    ]
    assert await controller.subjects(SCM, "scm.>") == [
        push("feature/x.y").subject,
        "scm.github.acme.shop.pull_request.1",
        "scm.github.acme.shop.pull_request.2",
    ]
    assert await controller.subjects(SCM, "scm.gitlab.>") == []


async def test_state_is_the_last_snapshot(controller: Bus) -> None:
    assert await controller.state(changed().subject) is None
    assert [stored async for stored in controller.states()] == []
    for version in (1, 2, 3):
        await controller.publish(changed(version))
    await controller.publish(changed(9, environment="pr-43", uid="u-2"))
    found: list[Stored] = []
    while [stored.event() for stored in found] != [changed(3), changed(9, environment="pr-43", uid="u-2")]:
        found = [stored async for stored in controller.states()]
    last = await controller.state(changed().subject)
    assert last is not None
    assert last.event() == changed(3)


async def test_a_read_that_is_not_allowed_says_so(bus_of: Any, controller: Bus, monkeypatch: Any) -> None:
    monkeypatch.setattr("catalyst.events.reading.PATIENCE", 0.3)
    ingest: Bus = await bus_of("webhook-ingest")
    with pytest.raises(Unread, match="stream SCM did not answer"):
        await ingest.facts("scm.github.acme.shop.pull_request.42")
    with pytest.raises(Unread, match=r"STREAM\.INFO\.SCM got no answer"):
        await ingest.subjects(SCM, ">")
    assert await controller.facts("scm.github.acme.shop.pull_request.42") == []


# Replay


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 5000])
async def test_replay_gives_everything_in_order_and_ends(count: int, writer: Client, operator: Client) -> None:
    await fill(writer, count)
    await fill(writer, 2, subject="scm.github.acme.shop.branch.main")
    found = [stored async for stored in replay(operator, SCM, "scm.*.*.*.pull_request.*")]
    assert numbers(found) == list(range(count))
    assert [stored.sequence for stored in found] == list(range(1, count + 1))


async def test_replay_begins_at_a_sequence_or_a_time(writer: Client, operator: Client) -> None:
    await fill(writer, 5)
    await asyncio.sleep(0.05)
    moment = datetime.now(UTC)
    await fill(writer, 3)
    by_sequence = [stored async for stored in replay(operator, SCM, ">", start_sequence=4)]
    assert [stored.sequence for stored in by_sequence] == [4, 5, 6, 7, 8]
    by_time = [stored async for stored in replay(operator, SCM, ">", start_time=moment)]
    assert [stored.sequence for stored in by_time] == [6, 7, 8]
    with pytest.raises(ValueError, match="at most one of the two"):
        await anext(replay(operator, SCM, ">", start_sequence=1, start_time=moment))


async def test_replay_follows_what_is_new(writer: Client, operator: Client) -> None:
    await fill(writer, 2)
    following = replay(operator, SCM, ">", follow=True)
    assert numbers([await anext(following), await anext(following)]) == [0, 1]
    await fill(writer, 1)
    assert numbers([await asyncio.wait_for(anext(following), 5)]) == [0]
    await following.aclose()  # type: ignore[attr-defined]


async def test_a_slow_reader_holds_the_server_back(writer: Client, operator: Client) -> None:
    await fill(writer, 5000)
    found: list[Stored] = []
    received = operator.stats["in_msgs"]
    async for stored in replay(operator, SCM, ">"):
        found.append(stored)
        if len(found) == 100:
            await asyncio.sleep(0.5)
            assert operator.stats["in_msgs"] - received < 2 * replaying.ASKED
    assert numbers(found) == list(range(5000))


async def test_a_replay_survives_a_restart_without_a_gap(server: Any, writer: Client, operator: Client) -> None:
    await fill(writer, 4000)
    found: list[Stored] = []
    async for stored in replay(operator, SCM, ">"):
        found.append(stored)
        if len(found) == 1500:
            await asyncio.to_thread(server.restart, signal.SIGKILL)
    assert numbers(found) == list(range(4000))


async def test_a_replay_leaves_no_consumer_behind(writer: Client, operator: Client) -> None:
    await fill(writer, 10)
    before = (await operator.jetstream().stream_info(SCM)).state.consumer_count
    assert [stored async for stored in replay(operator, SCM, ">")]
    assert (await operator.jetstream().stream_info(SCM)).state.consumer_count == before


async def test_who_may_not_replay_is_told(bus_of: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("catalyst.events.replaying.ATTEMPTS", 2)
    bus: Bus = await bus_of("env-controller", publish_timeout=0.2)
    with pytest.raises(Unread, match="replay of EVENTS does not get on"):
        await anext(bus.replay(EVENTS, ">"))


async def test_the_last_word_about_an_environment_leaves_state_by_itself(
    controller: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "GONE_KEPT", timedelta(seconds=1))
    alive, gone = changed(environment="alive"), changed(environment="gone", phase="Gone")
    for event in (alive, gone):
        await controller.publish(event)
    async with asyncio.timeout(10):
        while await controller.state(gone.subject) is None or await controller.state(alive.subject) is None:
            await asyncio.sleep(0.02)
        while await controller.state(gone.subject) is not None:
            await asyncio.sleep(0.1)
    assert await controller.state(alive.subject) is not None


async def test_a_cancellation_that_comes_with_the_answer_is_not_lost() -> None:
    """As nats-py waits: before Python 3.12 `wait_for` would give the answer and forget the cancellation."""
    came: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    task = asyncio.create_task(answered(asyncio.wait_for(came, 5)))
    await asyncio.sleep(0)
    came.set_result("the answer")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_messages_are_read_from_a_time_on_and_by_number(writer: Client, controller: Bus) -> None:
    await fill(writer, 5)
    whole = [one async for one in controller.messages(SCM, "scm.>")]
    since = [one async for one in controller.messages(SCM, "scm.>", since=whole[2].time)]
    # A time has microseconds, the server nanoseconds: what was stored in that very microsecond may be in.
    assert numbers(since)[-2:] == [3, 4]
    assert numbers(since)[0] in (1, 2, 3)
    assert [one async for one in controller.messages(SCM, "scm.>", since=datetime.now(UTC) + timedelta(hours=1))] == []
    third = await controller.message(SCM, 3)
    assert third is not None
    assert third.data == b"2"
    assert await controller.message(SCM, 6) is None


async def test_the_last_of_each_subject_as_it_was(writer: Client, controller: Bus) -> None:
    one, other = "scm.github.acme.shop.pull_request.1", "scm.github.acme.shop.pull_request.2"
    for number, subject in enumerate((one, other, one)):
        await writer.jetstream().publish(subject, b"%d" % number)
        await asyncio.sleep(0.002)
    whole = [stored async for stored in controller.messages(SCM, "scm.>")]
    assert numbers(await controller.lasts(SCM, ["scm.>"])) == [1, 2]
    assert numbers(await controller.lasts(SCM, [one])) == [2]
    assert numbers(await controller.lasts(SCM, ["scm.>"], at=whole[1].time)) == [0, 1]
    assert numbers(await controller.lasts(SCM, ["scm.>"], at=whole[0].time)) == [0]
    assert await controller.lasts(SCM, ["scm.>"], at=whole[0].time - timedelta(seconds=1)) == []
    assert await controller.lasts(SCM, ["scm.github.acme.other.>"]) == []


async def test_what_the_server_says_of_streams_and_consumers(bus_of: Any) -> None:
    oncall: Bus = await bus_of("oncall")
    info = await oncall.stream_info(EVENTS)
    assert info is not None
    assert info["config"]["name"] == EVENTS
    assert {each["name"] for each in await oncall.consumer_infos(EVENTS)} == {
        "env-controller",
        "builder",
        "dns-proxy",
        "notifier",
        "cdevents",
        "reader--acme--ci",
        "reader--acme--bot",
        "reader--beta--ci",
    }


async def test_a_stream_that_is_not_there(bare_server: Any) -> None:
    settings = BusSettings(bare_server.url, bare_server.seed("oncall"), inbox_prefix("oncall"))
    await bare_server.answers()
    bus = await Bus.connect(settings, name="oncall", clock=lambda: datetime.now(UTC))
    try:
        assert await bus.stream_info(EVENTS) is None
    finally:
        await bus.drain()


async def test_news_are_heard_live(bus_of: Any, writer: Client) -> None:
    oncall: Bus = await bus_of("oncall")
    async with oncall.news(["scm.github.>"]) as heard, asyncio.timeout(5):
        await oncall.stream_info(SCM)  # the server has our subscription by then
        assert not heard.is_set()
        await fill(writer, 1)
        await heard.wait()


async def test_a_message_is_sent_again_as_the_same_event(bus_of: Any, controller: Bus) -> None:
    ingest: Bus = await bus_of("webhook-ingest")
    oncall: Bus = await bus_of("oncall")
    await ingest.publish(pull_request())
    assert (await ingest.publish(pull_request())).duplicate
    (original,) = await controller.facts(pull_request().subject)
    first = await oncall.resend(original)
    assert (first.sequence, first.duplicate) == (2, False)
    assert (await oncall.resend(original)).duplicate
    facts = await controller.facts(pull_request().subject)
    assert [stored.event() for stored in facts] == [pull_request(), pull_request()]
    with pytest.raises(Unpublished, match="builder may not publish here"):
        await (await bus_of("builder", publish_patience=2.0)).resend(original)


async def test_a_snapshot_sent_again_keeps_its_end(bus_of: Any, controller: Bus) -> None:
    gone = changed(phase=Phase.GONE)
    await controller.publish(gone)
    oncall: Bus = await bus_of("oncall")
    stored = await oncall.last(EVENTS, gone.subject)
    assert stored is not None
    await oncall.resend(stored, unless_after=stored.sequence)
    again = await oncall.last(EVENTS, gone.subject)
    assert again is not None
    assert again.sequence == stored.sequence + 1
    assert again.headers["Nats-TTL"] == stored.headers["Nats-TTL"]


async def test_what_is_refused_is_told_at_once(server: Any) -> None:
    refused: list[str] = []
    settings = BusSettings(server.url, server.seed("builder"), inbox_prefix("builder"))
    bus = await Bus.connect(settings, name="builder", clock=lambda: datetime.now(UTC), on_refused=refused.append)
    try:
        reading_ = asyncio.create_task(bus.message(SCM, 1))
        async with asyncio.timeout(2):
            while not refused:
                await asyncio.sleep(0.005)
        assert refused == ["$js.api.direct.get.scm"]
        reading_.cancel()
    finally:
        await bus.drain()
