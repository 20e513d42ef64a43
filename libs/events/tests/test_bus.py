"""The bus against a real server: what is published is kept once, what is delivered is answered for."""

import asyncio
from dataclasses import replace

from catalyst.events.bus import Received
from catalyst.events.examples import changed, pull_request
from catalyst.events.topology import ENV_CONTROLLER_SCM, SCM
from nats.aio.client import Client

QUICK = replace(ENV_CONTROLLER_SCM, backoff=(0.6, 0.6, 0.6, 0.6))


async def until(condition, within: float = 8.0) -> None:
    deadline = asyncio.get_running_loop().time() + within
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "did not come true in time"
        await asyncio.sleep(0.01)


async def test_the_same_event_twice_is_stored_once(bus_of):
    bus = await bus_of("webhook-ingest")
    first = await bus.publish(pull_request(delivery="a"))
    again = await bus.publish(pull_request(delivery="a"))
    other = await bus.publish(pull_request(delivery="b"))
    assert (first.stream, first.duplicate, again.duplicate, other.duplicate) == (SCM, False, True, False)
    assert again.sequence == first.sequence < other.sequence


async def test_consumed_and_acked(bus_of, operator: Client):
    ingest, controller = await bus_of("webhook-ingest"), await bus_of("env-controller")
    seen: list[Received] = []

    async def handler(received: Received) -> None:
        seen.append(received)

    task = asyncio.create_task(controller.consume(ENV_CONTROLLER_SCM, handler, concurrency=4))
    event = pull_request()
    await ingest.publish(event)
    await until(lambda: seen)
    assert seen[0].event == event
    print(await controller.facts(event.subject))
    print(await controller.subjects(SCM, "scm.>"))
    await controller.publish(changed(1))
    await controller.publish(changed(2))
    await asyncio.sleep(0.3)
    print(await controller.state(changed().subject))
    print([s async for s in controller.states()])
    info = await operator.jetstream().consumer_info(SCM, "env-controller")
    print(info.num_ack_pending, info.ack_floor)
    task.cancel()
