"""A sick bus is seen and said once; the dead are counted by service and reason, whoever told of them."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections import Counter
from typing import Any

import pytest
from nats.aio.client import Client

from catalyst.events.applying import apply
from catalyst.events.bus import Bus
from catalyst.events.catalogue import DeadSettled
from catalyst.events.dead import Dead, lean, read
from catalyst.events.errors import Unread
from catalyst.events.event import dead_settled
from catalyst.events.examples import NOW, changed, pull_request
from catalyst.events.reading import messages
from catalyst.events.stored import Stored
from catalyst.events.topology import DEAD, ENV_CONTROLLER_SCM, SCM, STATE, Budget, streams
from catalyst.events.watching import Watch

MIB = 1024 * 1024
SMALL = Budget(scm=64 * MIB, events=64 * MIB, state=64 * MIB, audit=64 * MIB, dead=64 * MIB)
PULL = "$JS.API.CONSUMER.MSG.NEXT.SCM.env-controller"


@pytest.fixture
async def watch(bus_of: Any) -> Watch:
    return Watch(await bus_of("env-controller"))


async def filled(operator: Client, share: float) -> None:
    """SCM's limit becomes such that this share of it is taken."""
    info = await operator.jetstream().stream_info(SCM)
    await operator.jetstream().update_stream(info.config.evolve(max_bytes=round(info.state.bytes / share)))


async def test_nearly_full_is_said_once_and_well_only_clearly_below(
    watch: Watch, bus_of: Any, operator: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "catalyst.events.watching")
    ingest: Bus = await bus_of("webhook-ingest")
    await ingest.publish(pull_request(payload=b'{"a":"' + b"x" * 50_000 + b'"}'))
    said = []
    for share in (0.69, 0.71, 0.71, 0.66, 0.71, 0.64, 0.69):
        await filled(operator, share)
        await watch.look()
        said.append([record.message for record in caplog.records])
        caplog.clear()
    assert said == [[], ["bus is sick"], [], [], [], ["bus is well again"], []]


class Headless:
    """A bus whose first stream has no leader."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.messages = bus.messages
        self.now = False

    async def stream_info(self, stream: str) -> dict[str, Any] | None:
        if self.now and stream == SCM:
            raise Unread(f"stream {stream} did not answer")
        return await self._bus.stream_info(stream)


async def test_one_stream_that_does_not_answer_hides_no_other(bus_of: Any) -> None:
    bus = Headless(await bus_of("env-controller"))
    watch = Watch(bus)
    await watch.look()
    assert (watch._there[SCM], SCM in watch._seen) == (True, True)
    bus.now = True
    await watch.look()
    assert (SCM in watch._there, SCM in watch._seen) == (False, False)
    assert (watch._there[DEAD], DEAD in watch._seen) == (True, True)


async def test_a_state_made_anew_is_noticed_and_counts_on(
    watch: Watch, bus_of: Any, server: Any, operator: Client, caplog: pytest.LogCaptureFixture
) -> None:
    jetstream = operator.jetstream()
    await watch.look()
    controller: Bus = await bus_of("env-controller")
    await controller.publish(changed(1))
    before = 0
    while not before:
        before = (await jetstream.stream_info(STATE)).state.last_seq
    server.stop()
    shutil.rmtree(server.folder / "store")
    server.start()
    for _ in range(100):
        await watch.look()
        if watch._there == {config.name: False for config in streams()}:
            break
        await asyncio.sleep(0.05)
    assert not any(watch._there.values())
    assert not watch._seen
    assert not watch.state_is_new.is_set(), "there is none yet to say it to"
    await apply(jetstream, budget=SMALL)
    await watch.look()
    assert watch.state_is_new.is_set()
    assert "stream was lost and made anew" in [record.message for record in caplog.records]
    await controller.publish(changed(1))
    assert await _since(controller, before + 1), "readers who ask for what came after the last they saw see nothing"


async def _since(bus: Bus, start: int) -> list[Stored]:
    """What a reader of STATE is given that has seen everything before `start`; it comes there from EVENTS."""
    for _ in range(60):
        if found := [stored async for stored in bus.states(start=start)]:
            return found
        await asyncio.sleep(0.05)
    return []


async def test_the_servers_advisories_are_counted_until_somebody_deals_with_them(
    watch: Watch, bus_of: Any, connect: Any, operator: Client
) -> None:
    """MSG_TERMINATED: a consumer that terminates and writes no letter. MAX_DELIVERIES: one that never answers."""
    quick = {"max_deliver": 2, "backoff": [0.1, 0.1]}
    await operator.jetstream().add_consumer(SCM, ENV_CONTROLLER_SCM.config().evolve(**quick))
    ingest: Bus = await bus_of("webhook-ingest")
    terminated = await ingest.publish(pull_request(delivery="terminated"))
    await ingest.publish(pull_request(delivery="unanswered"))
    raw = await connect("env-controller")

    async def handed(message: Any) -> None:
        if message.reply and message.metadata.sequence.stream == terminated.sequence:
            await message.term()

    inbox = raw.new_inbox()
    await raw.subscribe(inbox, cb=handed)
    await raw.publish(PULL, b'{"batch": 10, "expires": 3000000000}', reply=inbox)
    await counts(watch, {("env-controller", "terminated"): 1, ("env-controller", "unanswered"): 1})
    await raw.close()

    oncall: Bus = await bus_of("oncall")
    done = DeadSettled(
        consumer="env-controller",
        stream=SCM,
        sequence=terminated.sequence,
        outcome="dropped",
        by="hubot",
        reason="test",
    )
    await oncall.publish(dead_settled(done, time=NOW))
    await counts(watch, {("env-controller", "terminated"): 0, ("env-controller", "unanswered"): 1})
    config = (await operator.jetstream().stream_info(DEAD)).config
    await operator.jetstream().update_stream(config.evolve(max_age=0.1, duplicate_window=0.1))  # as after 90 days
    await counts(watch, {})


async def counts(watch: Watch, wanted: dict[tuple[str, str], int]) -> None:
    for _ in range(100):
        await watch.look()
        if watch.letters() == Counter(wanted) and dict(watch.letters()) == wanted:
            return
        await asyncio.sleep(0.05)
    assert dict(watch.letters()) == wanted


async def test_what_is_remembered_of_a_letter_is_not_its_message(bus_of: Any, connect: Any, operator: Client) -> None:
    raw = await connect("env-controller")
    await raw.jetstream().publish("dead.env-controller", b"x" * 100_000)
    await raw.close()
    (entry,) = [stored async for stored in messages(operator, DEAD, ">")]
    found = lean(read(entry))
    assert isinstance(found, Dead)
    assert (found.service, found.kind, found.entry.data) == ("unknown", "unreadable", b"")
