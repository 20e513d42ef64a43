"""Wiring: settings → clients → mirrors → leader → handlers → run. Nothing is decided here.

`replay` and `export` as first argument are another program: replay/command.py.
"""

import asyncio
import secrets
import sys
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

import structlog
from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from catalyst.env_controller.auditing import AuditDoor
from catalyst.env_controller.config import Settings
from catalyst.env_controller.core.world import FIELD_MANAGER
from catalyst.env_controller.effects.audit import Audit
from catalyst.env_controller.effects.cluster import Cluster
from catalyst.env_controller.effects.decisions import Decisions, no_record
from catalyst.env_controller.effects.history import History
from catalyst.env_controller.handlers import Handlers
from catalyst.env_controller.reconcile import Controller
from catalyst.env_controller.replay import command
from catalyst.events.bus import Bus, BusSettings
from catalyst.events.measuring import BusMetrics
from catalyst.events.started import say_started
from catalyst.events.topology import ENV_CONTROLLER_EVENTS, ENV_CONTROLLER_SCM
from catalyst.events.users import inbox_prefix
from catalyst.events.watching import Watch
from catalyst.kube.client import Kube
from catalyst.kube.lease import Elector
from catalyst.kube.settings import KubeSettings
from catalyst.model.clock import Clock, utc_now
from catalyst.model.points import Points, no_points
from catalyst.service.http import serving
from catalyst.service.lifecycle import Lifecycle
from catalyst.service.run import run
from catalyst.service.telemetry import exporting
from catalyst.service.version import code_version

log = structlog.get_logger()

NAME = "env-controller"
LAST_WORDS = 1.0
"""Seconds that recording may take when this replica stops."""


async def main(settings: Settings, life: Lifecycle, *, clock: Clock = utc_now, points: Points = no_points) -> None:
    bus = await Bus.connect(
        BusSettings(url=settings.nats_url, seed_file=settings.nats_seed_file, inbox_prefix=inbox_prefix(NAME)),
        name=NAME,
        clock=clock,
        points=points,
        on_closed=_crash(life, "the connection to NATS is closed for good"),
        spans=exporting(),
    )
    kube = await Kube.connect(
        KubeSettings(kubeconfig=settings.kubeconfig, in_flight=settings.in_flight),
        field_manager=FIELD_MANAGER,
        points=points,
        request_timeout=min(5.0, settings.lease_seconds / 3),
    )
    elector = Elector(
        kube,
        settings.system_namespace,
        NAME,
        f"{settings.identity}-{secrets.token_hex(4)}",
        duration=settings.lease_seconds,
        renew_deadline=settings.lease_seconds * 0.6,
        retry=settings.lease_seconds * 0.15,
        now=clock,
        points=points,
    )
    cluster = Cluster(kube, kube.fenced(elector.fence), settings.platform)
    version = code_version(NAME, settings.built_from)
    decisions = Decisions(bus, version)
    record = decisions.record if settings.record_decisions else no_record
    controller = Controller(cluster, History(bus, clock), clock, record=record)
    controller.subscribe()
    audit = Audit(bus, clock)
    handlers = Handlers(controller, cluster, audit)
    watch = Watch(bus)

    async def lead() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(controller.lead(workers=settings.workers, resync_seconds=settings.resync_seconds))
            await controller.begun.wait()
            for consumer in (ENV_CONTROLLER_SCM, ENV_CONTROLLER_EVENTS):
                group.create_task(bus.consume(consumer, handlers.handle, concurrency=consumer.max_ack_pending))

    life.add_check("nats", lambda: "; ".join(bus.problems()) or None)
    life.add_check("kubernetes", cluster.trouble)
    _measure(controller, elector)
    life.start("measuring", BusMetrics(bus, NAME).run())
    life.start("version", say_started(bus, NAME, version))
    life.start("mirrors", cluster.run())
    if settings.audit_token_file is not None:
        life.start("audit webhook", _listen_to_the_api_server(settings, audit, cluster))
    life.start("decisions", decisions.run())
    life.start("watch", watch.run())
    life.start("state", _say_again(watch, controller))
    candidate = life.start("candidate", elector.run(lead))
    life.ready()
    await life.stopping.wait()
    candidate.cancel()
    with suppress(asyncio.CancelledError):
        await candidate
    await decisions.written(within=LAST_WORDS)
    await bus.drain()
    await life.cancel_tasks()
    await kube.aclose()


async def _say_again(watch: Watch, controller: Controller) -> None:
    while True:
        await watch.state_is_new.wait()
        watch.state_is_new.clear()
        controller.say_all_again()


async def _listen_to_the_api_server(settings: Settings, audit: Audit, cluster: Cluster) -> None:
    """Until cancelled."""
    ours = (settings.system_namespace, settings.edge_namespace)
    door = AuditDoor(audit, cluster, settings.audit_tokens, ours)
    async with serving(
        door.app(),
        host=settings.audit_host,
        port=settings.audit_port,
        certificate=settings.audit_certificate_file,
        key=settings.audit_key_file,
    ) as port:
        log.info("listening to the API server's audit", host=settings.audit_host, port=port)
        await asyncio.Event().wait()


def _crash(life: Lifecycle, reason: str) -> Callable[[], Awaitable[None]]:
    async def closed() -> None:
        life.crash(RuntimeError(reason))

    return closed


def _measure(controller: Controller, elector: Elector) -> None:
    meter = metrics.get_meter("catalyst.env_controller")

    def observe(read: Callable[[], float]) -> list[Callable[[CallbackOptions], Iterable[Observation]]]:
        return [lambda _options: [Observation(read())]]

    meter.create_observable_gauge("catalyst_queue_depth", observe(lambda: controller.queue.depth))
    meter.create_observable_gauge("catalyst_queue_oldest_seconds", observe(lambda: controller.queue.oldest))
    meter.create_observable_gauge("catalyst_queue_failing", observe(lambda: controller.queue.failing))
    meter.create_observable_gauge("catalyst_leading", observe(lambda: int(elector.valid())))


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in command.COMMANDS:
        sys.exit(command.main())
    run(NAME, Settings, main)
