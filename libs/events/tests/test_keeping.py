"""Records that are no events: kept as they are, the oldest go first, and what cannot be kept is said."""

from typing import Any

import pytest
from nats.aio.client import Client

from catalyst.events.bus import Bus
from catalyst.events.errors import Unpublished
from catalyst.events.topology import DECISIONS, DECISIONS_KEPT, Budget
from catalyst.events.users import OPERATOR

SUBJECT = "decision.acme.shop.pr-42"


async def test_a_record_is_kept_as_it_is(bus_of: Any) -> None:
    bus, operator = await bus_of("env-controller"), await bus_of(OPERATOR)
    await bus.keep(SUBJECT, b"\x00\xff", {"Catalyst-Schema": "1"})
    (found,) = [stored async for stored in operator.replay(DECISIONS, "decision.acme.>")]
    assert (found.subject, found.data, found.headers["Catalyst-Schema"]) == (SUBJECT, b"\x00\xff", "1")


async def test_the_oldest_go_first(bus_of: Any, operator: Client) -> None:
    bus: Bus = await bus_of("env-controller")
    jetstream = operator.jetstream()
    config = (await jetstream.stream_info(DECISIONS)).config
    assert (config.discard, config.max_age, config.max_bytes) == ("old", DECISIONS_KEPT, Budget().decisions)
    await jetstream.update_stream(config.evolve(max_bytes=10_000))
    for number in range(30):
        await bus.keep(SUBJECT, bytes([number]) * 1_000, {})
    state = (await jetstream.stream_info(DECISIONS)).state
    assert state.last_seq == 30
    assert 5 < state.messages < 10


async def test_what_cannot_be_kept_is_said(bus_of: Any) -> None:
    bus: Bus = await bus_of("notifier")
    with pytest.raises(Unpublished, match=r"decision\.acme\.shop: notifier may not publish here"):
        await bus.keep("decision.acme.shop", b"x", {})
    allowed: Bus = await bus_of("env-controller")
    with pytest.raises(Unpublished, match="600000 bytes are more than half of what the bus takes"):
        await allowed.keep(SUBJECT, b"x" * 600_000, {})
    await allowed.keep(SUBJECT, b"x" * 500_000, {})
