"""dns-proxy on stage: a real NATS, real edges, env-controller's voice and the operator's ears."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from edges import until

from catalyst.dns_proxy import __main__ as dns_proxy
from catalyst.dns_proxy.config import Settings
from catalyst.events.bus import Bus, BusSettings
from catalyst.events.catalogue import RouteChanged
from catalyst.events.event import environment_changed
from catalyst.events.topology import EVENTS
from catalyst.events.users import inbox_prefix
from catalyst.local.edge import LocalEdge
from catalyst.local.nats import Nats
from catalyst.model.clock import utc_now
from catalyst.model.snapshot import Snapshot
from catalyst.service.lifecycle import Lifecycle


@dataclass
class Scene:
    """The world around dns-proxy: env-controller's voice, and the operator's ears."""

    nats: Nats
    controller: Bus
    operator: Bus
    edge: LocalEdge
    pages_port: int
    versions: "itertools.count[int]"

    async def say(self, of: Snapshot, *, again: int = 0) -> None:
        """env-controller publishes a snapshot."""
        version = of.resource_version if again else str(next(self.versions))
        now = of.model_copy(update={"resource_version": version})
        await self.controller.publish(environment_changed(now, time=utc_now(), again=again))

    async def told(self) -> list[tuple[str, bool, str | None]]:
        """(host, live, reason) of every `route.changed` so far."""
        found = []
        async for stored in self.operator.replay(EVENTS, "env.*.*.*.route.changed"):
            data = stored.event().data
            assert isinstance(data, RouteChanged)
            found.append((data.host, data.live, data.reason))
        return found

    async def tells(self, *wanted: tuple[str, bool], within: float = 10.0) -> None:
        """Waits until exactly this was told."""

        async def so() -> bool:
            return [(host, live) for host, live, _ in await self.told()] == list(wanted)

        try:
            await until(so, within)
        except AssertionError as error:
            raise AssertionError(f"wanted {wanted}, told {await self.told()}") from error

    def settings(self, **more: Any) -> Settings:
        edge, nats = self.edge, self.nats
        given = {name.removeprefix("CATALYST_").lower(): value for name, value in edge.settings.items()}
        return Settings.model_validate(
            {
                **given,
                "nats_url": nats.url,
                "nats_seed_file": nats.seed("dns-proxy"),
                "service_address": "127.0.0.1",
                "pages_address": f"127.0.0.1:{self.pages_port}",
                "http_host": "127.0.0.1",
                "http_port": self.pages_port,
                "look_seconds": 0.2,
                "lease_seconds": 1.5,
                "identity": "one",
                **more,
            }
        )

    @asynccontextmanager
    async def serving(self, **settings: Any) -> AsyncIterator[Lifecycle]:
        """dns-proxy in this process, stopped in order at the end."""
        life = Lifecycle()
        main = asyncio.create_task(dns_proxy.main(self.settings(**settings), life))
        await until(lambda: main.done() or life.readiness()["process"] is None)
        try:
            yield life
        finally:
            life.stop()
            await main


@asynccontextmanager
async def playing(nats: Nats, edge: LocalEdge, pages_port: int) -> AsyncIterator[Scene]:
    """The scene on this NATS, which has its topology."""
    async with AsyncExitStack() as stack:

        async def bus(user: str) -> Bus:
            settings = BusSettings(nats.url, nats.seed(user), inbox_prefix(user))
            made = await Bus.connect(settings, name=user, clock=utc_now)
            stack.push_async_callback(made.drain)
            return made

        yield Scene(nats, await bus("env-controller"), await bus("operator"), edge, pages_port, itertools.count(1))
