"""What the streams hold in the end, read as the operator."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from catalyst.events.bus import Bus, BusSettings
from catalyst.events.chain import Link, verify
from catalyst.events.errors import Unread
from catalyst.events.topology import AUDIT, CONSUMERS, DEAD, EVENTS, SCM
from catalyst.events.users import OPERATOR, inbox_prefix

ROUTES = "env.*.*.*.route.changed"


@dataclass(frozen=True)
class Streams:
    """`facts`: id → how often it is in SCM. `handled`: ids of pull requests' facts. `audited`: id of a record → how
    often. `states`: `team/project/environment` → last snapshot. `routes`: host → whether it was live when last told of.
    """

    facts: Mapping[str, int]
    handled: frozenset[str]
    audited: Mapping[str, int]
    chains: Sequence[str]
    states: Mapping[str, Mapping[str, Any]]
    routes: Mapping[str, bool]
    dead: Sequence[str]
    waiting: Mapping[str, str]


def read(address: str, home: Path) -> Streams:
    """`address`: of the Service nats. `home`: the cluster's folder."""
    return asyncio.run(_read(address, home))


async def _read(address: str, home: Path) -> Streams:
    settings = BusSettings(
        f"nats://{address}:4222",
        home / "platform" / "nkeys" / f"{OPERATOR}.seed",
        inbox_prefix=inbox_prefix(OPERATOR),
    )
    bus = await Bus.connect(settings, name=OPERATOR, clock=lambda: datetime.now(UTC))
    try:
        return await _streams(bus)
    finally:
        await bus.drain()


@retry(retry=retry_if_exception_type(Unread), stop=stop_after_delay(60), wait=wait_fixed(1), reraise=True)
async def _streams(bus: Bus) -> Streams:
    """Right after three servers began, a consumer may not have chosen who answers for it."""
    facts = [(each.subject, json.loads(each.data)) async for each in bus.replay(SCM, "scm.>")]
    audit = [each async for each in bus.replay(AUDIT, "audit.>")]
    routes = [json.loads(each.data)["data"] async for each in bus.replay(EVENTS, ROUTES)]
    states = [json.loads(each.data)["data"]["snapshot"] async for each in bus.states()]
    dead = [each async for each in bus.replay(DEAD, ">")]
    return Streams(
        facts=Counter(fact["id"] for _, fact in facts),
        handled=frozenset(fact["id"] for subject, fact in facts if subject.split(".")[4] == "pull_request"),
        audited=Counter(json.loads(each.data)["id"] for each in audit),
        chains=[
            str(fault) for fault in verify([Link(each.sequence, each.subject, each.data) for each in audit]).faults
        ],
        states={_name(state): state for state in states},
        routes={route["host"]: route["live"] for route in routes},
        dead=[f"{each.subject}: {each.data.decode(errors='replace')[:600]}" for each in dead],
        waiting=await _waiting(bus),
    )


def _name(snapshot: Mapping[str, Any]) -> str:
    return "{team}/{project}/{environment}".format_map(snapshot["identity"])


async def _waiting(bus: Bus) -> dict[str, str]:
    """Consumers that have something left to do."""
    found = {}
    for consumer in CONSUMERS:
        info = await bus.consumer_info(consumer.stream, consumer.name)
        if info is None:
            found[f"{consumer.stream}/{consumer.name}"] = "there is none"
        elif info["num_pending"] or info["num_ack_pending"]:
            left = f"{info['num_pending']} not handed out, {info['num_ack_pending']} not acknowledged"
            found[f"{consumer.stream}/{consumer.name}"] = left
    return found
