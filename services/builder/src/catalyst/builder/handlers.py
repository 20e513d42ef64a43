"""Events in: builds that are wanted, and environments that move on or go.

Any replica may handle any event: it writes into the cluster (a suspended Job is the queue's entry) and acknowledges.
No message is held while a build runs; the leader's watch publishes what came of it.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Final

import structlog

from catalyst.builder.answers import Answers
from catalyst.builder.cleaning import Cleaning
from catalyst.builder.core import job as jobs
from catalyst.builder.core import outcome
from catalyst.builder.core.build import Build, Refusal, build_of
from catalyst.builder.core.executor import Executor
from catalyst.builder.core.job import Asked
from catalyst.builder.core.judgement import Verdict, is_over, judge
from catalyst.builder.core.platform import Platform
from catalyst.builder.core.records import Record, known, with_fingerprint
from catalyst.builder.effects.cluster import Cluster, ForeignNamespace
from catalyst.builder.effects.registry import BadImage, Registry, RegistryUnavailable
from catalyst.builder.effects.sources import Fingerprints
from catalyst.builder.effects.states import Snapshots, Told
from catalyst.events.bus import Received
from catalyst.events.catalogue import BuildRequested, Data, EnvironmentChanged
from catalyst.events.errors import BusError, Reject, Retry
from catalyst.kube.errors import Invalid, KubeError
from catalyst.model.environment import Phase
from catalyst.model.manifest import Manifest

log = structlog.get_logger()

GOING_PATIENCE: Final = 6.0
"""Seconds a handler waits for the last pod of an environment's builds, before it is asked again."""
_AGAIN = re.compile(r"/again-([0-9]+)\Z")


class Handlers:
    """One method a type of event; `HANDLERS` says which."""

    def __init__(
        self,
        cluster: Cluster,
        registry: Registry,
        snapshots: Snapshots,
        answers: Answers,
        cleaning: Cleaning,
        fingerprints: Fingerprints,
        executor: Executor,
        platform: Platform,
    ) -> None:
        self._cluster = cluster
        self._registry = registry
        self._snapshots = snapshots
        self._answers = answers
        self._cleaning = cleaning
        self._fingerprints = fingerprints
        self._executor = executor
        self._platform = platform

    async def handle(self, received: Received) -> None:
        """Raises Reject for a type nobody handles, Retry while it cannot be done now."""
        handler = HANDLERS.get(type(received.event.data))
        if handler is None:
            raise Reject(f"type {received.event.type}: builder handles {', '.join(t.TYPE for t in HANDLERS)}")
        try:
            await handler(self, received)
        except (KubeError, BusError, RegistryUnavailable) as error:
            raise Retry(str(error)) from error

    # A build is wanted

    async def build_requested(self, received: Received) -> None:
        request = received.event.data
        if not isinstance(request, BuildRequested):
            raise Reject(f"{received.event.type}: expected BuildRequested")
        told = await self._snapshots.last(request.environment.identity)
        verdict = judge(request, received.event.time, told.snapshot if told else None, told.at if told else None)
        if told is None or verdict is Verdict.WAIT:
            raise Retry("the environment has not said yet that it asks for this", timedelta(seconds=received.delivered))
        if verdict is Verdict.OVER:
            log.info("request of an environment that is over", environment=str(request.environment.identity))
            return
        asked = Asked.of(received.event, request, deployment=told.snapshot.type == "Deployment")
        if verdict is Verdict.SUPERSEDED:
            await self._answers.finished(asked, outcome.superseded(request))
            return
        build = build_of(request, self._platform, deployment=asked.deployment)
        if isinstance(build, Refusal):
            await self._answers.finished(asked, outcome.failed(request, build), again=_again(received))
            return
        try:
            await self._ensure(build, asked, told, again=_again(received))
        except Invalid as error:
            refusal = Refusal("ClusterRefused", f"the cluster refuses the build: {error.message[:600]}")
            log.warning("cluster refuses a build", job=build.job, error=str(error))
            await self._answers.finished(asked, outcome.failed(request, refusal), again=_again(received))

    async def _ensure(self, build: Build, asked: Asked, told: Told, *, again: int) -> None:
        """The Job is there, or the answer is given; and no older Job of this component runs."""
        try:
            await self._cluster.prepare(build)
        except ForeignNamespace as error:
            refusal = Refusal(
                "NamespaceTaken", f"the namespace {error} is somebody else's. The platform's people look."
            )
            await self._answers.finished(asked, outcome.failed(asked.request, refusal), again=again)
            return
        await self._cleaning.outdated(await self._cluster.jobs_of(build.namespace, build.uid), told)
        found = await self._cluster.job(build.namespace, build.job)
        if found is not None:
            result = jobs.result_of(found)
            if result is not None and result.outcome != "succeeded":
                await self._answers.finished(asked, result, again=again)
            if result is None or result.outcome != "succeeded":
                return
        records = await self._cluster.records(build.namespace)
        record = next((r for _, r in records if r.key == build.key and r.component == build.component), None)
        if record is not None and record.deployment == build.deployment and await self._is_there(record):
            await self._answers.finished(
                asked, outcome.succeeded(asked.request, record, self._platform.registry, 0.0), again=again
            )
            return
        if found is not None:  # its image is gone from the registry: build it anew, under the same name
            await self._cluster.delete_job(found)
            raise Retry("the image is gone and its Job is being removed", timedelta(seconds=1))
        standing = await self._standing(records, build)
        if (earlier := await self._unchanged(standing, build)) is not None:
            await self._cluster.record(earlier, build)
            answer = outcome.succeeded(asked.request, earlier, self._platform.registry, 0.0)
            await self._answers.finished(asked, answer, again=again)
            log.info("nothing to build", environment=str(build.identity), component=build.component)
            return
        await self._cluster.create_job(jobs.job(build, asked, self._executor, self._platform, known(standing, build)))
        log.info("build queued", environment=str(build.identity), component=build.component, job=build.job)

    async def _standing(self, records: list[tuple[Manifest, Record]], build: Build) -> list[tuple[Manifest, Record]]:
        """Those of this component whose image is still there."""
        there: dict[str, bool] = {}
        for _, record in records:
            if record.component == build.component and record.fingerprint and record.digest not in there:
                there[record.digest] = await self._is_there(record)
        return [pair for pair in records if there.get(pair[1].digest)]

    async def _unchanged(self, standing: list[tuple[Manifest, Record]], build: Build) -> Record | None:
        """What to record for this build when nothing it is built from has changed since some image was."""
        fingerprint = await self._fingerprints.of(build) if known(standing, build) else None
        earlier = with_fingerprint(standing, build, fingerprint) if fingerprint else None
        return earlier.model_copy(update={"key": build.key}) if earlier else None

    async def _is_there(self, record: Record) -> bool:
        try:
            return await self._registry.image(record.repository, record.digest) is not None
        except BadImage as error:
            log.warning("recorded image is damaged", repository=record.repository, error=str(error))
            return False

    # An environment moved on

    async def environment_changed(self, received: Received) -> None:
        data = received.event.data
        if not isinstance(data, EnvironmentChanged):
            raise Reject(f"{received.event.type}: expected EnvironmentChanged")
        snapshot = data.snapshot
        if not is_over(snapshot):
            own = [found for found in self._cluster.jobs.store if _is_of(found, snapshot.uid)]
            await self._cleaning.outdated(own, Told(snapshot, received.event.time))
            return
        await self._remove(received, data)

    async def _remove(self, received: Received, data: EnvironmentChanged) -> None:
        snapshot = data.snapshot
        ends = asyncio.get_running_loop().time() + GOING_PATIENCE
        while await self._cleaning.environment(snapshot):
            if asyncio.get_running_loop().time() > ends:
                raise Retry("pods of its builds are still going", timedelta(seconds=1))
            await asyncio.sleep(0.2)
        await self._cleaning.images(snapshot.identity.team, snapshot.identity.project, without=snapshot.uid)
        if snapshot.phase == Phase.TERMINATING:
            await self._answers.cleaned(snapshot, received.event)


def _is_of(found: Mapping[str, object], uid: str) -> bool:
    metadata = found["metadata"]
    return isinstance(metadata, dict) and metadata.get("labels", {}).get("catalyst.dev/environment-uid") == uid


def _again(received: Received) -> int:
    """How often the question had been repeated when this one was asked."""
    match = _AGAIN.search(received.event.id)
    return int(match[1]) if match else 0


HANDLERS: Mapping[type[Data], Callable[[Handlers, Received], Awaitable[None]]] = {
    BuildRequested: Handlers.build_requested,
    EnvironmentChanged: Handlers.environment_changed,
}
