"""Recording beside the work, on a real bus: what is decided is kept; what cannot be is counted and holds nobody up."""

import asyncio
import secrets
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from makers import NOW, PLATFORM, environment, project
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from catalyst.env_controller.core.recorded import EnvironmentInputs, Record, decided_json, read_inputs, records
from catalyst.env_controller.core.world import World
from catalyst.env_controller.effects import decisions
from catalyst.env_controller.effects.decisions import WAITING, Decided, Decisions
from catalyst.events.bus import Bus, BusSettings, Stored
from catalyst.events.topology import DECISIONS
from catalyst.events.users import OPERATOR, inbox_prefix
from catalyst.local.nats import Nats
from catalyst.model import labels
from catalyst.model.clock import utc_now

INPUTS = EnvironmentInputs(
    environment(metadata={"annotations": {labels.CAUSE: "webhook-ingest/d-1"}}), World(PLATFORM, project()), NOW
)
DECIDED = Decided(INPUTS, INPUTS.decided(), "EnvironmentKey acme--shop/pr-42", "builder/e-1")


@pytest.fixture
async def bus(nats: Nats) -> AsyncIterator[Bus]:
    nats.apply_topology()
    found = await connected(nats, "env-controller")
    yield found
    await found.drain()


def about(environment_: str, key: str, pods: tuple[dict[str, Any], ...] = ()) -> Decided:
    """A decision about that environment; `key` tells which."""
    found = environment(metadata={"name": environment_})
    return Decided(EnvironmentInputs(found, World(PLATFORM, project(), pods=pods), NOW), DECIDED.result, key)


async def messages(nats: Nats) -> list[tuple[str, list[str]]]:
    """Each that is kept: about which environment, and the keys of its records."""
    operator = await connected(nats, OPERATOR)
    found = [stored async for stored in operator.replay(DECISIONS, "decision.>")]
    await operator.drain()
    return [
        (each.subject.rpartition(".")[2], [record.head.key for record in records(zlib.decompress(each.data))])
        for each in found
    ]


async def connected(nats: Nats, user: str) -> Bus:
    settings = BusSettings(nats.url, nats.seed(user), inbox_prefix=inbox_prefix(user), publish_timeout=0.5)
    return await Bus.connect(settings, name=user, clock=utc_now)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> Any:
    """By reason, what `catalyst_decisions_dropped_total` counts."""
    reader = InMemoryMetricReader()
    counter = MeterProvider([reader]).get_meter("test").create_counter("catalyst_decisions_dropped")
    monkeypatch.setattr(decisions, "dropped", counter)

    def read() -> dict[str, int]:
        data: Any = reader.get_metrics_data()
        found = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points if data else []
        return {point.attributes["reason"]: point.value for point in found}

    return read


async def test_what_is_decided_is_kept_and_says_by_whom_and_why(bus: Bus, nats: Nats, lost: Any) -> None:
    recorder = Decisions(bus, "0123456789ab")
    writing = asyncio.create_task(recorder.run())
    recorder.record(DECIDED)
    await recorder.written(within=5)
    writing.cancel()
    operator = await connected(nats, OPERATOR)
    (stored,) = [found async for found in operator.replay(DECISIONS, "decision.acme.shop.pr-42")]
    await operator.drain()
    assert stored.headers["Catalyst-Schema"] == "1"
    record = Record.parse(zlib.decompress(stored.data))
    head = record.head
    assert (head.code, head.key, head.event) == ("0123456789ab", "EnvironmentKey acme--shop/pr-42", "builder/e-1")
    assert (head.cause, head.at) == ("webhook-ingest/d-1", NOW.isoformat())
    assert decided_json(read_inputs(head.rule, record.inputs)) == record.result
    assert lost() == {}


async def test_what_is_decided_within_a_moment_is_one_message_an_environment(bus: Bus, nats: Nats, lost: Any) -> None:
    recorder = Decisions(bus, "0123456789ab", held=0.3)
    writing = asyncio.create_task(recorder.run())
    for key, name in enumerate(("pr-1", "pr-2", "pr-1", "pr-1", "pr-2")):
        recorder.record(about(name, f"{key}"))
        await asyncio.sleep(0.01)
    assert await messages(nats) == [], "others may follow"
    await until(lambda: recorder.waiting == 0)
    recorder.record(about("pr-1", "5"))
    await until(lambda: recorder.waiting == 0)
    assert await messages(nats) == [("pr-1", ["0", "2", "3"]), ("pr-2", ["1", "4"]), ("pr-1", ["5"])]
    writing.cancel()
    assert lost() == {}


async def test_at_a_stop_nothing_is_waited_for(bus: Bus, nats: Nats) -> None:
    recorder = Decisions(bus, "0123456789ab", held=3600)
    writing = asyncio.create_task(recorder.run())
    recorder.record(about("pr-1", "0"))
    await asyncio.sleep(0.05)
    recorder.record(about("pr-1", "1"))
    await recorder.written(within=5)
    assert await messages(nats) == [("pr-1", ["0", "1"])]
    writing.cancel()


async def test_with_half_of_the_room_taken_nothing_is_waited_for(
    bus: Bus, nats: Nats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "WAITING", 12)
    recorder = Decisions(bus, "0123456789ab", held=3600)
    writing = asyncio.create_task(recorder.run())
    for _ in range(6):
        recorder.record(DECIDED)
    await until(lambda: recorder.waiting == 0)
    assert await messages(nats) == [("pr-42", [DECIDED.key] * 6)]
    writing.cancel()


async def test_what_is_too_large_for_the_bus_takes_no_other_along(bus: Bus, nats: Nats, lost: Any) -> None:
    """Much about one environment is several messages, in order."""
    recorder = Decisions(bus, "0123456789ab", held=3600)
    large = ({"status": {"message": "x" * (decisions.LARGEST // 2)}},)
    too_large = ({"status": {"message": secrets.token_hex(1024 * 1024)}},)
    for key, pods in enumerate(((), large, too_large, large, large, ())):
        recorder.record(about("pr-1", f"{key}", pods))
    await recorder.written(within=5)
    assert await messages(nats) == [("pr-1", ["0", "1"]), ("pr-1", ["3"]), ("pr-1", ["4", "5"])]
    assert lost() == {"bus": 1}
    assert recorder.waiting == 0


async def test_a_bus_that_is_away_holds_nobody_up_and_is_used_again_when_it_is_back(
    bus: Bus, nats: Nats, lost: Any
) -> None:
    recorder = Decisions(bus, "0123456789ab")
    writing = asyncio.create_task(recorder.run())
    nats.stop()
    await until(lambda: not bus.connected)
    began = asyncio.get_running_loop().time()
    for _ in range(WAITING + 50):
        recorder.record(DECIDED)
    assert asyncio.get_running_loop().time() - began < 0.5
    assert lost() == {"full": 50}
    await recorder.written(within=5)
    assert lost() == {"full": 50, "bus": WAITING}
    assert recorder.waiting == 0
    nats.start()
    operator, found = await connected(nats, OPERATOR), list[Stored]()
    async with asyncio.timeout(10):
        while not found:  # its connection is back at some time
            recorder.record(DECIDED)
            await recorder.written(within=5)
            found = [stored async for stored in operator.replay(DECISIONS, "decision.>")]
    writing.cancel()
    await operator.drain()
    assert lost()["full"] == 50


async def test_what_json_cannot_say_is_counted_and_the_others_are_kept(bus: Bus, nats: Nats, lost: Any) -> None:
    recorder = Decisions(bus, "0123456789ab")
    recorder.record(about("pr-1", "0"))
    recorder.record(about("pr-1", "1", ({"status": {"x": object()}},)))
    recorder.record(about("pr-1", "2"))
    await recorder.written(within=5)
    assert await messages(nats) == [("pr-1", ["0", "2"])]
    assert lost() == {"unwritable": 1}
