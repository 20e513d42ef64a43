"""Wiring: settings → clients → mirror → handlers, leader, realm → run. Nothing is decided here."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress

import httpx
import structlog

from catalyst.builder.answers import Answers
from catalyst.builder.cleaning import Cleaning
from catalyst.builder.config import Settings
from catalyst.builder.core.job import FIELD_MANAGER
from catalyst.builder.core.kaniko import Kaniko
from catalyst.builder.effects.cluster import Cluster
from catalyst.builder.effects.credentials import GivenCredentials, PushCredentials, RealmCredentials
from catalyst.builder.effects.registry import GivenCredential, OwnTokens, Registry
from catalyst.builder.effects.sources import Fingerprints, ReadTokens
from catalyst.builder.effects.states import States
from catalyst.builder.handlers import Handlers
from catalyst.builder.realm import LiveDirectory, Realm, app
from catalyst.builder.reconcile import Builds
from catalyst.events.bus import Bus, BusSettings
from catalyst.events.measuring import BusMetrics
from catalyst.events.started import say_started
from catalyst.events.topology import BUILDER
from catalyst.events.users import inbox_prefix
from catalyst.forge.client import GitHubClient
from catalyst.kube.client import Kube
from catalyst.kube.lease import Elector
from catalyst.kube.settings import KubeSettings
from catalyst.model.clock import Clock, utc_now
from catalyst.model.points import Points, no_points
from catalyst.service import Lifecycle, code_version, exporting, run, serving

NAME = "builder"

log = structlog.get_logger()


async def main(settings: Settings, life: Lifecycle, *, clock: Clock = utc_now, points: Points = no_points) -> None:
    """Serve until told to stop; the Jobs go on by themselves."""
    async with AsyncExitStack() as stack:
        await _serve(settings, life, stack, clock, points)


async def _serve(settings: Settings, life: Lifecycle, stack: AsyncExitStack, clock: Clock, points: Points) -> None:
    platform = settings.platform
    bus = await Bus.connect(
        BusSettings(url=settings.nats_url, seed_file=settings.nats_seed_file, inbox_prefix=inbox_prefix(NAME)),
        name=NAME,
        clock=clock,
        points=points,
        on_closed=_crash(life, "the connection to NATS is closed for good"),
        spans=exporting(),
    )
    kube = await stack.enter_async_context(
        await Kube.connect(
            KubeSettings(kubeconfig=settings.kubeconfig, in_flight=settings.in_flight),
            field_manager=FIELD_MANAGER,
            points=points,
            request_timeout=min(5.0, settings.lease_seconds / 3),
        )
    )
    client = await stack.enter_async_context(httpx.AsyncClient(timeout=10))
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
    cluster, states, answers, executor = Cluster(kube, platform), States(bus), Answers(bus, clock), Kaniko()
    registry = _registry(settings, client, clock)
    forge = await stack.enter_async_context(GitHubClient.of(settings, clock=clock)) if settings.has_forge else None
    leading = cluster.fenced(kube.fenced(elector.fence))
    handlers = Handlers(
        cluster,
        registry,
        states,
        answers,
        Cleaning(cluster, registry, states, answers),
        Fingerprints(forge),
        executor,
        platform,
    )
    builds = Builds(
        leading,
        registry,
        answers,
        Cleaning(leading, registry, states, answers),
        ReadTokens(forge),
        _push_credentials(settings, clock),
        executor,
        platform,
    )

    async def lead() -> None:
        await builds.lead(workers=settings.workers, resync_seconds=settings.resync_seconds)

    life.add_check("nats", lambda: "; ".join(bus.problems()) or None)
    life.add_check("kubernetes", cluster.trouble)
    life.start("measuring", BusMetrics(bus, NAME).run())
    life.start("version", say_started(bus, NAME, code_version(NAME, settings.built_from)))
    life.start("mirror", cluster.jobs.run())
    if settings.realm_key_file is not None:
        signer = settings.signer()
        realm = Realm(signer, LiveDirectory(signer, cluster, states, clock), clock, public=settings.public_repositories)
        port = await stack.enter_async_context(serving(app(realm), host=settings.realm_host, port=settings.realm_port))
        log.info("realm listening", host=settings.realm_host, port=port)
    life.start("consumer", bus.consume(BUILDER, handlers.handle, concurrency=BUILDER.max_ack_pending))
    candidate = life.start("candidate", elector.run(lead))
    life.ready()
    await life.stopping.wait()
    candidate.cancel()
    with suppress(asyncio.CancelledError):
        await candidate
    await bus.drain()
    await life.cancel_tasks()


def _registry(settings: Settings, client: httpx.AsyncClient, clock: Clock) -> Registry:
    if settings.realm_key_file is not None:
        return Registry(client, settings.registry_url, OwnTokens(settings.signer(), clock))
    return Registry(client, settings.registry_url, GivenCredential(client, *settings.given_credential()))


def _push_credentials(settings: Settings, clock: Clock) -> PushCredentials:
    if settings.realm_key_file is not None:
        return RealmCredentials(settings.signer(), settings.platform, clock)
    return GivenCredentials(settings.platform, *settings.given_credential())


def _crash(life: Lifecycle, reason: str) -> Callable[[], Awaitable[None]]:
    async def closed() -> None:
        life.crash(RuntimeError(reason))

    return closed


if __name__ == "__main__":
    run(NAME, Settings, main)
