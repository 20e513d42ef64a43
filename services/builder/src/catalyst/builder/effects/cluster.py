"""Kubernetes, seen and changed: build namespaces, Jobs and what they end with, records, short-lived Secrets.

Secrets are written and deleted, never read: what is needed later (their uids) stands on the Job.
"""

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta

from catalyst.builder.core import job as jobs
from catalyst.builder.core import namespace as namespaces
from catalyst.builder.core.build import Build
from catalyst.builder.core.platform import Platform
from catalyst.builder.core.records import LABEL as RECORD
from catalyst.builder.core.records import Record, record_manifest, record_of
from catalyst.events.catalogue import BuildFinished
from catalyst.events.errors import Retry
from catalyst.kube import resources
from catalyst.kube.client import Kube
from catalyst.kube.errors import AlreadyExists, Conflict, Forbidden, Invalid, KubeError, NotFound
from catalyst.kube.reflector import Reflector
from catalyst.kube.resources import Resource
from catalyst.model import labels
from catalyst.model.manifest import Manifest, Ref, ref_of

LOG_LINES = 400
LOG_BYTES = 256 * 1024


class ForeignNamespace(Exception):
    """Somebody else holds the name of a build namespace: it is never adopted."""


class Cluster:
    """`mirror` is shared by the views of one process: all Jobs of builds, as last seen."""

    def __init__(self, kube: Kube, platform: Platform, mirror: Reflector | None = None) -> None:
        self._kube = kube
        self._platform = platform
        self.jobs = mirror or Reflector(
            kube, resources.JOB, label_selector=jobs.BUILD_LABEL, transform=without_managed_fields
        )

    def fenced(self, kube: Kube) -> "Cluster":
        """The same with writes by another client, such as the leader's."""
        return Cluster(kube, self._platform, self.jobs)

    def trouble(self) -> str | None:
        """Why the mirror cannot be trusted now, or None."""
        if self.jobs.last_error:
            return f"the API server cannot be read: {self.jobs.last_error}"
        return None if self.jobs.synced.is_set() else "the first list of Jobs has not come back yet"

    # Namespaces

    async def prepare(self, build: Build) -> None:
        """The build namespace with its baseline, as it should be.

        Raises ForeignNamespace; Retry while the last one of that name is going, or a new binding is not seen yet.
        """
        try:
            await self._kube.create(namespaces.namespace(build, self._platform))
        except AlreadyExists:
            found = await self._kube.get(Ref("v1", "Namespace", "", build.namespace))
            if not namespaces.is_ours(found, build):
                raise ForeignNamespace(build.namespace) from None
            if jobs.is_going(found):
                raise Retry(f"namespace {build.namespace} is going", timedelta(seconds=2)) from None
        await self._kube.apply(namespaces.binding(build, self._platform))
        try:
            await asyncio.gather(*map(self._kube.apply, namespaces.baseline(build, self._platform)))
        except Forbidden as error:
            raise Retry(f"not allowed in {build.namespace} yet: {error}", timedelta(milliseconds=500)) from error

    async def build_namespaces(self) -> list[Manifest]:
        """Those that builder made and that are not going."""
        found = [
            item
            async for page in self._kube.list(resources.NAMESPACE, label_selector=labels.TRUST, metadata_only=True)
            for item in page.items
        ]
        return [item for item in found if not jobs.is_going(item)]

    async def has_namespace(self, name: str) -> bool:
        try:
            await self._kube.get(Ref("v1", "Namespace", "", name))
        except NotFound:
            return False
        return True

    async def delete(self, found: Manifest) -> None:
        """Exactly this life of it; gone already is as good."""
        try:
            await self._kube.delete(ref_of(found), uid=found["metadata"]["uid"])
        except (NotFound, Conflict):
            return

    # Jobs

    async def job(self, namespace: str, name: str) -> Manifest | None:
        """As the API server has it now."""
        try:
            return await self._kube.get(Ref("batch/v1", "Job", namespace, name))
        except NotFound:
            return None

    async def jobs_of(self, namespace: str, uid: str) -> list[Manifest]:
        """All Jobs of one environment in one build namespace, as the API server has them now."""
        return await self._listed(resources.JOB, namespace, f"{labels.ENVIRONMENT_UID}={uid}")

    async def create_job(self, manifest: Manifest) -> None:
        """POST: the same question twice is one Job. The mirror hears of it by its watch, which tells the leader."""
        try:
            await self._kube.create(manifest)
        except AlreadyExists:
            return

    async def delete_job(self, found: Manifest) -> None:
        """The Job, and before it its pods."""
        ref = ref_of(found)
        try:
            await self._kube.delete(ref, uid=found["metadata"]["uid"], propagation="Foreground")
        except (NotFound, Conflict):
            return

    async def start(self, found: Manifest, credentials: Mapping[str, Mapping[str, str]]) -> None:
        """Write the Secrets (volume → contents), then let the suspended Job go. Raises KubeError."""
        uids = {}
        for volume, data in credentials.items():
            written = await self._kube.apply(jobs.secret(found, volume, dict(data)))
            uids[written["metadata"]["name"]] = written["metadata"]["uid"]
        body = {"metadata": {"annotations": {jobs.SECRETS: json.dumps(uids)}}, "spec": {"suspend": False}}
        # The uid alone: the Job controller writes the status of a Job that was just made.
        ref = Ref(
            "batch/v1", "Job", found["metadata"]["namespace"], found["metadata"]["name"], found["metadata"]["uid"]
        )
        self.jobs.learn(await self._kube.patch(ref, body))

    async def close(self, found: Manifest, result: BuildFinished) -> None:
        """Note the published answer on the Job and take its credentials away."""
        text = result.model_dump_json(by_alias=True, exclude_none=True)
        metadata = found["metadata"]
        uids = json.loads(metadata.get("annotations", {}).get(jobs.SECRETS, "{}"))
        for name, uid in uids.items():
            try:
                await self._kube.delete(Ref("v1", "Secret", metadata["namespace"], name), uid=uid)
            except (NotFound, Conflict):
                continue
        ref = Ref("batch/v1", "Job", metadata["namespace"], metadata["name"], metadata["uid"])
        try:
            self.jobs.learn(await self._kube.patch(ref, {"metadata": {"annotations": {jobs.RESULT: text}}}))
        except (NotFound, Conflict):
            return  # it went meanwhile, and its Secrets with it

    async def pod_of(self, found: Manifest) -> Manifest | None:
        """The Job's newest pod."""
        metadata = found["metadata"]
        pods = await self._listed(resources.POD, metadata["namespace"], f"{jobs.BUILD_LABEL}={metadata['name']}")
        return max(pods, key=lambda pod: pod["metadata"]["creationTimestamp"], default=None)

    async def log(self, pod: Manifest, container: str) -> str:
        """The end of a container's log, "" when there is none any more."""
        try:
            return await self._kube.log(ref_of(pod), container, tail_lines=LOG_LINES, limit_bytes=LOG_BYTES)
        except (NotFound, Invalid):
            return ""

    # Records

    async def records(self, namespace: str) -> list[tuple[Manifest, Record]]:
        found = await self._listed(resources.CONFIG_MAP, namespace, RECORD)
        read = [(manifest, record_of(manifest)) for manifest in found]
        return [(manifest, record) for manifest, record in read if record is not None]

    async def record(self, record: Record, build: Build) -> None:
        """Keep it; an older one of the same key, whose image was lost, is replaced."""
        manifest = record_manifest(record, build)
        try:
            await self._kube.create(manifest)
        except AlreadyExists:
            found = await self._kube.get(ref_of(manifest))
            if record_of(found) == record:
                return
            await self.delete(found)
            await self._kube.create(manifest)

    async def _listed(self, resource: Resource, namespace: str, selector: str) -> list[Manifest]:
        return [
            item async for page in self._kube.list(resource, namespace, label_selector=selector) for item in page.items
        ]


def without_managed_fields(manifest: Manifest) -> Manifest:
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "managedFields"}
    return {**manifest, "metadata": metadata}


def is_temporary(error: KubeError) -> bool:
    """Whether asking again later may help."""
    return not isinstance(error, Invalid)
