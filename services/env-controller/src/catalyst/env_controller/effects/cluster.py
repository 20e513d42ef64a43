"""Kubernetes, seen and changed: mirrors of what decisions look at, and the writes they ask for.

Every write names the uid (and, where the decision depended on it, the resourceVersion) it was decided for, and passes
the leader's fence. What a write answers goes straight into the mirror, so the next look does not wait for the watch.
"""

import asyncio
import base64
import gc
import hashlib
import secrets
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from string import Template
from typing import Any

import structlog

from catalyst.env_controller.core import acceptance, admission, shares, workload
from catalyst.env_controller.core.admission import Candidate, Pauses, Place
from catalyst.env_controller.core.deploying import logs_for, look_for
from catalyst.env_controller.core.platform import Platform
from catalyst.env_controller.core.project import ProjectWorld
from catalyst.env_controller.core.rollout import LogWish
from catalyst.env_controller.core.sharing import levels
from catalyst.env_controller.core.world import (
    Copied,
    Decision,
    NewSecret,
    Observed,
    Patch,
    SecretCopy,
    SeenSecrets,
    World,
    meant_for,
)
from catalyst.events.errors import Retry
from catalyst.kube import resources
from catalyst.kube.client import Kube
from catalyst.kube.drift import Slim, Texts
from catalyst.kube.errors import AlreadyExists, Conflict, Forbidden, Invalid, NotFound, Unavailable
from catalyst.kube.reflector import Reflector
from catalyst.model import labels
from catalyst.model.environment import Environment
from catalyst.model.logs import scrubbed, tail
from catalyst.model.manifest import Manifest, Ref, ref_of
from catalyst.model.names import InvalidName, project_namespace, workload_namespace
from catalyst.model.project import Project

log = structlog.get_logger()

CHILDREN = (
    resources.RESOURCE_QUOTA,
    resources.LIMIT_RANGE,
    resources.NETWORK_POLICY,
    resources.SERVICE_ACCOUNT,
    resources.ROLE_BINDING,
)
"""The kinds of the baseline, mirrored by metadata alone."""
WORKLOADS = (resources.DEPLOYMENT, resources.STATEFUL_SET)
"""Mirrored by metadata and how far they are."""
BESIDE = (resources.SERVICE, resources.PERSISTENT_VOLUME_CLAIM)
"""What workloads need, mirrored by metadata alone."""
LISTS = 3
"""Mirrors that list at once, when we start and when the API server is back: enough to keep it busy."""
SPARED = 60.0
"""Seconds that the first lists may take before the collector is at work all the same."""
BELIEF = timedelta(seconds=10)
"""A right that we gave ourselves a moment ago is not known to the API server yet, nor is any right to one that has just
started: for so long a refusal is not believed.
"""
LOG_LINES = 60
LOG_BYTES = 64 * 1024


class Cluster:
    """`reader` never needs the lease, `writer` is fenced by it."""

    def __init__(self, reader: Kube, writer: Kube, platform: Platform) -> None:
        self._writer = writer
        self._reader = reader
        self._platform = platform
        self._parsed: dict[str, tuple[Manifest, Project]] = {}
        self._refused: dict[str, datetime] = {}
        self._admitted: set[str] = set()
        gate, slim = asyncio.Semaphore(LISTS), Slim()
        self.projects = Reflector(reader, resources.PROJECT, transform=WithoutManagedFields(), gate=gate)
        self.environments = Reflector(reader, resources.ENVIRONMENT, transform=WithoutManagedFields(), gate=gate)
        self.namespaces = Reflector(
            reader, resources.NAMESPACE, metadata_only=True, transform=namespace_head, mark=_uid_label, gate=gate
        )
        self._children = {
            resource.kind: Reflector(
                reader,
                resource,
                metadata_only=True,
                label_selector=labels.TEAM,
                transform=slim,
                gate=gate,
            )
            for resource in (*CHILDREN, *BESIDE)
        } | {
            resource.kind: Reflector(
                reader, resource, label_selector=labels.TEAM, transform=WithStatus(slim), gate=gate
            )
            for resource in WORKLOADS
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
            group.create_task(self._spare_the_collector())

    async def _spare_the_collector(self) -> None:
        """What the first lists bring stays. Python's collector of cycles would walk it while it comes, a tenth of a
        second at a time, and all of it again later, for a second.
        """
        gc.disable()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(SPARED):
                    await self.synced()
        finally:
            gc.freeze()
            gc.enable()

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
            pauses=self._pauses(identity.team),
            place=self._place(environment, identity.team),
        )

    def _pauses(self, team: str) -> Pauses:
        notes = (self._annotation(namespace, labels.PAUSED) for namespace in (self._platform.system_namespace, team))
        return Pauses(*map(admission.paused, notes))

    def _place(self, environment: Environment, team: str) -> Place | None:
        """Asked only where it matters: of one that has not begun, in a team with a maximum."""
        given = self._annotation(team, labels.MAXIMUM)
        if given is None or (environment.status and environment.status.namespace):
            return None
        return admission.place(environment.metadata.uid or "", self._candidates(team), given)

    def _candidates(self, team: str) -> list[Candidate]:
        found = self._environments_of_team(team)
        paused = {each["metadata"]["name"] for each in self.projects.store.within(team) if each["spec"].get("paused")}
        begun = {uid for uid in (each["metadata"]["uid"] for each in found) if self._has_begun(uid)}
        return admission.candidates(found, begun=begun, paused_projects=paused)

    def _has_begun(self, uid: str) -> bool:
        return uid in self._admitted or self.namespaces.store.marked(uid)

    def _environments_of_team(self, team: str) -> list[Manifest]:
        projects = self.projects.store.within(team)
        return [each for project in projects for each in self._environments_of(team, project["metadata"]["name"])]

    def _environments_of(self, team: str, project: str) -> Iterable[Manifest]:
        try:
            return self.environments.store.within(project_namespace(team, project))
        except InvalidName:
            return ()

    def is_system(self, namespace: str) -> bool:
        """Catalyst's own: what is paused there is paused everywhere."""
        return namespace == self._platform.system_namespace

    def admit(self, uid: str, is_admitted: bool) -> None:
        """Remembered from the decision on: the next one may be decided before this one's status is written."""
        (self._admitted.add if is_admitted else self._admitted.discard)(uid)

    def next_in_line(self, team: str) -> list[Manifest]:
        """The Environments of the team that wait and for which there is a place now."""
        given = self._annotation(team, labels.MAXIMUM)
        if given is None:
            return []
        begin = set(admission.begin_next(self._candidates(team), given))
        return [each for each in self._environments_of_team(team) if each["metadata"]["uid"] in begin]

    async def look(self, environment: Environment, world: World, now: datetime) -> World:
        """The world with what no mirror holds, as far as it is needed now: pods, the ends of logs, the pull secret's
        digest, the metadata of shared Secrets. Raises Retry while a refusal may yet pass.
        """
        wanted = look_for(environment, world)
        if world.namespace is None or not (wanted.pods or wanted.pull or wanted.secrets):
            return world
        name = world.namespace.ref.name
        if wanted.secrets:
            world = replace(world, secrets=await self._seen_secrets(environment, world, now))
        if wanted.pull:
            world = replace(world, pull=await self._pull_digest(name))
        if wanted.pods:
            world = replace(world, pods=await self._pods(name))
            world = replace(world, logs=await self._logs(name, logs_for(environment, world, now), world.secrets))
        return world

    async def _logs(self, namespace: str, wishes: Sequence[LogWish], secrets_: SeenSecrets | None) -> Mapping[str, str]:
        """By `LogWish.key`, without what a program printed of the Secrets that it was given. None at all when those
        cannot be read just now.
        """
        texts = await asyncio.gather(*(self._log(namespace, wish) for wish in wishes))
        try:
            values = await self._shared_values(secrets_) if any(texts) else []
        except (NotFound, Forbidden) as error:
            log.info("logs are left out", namespace=namespace, reason=str(error))
            return {}
        return {wish.key: tail(text, values) for wish, text in zip(wishes, texts, strict=True)}

    async def _shared_values(self, seen: SeenSecrets | None) -> list[str]:
        """Also each line of those that have several."""
        copies = seen.copies.values() if seen else ()
        found = await asyncio.gather(*(self._reader.get(copy.ref) for copy in copies))
        encoded = [text for copy in found for text in (copy.get("data") or {}).values()]
        texts = [base64.b64decode(text).decode(errors="ignore") for text in encoded]
        return sorted({*texts, *(line for text in texts for line in text.splitlines())}, key=len, reverse=True)

    async def _pull_digest(self, namespace: str) -> str | None:
        """From its metadata alone: what the Secret holds does not leave the API server."""
        try:
            found = await self._reader.get(Ref("v1", "Secret", namespace, workload.PULL_SECRET), metadata_only=True)
        except NotFound:
            return None
        digest: str | None = found["metadata"].get("annotations", {}).get(labels.PULL_DIGEST)
        return digest

    async def _seen_secrets(self, environment: Environment, world: World, now: datetime) -> SeenSecrets:
        """By metadata alone, of which uid and version are kept: `kubectl apply` leaves values in an annotation. A
        team's namespace may be closed to us, and is asked all the same; of the others we are sure only after a while.
        """
        team, project, own = levels(environment.identity)
        names = shares.shares(world.project, environment) if world.project else ()
        there = await self._secrets_in(own, environment.metadata.uid or "", names, now)
        asked = [Ref("v1", "Secret", where, name) for where in (team, project) for name in names]
        found = await asyncio.gather(*map(self._head_of, asked))
        hidden = tuple(ref for ref, head in zip(asked, found, strict=True) if head is None)
        self._weigh(project, any(ref.namespace == project for ref in hidden), now)
        return replace(there, sources=(*(ref_of(head) for head in found if head), *there.sources), hidden=hidden)

    async def _head_of(self, ref: Ref) -> Manifest | None:
        """Empty when it is not there, None when we may not ask."""
        try:
            return await self._reader.get(ref, metadata_only=True)
        except NotFound:
            return {}
        except Forbidden:
            return None

    async def _secrets_in(self, namespace: str, uid: str, names: Sequence[str], now: datetime) -> SeenSecrets:
        """What owners made under a shared name, and our copies."""
        try:
            pages = self._reader.list(resources.SECRET, namespace, metadata_only=True)
            heads = [item async for page in pages for item in page.items]
        except Forbidden:
            self._weigh(namespace, True, now)
            return SeenSecrets(closed=(namespace,))
        self._weigh(namespace, False, now)
        ours = {head["metadata"]["name"]: head for head in heads if _uid_label(head) == uid}
        others = {head["metadata"]["name"]: head for head in heads if head["metadata"]["name"] not in ours}
        return SeenSecrets(
            sources=tuple(ref_of(others[name]) for name in names if name in others),
            copies={
                name.removeprefix(shares.PREFIX): _copied(head)
                for name, head in ours.items()
                if name.startswith(shares.PREFIX)
            },
            taken=tuple(name for name in names if shares.copy_name(name) in others),
        )

    def _weigh(self, namespace: str, is_refused: bool, now: datetime) -> None:
        """Raises Retry until a refusal is to be believed."""
        if not is_refused:
            self._refused.pop(namespace, None)
        elif now - self._refused.setdefault(namespace, now) < BELIEF:
            raise Retry(f"Secrets of namespace {namespace} may not be read yet", timedelta(seconds=1))

    async def _pods(self, namespace: str) -> list[Manifest]:
        found = []
        pages = self._reader.list(resources.POD, namespace, label_selector=labels.COMPONENT, resource_version="0")
        async for page in pages:
            found += [_pod(item) for item in page.items]
        return found

    async def _log(self, namespace: str, wish: LogWish) -> str:
        """Empty when it cannot be read: the sentence stands alone then, and it is asked again."""
        try:
            return await self._reader.log(
                Ref("v1", "Pod", namespace, wish.pod),
                wish.container,
                tail_lines=LOG_LINES,
                limit_bytes=LOG_BYTES,
                previous=wish.previous,
            )
        except (NotFound, Invalid, Unavailable) as error:
            log.info("log could not be read", namespace=namespace, pod=wish.pod, reason=str(error))
            return ""

    def observe_project(self, project: Project) -> ProjectWorld:
        """Its Environments, perhaps a thousand, matter only when the Project goes. Raises InvalidName."""
        name = project_namespace(project.team, project.metadata.name)
        is_going = project.metadata.deletion_timestamp is not None
        bindings = self._children["RoleBinding"].store.within(name)
        return ProjectWorld(
            platform=self._platform,
            grants=self._grants(project.team),
            namespace=_observed(self.namespaces.store.get("", name)),
            children={seen.key: seen for seen in map(_seen, bindings)},
            environments=tuple(map(Environment.parse, self.environments.store.within(name))) if is_going else (),
            pauses=self._pauses(project.team),
        )

    def refusal(self, project: Project) -> str | None:
        """Why this Project may not be used, or None."""
        return acceptance.refusal(project, self._grants(project.team), self._platform)

    def _grants(self, team: str) -> tuple[str, ...] | None:
        return acceptance.granted(self._annotation(team, labels.REPOSITORIES))

    def _annotation(self, namespace: str, name: str) -> str | None:
        head = self.namespaces.store.get("", namespace) or {}
        text: str | None = head.get("metadata", {}).get("annotations", {}).get(name)
        return text

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

        Secrets come first: a service that is there is the proof that its credentials are, since nobody may look; and a
        pod that is told of a copy finds it.

        Raises AlreadyExists, before anything is put into it, when a namespace's name is taken.
        """
        await together(*map(self._make_secret, decision.secrets), *map(self._copy_secret, decision.copies))
        made = {manifest["metadata"]["name"] for manifest in decision.create}
        inside = [manifest for manifest in decision.apply if manifest["metadata"]["namespace"] in made]
        outside = [manifest for manifest in decision.apply if manifest["metadata"]["namespace"] not in made]
        await together(
            self._make(decision.create, inside),
            *map(self._write, outside),
            *map(self._patch, decision.patch),
            *map(self._delete, decision.delete),
        )

    async def _make_secret(self, wish: NewSecret) -> None:
        """Made once with random bytes that nobody keeps; one that is there already is left as it is, unread."""
        password = secrets.token_urlsafe(32)
        notes = {wish.digest_in: hashlib.sha256(password.encode()).hexdigest()} if wish.digest_in else {}
        try:
            await self._writer.create(
                {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {
                        "name": wish.name,
                        "namespace": wish.namespace,
                        "labels": dict(wish.labels),
                        "annotations": notes,
                    },
                    "type": wish.type,
                    "stringData": {
                        key: Template(text).substitute(password=password) for key, text in wish.values.items()
                    },
                }
            )
        except AlreadyExists:
            log.info("secret is there already", namespace=wish.namespace, name=wish.name)

    async def _copy_secret(self, wish: SecretCopy) -> None:
        """The place through which shared values go, as long as it takes. Raises Conflict when a source is another by
        now: then it is looked at, and decided, again.
        """
        values: Manifest = {}
        for source in wish.sources:
            found = await self._reader.get(source)
            if found["metadata"]["resourceVersion"] != source.resource_version:
                raise Conflict(409, "Conflict", f"{source} has changed since it was looked at")
            values |= found.get("data") or {}
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": wish.name,
                "namespace": wish.namespace,
                "labels": dict(wish.labels),
                "annotations": {labels.SOURCES: wish.made_of},
            },
            "type": "Opaque",
            "data": values,
        }
        try:
            if wish.replaces is None:
                await self._writer.create(manifest)
            else:
                await self._writer.replace(meant_for(manifest, wish.replaces))
        except AlreadyExists as error:
            raise Conflict(409, "Conflict", f"Secret {wish.namespace}/{wish.name} is there already") from error

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

    async def is_gone(self, environment: Environment) -> bool:
        """Whether no namespace of this Environment is left, recorded or not, asked at the API server itself and not at
        a mirror: it may have made one whose news never came.
        """
        name = workload_namespace(environment.identity)
        try:
            found = await self._reader.get(Ref("v1", "Namespace", "", name))
        except NotFound:
            return True
        self.namespaces.learn(found)
        recorded = environment.status.namespace if environment.status else None
        label = found["metadata"].get("labels", {}).get(labels.ENVIRONMENT_UID)
        is_recorded = recorded is not None and recorded.uid in (None, found["metadata"]["uid"])
        return not is_recorded and label != environment.metadata.uid

    async def _write(self, manifest: Manifest) -> None:
        """POST of what was missing, PUT of what is there, for the uid and resourceVersion it was
        decided for. A request that comes late, from a leader that was, finds its object made or changed: refused.
        """
        if "uid" not in manifest["metadata"]:
            await self._create(manifest)
        elif _is_of_the_cluster(manifest):
            self._learn(await self._writer.apply(manifest))
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
        if ref.kind != "Secret":  # nobody mirrors them
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
    apply, for the uid and resourceVersion that were seen, begins that.
    """
    return bool(manifest["kind"] == "ServiceAccount" and manifest["metadata"]["name"] == "default")


def _take_in(reflector: Reflector, ref: Ref, answer: Manifest) -> None:
    """A delete answers with the object while it is going, and with a Status when it is gone."""
    if answer.get("kind") == ref.kind:
        reflector.learn(answer)
    else:
        reflector.unlearn(ref.namespace, ref.name, ref.uid or "")


# What the mirrors keep of an object


class WithoutManagedFields:
    """A transform for Projects and Environments: the whole, what many of them say kept once."""

    def __init__(self) -> None:
        self._texts = Texts()

    def __call__(self, manifest: Manifest) -> Manifest:
        metadata = {key: value for key, value in manifest["metadata"].items() if key != "managedFields"}
        found: Manifest = self._texts.within({**manifest, "metadata": metadata})
        return found


class WithStatus:
    """A transform for Deployments and StatefulSets: slim metadata, and how far they are, without times."""

    def __init__(self, slim: Slim) -> None:
        self._slim = slim

    def __call__(self, manifest: Manifest) -> Manifest:
        status = manifest.get("status") or {}
        told: dict[str, Any] = {key: status[key] for key in _COUNTS if key in status}
        told["conditions"] = [
            {key: condition[key] for key in ("type", "status", "reason", "message") if key in condition}
            for condition in status.get("conditions") or ()
        ]
        told["wanted"] = manifest.get("spec", {}).get("replicas", 1)
        return {**self._slim(manifest), "status": told}


_COUNTS = ("observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas")


def _pod(manifest: Manifest) -> Manifest:
    """What tells how a pod is; neither its variables nor anything else of its spec, nor a program's last words, which
    no rule looks at: a World is recorded. What the kubelet says is scrubbed.
    """
    metadata, status = manifest["metadata"], manifest.get("status", {})
    return {
        "metadata": {key: metadata[key] for key in _POD_METADATA if key in metadata},
        "status": {key: _without_last_words(status[key]) for key in _POD_STATUS if key in status},
    }


def _without_last_words(value: Any, of: str = "") -> Any:
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if of != "terminated" or key != "message"}
        return {key: _without_last_words(item, key) for key, item in kept.items()}
    if isinstance(value, list):
        return [_without_last_words(item) for item in value]
    return scrubbed(value) if of == "message" and isinstance(value, str) else value


_POD_METADATA = ("name", "labels", "creationTimestamp", "deletionTimestamp")
_POD_STATUS = ("phase", "reason", "message", "conditions", "initContainerStatuses", "containerStatuses")


def namespace_head(manifest: Manifest) -> Manifest:
    """Names, labels and the annotations that matter."""
    metadata = manifest["metadata"]
    kept = {key: metadata[key] for key in _NAMESPACE_KEPT if key in metadata}
    if notes := {key: text for key, text in metadata.get("annotations", {}).items() if key in _NOTES_KEPT}:
        kept["annotations"] = notes
    return {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": kept}


_NOTES_KEPT = (labels.REPOSITORIES, labels.PAUSED, labels.MAXIMUM)
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


def _uid_label(head: Manifest) -> str | None:
    found: str | None = head["metadata"].get("labels", {}).get(labels.ENVIRONMENT_UID)
    return found


def _copied(head: Manifest) -> Copied:
    return Copied(ref_of(head), head["metadata"].get("annotations", {}).get(labels.SOURCES, ""))


def _seen(head: Manifest) -> Observed:
    metadata = head["metadata"]
    return Observed(
        ref=ref_of(head),
        labels=metadata.get("labels", {}),
        applied=metadata.get("annotations", {}).get(labels.APPLIED),
        managed=metadata.get("managedFields", ()),
        terminating="deletionTimestamp" in metadata,
        generation=metadata.get("generation") if "status" in head else None,
        status=head.get("status"),
    )


def _source(project: Manifest) -> tuple[str, str]:
    source = project["spec"]["source"]
    return source.get("forge", "github"), source["repository"].lower()
