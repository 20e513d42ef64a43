"""Writing chains on a real server: once each, one behind the other, whoever writes beside us."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from catalyst.env_controller.core.audit import DONE, Entry, Standing, entry_of
from catalyst.env_controller.effects.audit import Audit
from catalyst.events.bus import Bus, BusSettings
from catalyst.events.chain import Link, Verified, verify
from catalyst.events.errors import Retry
from catalyst.events.examples import command
from catalyst.events.topology import AUDIT, DUPLICATE_WINDOW
from catalyst.events.users import OPERATOR, inbox_prefix
from catalyst.local.nats import Nats
from catalyst.model.clock import utc_now
from catalyst.model.names import Identity


@pytest.fixture
async def bus(nats: Nats) -> AsyncIterator[Bus]:
    await asyncio.to_thread(nats.apply_topology)
    settings = BusSettings(nats.url, nats.seed("env-controller"), inbox_prefix("env-controller"), publish_patience=1.0)
    connected = await Bus.connect(settings, name="env-controller", clock=utc_now)
    yield connected
    await connected.drain()


def entry(id_: str) -> Entry:
    found = entry_of(command(), Standing(Identity("acme", "shop", "pr-42"), "u-1", DONE))
    assert found is not None
    return replace(found, id=id_, at=utc_now())


async def written(bus: Bus) -> Verified:
    stored = [one async for one in bus.messages(AUDIT, "audit.acme.shop.pr-42")]
    return verify([Link(one.sequence, one.subject, one.data) for one in stored], whole=True)


async def test_two_writers_do_not_fork_a_chain_and_record_each_once(bus: Bus) -> None:
    first, second = Audit(bus, utc_now), Audit(bus, utc_now)
    for number in range(5):
        await asyncio.gather(first.record(entry(f"a-{number}")), second.record(entry(f"b-{number}")))
        await asyncio.gather(first.record(entry(f"both-{number}")), second.record(entry(f"both-{number}")))
    found = await written(bus)
    assert (found.records, found.faults) == (15, ())


async def test_what_the_bus_has_forgotten_is_looked_for(bus: Bus, nats: Nats) -> None:
    await forgetting(nats, seconds=0.1)
    old = replace(entry("old"), at=utc_now() - timedelta(seconds=DUPLICATE_WINDOW * 2))
    await Audit(bus, utc_now).record(old)
    await Audit(bus, utc_now).record(entry("new"))
    await asyncio.sleep(0.3)
    await Audit(bus, utc_now).record(old)
    assert (await written(bus)).records == 2
    await Audit(bus, utc_now).record(entry("new"))
    assert (await written(bus)).records == 3, "the bus had not forgotten: nothing was tested"


async def forgetting(nats: Nats, *, seconds: float) -> None:
    """From now on the bus knows what it holds for so long, as if 72 hours were over."""
    settings = BusSettings(nats.url, nats.seed(OPERATOR), inbox_prefix(OPERATOR))
    operator = await Bus.connect(settings, name=OPERATOR, clock=utc_now)
    jetstream = operator._client.jetstream()
    config = (await jetstream.stream_info(AUDIT)).config
    config.duplicate_window = seconds
    await jetstream.update_stream(config)
    await operator.drain()


async def test_a_bus_that_is_away_is_asked_again(bus: Bus, nats: Nats) -> None:
    audit = Audit(bus, utc_now)
    await asyncio.to_thread(nats.kill)
    try:
        with pytest.raises(Retry, match="the audit does not take it"):
            await audit.record(entry("a"))
    finally:
        await asyncio.to_thread(nats.start)
    await audit.record(entry("a"))
    assert (await written(bus)).records == 1
