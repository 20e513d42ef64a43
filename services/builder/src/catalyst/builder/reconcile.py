"""The leader's work: let waiting Jobs go when it is their turn, and say what came of those that ended.

    JobKey      a Job that ended and was not answered: read its pod, ask the registry, record, publish
    Turn        whose turn it is: start as many as there is room for
    Sweep       everything again, on a timer

Every change of a Job only adds keys; a key that fails is tried again with backoff.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import structlog
from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from catalyst.builder.answers import Answers
from catalyst.builder.cleaning import Cleaning
from catalyst.builder.core import job as jobs
from catalyst.builder.core import outcome
from catalyst.builder.core.build import Build, Refusal, build_of
from catalyst.builder.core.executor import (
    CONFIG_KEY,
    PUSH_SECRET,
    READ_SECRET,
    TOKEN_KEY,
    Broken,
    Built,
    Executor,
    Unchanged,
)
from catalyst.builder.core.job import Asked
from catalyst.builder.core.platform import Platform
from catalyst.builder.core.queue import Waiting, admitted
from catalyst.builder.core.records import Record, with_fingerprint
from catalyst.builder.effects.cluster import Cluster
from catalyst.builder.effects.credentials import PushCredentials
from catalyst.builder.effects.registry import BadImage, Registry
from catalyst.builder.effects.sources import ReadTokens
from catalyst.events.catalogue import BuildFinished
from catalyst.events.errors import Retry
from catalyst.kube.errors import Conflict, NotFound
from catalyst.kube.queue import BULK, NORMAL, Queue
from catalyst.model import labels
from catalyst.model.logs import tail
from catalyst.model.manifest import Manifest

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class JobKey:
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Turn:
    pass


@dataclass(frozen=True, slots=True)
class Sweep:
    pass


Key = JobKey | Turn | Sweep


class Builds:
    """Works while this replica leads."""

    def __init__(
        self,
        cluster: Cluster,
        registry: Registry,
        answers: Answers,
        cleaning: Cleaning,
        read_tokens: ReadTokens,
        push_credentials: PushCredentials,
        executor: Executor,
        platform: Platform,
    ) -> None:
        self._cluster = cluster
        self._registry = registry
        self._answers = answers
        self._cleaning = cleaning
        self._read_tokens = read_tokens
        self._push_credentials = push_credentials
        self._executor = executor
        self._platform = platform
        self._leading = False
        self.queue: Queue[Key] = Queue(on_error=_report)
        cluster.jobs.on_change(self._changed)
        _measure(self)

    @property
    def waiting(self) -> list[Waiting]:
        """The queue, in no order."""
        return [_waiting(found) for found in self._cluster.jobs.store if jobs.is_waiting(found)]

    @property
    def running(self) -> list[str]:
        """The project of each build under way."""
        return [_project(found) for found in self._cluster.jobs.store if jobs.is_running(found)]

    # Triggers

    async def lead(self, *, workers: int, resync_seconds: float) -> None:
        """Until cancelled: everything once, then what changes, and everything again every `resync_seconds`."""
        await self._cluster.jobs.synced.wait()
        self._leading = True
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.queue.run(self._work, workers))
                group.create_task(self._resync(resync_seconds))
        finally:
            self._leading = False

    def _changed(self, old: Manifest | None, new: Manifest | None) -> None:
        if not self._leading:
            return
        if new is not None and _is_unanswered(new):
            self.queue.add(_key(new))
        if old is None or new is None or jobs.is_running(old) != jobs.is_running(new):
            self.queue.add(Turn())

    async def _resync(self, seconds: float) -> None:
        while True:
            for found in self._cluster.jobs.store:
                if _is_unanswered(found):
                    self.queue.add(_key(found), priority=NORMAL)
            self.queue.add(Turn())
            self.queue.add(Sweep(), priority=BULK)
            await asyncio.sleep(seconds)

    async def _work(self, key: Key) -> None:
        try:
            match key:
                case JobKey():
                    await self._settle(key)
                case Turn():
                    await self._admit()
                case Sweep():
                    await self._cleaning.sweep()
        except Retry as error:
            after = error.after.total_seconds() if error.after else None
            log.info("later", key=str(key), reason=error.reason, after=after)
            if after is None:
                raise
            self.queue.add(key, after=after)

    # Whose turn it is

    async def _admit(self) -> None:
        """Starts one after the other. One that cannot start now does not hold up the others."""
        later: Retry | None = None
        for entry in admitted(self.waiting, self.running, self._platform.limits):
            found = self._cluster.jobs.store.get(entry.namespace, entry.job)
            if found is None or not jobs.is_waiting(found):
                continue
            try:
                await self._start(found)
            except Retry as error:
                later = error
            except (Conflict, NotFound):
                later = Retry("a Job changed meanwhile", timedelta(milliseconds=200))
        if later is not None:
            raise later

    async def _start(self, found: Manifest) -> None:
        asked = jobs.asked_of(found)
        build = build_of(asked.request, self._platform, deployment=asked.deployment)
        if isinstance(build, Refusal):  # a setting of the platform has changed since it was queued
            await self._give_up(found, asked, build)
            return
        token = await self._read_tokens.token(build.source)
        if isinstance(token, Refusal):
            await self._give_up(found, asked, token)
            return
        config = self._push_credentials.config(build, found["metadata"]["uid"])
        await self._cluster.start(found, {READ_SECRET: {TOKEN_KEY: token}, PUSH_SECRET: {CONFIG_KEY: config}})
        log.info("build started", environment=str(build.identity), component=build.component, job=build.job)

    async def _give_up(self, found: Manifest, asked: Asked, refusal: Refusal) -> None:
        """It never started: answered, and gone, so that the same question may be asked again."""
        await self._answers.finished(asked, outcome.failed(asked.request, refusal))
        await self._cluster.delete_job(found)

    # What came of it

    async def _settle(self, key: JobKey) -> None:
        found = self._cluster.jobs.store.get(key.namespace, key.name)
        if found is None or not _is_unanswered(found):
            return
        asked = jobs.asked_of(found)
        result = await self._result(found, asked)
        await self._answers.finished(asked, result, times=jobs.times_of(found))
        await self._cluster.close(found, result)

    async def _result(self, found: Manifest, asked: Asked) -> BuildFinished:
        end = jobs.end_of(found)
        seconds = end.seconds if end else 0.0
        build = build_of(asked.request, self._platform, deployment=asked.deployment)
        if isinstance(build, Refusal):
            return outcome.failed(asked.request, build, seconds)
        pod = await self._cluster.pod_of(found)
        if pod is None:
            return outcome.failed(asked.request, outcome.without_pod(end or jobs.End(False, "", "", 0.0)), seconds)
        match self._executor.outcome(pod):
            case Broken() as broken:
                return await self._failed(asked, pod, broken, seconds)
            case Unchanged(fingerprint):
                earlier = with_fingerprint(await self._cluster.records(build.namespace), build, fingerprint)
                digest = earlier.digest if earlier else None
            case Built(digest, fingerprint):
                pass
        return await self._succeeded(asked, build, digest, fingerprint, seconds)

    async def _succeeded(
        self, asked: Asked, build: Build, digest: str | None, fingerprint: str | None, seconds: float
    ) -> BuildFinished:
        """What the pod says is a hint: the image is believed when the registry shows it, in the build's own place."""
        try:
            image = await self._registry.image(build.repository, digest) if digest else None
        except BadImage as error:
            broken = Broken("ImageInvalid", f"the registry holds no usable image: {error}. Build it again.")
            return outcome.failed(asked.request, broken, seconds)
        if image is None or digest is None:
            broken = Broken("ImageMissing", "the build ended, but its image is not in the registry. Build it again.")
            return outcome.failed(asked.request, broken, seconds)
        record = Record(
            component=build.component,
            key=build.key,
            repository=build.repository,
            digest=digest,
            ports=image.ports,
            user=image.user,
            fingerprint=fingerprint,
            deployment=build.deployment,
        )
        await self._cluster.record(record, build)
        return outcome.succeeded(asked.request, record, self._platform.registry, seconds)

    async def _failed(self, asked: Asked, pod: Manifest, broken: Broken, seconds: float) -> BuildFinished:
        log_text = await self._cluster.log(pod, broken.container) if broken.container else ""
        return outcome.failed(asked.request, self._executor.explained(broken, log_text), seconds, tail(log_text))


def _is_unanswered(found: Manifest) -> bool:
    return jobs.end_of(found) is not None and not jobs.is_going(found) and jobs.result_of(found) is None


def _key(found: Manifest) -> JobKey:
    return JobKey(found["metadata"]["namespace"], found["metadata"]["name"])


def _project(found: Manifest) -> str:
    marks = found["metadata"]["labels"]
    return f"{marks[labels.TEAM]}/{marks[labels.PROJECT]}"


def _waiting(found: Manifest) -> Waiting:
    metadata = found["metadata"]
    return Waiting(metadata.get("creationTimestamp", ""), metadata["namespace"], metadata["name"], _project(found))


def _report(key: Key, error: Exception, delay: float) -> None:
    log.warning("failed, tried again", key=str(key), error=str(error), delay=delay, exc_info=error)


def _measure(builds: Builds) -> None:
    meter = metrics.get_meter("catalyst.builder")

    def waiting(_options: CallbackOptions) -> list[Observation]:
        return [Observation(len(builds.waiting))]

    def running(_options: CallbackOptions) -> list[Observation]:
        return [Observation(len(builds.running))]

    meter.create_observable_gauge("catalyst_builds_waiting", [waiting], description="Jobs whose turn has not come")
    meter.create_observable_gauge("catalyst_builds_running", [running], description="Jobs under way")
