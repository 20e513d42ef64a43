"""Wiring: settings → clients → mirror → lock → reconciler → run. Nothing is decided here."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

import structlog
from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from catalyst.dns_proxy.config import Settings
from catalyst.dns_proxy.effects.cloudflare import CloudflareNames, client
from catalyst.dns_proxy.effects.edge import CaddyEdges
from catalyst.dns_proxy.effects.names import NoNames, PublicNames
from catalyst.dns_proxy.effects.pages import Pages, pages_app
from catalyst.dns_proxy.handlers import Handlers
from catalyst.dns_proxy.mirror import Mirror
from catalyst.dns_proxy.reconcile import Reconciler
from catalyst.events.bus import Bus, BusSettings
from catalyst.events.errors import BusError
from catalyst.events.locks import Lock
from catalyst.events.measuring import BusMetrics
from catalyst.events.started import say_started
from catalyst.events.topology import DNS_PROXY
from catalyst.events.users import inbox_prefix
from catalyst.model.clock import Clock, utc_now
from catalyst.model.points import Points, no_points
from catalyst.service.http import serving
from catalyst.service.lifecycle import Lifecycle
from catalyst.service.run import run
from catalyst.service.telemetry import exporting
from catalyst.service.version import code_version

NAME = "dns-proxy"

log = structlog.get_logger()


async def main(settings: Settings, life: Lifecycle, *, clock: Clock = utc_now, points: Points = no_points) -> None:
    bus = await Bus.connect(
        BusSettings(url=settings.nats_url, seed_file=settings.nats_seed_file, inbox_prefix=inbox_prefix(NAME)),
        name=NAME,
        clock=clock,
        points=points,
        on_closed=_crash(life, "the connection to NATS is closed for good"),
        spans=exporting(),
    )
    mirror = Mirror(bus)
    lock = Lock(bus, NAME, f"{settings.identity}-{secrets.token_hex(4)}", duration=settings.lease_seconds)
    edges = CaddyEdges(settings.edges)
    reconciler = Reconciler(mirror, edges, _names(settings), bus, lock, settings.layout, clock)
    handlers = Handlers(mirror, reconciler)

    async def lead() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(
                reconciler.lead(look_seconds=settings.look_seconds, resync_seconds=settings.resync_seconds)
            )
            group.create_task(bus.consume(DNS_PROXY, handlers.handle, concurrency=DNS_PROXY.max_ack_pending))

    life.add_check("nats", lambda: "; ".join(bus.problems()) or None)
    life.add_check("state", lambda: None if mirror.loaded else "STATE was not read yet")
    life.start("measuring", BusMetrics(bus, NAME).run())
    life.start("version", say_started(bus, NAME, code_version(NAME, settings.built_from)))
    _measure(reconciler, lock, mirror)
    pages = Pages(mirror, settings.layout)
    async with serving(pages_app(pages.page), host=settings.http_host, port=settings.http_port) as port:
        log.info("pages listening", host=settings.http_host, port=port)
        life.start("mirror", _follow(mirror, settings.look_seconds))
        candidate = life.start("candidate", lock.run(lead))
        life.ready()
        await life.stopping.wait()
        candidate.cancel()
        with suppress(asyncio.CancelledError):
            await candidate
    await bus.drain()
    await life.cancel_tasks()
    await edges.aclose()


async def _follow(mirror: Mirror, seconds: float) -> None:
    """Every replica knows the state, for the friendly pages it serves."""
    while True:
        try:
            await mirror.refresh()
        except BusError as exc:
            log.warning("state not read", reason=exc.reason)
        await asyncio.sleep(seconds)


def _names(settings: Settings) -> PublicNames:
    token = settings.cloudflare_token()
    return NoNames() if token is None else CloudflareNames(client(settings.cloudflare_url, token), settings.tunnel)


def _crash(life: Lifecycle, reason: str) -> Callable[[], Awaitable[None]]:
    async def closed() -> None:
        life.crash(RuntimeError(reason))

    return closed


def _measure(reconciler: Reconciler, lock: Lock, mirror: Mirror) -> None:
    meter = metrics.get_meter("catalyst.dns_proxy")

    def observe(read: Callable[[], float]) -> list[Callable[[CallbackOptions], Iterable[Observation]]]:
        return [lambda _options: [Observation(read())]]

    meter.create_observable_gauge("catalyst_leading", observe(lambda: int(lock.valid)))
    meter.create_observable_gauge("catalyst_dns_proxy_problems", observe(lambda: len(reconciler.problems)))
    meter.create_observable_gauge("catalyst_environments_known", observe(lambda: len(mirror.snapshots())))


if __name__ == "__main__":
    run(NAME, Settings, main)
