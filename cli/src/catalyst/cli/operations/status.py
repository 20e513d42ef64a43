"""How the bus and the services on it are."""

import asyncio
from datetime import datetime

import orjson

from catalyst.cli.core.health import Health, Lock, health
from catalyst.cli.operations.monitoring import healthz
from catalyst.events.bus import Bus
from catalyst.events.dead import dead
from catalyst.events.started import last_started
from catalyst.events.subjects import lock_subject
from catalyst.events.topology import DEAD, LOCKS, SERVICES, streams
from catalyst.events.users import LOCKED


async def status(bus: Bus, now: datetime, monitoring: str | None = None) -> Health:
    """By what the bus knows now: streams, consumers, locks, versions, dead letters. `monitoring`: the server's own
    page, which alone tells of a full disk. Raises `BusError`.
    """
    names = [config.name or "" for config in streams()]
    infos = dict(zip(names, await asyncio.gather(*map(bus.stream_info, names)), strict=True))
    there = [name for name in names if infos[name] is not None]
    found = dict(zip(there, await asyncio.gather(*map(bus.consumer_infos, there)), strict=True))
    locks = {service: await _lock(bus, service) for service in LOCKED} if infos[LOCKS] else {}
    versions = {service: await last_started(bus, service) for service in SERVICES} if infos[LOCKS] else {}
    page = await healthz(monitoring) if monitoring else None
    entries = [stored async for stored in bus.messages(DEAD, ">")] if infos[DEAD] else []
    return health(infos, found, locks, dead(entries), now, versions, page)


async def _lock(bus: Bus, service: str) -> Lock | None:
    stored = await bus.last(LOCKS, lock_subject(service))
    if stored is None:
        return None
    try:
        return Lock(str(orjson.loads(stored.data)["holder"]), stored.time)
    except (ValueError, KeyError, TypeError):
        return None
