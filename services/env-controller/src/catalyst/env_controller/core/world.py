"""What is, and what to do about it: the two values every decision stands between.

Both round-trip as JSON (`to_json`, `from_json`), so that a decision can be recorded, replayed by later code and
compared. Neither ever holds a Secret's value: a decision names Secrets, effects make their contents.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import TypeAdapter

from catalyst.env_controller.core.admission import NO_PAUSE, Pauses, Place
from catalyst.env_controller.core.platform import Platform
from catalyst.kube.drift import drifted
from catalyst.model.environment import EnvironmentStatus
from catalyst.model.manifest import Manifest, Ref
from catalyst.model.project import Project, ProjectStatus

T = TypeVar("T")

FIELD_MANAGER = "catalyst-env-controller"
"""By this name the API server books what we apply."""


@dataclass(frozen=True, slots=True)
class Observed:
    """One object as its metadata shows it.

    `applied`: the digest of the intent we last wrote. `managed`: its managedFields without times, which tell whether
    somebody else has written its content since. `status`, of a Deployment or StatefulSet: how many pods of which kind
    there are, its conditions without times, and as `wanted` how many there should be.
    """

    ref: Ref
    labels: Mapping[str, str] = field(default_factory=dict)
    applied: str | None = None
    managed: Sequence[Mapping[str, Any]] = ()
    terminating: bool = False
    generation: int | None = None
    status: Mapping[str, Any] | None = None

    def is_drifted_from(self, manifest: Manifest) -> bool:
        """Somebody else changed, added or removed content of what we want to be `manifest`."""
        return drifted({"managedFields": self.managed}, FIELD_MANAGER, manifest)

    @property
    def key(self) -> str:
        return object_key(self.ref.kind, self.ref.namespace, self.ref.name)


def object_key(kind: str, namespace: str | None, name: str) -> str:
    return f"{kind}/{namespace or ''}/{name}"


def meant_for(manifest: Manifest, ref: Ref) -> Manifest:
    """The manifest with the uid and resourceVersion it was decided for: anything newer refuses it."""
    return {**manifest, "metadata": {**manifest["metadata"], "uid": ref.uid, "resourceVersion": ref.resource_version}}


@dataclass(frozen=True, slots=True)
class Copied:
    """The copy of a shared Secret that is there. `sources`: what it says it was made of."""

    ref: Ref
    sources: str = ""


@dataclass(frozen=True, slots=True)
class SeenSecrets:
    """Secrets as their metadata shows them. `sources`: those of shared names in the team's, the project's and the
    environment's own namespace; `copies`: ours, by the shared name. `taken`: shared names whose copy's name
    somebody else has. `hidden`: sources that we may not read; `closed`: namespaces that we may not look into.
    """

    sources: tuple[Ref, ...] = ()
    copies: Mapping[str, Copied] = field(default_factory=dict)
    taken: tuple[str, ...] = ()
    hidden: tuple[Ref, ...] = ()
    closed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class World:
    """What one Environment's decision depends on, besides itself and the time.

    `grants`: the repository patterns of the team's namespace, None when it has no such annotation. `namespace`:
    whatever holds the workload namespace's name, ours or not. `children`: by `object_key`, what carries this
    environment's uid label or stands where a child belongs. `place`: where it stands in its team's line; None when it
    has its place, or the team has no maximum.

    Asked of the API server only when `look` says so: `pods`, as far as they tell how they are; `logs`, the end of each
    that was wished for; `pull`, the digest in the annotation of the pull secret that exists; `secrets`, where some are
    shared.
    """

    platform: Platform
    project: Project | None = None
    grants: tuple[str, ...] | None = None
    namespace: Observed | None = None
    children: Mapping[str, Observed] = field(default_factory=dict)
    pods: Sequence[Manifest] = ()
    logs: Mapping[str, str] = field(default_factory=dict)
    pull: str | None = None
    secrets: SeenSecrets | None = None
    pauses: Pauses = NO_PAUSE
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class SecretCopy:
    """A Secret `name` with the keys of all `sources`, of two with one key the later: effects read them, each as the uid
    and resourceVersion named here. `made_of`: what the copy says of them; `replaces`: the one that is there.
    """

    namespace: str
    name: str
    shared: str
    labels: Mapping[str, str]
    sources: tuple[Ref, ...]
    made_of: str
    replaces: Ref | None = None


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A Secret that is made once, and never read or written again. In `values`, `$password` stands for 32 random
    bytes as text, the same in all of them; `digest_in`: the annotation that gets its SHA-256.
    """

    namespace: str
    name: str
    labels: Mapping[str, str]
    values: Mapping[str, str]
    type: str = "Opaque"
    digest_in: str | None = None


@dataclass(frozen=True, slots=True)
class Patch:
    """A JSON merge patch of one object, refused by the API server unless uid (and resourceVersion, if named) still
    fit.
    """

    ref: Ref
    body: Manifest


@dataclass(frozen=True, slots=True)
class BuildWish:
    """One `build.requested` to publish. `repository` is `owner/name`; `again`: how often it was asked before."""

    component: str
    key: str
    attempt: int
    commit: str
    repository: str
    fork: bool
    inputs: Mapping[str, str] = field(default_factory=dict)
    again: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, in the order in which it is done. Empty but for `status`: the world is as it should be.

    amend             merge patch of the resource itself (its finalizer, its evidence); nothing else in that pass
    create            namespaces: POST, so that an existing one is never adopted by accident
    apply             POST of what is missing; PUT, for one uid and resourceVersion, of what is outdated or was changed
                      by somebody else
    patch, delete     each with the uid it is meant for
    secrets           made if they are not there
    copies            of shared Secrets, made or made anew before everything else
    status            written when it differs, by merge patch with uid and resourceVersion
    announce          publish the snapshot; `again`: how often the open questions have been asked again
    asks              builds to ask for, after the snapshot that says they are wanted
    remove            delete the resource itself: its evidence is recorded
    release           take our finalizer off: the very last thing
    requeue_after     seconds until this key must be looked at again even if nothing happens
    """

    amend: Manifest | None = None
    create: tuple[Manifest, ...] = ()
    apply: tuple[Manifest, ...] = ()
    patch: tuple[Patch, ...] = ()
    delete: tuple[Ref, ...] = ()
    secrets: tuple[NewSecret, ...] = ()
    copies: tuple[SecretCopy, ...] = ()
    status: EnvironmentStatus | ProjectStatus | None = None
    announce: bool = True
    again: int = 0
    asks: tuple[BuildWish, ...] = ()
    remove: bool = False
    release: bool = False
    requeue_after: float | None = None

    @property
    def changes_objects(self) -> bool:
        """Something besides the status is written, so the world must be looked at again."""
        return bool(
            self.amend
            or self.create
            or self.apply
            or self.patch
            or self.delete
            or self.secrets
            or self.copies
            or self.remove
            or self.release
        )


@dataclass(frozen=True, slots=True)
class ProjectDecision(Decision):
    """The same for a Project. A type of its own, so that reading it back from JSON gives a Project's status."""

    status: ProjectStatus | None = None


def to_json(value: object) -> bytes:
    """A World, ProjectWorld, Decision or ProjectDecision."""
    return _adapter(type(value)).dump_json(value, by_alias=True, exclude_defaults=True)


def from_json(kind: type[T], text: bytes) -> T:
    return _adapter(kind).validate_json(text)


def _adapter(kind: type[T]) -> TypeAdapter[T]:
    return TypeAdapter[Any](kind)
