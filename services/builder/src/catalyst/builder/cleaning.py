"""What goes: builds that nobody asks for any more, images that no environment references, namespaces of projects
without environments. Deletion needs evidence: a snapshot that says so. A missing one deletes nothing.
"""

from collections.abc import Iterable

import structlog

from catalyst.builder.answers import Answers
from catalyst.builder.core import job as jobs
from catalyst.builder.core import outcome
from catalyst.builder.core.judgement import Verdict, is_over, judge
from catalyst.builder.core.records import is_referenced
from catalyst.builder.effects.cluster import Cluster
from catalyst.builder.effects.registry import BadImage, Registry, RegistryUnavailable
from catalyst.builder.effects.states import Snapshots, Told
from catalyst.model import labels
from catalyst.model.manifest import Manifest
from catalyst.model.names import build_namespace
from catalyst.model.snapshot import Snapshot

log = structlog.get_logger()


class Cleaning:
    """Every method may be repeated at any time; what is gone already is as good."""

    def __init__(self, cluster: Cluster, registry: Registry, snapshots: Snapshots, answers: Answers) -> None:
        self._cluster = cluster
        self._registry = registry
        self._snapshots = snapshots
        self._answers = answers

    async def outdated(self, found: Iterable[Manifest], told: Told) -> None:
        """Of the Jobs of one environment, end those that its snapshot, told later than they were asked for, does not
        ask for; each is answered `superseded`.
        """
        for each in found:
            if jobs.is_going(each) or jobs.result_of(each) is not None:
                continue
            asked = jobs.asked_of(each)
            verdict = judge(asked.request, asked.at, told.snapshot, told.at)
            if verdict is Verdict.SUPERSEDED and jobs.end_of(each) is not None:
                continue  # it was not cut short: the leader says what came of it
            if verdict is Verdict.SUPERSEDED:
                await self._answers.finished(asked, outcome.superseded(asked.request))
            if verdict in (Verdict.SUPERSEDED, Verdict.OVER):
                await self._cluster.delete_job(each)

    async def environment(self, snapshot: Snapshot) -> list[Manifest]:
        """Delete all Jobs of an environment that goes. Returns those that are still there."""
        left = []
        for name in _namespaces(snapshot.identity.team, snapshot.identity.project):
            if not await self._cluster.has_namespace(name):
                continue
            for each in await self._cluster.jobs_of(name, snapshot.uid):
                left.append(each)
                if not jobs.is_going(each):
                    await self._cluster.delete_job(each)
        return left

    async def images(self, team: str, project: str, *, without: str = "") -> None:
        """Delete what was built for this project and is referenced by no living environment but `without` (a uid),
        which is just going. What the registry cannot do now stays recorded, and is tried again by the sweep.
        """
        told = await self._snapshots.of_project(team, project)
        living = [each for each in told if not is_over(each) and each.uid != without]
        if not told:
            return
        for name in _namespaces(team, project):
            if await self._cluster.has_namespace(name):
                await self._images_of(name, living)

    async def _images_of(self, namespace: str, living: list[Snapshot]) -> None:
        records = await self._cluster.records(namespace)
        kept = {record.digest for _, record in records if is_referenced(record, living)}
        for manifest, record in records:
            if is_referenced(record, living):
                continue
            try:
                if record.digest not in kept:
                    await self._registry.delete(record.repository, record.digest)
            except (RegistryUnavailable, BadImage) as error:
                log.warning("image stays for now", repository=record.repository, digest=record.digest, error=str(error))
                continue
            await self._cluster.delete(manifest)
            log.info("image removed", repository=record.repository, digest=record.digest)

    async def sweep(self) -> None:
        """Everything once: Jobs of environments that went or moved on while nobody listened, images, namespaces."""
        for namespace in await self._cluster.build_namespaces():
            marks = namespace["metadata"].get("labels", {})
            team, project = marks.get(labels.TEAM, ""), marks.get(labels.PROJECT, "")
            told = await self._snapshots.of_project(team, project)
            if not told:
                continue
            for each in self._cluster.jobs.store.within(namespace["metadata"]["name"]):
                last = await self._snapshots.last(jobs.asked_of(each).request.environment.identity)
                if last is not None:
                    await self.outdated([each], last)
            await self.images(team, project)
            name = namespace["metadata"]["name"]
            if all(map(is_over, told)) and not self._cluster.jobs.store.within(name):
                await self._cluster.delete(namespace)
                log.info("build namespace removed", namespace=name, team=team, project=project)


def _namespaces(team: str, project: str) -> tuple[str, str]:
    return build_namespace(team, project, trusted=True), build_namespace(team, project, trusted=False)
