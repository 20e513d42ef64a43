"""Kubernetes, seen and changed: mirrors of what decisions look at, and the writes they ask for.

Every write names the uid (and, where the decision depended on it, the resourceVersion) it was decided for, and passes
the leader's fence. What a write answers goes straight into the mirror, so the next look does not wait for the watch.
"""

import asyncio
import re
from collections.abc import Awaitable, Iterable

from catalyst.env_controller.core.acceptance import project_problem
from catalyst.env_controller.core.platform import Platform
from catalyst.env_controller.core.project import ProjectWorld
from catalyst.env_controller.core.world import Decision, Observed, Patch, World
from catalyst.kube import resources
from catalyst.kube.client import Kube
from catalyst.kube.drift import Slim
from catalyst.kube.errors import AlreadyExists, Conflict, NotFound
from catalyst.kube.reflector import Reflector
from catalyst.model import labels
from catalyst.model.environment import Environment
from catalyst.model.manifest import Manifest, Ref, ref_of
from catalyst.model.names import project_namespace, workload_namespace
from catalyst.model.project import Project

CHILDREN = (
    resources.RESOURCE_QUOTA,
    resources.LIMIT_RANGE,
    resources.NETWORK_POLICY,
    resources.SERVICE_ACCOUNT,
    resources.ROLE_BINDING,
)
"""The kinds of the baseline, mirrored by metadata alone."""


class Cluster:
    """`reader` never needs the lease, `writer` is fenced by it."""

    def __init__(self, reader: Kube, writer: Kube, platform: Platform) -> None:
        self._writer = writer
        self._reader = reader
        self._platform = platform
        self._parsed: dict[str, tuple[Manifest, Project]] = {}
        self.projects = Reflector(reader, resources.PROJECT, transform=without_managed_fields)
        self.environments = Reflector(reader, resources.ENVIRONMENT, transform=without_managed_fields)
        self.namespaces = Reflector(reader, resources.NAMESPACE, metadata_only=True, transform=namespace_head)
        self._children = {
            resource.kind: Reflector(
                reader,
                resource,
                metadata_only=True,
                label_selector=labels.TEAM,
                transform=Slim(),
            )
            for resource in CHILDREN
        }

    # The mirrors

    @property
    def children(self) -> Iterable[Reflector]:
        return self._children.values()

    def _reflectors(self) -> list[Reflector]:
        return [self.namespaces, *self._children.values(), self.projects, self.environments]

    async def run(self) -> None:
        """Mirrors until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reflector in self._reflectors():
                group.create_task(reflector.run())

    async def synced(self) -> None:
        for reflector in self._reflectors():
            await reflector.synced.wait()

    def trouble(self) -> str | None:
        """Why the mirrors cannot be trusted now, or None."""
        for reflector in self._reflectors():
            if reflector.last_error:
                return f"the API server cannot be read: {reflector.last_error}"
            if not reflector.synced.is_set():
                return "the first list has not come back yet"
        return None

    def projects_of(self, forge: str, repository: str) -> list[Project]:
        """All Projects that name this repository, in a stable order."""
        wanted = (forge, repository.lower())
        found = [project for project in self.projects.store if _source(project) == wanted]
        return sorted((Project.parse(project) for project in found), key=lambda p: (p.team, p.metadata.name))

    def project(self, team: str, name: str) -> Project | None:
        """The Project of this name. Parsed once a version: every look at each of its environments asks for it."""
        manifest = self.projects.store.get(team, name)
        if manifest is None:
            self._parsed.pop(f"{team}/{name}", None)
            return None
        parsed = self._parsed.get(f"{team}/{name}")
        if parsed is None or parsed[0] is not manifest:
            parsed = self._parsed[f"{team}/{name}"] = (manifest, Project.parse(manifest))
        return parsed[1]

    def environment(self, namespace: str, name: str) -> Environment | None:
        found = self.environments.store.get(namespace, name)
        return Environment.parse(found) if found else None

    def observe(self, environment: Environment) -> World:
        """What `decide` needs to know besides the Environment itself. Raises InvalidName."""
        identity = environment.identity
        name = workload_namespace(identity)
        children = [child for reflector in self.children for child in reflector.store.within(name)]
        return World(
            platform=self._platform,
            project=self.project(identity.team, identity.project),
            grants=self._grants(identity.team),
            namespace=_observed(self.namespaces.store.get("", name)),
            children={seen.key: seen for seen in map(_seen, children)},
        )

    def observe_project(self, project: Project) -> ProjectWorld:
        """Raises InvalidName."""
        name = project_namespace(project.team, project.metadata.name)
        bindings = self._children["RoleBinding"].store.within(name)
        return ProjectWorld(
            platform=self._platform,
            grants=self._grants(project.team),
            namespace=_observed(self.namespaces.store.get("", name)),
            children={seen.key: seen for seen in map(_seen, bindings)},
            environments=tuple(Environment.parse(found) for found in self.environments.store.within(name)),
        )

    def refusal(self, project: Project) -> str | None:
        """Why this Project may not be used, or None."""
        problem = project_problem(project, self._grants(project.team), self._platform)
        return f"the Project is not accepted: {problem.message}" if problem else None

    def _grants(self, team: str) -> tuple[str, ...] | None:
        namespace = self.namespaces.store.get("", team)
        text = (namespace or {}).get("metadata", {}).get("annotations", {}).get(labels.REPOSITORIES)
        return tuple(re.split(r"[\s,]+", text.strip())) if text and text.strip() else None

    # The writes

    async def create_environment(self, manifest: Manifest) -> None:
        """POST: a name that is taken is refused (AlreadyExists), never adopted."""
        self.environments.learn(await self._writer.create(manifest))

    async def patch_environment(self, patch: Patch) -> None:
        self.environments.learn(await self._writer.patch(patch.ref, patch.body))

    async def patch_status(self, reflector: Reflector, ref: Ref, status: Manifest) -> None:
        reflector.learn(await self._writer.patch(ref, {"status": status}, subresource="status"))

    async def amend(self, reflector: Reflector, ref: Ref, body: Manifest) -> None:
        reflector.learn(await self._writer.patch(ref, body))

    async def realise(self, decision: Decision) -> None:
        """Namespaces, and everything that is made, changed or deleted: all at once, but for what needs another first.

        Raises AlreadyExists, before anything is put into it, when a namespace's name is taken.
        """
        made = {manifest["metadata"]["name"] for manifest in decision.create}
        inside = [manifest for manifest in decision.apply if manifest["metadata"]["namespace"] in made]
        outside = [manifest for manifest in decision.apply if manifest["metadata"]["namespace"] not in made]
        await together(
            self._make(decision.create, inside),
            *map(self._write, outside),
            *map(self._patch, decision.patch),
            *map(self._delete, decision.delete),
        )

    async def _make(self, namespaces: Iterable[Manifest], contents: list[Manifest]) -> None:
        for manifest in namespaces:
            try:
                self.namespaces.learn(await self._writer.create(manifest))
            except AlreadyExists:
                self.namespaces.learn(await self._reader.get(ref_of(manifest)))
                raise  # the mirror was behind, or it is somebody else's: look again
        await together(*map(self._write, contents))

    async def remove(self, reflector: Reflector, ref: Ref) -> None:
        """Delete exactly this version: its recorded evidence is what we read."""
        try:
            answer = await self._writer.delete(ref, uid=ref.uid or "", resource_version=ref.resource_version)
        except NotFound:
            answer = {}
        _take_in(reflector, ref, answer)

    async def uid_of_environment(self, namespace: str, name: str) -> str | None:
        """The uid of the Environment of this name, asked at the API server itself; None when there is none."""
        try:
            found = await self._reader.get(Ref(labels.API_VERSION, "Environment", namespace, name))
        except NotFound:
            return None
        uid: str = found["metadata"]["uid"]
        return uid

    async def is_gone(self, name: str, uid: str | None) -> bool:
        """Whether that life of the namespace is over, asked at the API server itself and not at a mirror."""
        try:
            found = await self._reader.get(Ref("v1", "Namespace", "", name))
        except NotFound:
            return True
        self.namespaces.learn(found)
        return uid is not None and found["metadata"]["uid"] != uid

    async def _write(self, manifest: Manifest) -> None:
        """POST of what was missing, PUT of what is there, for the uid and resourceVersion it was
        decided for. A request that comes late, from a leader that was, finds its object made or changed: refused.
        """
        if _is_of_the_cluster(manifest):
            self._learn(await self._writer.apply(manifest))
        elif "uid" not in manifest["metadata"]:
            await self._create(manifest)
        else:
            self._learn(await self._writer.replace(manifest))

    async def _create(self, manifest: Manifest) -> None:
        try:
            self._learn(await self._writer.create(manifest))
        except AlreadyExists:  # the mirror was behind; the next pass decides with it in view
            self._learn(await self._reader.get(ref_of(manifest)))

    async def _patch(self, patch: Patch) -> None:
        self._learn(await self._writer.patch(patch.ref, patch.body))

    async def _delete(self, ref: Ref) -> None:
        try:
            answer = await self._writer.delete(ref, uid=ref.uid or "")
        except NotFound:
            answer = {}
        except Conflict:
            if ref.kind == "Namespace":
                return  # already going, and its finalizers run: the watch tells its end
            raise
        _take_in(self._mirror(ref.kind), ref, answer)

    def _learn(self, manifest: Manifest) -> None:
        self._mirror(manifest["kind"]).learn(manifest)

    def _mirror(self, kind: str) -> Reflector:
        mirrors = {"Namespace": self.namespaces, "Environment": self.environments, "Project": self.projects}
        return mirrors.get(kind) or self._children[kind]


async def together(*work: Awaitable[None]) -> None:
    """All at once; when all have ended, the first failure is raised."""
    for result in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _is_of_the_cluster(manifest: Manifest) -> bool:
    """Kubernetes makes the ServiceAccount `default`, before us or after, and books none of its fields to anybody; an
    apply begins that. Its content is always the same, so one that comes late changes nothing.
    """
    return bool(manifest["kind"] == "ServiceAccount" and manifest["metadata"]["name"] == "default")


def _take_in(reflector: Reflector, ref: Ref, answer: Manifest) -> None:
    """A delete answers with the object while it is going, and with a Status when it is gone."""
    if answer.get("kind") == ref.kind:
        reflector.learn(answer)
    else:
        reflector.unlearn(ref.namespace, ref.name, ref.uid or "")


# What the mirrors keep of an object


def without_managed_fields(manifest: Manifest) -> Manifest:
    return {
        **manifest,
        "metadata": {key: value for key, value in manifest["metadata"].items() if key != "managedFields"},
    }


def namespace_head(manifest: Manifest) -> Manifest:
    """Names, labels and the one annotation that matters."""
    metadata = manifest["metadata"]
    kept = {key: metadata[key] for key in _NAMESPACE_KEPT if key in metadata}
    if (grants := metadata.get("annotations", {}).get(labels.REPOSITORIES)) is not None:
        kept["annotations"] = {labels.REPOSITORIES: grants}
    return {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": kept}


_NAMESPACE_KEPT = ("name", "uid", "resourceVersion", "labels", "deletionTimestamp")


def same_but_version(old: Manifest | None, new: Manifest | None) -> bool:
    """Nothing changed that a decision looks at: a quota counted its pods, say."""
    if old is None or new is None:
        return False
    return _unversioned(old) == _unversioned(new)


def _unversioned(head: Manifest) -> Manifest:
    return {**head, "metadata": {key: value for key, value in head["metadata"].items() if key != "resourceVersion"}}


def _observed(head: Manifest | None) -> Observed | None:
    return _seen(head) if head else None


def _seen(head: Manifest) -> Observed:
    metadata = head["metadata"]
    return Observed(
        ref=ref_of(head),
        labels=metadata.get("labels", {}),
        applied=metadata.get("annotations", {}).get(labels.APPLIED),
        managed=metadata.get("managedFields", ()),
        terminating="deletionTimestamp" in metadata,
    )


def _source(project: Manifest) -> tuple[str, str]:
    source = project["spec"]["source"]
    return source.get("forge", "github"), source["repository"].lower()
