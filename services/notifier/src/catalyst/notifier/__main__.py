"""Wiring: settings → bus, forge → lock → handlers → run. Nothing is decided here."""

import asyncio
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from catalyst.events.bus import Bus, BusSettings
from catalyst.events.locks import Lock
from catalyst.events.measuring import BusMetrics
from catalyst.events.started import say_started
from catalyst.events.topology import CDEVENTS_EVENTS, CDEVENTS_SCM, NOTIFIER_EVENTS, NOTIFIER_SCM
from catalyst.events.users import inbox_prefix
from catalyst.forge.client import GitHubClient
from catalyst.model.clock import Clock, utc_now
from catalyst.model.points import Points, no_points
from catalyst.notifier.config import Settings
from catalyst.notifier.core.comment import Style
from catalyst.notifier.effects import Desk
from catalyst.notifier.handlers import Handlers
from catalyst.notifier.projecting import project
from catalyst.notifier.reconcile import Notifier
from catalyst.service.lifecycle import Lifecycle
from catalyst.service.run import run
from catalyst.service.telemetry import exporting
from catalyst.service.version import code_version

NAME = "notifier"


async def main(settings: Settings, life: Lifecycle, *, clock: Clock = utc_now, points: Points = no_points) -> None:
    """Campaign, lead while nobody else does, and give the lead away when told to stop."""

    async def lost() -> None:
        life.crash(ConnectionError("the connection to NATS is closed for good"))

    bus = await Bus.connect(
        BusSettings(settings.nats_url, settings.nats_seed_file, inbox_prefix=inbox_prefix(NAME)),
        name=NAME,
        clock=clock,
        points=points,
        on_closed=lost,
        spans=exporting(),
    )
    forge = GitHubClient.of(settings, clock=clock)
    lock = Lock(bus, NAME, f"{settings.identity}-{secrets.token_hex(4)}", duration=settings.lock_seconds)
    desks = {"github": Desk(forge, fence=lock.fence, clock=asyncio.get_running_loop().time)}
    notifier = Notifier(desks, bus, style=Style(settings.runbooks_url), now=clock, points=points)
    handlers = Handlers(notifier, desks)

    async def lead() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(notifier.lead(workers=settings.workers, resync_seconds=settings.resync_seconds))
            await notifier.begun.wait()
            for consumer in (NOTIFIER_EVENTS, NOTIFIER_SCM):
                group.create_task(bus.consume(consumer, handlers.handle, concurrency=consumer.max_ack_pending))

    life.add_check("nats", lambda: "; ".join(bus.problems()) or None)
    life.start("measuring", BusMetrics(bus, NAME).run())
    life.start("version", say_started(bus, NAME, code_version(NAME, settings.built_from)))
    _measure(notifier, lock)
    candidate = life.start("candidate", lock.run(lead))
    for consumer in (CDEVENTS_SCM, CDEVENTS_EVENTS):
        life.start(
            f"cdevents-{consumer.stream}",
            bus.consume(consumer, partial(project, bus), concurrency=consumer.max_ack_pending),
        )
    life.ready()
    await life.stopping.wait()
    candidate.cancel()
    with suppress(asyncio.CancelledError):
        await candidate
    await bus.drain()
    await life.cancel_tasks()
    await forge.close()


def _measure(notifier: Notifier, lock: Lock) -> None:
    meter = metrics.get_meter("catalyst.notifier")

    def observe(read: Callable[[], float]) -> list[Callable[[CallbackOptions], Iterable[Observation]]]:
        return [lambda _options: [Observation(read())]]

    meter.create_observable_gauge("catalyst_queue_depth", observe(lambda: notifier.queue.depth))
    meter.create_observable_gauge("catalyst_queue_oldest_seconds", observe(lambda: notifier.queue.oldest))
    meter.create_observable_gauge("catalyst_queue_failing", observe(lambda: notifier.queue.failing))
    meter.create_observable_gauge("catalyst_leading", observe(lambda: int(lock.valid)))


if __name__ == "__main__":
    run(NAME, Settings, main)
