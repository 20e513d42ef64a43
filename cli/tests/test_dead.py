"""Dead letters on a real server: seen, sent again to a real consumer, dropped with a reason, and never gone."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from desk import Desk
from histories import Author
from nats.js.api import AckPolicy, ConsumerConfig

from catalyst.cli.operations import NotThere, Refused, dead, environments
from catalyst.cli.operations.status import status
from catalyst.events.bus import Bus, Received
from catalyst.events.catalogue import DeadSettled
from catalyst.events.errors import Reject, Unpublished
from catalyst.events.event import Event
from catalyst.events.examples import changed
from catalyst.events.topology import DEAD, ENV_CONTROLLER_EVENTS, ENV_CONTROLLER_SCM, NOTIFIER_EVENTS, Consumer
from catalyst.model.clock import utc_now
from catalyst.model.environment import Phase
from catalyst.model.names import Identity

PATIENCE = 10.0


class Handler:
    """Refuses while `ill`, with a reason; keeps what it handled."""

    def __init__(self) -> None:
        self.ill = True
        self.handled: list[Event] = []

    async def __call__(self, received: Received) -> None:
        if self.ill:
            raise Reject("it is ill")
        self.handled.append(received.event)


@asynccontextmanager
async def consuming(desk: Desk, consumer: Consumer) -> AsyncIterator[Handler]:
    handler = Handler()
    bus = await desk.bus_of(consumer.service)
    task = asyncio.create_task(bus.consume(consumer, handler, concurrency=4))
    try:
        yield handler
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def letters(bus: Bus, count: int, *, settled: bool = False) -> list[int]:
    """The numbers of the letters in DEAD, once there are so many."""
    async with asyncio.timeout(PATIENCE):
        while len(found := await dead.listed(bus, settled=settled)) < count:
            await asyncio.sleep(0.02)
    return [one.entry.sequence for one in found]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


async def last_sequence(bus: Bus, stream: str) -> int:
    info = await bus.stream_info(stream)
    assert info
    return int(info["state"]["last_seq"])


async def test_a_message_is_sent_again_once_and_handled_as_the_same_event(desk: Desk) -> None:
    bus = await desk.oncall()
    author = Author(now=utc_now())
    async with consuming(desk, ENV_CONTROLLER_SCM) as handler:
        await desk.publish([author.opens()])
        (number,) = await letters(bus, 1)
        buried = await dead.show(bus, number)
        assert (buried.dead.reason, buried.dead.settled) == ("it is ill", None)
        assert buried.original is not None
        handler.ill = False
        done = await dead.resend(bus, number, by="hubot", clock=utc_now)
        assert (done.outcome, done.again, done.resent) == ("resent", False, "SCM/2")
        await until(lambda: len(handler.handled) == 1)
        assert handler.handled == [author.said[0][0]]
        again = await dead.resend(bus, number, by="hubot", clock=utc_now)
        assert (again.again, again.resent) == (True, "SCM/2")
        assert await last_sequence(bus, "SCM") == 2
        await asyncio.sleep(0.3)
        assert len(handler.handled) == 1
    assert await letters(bus, 0) == []
    assert await letters(bus, 1, settled=True) == [number]
    (one,) = await dead.listed(bus, settled=True)
    assert one.settled
    assert (one.settled.outcome, one.settled.by, one.settled.resent_sequence) == ("resent", "hubot", 2)


async def test_a_crash_between_sending_and_saying_so_sends_nothing_twice(desk: Desk) -> None:
    bus = await desk.oncall()
    async with consuming(desk, ENV_CONTROLLER_SCM):
        await desk.publish([Author().opens()])
        (number,) = await letters(bus, 1)
    original = (await dead.show(bus, number)).original
    assert original
    await bus.resend(original)  # and then nothing was said
    assert await letters(bus, 1) == [number]
    done = await dead.resend(bus, number, by="hubot", clock=utc_now)
    assert (done.again, done.resent) == (True, "SCM/2")
    assert await last_sequence(bus, "SCM") == 2
    assert await letters(bus, 0) == []


async def test_a_message_that_dies_again_is_a_letter_again(desk: Desk) -> None:
    bus = await desk.oncall()
    async with consuming(desk, ENV_CONTROLLER_SCM) as handler:
        await desk.publish([Author().opens()])
        (first,) = await letters(bus, 1)
        await dead.resend(bus, first, by="hubot", clock=utc_now)
        (second,) = await letters(bus, 1)
        assert second != first
        handler.ill = False
        assert (await dead.resend(bus, second, by="hubot", clock=utc_now)).resent == "SCM/3"
        await until(lambda: len(handler.handled) == 1)


async def test_an_older_snapshot_is_refused_and_the_newest_is_sent(desk: Desk) -> None:
    """Sent again, the older one would replace the newer in STATE."""
    bus = await desk.oncall()
    subject = changed().subject
    async with consuming(desk, NOTIFIER_EVENTS) as handler:
        await desk.publish([changed(1, phase=Phase.BUILDING)])
        (first,) = await letters(bus, 1)
        handler.ill = False
        await desk.publish([changed(2)])
        await until(lambda: len(handler.handled) == 1)
        with pytest.raises(Refused, match=f"DEAD/{first} is superseded by EVENTS/2"):
            await dead.resend(bus, first, by="hubot", clock=utc_now)
        handler.ill = True
        await desk.publish([changed(3)])
        _, newest = await letters(bus, 2)
        handler.ill = False
        assert (await dead.resend(bus, newest, by="hubot", clock=utc_now)).resent == "EVENTS/4"
        await until(lambda: len(handler.handled) == 2)
        assert handler.handled[-1] == changed(3)
    state = await bus.state(subject)
    assert state
    assert state.event() == changed(3)
    assert await last_sequence(bus, "EVENTS") == 4


async def test_news_between_looking_and_sending_are_not_overtaken(desk: Desk) -> None:
    bus = await desk.oncall()
    await desk.publish([changed(1)])
    old = await bus.message("EVENTS", 1)
    assert old
    await desk.publish([changed(2)])
    with pytest.raises(Unpublished, match="wrong last sequence"):
        await bus.resend(old, unless_after=1)
    new = await bus.message("EVENTS", 2)
    assert new
    assert (await bus.resend(new, unless_after=2)).sequence == 3


async def test_an_answer_of_another_component_supersedes_nothing(desk: Desk) -> None:
    bus = await desk.oncall()
    author = Author(now=utc_now())
    author.is_(Phase.BUILDING)
    web, api = author.asks("web"), author.asks("api")
    async with consuming(desk, ENV_CONTROLLER_EVENTS) as handler:
        await desk.publish([author.builds(web)])
        (number,) = await letters(bus, 1)
        handler.ill = False
        await desk.publish([author.builds(api)])
        await until(lambda: len(handler.handled) == 1)
        await dead.resend(bus, number, by="hubot", clock=utc_now)
        await until(lambda: len(handler.handled) == 2)


async def test_dropping_leaves_letter_message_and_reason(desk: Desk) -> None:
    bus = await desk.oncall()
    async with consuming(desk, ENV_CONTROLLER_SCM):
        await desk.publish([Author().opens()])
        (number,) = await letters(bus, 1)
    with pytest.raises(Refused, match="give a reason"):
        await dead.drop(bus, number, by="hubot", reason=" ", clock=utc_now)
    assert not (await dead.drop(bus, number, by="hubot", reason="a test repository", clock=utc_now)).again
    assert (await dead.drop(bus, number, by="mona", reason="me too", clock=utc_now)).again
    assert await letters(bus, 0) == []
    buried = await dead.show(bus, number)
    assert buried.original is not None
    assert buried.dead.settled
    assert (buried.dead.settled.by, buried.dead.settled.reason) == ("hubot", "a test repository")
    with pytest.raises(Refused, match="was dropped by hubot: a test repository"):
        await dead.resend(bus, number, by="hubot", clock=utc_now)
    assert await last_sequence(bus, "SCM") == 1


async def test_what_was_sent_again_is_not_dropped(desk: Desk) -> None:
    bus = await desk.oncall()
    async with consuming(desk, ENV_CONTROLLER_SCM):
        await desk.publish([Author().opens()])
        (number,) = await letters(bus, 1)
    await dead.resend(bus, number, by="hubot", clock=utc_now)
    with pytest.raises(Refused, match="was sent again by hubot, as SCM/2"):
        await dead.drop(bus, number, by="hubot", reason="no", clock=utc_now)


async def test_what_cannot_be_read_would_die_again(desk: Desk) -> None:
    bus = await desk.oncall()
    subject = Author().opens().subject
    async with consuming(desk, ENV_CONTROLLER_SCM):
        await (await desk.bus_of("webhook-ingest"))._client.jetstream().publish(subject, b"poison")
        (number,) = await letters(bus, 1)
    with pytest.raises(Refused, match="would die again: content-type None"):
        await dead.resend(bus, number, by="hubot", clock=utc_now)
    assert await last_sequence(bus, "SCM") == 1
    assert not (await dead.drop(bus, number, by="hubot", reason="poison", clock=utc_now)).again


async def test_what_the_server_gave_up_is_a_letter_too(desk: Desk) -> None:
    """A consumer that never answers: only the server's advisory tells of it, and it can be sent again, too."""
    bus, operator = await desk.oncall(), await desk.bus_of("operator")
    await desk.publish([Author().opens()])
    jetstream = operator._client.jetstream()
    name = ENV_CONTROLLER_SCM.name  # one of ours: what becomes of another's copies is no dead letter
    await jetstream.delete_consumer("SCM", name)
    config = ConsumerConfig(durable_name=name, ack_policy=AckPolicy.EXPLICIT, ack_wait=0.1, max_deliver=1)
    await jetstream.add_consumer("SCM", config)
    pull = await jetstream.pull_subscribe_bind(name, "SCM")
    assert len(await pull.fetch(1, timeout=2)) == 1
    (number,) = await letters(bus, 1)
    buried = await dead.show(bus, number)
    assert buried.dead.letter is None
    assert "the server gave up" in buried.dead.reason
    await dead.resend(bus, number, by="hubot", clock=utc_now)
    (message,) = await pull.fetch(1, timeout=2)
    assert message.metadata.sequence.stream == 2
    await message.ack()


async def test_unknown_letters_name_the_last_ones(desk: Desk) -> None:
    bus = await desk.oncall()
    with pytest.raises(NotThere, match="no dead letter DEAD/1: there are none"):
        await dead.show(bus, 1)
    async with consuming(desk, ENV_CONTROLLER_SCM):
        await desk.publish([Author().opens()])
        (number,) = await letters(bus, 1)
    with pytest.raises(NotThere, match=f"the last are {number}"):
        await dead.show(bus, 999)


async def test_only_who_is_on_call_sends_again(desk: Desk) -> None:
    """The operator, who may change the topology, may not; and neither makes anything disappear."""
    oncall, operator = await desk.oncall(), await desk.bus_of("operator")
    async with consuming(desk, ENV_CONTROLLER_SCM):
        await desk.publish([Author().opens()])
        (number,) = await letters(oncall, 1)
    with pytest.raises(Unpublished, match="operator may not publish here"):
        await dead.resend(operator, number, by="hubot", clock=utc_now)
    assert await last_sequence(oncall, "SCM") == 1
    assert (await dead.resend(oncall, number, by="hubot", clock=utc_now)).resent == "SCM/2"


async def test_a_timeline_tells_of_the_letter_and_of_what_was_done(desk: Desk) -> None:
    bus = await desk.oncall()
    author = Author(now=utc_now())
    author.opens()
    author.is_(Phase.BUILDING)
    await desk.publish(event for event, _ in author.said)
    async with consuming(desk, ENV_CONTROLLER_SCM):
        (number,) = await letters(bus, 1)
        found = await environments.why(bus, Identity("acme", "shop", "pr-42"), utc_now())
        assert found.first
        assert (found.first.reason, found.first.ref) == ("NotHandled", f"DEAD/{number}")
    problems = (await status(bus, utc_now())).problems
    assert (
        "env-controller: 1 message that nobody could handle; `catalyst dead list` (runbook CatalystDeadLetters)"
        in problems
    )
    await dead.drop(bus, number, by="hubot", reason="a test", clock=utc_now)
    lines = await environments.timeline(bus, Identity("acme", "shop", "pr-42"))
    assert [line.type for line in lines] == [
        "scm.pull_request.changed",
        "environment.changed",
        "dead.letter",
        "dead.settled",
    ]
    assert lines[-1].text == "hubot dropped SCM/1 of env-controller: a test"
    assert (await environments.why(bus, Identity("acme", "shop", "pr-42"), utc_now())).first is None
    stored = [one async for one in bus.messages(DEAD, "dead.>")]
    assert isinstance(stored[-1].event().data, DeadSettled)
