"""Recording beside the work, on a real bus: what is decided is kept; what cannot be is counted and holds nobody up."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from makers import NOW, PLATFORM, environment, project
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from catalyst.env_controller.core.recorded import EnvironmentInputs, Record, decided_json, read_inputs
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


async def test_what_json_cannot_say_is_counted_and_the_next_is_kept(bus: Bus, lost: Any) -> None:
    recorder = Decisions(bus, "0123456789ab")
    writing = asyncio.create_task(recorder.run())
    odd = EnvironmentInputs(INPUTS.environment, World(PLATFORM, project(), pods=({"status": {"x": object()}},)), NOW)
    recorder.record(Decided(odd, DECIDED.result, "key"))
    recorder.record(DECIDED)
    await recorder.written(within=5)
    assert lost() == {"unwritable": 1}
    assert not writing.done()
    writing.cancel()
