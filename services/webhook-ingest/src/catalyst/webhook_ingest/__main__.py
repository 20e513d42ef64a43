"""webhook-ingest's wiring: settings → bus → handlers → serve."""

import structlog

from catalyst.events.bus import Bus, BusSettings
from catalyst.events.users import inbox_prefix
from catalyst.model.clock import utc_now
from catalyst.model.points import Points, no_points
from catalyst.service import Lifecycle, exporting, run, serving
from catalyst.webhook_ingest.config import Settings
from catalyst.webhook_ingest.handlers import app

NAME = "webhook-ingest"

log = structlog.get_logger()


async def main(settings: Settings, life: Lifecycle, *, points: Points = no_points) -> None:
    """Serve until told to stop; then finish what was accepted before the bus is let go."""

    async def lost() -> None:
        life.crash(ConnectionError("the connection to the bus is closed for good"))

    bus_settings = BusSettings(settings.nats_url, settings.nats_seed_file, inbox_prefix=inbox_prefix(NAME))
    bus = await Bus.connect(bus_settings, name=NAME, clock=utc_now, points=points, on_closed=lost, spans=exporting())
    life.add_check("bus", lambda: "; ".join(bus.problems()) or None)
    try:
        door = app(secrets=settings.secrets(), publisher=bus, clock=utc_now, tracing=exporting())
        async with serving(door, host=settings.http_host, port=settings.http_port, drain_seconds=12) as port:
            log.info("webhooks listening", host=settings.http_host, port=port)
            life.ready()
            await life.stopping.wait()
    finally:
        await bus.drain()


if __name__ == "__main__":
    run(NAME, Settings, main)
