"""Snapshot: the whole public state of one environment at one version. What `environment.changed` carries.

dns-proxy, notifier and user interfaces need nothing else, and no right in the cluster. It holds no Secret and nothing
volatile: the same resource version gives the same snapshot.
"""

from collections.abc import Mapping
from datetime import datetime

from pydantic import AwareDatetime

from catalyst.model import labels
from catalyst.model.environment import (
    BuildQuestion,
    ComponentStatus,
    DeletionReason,
    Environment,
    EnvironmentStatus,
    EnvironmentType,
    Phase,
    Pull,
    Route,
    Stage,
)
from catalyst.model.names import Identity
from catalyst.model.project import Project
from catalyst.model.resource import Condition, NamespaceRef, Status


class SnapshotIdentity(Status):
    """Which environment."""

    team: str
    """The team."""
    project: str
    """The project."""
    environment: str
    """The environment."""


class SnapshotPullRequest(Status):
    """The pull request the environment is for."""

    number: int
    """Its number at the forge."""
    head_repository: str | None = None
    """Where its commits are."""
    fork: bool = False
    """Whether that is another repository than the project's."""
    draft: bool = False
    """Whether it is a draft."""
    opened_at: AwareDatetime | None = None
    """When it was opened last, by the forge's clock."""
    author: str | None = None
    """Who opened it."""
    title: str | None = None
    """Its title."""
    url: str | None = None
    """Its page at the forge."""


class SnapshotSource(Status):
    """What runs, and where it comes from."""

    forge: str | None = None
    """Which forge; absent while the Project is unknown."""
    repository: str | None = None
    """The repository as owner/name; absent while the Project is unknown."""
    branch: str | None = None
    """The branch."""
    commit: str | None = None
    """The commit that was asked for."""
    pull_request: SnapshotPullRequest | None = None
    """The pull request."""


class SnapshotDeletion(Status):
    """Why the environment goes."""

    reason: DeletionReason
    """Why, in one word."""
    at: AwareDatetime
    """When that happened."""
    evidence: str
    """What proves it."""


class Snapshot(Status):
    """The whole public state of one environment at one version."""

    uid: str
    """The Environment's uid: an environment made again under the same name has another."""
    resource_version: str
    """The version of the resource this was taken from."""
    generation: int | None = None
    """The metadata.generation of the resource."""
    created_at: AwareDatetime | None = None
    """When the resource was created."""
    triggered_at: AwareDatetime | None = None
    """When the webhook came that led to the present spec; absent for what a person made."""
    identity: SnapshotIdentity
    """Which environment."""
    type: EnvironmentType = "Development"
    """Development or Deployment."""
    phase: Phase
    """The state in one word."""
    reason: str = ""
    """Why, in one word: of the condition that holds it back, else of Ready."""
    message: str = ""
    """Why, as a sentence."""
    url: str | None = None
    """Where to click."""
    commit: str | None = None
    """The commit the status speaks of."""
    source: SnapshotSource
    """What runs, and where it comes from."""
    owner: str | None = None
    """Who it belongs to."""
    desired_state: str = "Running"
    """Running or Sleeping."""
    expires_at: AwareDatetime | None = None
    """When it goes by itself."""
    deletion: SnapshotDeletion | None = None
    """Why it goes; also set while somebody deleted the resource itself."""
    namespace: NamespaceRef | None = None
    """The workload namespace."""
    components: tuple[ComponentStatus, ...] = ()
    """What runs, with digests."""
    builds: Mapping[str, BuildQuestion] = {}
    """The build asked for last, by component."""
    routes: tuple[Route, ...] = ()
    """Hosts that were handed out."""
    pull: Pull | None = None
    """The credential of the environment's image pulls, as a digest: the registry's token realm compares it."""
    conditions: tuple[Condition, ...] = ()
    """The state by aspect."""
    stages: tuple[Stage, ...] = ()
    """When each stage last ran."""

    @property
    def key(self) -> Identity:
        """The identity as names. Raises `InvalidName`."""
        return Identity(self.identity.team, self.identity.project, self.identity.environment)


def snapshot_of(environment: Environment, project: Project | None = None, *, phase: Phase | None = None) -> Snapshot:
    """The snapshot of an Environment as the API server returned it.

    Args:
        environment: with metadata.uid and metadata.resourceVersion.
        project: its Project, for forge and repository; None when it is not there.
        phase: instead of the recorded one; `Gone` is never recorded, because the resource is gone by then.

    Raises:
        ValueError: the Environment was never stored: it has no uid or resourceVersion.
        InvalidName: its names are not names.
    """
    metadata, spec = environment.metadata, environment.spec
    if metadata.uid is None or metadata.resource_version is None:
        raise ValueError(f"{environment.ref}: expected metadata.uid and metadata.resourceVersion, as stored")
    status = environment.status or EnvironmentStatus()
    shown = phase or status.phase
    cause = _cause(status, shown)
    identity = environment.identity
    return Snapshot(
        uid=metadata.uid,
        resource_version=metadata.resource_version,
        generation=metadata.generation,
        created_at=metadata.creation_timestamp,
        triggered_at=triggered_at(environment),
        identity=SnapshotIdentity(team=identity.team, project=identity.project, environment=identity.environment),
        type=spec.type,
        phase=shown,
        reason=cause.reason if cause else "",
        message=cause.message if cause else "",
        url=status.url,
        commit=status.commit or spec.source.commit,
        source=_source(environment, project),
        owner=spec.owner,
        desired_state=spec.desired_state,
        expires_at=spec.expires_at,
        deletion=_deletion(environment),
        namespace=status.namespace,
        components=status.components,
        builds=dict(status.builds),
        routes=status.routes,
        pull=status.pull,
        conditions=status.conditions,
        stages=status.stages,
    )


def triggered_at(environment: Environment) -> datetime | None:
    """When the webhook came that led to the present spec; None when nobody noted it, or what is there is no time."""
    try:
        noted = datetime.fromisoformat(environment.metadata.annotations.get(labels.TRIGGERED_AT, ""))
    except ValueError:
        return None
    return noted if noted.tzinfo else None


def _source(environment: Environment, project: Project | None) -> SnapshotSource:
    source = environment.spec.source
    pull_request = source.pull_request
    return SnapshotSource(
        forge=project.spec.source.forge if project else None,
        repository=project.spec.source.repository if project else None,
        branch=source.branch,
        commit=source.commit,
        pull_request=SnapshotPullRequest.model_validate(pull_request.model_dump()) if pull_request else None,
    )


def _deletion(environment: Environment) -> SnapshotDeletion | None:
    recorded = environment.spec.deletion
    if recorded is not None:
        return SnapshotDeletion(reason=recorded.reason, at=recorded.at, evidence=recorded.evidence)
    requested = environment.metadata.deletion_timestamp
    if requested is not None:
        return SnapshotDeletion(reason="Requested", at=requested, evidence="the Environment resource was deleted")
    return None


def _cause(status: EnvironmentStatus, phase: Phase) -> Condition | None:
    """What explains the phase: while going, the teardown; else the first condition that does not hold; else Ready.

    What is not implemented (Supported) is without effect, so it explains nothing.
    """
    if phase in (Phase.TERMINATING, Phase.GONE):
        return status.condition("Terminating") or status.condition("Ready")
    failing = (
        condition
        for condition in status.conditions
        if condition.status == "False" and condition.type not in ("Ready", "Supported")
    )
    return next(failing, None) or status.condition("Ready")
