"""webhook-ingest's wiring: settings → bus → handlers → serve."""

import asyncio

import structlog

from catalyst.events.bus import Bus, BusSettings
from catalyst.events.measuring import BusMetrics
from catalyst.events.started import say_started
from catalyst.events.topology import WEBHOOK_INGEST
from catalyst.events.users import inbox_prefix
from catalyst.forge import GitHub
from catalyst.forge.client import GitHubClient
from catalyst.model.clock import utc_now
from catalyst.model.points import Points, no_points
from catalyst.service import Lifecycle, code_version, exporting, run, serving
from catalyst.webhook_ingest.config import Settings
from catalyst.webhook_ingest.handlers import app
from catalyst.webhook_ingest.obeying import CONCURRENCY, Commands
from catalyst.webhook_ingest.sweep import Sweep

NAME = "webhook-ingest"

log = structlog.get_logger()


async def main(settings: Settings, life: Lifecycle, *, points: Points = no_points) -> None:
    """Serve until told to stop; then finish what was accepted before the bus is let go."""

    async def lost() -> None:
        life.crash(ConnectionError("the connection to the bus is closed for good"))

    bus_settings = BusSettings(settings.nats_url, settings.nats_seed_file, inbox_prefix=inbox_prefix(NAME))
    bus = await Bus.connect(bus_settings, name=NAME, clock=utc_now, points=points, on_closed=lost, spans=exporting())
    life.start("measuring", BusMetrics(bus, NAME).run())
    life.start("version", say_started(bus, NAME, code_version(NAME, settings.built_from)))
    life.add_check("bus", lambda: "; ".join(bus.problems()) or None)
    forge = GitHubClient.of(settings, clock=utc_now) if settings.has_forge else None
    asking = asking_the_forge(settings, forge, bus, life) if forge else []
    try:
        door = app(secrets=settings.secrets(), publisher=bus, clock=utc_now, tracing=exporting())
        if forge is None:
            log.warning("no sign-in at a forge: commands are not obeyed, lost webhooks are not found")
        async with serving(door, host=settings.http_host, port=settings.http_port, drain_seconds=12) as port:
            log.info("webhooks listening", host=settings.http_host, port=port)
            life.ready()
            await life.stopping.wait()
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await bus.drain()
        if forge is not None:
            await forge.close()


def asking_the_forge(settings: Settings, forge: GitHubClient, bus: Bus, life: Lifecycle) -> list[asyncio.Task[None]]:
    """Obey commands, and look for lost webhooks."""
    commands = Commands(forge, bus, utc_now)
    sweep = Sweep(GitHub(), forge, bus, utc_now, settings.sweep_repositories)
    return [
        life.start("commands", bus.consume(WEBHOOK_INGEST, commands.handle, concurrency=CONCURRENCY)),
        life.start("sweep", sweep.run(settings.sweep_seconds)),
    ]


if __name__ == "__main__":
    run(NAME, Settings, main)
