"""The bus against a real server: what is published is kept once, what is delivered is answered for."""

import asyncio
import gc
import json
import re
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import nats.errors
import psutil
import pytest
from nats.aio.client import Client
from nats.js.api import ConsumerInfo
from opentelemetry import context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from catalyst.events.applying import apply
from catalyst.events.binding import encode
from catalyst.events.bus import Bus, BusSettings, Received
from catalyst.events.catalogue import DeadLetter
from catalyst.events.dead import GIVEN_UP, UNREADABLE, Dead, dead
from catalyst.events.errors import Oversized, Reject, Retry, Unpublished, Unreachable
from catalyst.events.examples import NOW, changed, pull_request
from catalyst.events.reading import messages
from catalyst.events.topology import DEAD, ENV_CONTROLLER_SCM, SCM
from catalyst.events.users import inbox_prefix

QUICK = replace(ENV_CONTROLLER_SCM, backoff=(0.9, 0.9, 0.9, 0.9), unhurried=False)


async def until(condition: Callable[[], Any], within: float = 10.0) -> None:
    deadline = asyncio.get_running_loop().time() + within
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "did not come true in time"
        await asyncio.sleep(0.005)


async def consumer_info(operator: Client) -> ConsumerInfo:
    info: ConsumerInfo = await operator.jetstream().consumer_info(SCM, "env-controller")
    return info


async def settled(operator: Client, sequence: int, within: float = 10.0) -> ConsumerInfo:
    """Waits until everything up to `sequence` is answered for."""
    deadline = time.monotonic() + within
    while True:
        info = await consumer_info(operator)
        assert info.ack_floor
        if info.ack_floor.stream_seq >= sequence and not info.num_ack_pending:
            return info
        assert time.monotonic() < deadline, info
        await asyncio.sleep(0.02)


async def tuned(operator: Client, consumer: Any = QUICK) -> None:
    """The consumer's settings on the server, quicker than in production."""
    await operator.jetstream().add_consumer(consumer.stream, consumer.config())


async def buried(operator: Client) -> list[Dead]:
    return dead([stored async for stored in messages(operator, DEAD, ">")])


class Handling:
    """A handler that records what it gets and does what it is told, in a task of its own."""

    def __init__(self, bus: Bus, *, concurrency: int = 8, consumer: Any = QUICK) -> None:
        self.received: list[Received] = []
        self.act: Callable[[Received], Awaitable[None]] | None = None
        self.active: set[str] = set()
        self.most_active = 0
        self.task = asyncio.create_task(bus.consume(consumer, self, concurrency=concurrency))

    async def __call__(self, received: Received) -> None:
        assert received.subject not in self.active, "two messages of one subject at once"
        self.active.add(received.subject)
        self.most_active = max(self.most_active, len(self.active))
        try:
            self.received.append(received)
            if self.act is not None:
                await self.act(received)
        finally:
            self.active.discard(received.subject)

    @property
    def ids(self) -> list[str]:
        return [one.event.id for one in self.received]

    @property
    def deliveries(self) -> list[int]:
        return [one.delivered for one in self.received]


@pytest.fixture
async def ingest(bus_of: Any) -> Bus:
    bus: Bus = await bus_of("webhook-ingest")
    return bus


@pytest.fixture
async def controller(bus_of: Any, operator: Any) -> Bus:
    await tuned(operator)
    bus: Bus = await bus_of("env-controller")
    return bus


# Publishing


async def test_the_same_event_twice_is_stored_once(ingest: Bus) -> None:
    first = await ingest.publish(pull_request(delivery="a"))
    again = await ingest.publish(pull_request(delivery="a"))
    other = await ingest.publish(pull_request(delivery="b"))
    assert (first.stream, first.duplicate, again.duplicate, other.duplicate) == (SCM, False, True, False)
    assert again.sequence == first.sequence < other.sequence


async def test_a_frozen_server_is_tried_until_patience_ends_and_then_stores_once(
    server: Any, bus_of: Any, operator: Client
) -> None:
    bus = await bus_of("webhook-ingest", publish_timeout=0.2, publish_patience=1.0)
    await bus.publish(pull_request(delivery="before"))
    server.send(signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(Unpublished, match=r"not acknowledged within 1 s: no answer"):
        await bus.publish(pull_request(delivery="frozen"))
    assert 0.9 < time.monotonic() - began < 1.6
    server.send(signal.SIGCONT)
    # What timed out may be stored all the same, several times over: one id makes it one.
    await bus.publish(pull_request(delivery="frozen"))
    ids = [stored.event().id async for stored in messages(operator, SCM, "scm.>")]
    assert ids == ["before", "frozen"]


async def test_a_publish_waits_for_a_server_that_restarts(server: Any, ingest: Bus) -> None:
    await ingest.publish(pull_request(delivery="a"))
    await asyncio.to_thread(server.stop)
    waiting = asyncio.create_task(ingest.publish(pull_request(delivery="b")))
    await asyncio.sleep(0.5)
    assert not ingest.connected
    assert ingest.problems() == [f"no connection to {server.url}"]
    server.start()
    published = await waiting
    assert not published.duplicate
    assert ingest.problems() == []


async def test_a_full_stream_is_said_at_once(server: Any, operator: Client, ingest: Bus) -> None:
    jetstream = operator.jetstream()
    config = (await jetstream.stream_info(SCM)).config
    await jetstream.update_stream(config.evolve(max_bytes=4096))

    async def fill() -> None:
        for number in range(10):
            await ingest.publish(pull_request(delivery=str(number)))

    with pytest.raises(Unpublished, match="maximum bytes exceeded"):
        await fill()
    await jetstream.update_stream(config)
    assert not (await ingest.publish(pull_request(delivery="fits"))).duplicate


async def test_an_oversized_event_is_refused_with_its_size(ingest: Bus) -> None:
    with pytest.raises(Oversized, match=r"v1 big has 11\d{5} bytes with headers, the bus takes 1048576"):
        await ingest.publish(pull_request(delivery="big", title="x" * 1_100_000))
    largest = b'{"a":"' + b"x" * (512 * 1024 - 8) + b'"}'
    assert (await ingest.publish(pull_request(delivery="fits", payload=largest))).stream == SCM


async def test_what_may_not_be_published_is_said_at_once(ingest: Bus) -> None:
    began = time.monotonic()
    with pytest.raises(Unpublished, match="webhook-ingest may not publish here"):
        await ingest.publish(changed())
    assert time.monotonic() - began < 3


async def test_no_server_and_no_key_are_told_apart(server: Any, tmp_path: Any) -> None:
    settings = BusSettings(server.url, tmp_path / "other.seed", connect_patience=1.0)
    with pytest.raises(Unreachable, match=r"other\.seed"):
        await Bus.connect(settings, name="x", clock=lambda: NOW)
    with pytest.raises(Unreachable, match=r"(?i)authorization"):
        await Bus.connect(replace(settings, seed_file=None), name="x", clock=lambda: NOW)
    await asyncio.to_thread(server.stop)
    with pytest.raises(Unreachable, match=r"refused|Connect call failed"):
        await Bus.connect(replace(settings, seed_file=server.seed("webhook-ingest")), name="x", clock=lambda: NOW)


# Consuming


async def test_handled_then_acknowledged(ingest: Bus, controller: Bus, operator: Client) -> None:
    handling = Handling(controller)
    published = await ingest.publish(pull_request())
    await settled(operator, published.sequence)
    (received,) = handling.received
    assert received.event == pull_request()
    assert (received.stream, received.sequence, received.delivered) == (SCM, published.sequence, 1)


async def test_the_acknowledgement_comes_after_the_handler(ingest: Bus, controller: Bus, operator: Client) -> None:
    """Planted bug: ack before the handler. Then nothing would be pending while it runs."""
    pending: list[int | None] = []
    handling = Handling(controller)

    async def act(_received: Received) -> None:
        await asyncio.sleep(0.1)
        pending.append((await consumer_info(operator)).num_ack_pending)

    handling.act = act
    published = await ingest.publish(pull_request())
    await settled(operator, published.sequence)
    assert pending == [1]


async def test_retry_comes_again_after_its_delay(ingest: Bus, controller: Bus, operator: Client) -> None:
    handling = Handling(controller)
    times: list[float] = []

    async def act(_received: Received) -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            raise Retry("not yet", timedelta(seconds=0.5))

    handling.act = act
    published = await ingest.publish(pull_request())
    await settled(operator, published.sequence)
    assert handling.deliveries == [1, 2]
    assert 0.45 < times[1] - times[0] < 0.8


async def test_an_unknown_failure_comes_again_after_the_backoff(ingest: Bus, controller: Bus, operator: Client) -> None:
    handling = Handling(controller)
    times: list[float] = []

    async def act(_received: Received) -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            raise KeyError("bug")

    handling.act = act
    published = await ingest.publish(pull_request())
    await settled(operator, published.sequence)
    assert handling.deliveries == [1, 2]
    assert 0.85 < times[1] - times[0] < 1.5


async def test_a_handler_that_takes_too_long_is_cancelled_and_tried_again(
    ingest: Bus, controller: Bus, operator: Client
) -> None:
    handling = Handling(controller)
    cancelled: list[bool] = []

    async def act(received: Received) -> None:
        if received.delivered == 1:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.append(True)
                raise

    handling.act = act
    published = await ingest.publish(pull_request())
    await settled(operator, published.sequence)
    assert handling.deliveries == [1, 2]
    assert cancelled == [True]


async def test_what_waits_behind_its_subject_is_not_delivered_twice(
    ingest: Bus, controller: Bus, operator: Client
) -> None:
    """Each is handled for two thirds of ack_wait: only in_progress keeps the last of five ours."""
    handling = Handling(controller)
    handling.act = lambda _received: asyncio.sleep(0.6)
    for number in range(5):
        published = await ingest.publish(pull_request(delivery=str(number)))
    await settled(operator, published.sequence)
    assert handling.ids == ["0", "1", "2", "3", "4"]
    assert handling.deliveries == [1] * 5


async def test_never_more_in_flight_than_hands(ingest: Bus, controller: Bus, operator: Client) -> None:
    # The server takes an acknowledgement and the next pull by two queues: it is waited for, or both seem to be pending.
    handling = Handling(controller, concurrency=3, consumer=replace(QUICK, double_ack=True))
    pending: list[int] = []

    async def act(_received: Received) -> None:
        pending.append((await consumer_info(operator)).num_ack_pending or 0)
        await asyncio.sleep(0.05)

    handling.act = act
    for number in range(1, 13):
        published = await ingest.publish(pull_request(number, delivery=str(number)))
    await settled(operator, published.sequence)
    assert handling.most_active == 3
    assert max(pending) <= 3
    assert sorted(handling.ids, key=int) == [str(number) for number in range(1, 13)]


async def test_reject_is_buried_with_its_reason_and_the_stream_flows_on(
    ingest: Bus, controller: Bus, operator: Client
) -> None:
    handling = Handling(controller)

    async def act(received: Received) -> None:
        if received.event.id == "bad":
            raise Reject("head.sha: expected a commit of this repository")

    handling.act = act
    bad = await ingest.publish(pull_request(delivery="bad"))
    good = await ingest.publish(pull_request(delivery="good"))
    await settled(operator, good.sequence)
    assert handling.deliveries == [1, 1]
    (one,) = await buried(operator)
    assert isinstance(one.letter, DeadLetter)
    assert (one.stream, one.consumer, one.sequence) == (SCM, "env-controller", bad.sequence)
    assert one.reason == "head.sha: expected a commit of this repository"
    assert one.letter.event_id == "webhook-ingest/bad"
    assert one.letter.message == encode(pull_request(delivery="bad"))[0].decode()
    # The server's own advisory about the termination is stored beside it, and dropped by (stream, sequence).
    assert len([stored async for stored in messages(operator, DEAD, ">")]) == 2


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"\xff\xfe", "application/cloudevents+json", "the message is not JSON"),
        (b"{}", "application/json", "content-type 'application/json'"),
        (encode(pull_request(7))[0], "application/cloudevents+json", "its data belongs on"),
    ],
    ids=["no JSON", "another content type", "a foreign subject"],
)
async def test_a_poison_message_is_buried_and_the_stream_flows_on(
    body: bytes, content_type: str, reason: str, connect: Any, ingest: Bus, controller: Bus, operator: Client
) -> None:
    handling = Handling(controller)
    raw = await connect("webhook-ingest")
    await raw.jetstream().publish(pull_request().subject, body, headers={"content-type": content_type})
    await raw.close()
    good = await ingest.publish(pull_request(delivery="good"))
    await settled(operator, good.sequence)
    assert handling.ids == ["good"]
    (one,) = await buried(operator)
    assert reason in one.reason
    assert one.letter is not None
    assert (one.letter.message is None) == (body == b"\xff\xfe")


async def test_the_last_failure_is_buried_with_its_reason(ingest: Bus, controller: Bus, operator: Client) -> None:
    handling = Handling(controller)

    async def act(_received: Received) -> None:
        raise Retry("the API server is away", timedelta(seconds=0.1))

    handling.act = act
    published = await ingest.publish(pull_request())
    await settled(operator, published.sequence)
    assert handling.deliveries == [1, 2, 3, 4, 5]
    (one,) = await buried(operator)
    assert one.reason == "given up after 5 deliveries: the API server is away"


async def test_the_servers_own_advisory_is_kept(connect: Any, ingest: Bus, server: Any, operator: Client) -> None:
    """A message that kills its handler every time is never answered for; only the server can tell."""
    quick = replace(QUICK, backoff=(0.1, 0.1), max_deliver=2)
    await tuned(operator, quick)
    published = await ingest.publish(pull_request())
    raw = await connect("env-controller")
    inbox = raw.new_inbox()
    await raw.subscribe(inbox)
    request = json.dumps({"batch": 10, "expires": 2 * 10**9}).encode()
    await raw.publish("$JS.API.CONSUMER.MSG.NEXT.SCM.env-controller", request, reply=inbox)
    deadline = time.monotonic() + 5
    while not (found := await buried(operator)):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    await raw.close()
    assert [(one.stream, one.consumer, one.sequence, one.reason, one.letter) for one in found] == [
        (SCM, "env-controller", published.sequence, GIVEN_UP, None)
    ]


async def test_what_stands_in_dead_and_cannot_be_read_is_shown(connect: Any, operator: Client) -> None:
    raw = await connect("env-controller")
    await raw.jetstream().publish("dead.env-controller", b"?")
    await raw.close()
    assert [one.reason for one in await buried(operator)] == [UNREADABLE]


# Faults


async def test_a_restart_in_the_middle_loses_nothing(
    server: Any, ingest: Bus, controller: Bus, operator: Client
) -> None:
    handling = Handling(controller, concurrency=4)
    handling.act = lambda _received: asyncio.sleep(0.005)

    async def publish_all() -> None:
        for number in range(1, 301):
            await ingest.publish(pull_request(number, delivery=str(number)))

    publishing = asyncio.create_task(publish_all())
    await until(lambda: len(handling.received) > 60)
    await asyncio.to_thread(server.restart, signal.SIGKILL)
    await publishing
    await until(lambda: len(set(handling.ids)) == 300)
    stored = [one.event().id async for one in messages(operator, SCM, "scm.>")]
    assert stored == [str(number) for number in range(1, 301)]


async def test_messages_flow_half_a_second_after_a_restart(server: Any, ingest: Bus, controller: Bus) -> None:
    handling = Handling(controller)
    await ingest.publish(pull_request(delivery="before"))
    await until(lambda: handling.received)
    await asyncio.to_thread(server.stop)
    await asyncio.sleep(1)
    server.start()
    await server.answers()
    up = time.monotonic()
    await ingest.publish(pull_request(delivery="after"))
    await until(lambda: len(handling.received) == 2)
    assert time.monotonic() - up < 0.5


async def test_a_frozen_server_that_thaws_goes_on(server: Any, ingest: Bus, controller: Bus) -> None:
    handling = Handling(controller)
    await ingest.publish(pull_request(delivery="before"))
    await until(lambda: handling.received)
    server.send(signal.SIGSTOP)
    await asyncio.sleep(1.5)
    server.send(signal.SIGCONT)
    await ingest.publish(pull_request(delivery="after"))
    await until(lambda: handling.ids == ["before", "after"], within=5)


async def test_tries_to_reconnect_leave_no_sockets(server: Any, controller: Bus) -> None:
    def sockets() -> int:
        return sum(bool(c.raddr) and c.raddr.port == server.port for c in psutil.Process().net_connections("tcp"))

    client = controller._client
    before = sockets()
    gc.disable()  # it would close them by and by
    try:
        server.send(signal.SIGSTOP)
        client.options["connect_timeout"] = 0.1  # seconds that a handshake may take
        await client._process_op_err(nats.errors.UnexpectedEOF())
        await until(lambda: client._current_server is not None and client._current_server.reconnects >= 3)
        server.send(signal.SIGCONT)
        await until(lambda: controller.connected)
        assert sockets() == before
    finally:
        server.send(signal.SIGCONT)
        gc.enable()


async def test_a_consumer_deleted_underneath_is_reported_and_taken_up_again(
    ingest: Bus, controller: Bus, operator: Client
) -> None:
    handling = Handling(controller)
    await ingest.publish(pull_request(delivery="before"))
    await until(lambda: handling.received)
    await operator.jetstream().delete_consumer(SCM, "env-controller")
    await until(lambda: controller.problems())
    assert controller.problems() == ["consumer SCM/env-controller was deleted: apply the topology"]
    await ingest.publish(pull_request(delivery="meanwhile"))
    await tuned(operator)
    await until(lambda: "meanwhile" in handling.ids, within=3)
    assert controller.problems() == []


async def test_a_consumer_of_somebody_else_is_reported(operator: Client, bus_of: Any) -> None:
    controller = await bus_of("env-controller")
    missing = replace(QUICK, name="nobody")
    task = asyncio.create_task(controller.consume(missing, lambda _received: asyncio.sleep(0), concurrency=1))
    await until(lambda: controller.problems())
    assert controller.problems() == ["consumer SCM/nobody is not ours to read"]
    task.cancel()


async def test_a_consumer_that_was_not_made_is_reported(operator: Client, bus_of: Any) -> None:
    controller = await bus_of("env-controller")
    await operator.jetstream().delete_consumer(SCM, "env-controller")
    handling = Handling(controller)
    await until(lambda: controller.problems())
    assert controller.problems() == ["consumer SCM/env-controller does not answer: apply the topology"]
    handling.task.cancel()


async def test_drain_finishes_what_is_in_flight_and_loses_nothing(ingest: Bus, operator: Client, bus_of: Any) -> None:
    await tuned(operator)
    controller = await bus_of("env-controller")
    handling = Handling(controller, concurrency=2)
    handling.act = lambda _received: asyncio.sleep(0.1)
    for number in range(1, 21):
        await ingest.publish(pull_request(number, delivery=str(number)))
    await until(lambda: len(handling.received) >= 5)
    await controller.drain()
    await handling.task
    done = list(handling.ids)
    info = await consumer_info(operator)
    assert (info.num_ack_pending, info.num_pending) == (0, 20 - len(done))
    successor = Handling(await bus_of("env-controller"))
    await until(lambda: len(successor.received) == 20 - len(done))
    assert set(done).isdisjoint(successor.ids)
    assert successor.deliveries == [1] * len(successor.ids)


async def test_cancelling_stops_handlers_and_hands_their_messages_on_at_once(
    ingest: Bus, operator: Client, bus_of: Any
) -> None:
    await tuned(operator, replace(QUICK, backoff=(30.0,)))
    leader, standby = await bus_of("env-controller"), await bus_of("env-controller")
    handling = Handling(leader, concurrency=2, consumer=replace(QUICK, backoff=(30.0,)))
    handling.act = lambda _received: asyncio.sleep(20)
    for number in (1, 2, 3):
        await ingest.publish(pull_request(number, delivery=str(number)))
    await until(lambda: len(handling.received) == 2)
    handling.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handling.task
    successor = Handling(standby)
    await until(lambda: len(successor.received) == 3, within=2)


async def test_who_stopped_while_the_server_was_away_does_not_listen_afterwards(
    server: Any, ingest: Bus, controller: Bus, operator: Client
) -> None:
    """Found by chaos: a leader that lost its lease with its connection took messages again once it was back, and handed
    them back until their deliveries were used up.
    """
    handling = Handling(controller)
    await ingest.publish(pull_request(delivery="before"))
    await until(lambda: handling.received)
    await settled(operator, 1)
    before = {each.subject for each in controller._client._subs.values()}
    await asyncio.to_thread(server.stop)
    await until(lambda: not controller.connected)
    handling.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handling.task
    left = {each.subject for each in controller._client._subs.values()}
    assert len(before - left) == 1, "it would be subscribed to again"

    server.start()
    await server.answers()
    await until(lambda: controller.connected)
    successor = Handling(controller)
    for number in range(2, 12):
        await ingest.publish(pull_request(number, delivery=str(number)))
    await until(lambda: len(successor.received) == 10)
    assert set(successor.deliveries) == {1}


async def test_points_are_hit(operator: Client, bus_of: Any) -> None:
    hit: list[str] = []

    async def points(name: str) -> None:
        hit.append(name)

    await tuned(operator)
    ingest, controller = await bus_of("webhook-ingest", points=points), await bus_of("env-controller", points=points)
    Handling(controller)
    published = await ingest.publish(pull_request())
    await settled(operator, published.sequence)
    await until(lambda: len(hit) == 3)
    assert sorted(hit) == [
        "bus.acked:env-controller",
        "bus.before-ack:env-controller",
        "bus.published:scm.pull_request.changed",
    ]


async def test_a_fault_before_the_ack_delivers_again(ingest: Bus, operator: Client, bus_of: Any) -> None:
    faults = ["one"]

    async def points(name: str) -> None:
        if name.startswith("bus.before-ack") and faults:
            faults.pop()
            raise ConnectionError("planted")

    await tuned(operator)
    handling = Handling(await bus_of("env-controller", points=points))
    published = await ingest.publish(pull_request())
    await settled(operator, published.sequence)
    assert handling.deliveries == [1, 2]


async def test_losing_the_connection_for_good_is_told(server: Any) -> None:
    closed = asyncio.Event()

    async def on_closed() -> None:
        closed.set()

    settings = BusSettings(server.url, server.seed("env-controller"), "_INBOX_env-controller")
    bus = await Bus.connect(settings, name="env-controller", clock=lambda: NOW, on_closed=on_closed)
    await bus._client.close()
    await asyncio.wait_for(closed.wait(), 1)
    assert not bus.connected


async def test_a_drain_is_no_loss(server: Any) -> None:
    async def on_closed() -> None:
        raise AssertionError("told although drained")

    settings = BusSettings(server.url, server.seed("env-controller"), "_INBOX_env-controller")
    bus = await Bus.connect(settings, name="env-controller", clock=lambda: NOW, on_closed=on_closed)
    await bus.drain()
    assert not bus.connected


async def test_applying_the_topology_again_does_not_disturb_a_consumer(
    ingest: Bus, bus_of: Any, operator: Client
) -> None:
    handling = Handling(await bus_of("env-controller"), consumer=ENV_CONTROLLER_SCM)
    await ingest.publish(pull_request(delivery="1"))
    await until(lambda: handling.received)
    await apply(operator.jetstream(), dry=True)
    await ingest.publish(pull_request(delivery="2"))
    await until(lambda: handling.ids == ["1", "2"])


@pytest.mark.parametrize("spans", [True, False])
async def test_a_trace_is_handed_on_whether_or_not_spans_are_recorded(
    server: Any, controller: Bus, spans: bool
) -> None:
    """Inside a trace both go on with it; outside, a process that records nothing begins one all the same."""
    settings = BusSettings(server.url, server.seed("webhook-ingest"), inbox_prefix("webhook-ingest"))
    bus = await Bus.connect(settings, name="traced", clock=lambda: NOW, spans=spans)
    parent = f"00-{'ab' * 16}-{'cd' * 8}-00"
    token = context.attach(TraceContextTextMapPropagator().extract({"traceparent": parent}))
    try:
        await bus.publish(pull_request(1))
    finally:
        context.detach(token)
    await bus.publish(pull_request(2, "d-2"))
    await bus.drain()
    inside, outside = [(await controller.facts(pull_request(number).subject))[0].event() for number in (1, 2)]
    assert (inside.traceparent or "").split("-")[1] == "ab" * 16
    assert spans or re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-00", outside.traceparent or "")
