"""What is unwell is named, and what is well is not."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from desk import Desk

from catalyst.cli.core.health import Health, Lock, health
from catalyst.cli.operations.status import status
from catalyst.events.bus import Received
from catalyst.events.examples import changed, pull_request
from catalyst.events.locks import Lock as LockOf
from catalyst.events.started import say_started
from catalyst.events.topology import CONSUMERS, streams
from catalyst.events.users import LOCKED
from catalyst.model.clock import utc_now

NOW = datetime(2026, 11, 23, 20, 0, tzinfo=UTC)


@asynccontextmanager
async def all_services(desk: Desk) -> AsyncIterator[None]:
    """Every consumer is pulled from, and every lock is held, as by the services."""

    async def handle(_: Received) -> None:
        pass

    async def lead() -> None:
        await asyncio.Event().wait()

    tasks = [
        asyncio.create_task((await desk.bus_of(one.service)).consume(one, handle, concurrency=4)) for one in CONSUMERS
    ]
    for service in LOCKED:
        lock = LockOf(await desk.bus_of(service), service, f"{service}-1")
        tasks.append(asyncio.create_task(lock.run(lead)))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def settled(desk: Desk) -> Health:
    """The first that is well, or the last after five seconds."""
    bus = await desk.oncall()
    for _ in range(100):
        found = await status(bus, utc_now())
        if found.well:
            return found
        await asyncio.sleep(0.05)
    return found


async def test_a_bus_with_all_its_services_is_well(desk: Desk) -> None:
    async with all_services(desk):
        found = await settled(desk)
        assert found.problems == ()
        assert {leader.service: leader.holder for leader in found.leaders} == {
            "dns-proxy": "dns-proxy-1",
            "notifier": "notifier-1",
        }
        ran = await desk.catalyst("status")
        assert (ran.code, ran.err) == (0, "")
        assert "all is well" in ran.out


async def test_which_version_of_each_service_started_last_is_shown(desk: Desk) -> None:
    await say_started(await desk.bus_of("builder"), "builder", f"{'a' * 40}-dirty")
    found = (await status(await desk.oncall(), utc_now())).versions
    assert {service: last.version if last else None for service, last in found.items()} == {
        "webhook-ingest": None,
        "env-controller": None,
        "builder": f"{'a' * 40}-dirty",
        "dns-proxy": None,
        "notifier": None,
    }
    said = (await desk.catalyst("status")).out
    (line,) = [line for line in said.splitlines() if "-dirty" in line]
    assert line.split()[:2] == ["builder", f"{'a' * 40}-dirty"]
    ran = await desk.catalyst("status", "--output", "json")
    assert json.loads(ran.out)["versions"]["builder"]["version"] == f"{'a' * 40}-dirty"


async def test_a_monitoring_page_that_does_not_answer_is_said_and_one_that_was_not_asked_too(desk: Desk) -> None:
    (problem,) = [
        each
        for each in (await status(await desk.oncall(), utc_now(), "http://127.0.0.1:1")).problems
        if each.startswith("server")
    ]
    assert problem.startswith("server: http://127.0.0.1:1 does not answer: Cannot connect")
    said = (await desk.catalyst("status")).out
    assert "the server's disk was not asked for: --monitoring http://127.0.0.1:8222" in said
    assert "does not answer" not in said


async def test_a_consumer_deleted_under_its_service_is_named(desk: Desk) -> None:
    async with all_services(desk):
        assert (await settled(desk)).well
        operator = await desk.bus_of("operator")
        await operator._client.jetstream().delete_consumer("EVENTS", "builder")
        found = await status(await desk.oncall(), utc_now())
        (problem,) = found.problems
        assert problem.startswith("builder on EVENTS: consumer builder is not there")
        assert (await desk.catalyst("status")).code == 1


async def test_services_that_do_not_run_are_named_with_what_waits(desk: Desk) -> None:
    await desk.publish([changed(1)])
    found = await status(await desk.oncall(), utc_now())
    assert "dns-proxy: nobody leads" in found.problems
    waiting = next(each for each in found.problems if each.startswith("notifier on EVENTS"))
    assert waiting == "notifier on EVENTS: nobody pulls, so it does not run or cannot reach the bus; 1 wait"


async def test_a_stream_that_fills_up_is_named_before_it_is_full(desk: Desk) -> None:
    async with all_services(desk):
        assert (await settled(desk)).well
        jetstream = (await desk.bus_of("operator"))._client.jetstream()
        config = (await jetstream.stream_info("SCM")).config
        await jetstream.update_stream(config.evolve(max_bytes=100_000))
        payload = b'{"a":"' + b"x" * 40_000 + b'"}'
        await desk.publish([pull_request(delivery="a", payload=payload)])
        assert (await settled(desk)).well
        await desk.publish([pull_request(delivery="b", payload=payload)])
        found = await status(await desk.oncall(), utc_now())
        (problem,) = [each for each in found.problems if each.startswith("stream")]
        assert problem.startswith("stream SCM: 8")
        assert problem.endswith(
            "of its bytes are taken; full, it refuses what is new; give it more (runbook CatalystStreamFilling)"
        )


def infos(**changes: Mapping[str, Any]) -> dict[str, Any]:
    """The server's answers about a healthy bus, with some of them changed."""
    found: dict[str, Any] = {}
    for config in streams():
        name = config.name or ""
        state = {"messages": 10, "bytes": 1000, "last_ts": "2026-11-23T19:59:00Z"}
        found[name] = {"config": {"max_bytes": config.max_bytes, "discard": "new"}, "state": state}
        for key, value in changes.get(name, {}).items():
            found[name][key] = {**found[name].get(key, {}), **value} if isinstance(value, Mapping) else value
    return found


def consumers(**changes: Any) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for one in CONSUMERS:
        info = {"name": one.name, "num_pending": 0, "num_ack_pending": 0, "num_redelivered": 0, "num_waiting": 1}
        if one.name == "builder":
            info |= changes
        found.setdefault(one.stream, []).append(info)
    return found


LOCKS = {service: Lock(f"{service}-1", NOW - timedelta(seconds=1)) for service in LOCKED}


def problems(*, of_streams: Any = None, of_consumers: Any = None, locks: Any = None) -> tuple[str, ...]:
    return health(of_streams or infos(), of_consumers or consumers(), locks or LOCKS, [], NOW).problems


def test_each_kind_of_illness_has_its_sentence() -> None:
    assert problems() == ()
    full = infos(EVENTS={"state": {"bytes": 7 * 1024**3}})
    assert problems(of_streams=full) == (
        "stream EVENTS: 88% of its bytes are taken; full, it refuses what is new; give it more "
        "(runbook CatalystStreamFilling)",
    )
    dropping = infos(DEAD={"state": {"bytes": 1024**3}, "config": {"discard": "old"}})
    assert problems(of_streams=dropping) == (
        "stream DEAD: 100% of its bytes are taken; full, it drops its oldest; give it more (runbook CatalystBusFull)",
    )
    assert "stream STATE: it is not there" in problems(of_streams={**infos(), "STATE": None})[0]
    headless = infos(SCM={"cluster": {"leader": ""}})
    assert problems(of_streams=headless) == ("stream SCM: it has no leader",)
    behind = infos(SCM={"cluster": {"leader": "nats-0", "replicas": [{"name": "nats-2", "current": False}]}})
    assert problems(of_streams=behind) == ("stream SCM: its copy on nats-2 is behind or away",)
    assert problems(of_consumers=consumers(num_pending=2000)) == ("builder on EVENTS: 2000 messages wait",)
    assert "paused" in problems(of_consumers=consumers(paused=True))[0]
    assert "nobody pulls" in problems(of_consumers=consumers(num_waiting=0))[0]
    assert problems(of_consumers=consumers(num_waiting=0, num_ack_pending=3)) == ()
    assert "all 64 messages" in problems(of_consumers=consumers(num_ack_pending=64))[0]
    late = {**LOCKS, "notifier": Lock("notifier-1", NOW - timedelta(seconds=60))}
    assert problems(locks=late) == ("notifier: nobody leads; notifier-1 was last heard of 60 s ago",)


def test_just_below_a_threshold_nothing_is_said() -> None:
    assert problems(of_streams=infos(EVENTS={"state": {"bytes": int(8 * 1024**3 * 0.69)}})) == ()
    assert problems(of_consumers=consumers(num_pending=1000, num_ack_pending=63)) == ()
    assert problems(of_streams=infos(DECISIONS={"state": {"bytes": 1024**3}})) == ()
