"""Environment: one running copy of a project.

It lives in the namespace `<team>--<project>` and runs in `<team>--<project>--<environment>`.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, Field

from catalyst.model.containers import EnvVar, ResourceRequirements
from catalyst.model.fields import (
    NAMED_BY_COMPONENT,
    Commit,
    Digest,
    GitRef,
    HttpsUrl,
    Image,
    Name,
    ObjectName,
    Port,
    Repository,
    cel,
    keyed,
    mapped,
    ruled,
)
from catalyst.model.names import Identity
from catalyst.model.resource import Condition, NamespaceRef, Resource, Spec, Status

_Sentence = Annotated[str, Field(max_length=1024)]
_LogEnd = Annotated[str, Field(max_length=8192)]
_Login = Annotated[str, Field(max_length=253, min_length=1)]
_Count = Annotated[int, Field(ge=0)]

EnvironmentType = Literal["Development", "Deployment"]
DeletionReason = Literal["Closed", "Expired", "Requested", "TriggerWithdrawn"]


class Phase(StrEnum):
    """The state in one word; the conditions say more.

    ```
    Pending → Waiting (held) → Provisioning → Provisioned → Building → Deploying → Ready ⇄ Degraded
                                                                              ↘ Failed
    any → Terminating → Gone
    ```
    """

    PENDING = "Pending"
    WAITING = "Waiting"
    PROVISIONING = "Provisioning"
    PROVISIONED = "Provisioned"
    BUILDING = "Building"
    DEPLOYING = "Deploying"
    READY = "Ready"
    DEGRADED = "Degraded"
    FAILED = "Failed"
    TERMINATING = "Terminating"
    GONE = "Gone"


class ProjectRef(Spec):
    """The project this environment is of."""

    team: Name
    """The team: the namespace of the Project."""
    name: Name
    """The Project's name."""


class PullRequest(Spec):
    """The pull request an environment is for."""

    number: Annotated[int, Field(ge=1)]
    """Its number at the forge."""
    head_repository: Repository | None = None
    """Where its commits are; absent once a fork was deleted."""
    fork: bool = False
    """Whether that is another repository than the project's."""
    draft: bool = False
    """Whether it is a draft."""
    opened_at: AwareDatetime | None = None
    """When it was opened or reopened last, by the forge's clock; with the commit it names one round of its life."""
    author: _Login | None = None
    """Who opened it."""
    title: _Sentence | None = None
    """Its title, as its author wrote it."""
    url: HttpsUrl | None = None
    """Its page at the forge."""


class EnvironmentSource(Spec):
    """What is to run."""

    branch: GitRef | None = None
    """The branch."""
    commit: Commit | None = None
    """The commit; without it, the branch's newest."""
    pull_request: PullRequest | None = None
    """The pull request."""


class Hold(Spec):
    """Why nothing is built or run yet."""

    reason: Literal["Draft", "Fork", "Manual"]
    """Why, in one word."""
    message: _Sentence = ""
    """Why, and who can lift it."""


class CommitApproval(Spec):
    """Somebody's consent to run one commit."""

    commit: Commit
    """The commit it is for; a newer one needs a new approval."""
    by: _Login
    """Who gave it."""
    at: AwareDatetime
    """When."""


class Deletion(Spec):
    """The recorded evidence that this environment is to go."""

    reason: DeletionReason
    """Why, in one word."""
    at: AwareDatetime
    """When that happened."""
    evidence: _Sentence
    """What proves it: an event's id, a person, the expired date."""


class ComponentOverride(Spec):
    """What differs from the Project for one component."""

    image: Image | None = None
    """Run this image."""
    replicas: Annotated[int, Field(ge=0, le=50)] | None = None
    """How many pods."""
    env: tuple[EnvVar, ...] = keyed("name", max_items=64)
    """Variables added or replaced."""
    resources: ResourceRequirements | None = None
    """Instead of the Project's."""


class Overrides(Spec):
    """What differs from the Project."""

    components: dict[Name, ComponentOverride] = mapped(32, NAMED_BY_COMPONENT)
    """By component."""


class EnvironmentSpec(Spec):
    """What somebody wants to run."""

    project_ref: Annotated[
        ProjectRef,
        Field(json_schema_extra=ruled(cel("self == oldSelf", "projectRef is immutable: create another Environment"))),
    ]
    """The project this environment is of; immutable."""
    type: Annotated[
        EnvironmentType,
        Field(json_schema_extra=ruled(cel("self == oldSelf", "type is immutable: create another Environment"))),
    ] = "Development"
    """Short-lived and open to its owners, or long-lived and guarded; immutable."""
    source: EnvironmentSource = EnvironmentSource()
    """What is to run."""
    owner: _Login | None = None
    """Who it belongs to."""
    desired_state: Literal["Running", "Sleeping"] = "Running"
    """Whether it is to run or to sleep."""
    hold: Hold | None = None
    """Why nothing is made yet; what already exists stays."""
    approval: CommitApproval | None = None
    """Consent to run a fork's commit."""
    expires_at: AwareDatetime | None = None
    """When it is to go by itself."""
    deletion: Deletion | None = None
    """The recorded evidence that it is to go; once set, it stays."""
    overrides: Overrides | None = None
    """What differs from the Project."""

    model_config = Spec.model_config | {
        "json_schema_extra": ruled(
            cel(
                "!has(oldSelf.deletion) || (has(self.deletion) && self.deletion == oldSelf.deletion)",
                "deletion is final: once recorded it can be neither changed nor removed",
            ),
            cel("self.type != 'Deployment' || !has(self.expiresAt)", "expiresAt is for the type Development only"),
        )
    }


class ComponentStatus(Status):
    """What runs for one component."""

    name: Name
    """The component."""
    image: Annotated[str, Field(max_length=512)] | None = None
    """The image that runs."""
    digest: Digest | None = None
    """The digest of that image."""
    commit: Commit | None = None
    """The commit it was built from."""
    ready: bool = False
    """Whether all wanted replicas are ready."""
    ready_replicas: _Count | None = None
    """How many replicas are ready."""
    replicas: _Count | None = None
    """How many replicas are wanted."""
    reason: Annotated[str, Field(max_length=256)] | None = None
    """Why it is not ready, in one word."""
    message: _LogEnd | None = None
    """Why it is not ready; with the end of its log."""


class BuildQuestion(Status):
    """The build that was asked for last. Only an answer to it counts."""

    key: Annotated[str, Field(max_length=128)]
    """A hash of commit and inputs."""
    attempt: Annotated[int, Field(ge=1)] = 1
    """Which try."""
    deploy: Annotated[str, Field(max_length=253)] | None = None
    """The last `/catalyst deploy` there was by then: a later one tries a build again that failed."""
    retries: Annotated[int, Field(ge=1)] | None = None
    """How often in a row it was tried again by itself."""


class Route(Status):
    """A host that is to lead to a Service in the cluster."""

    host: Annotated[str, Field(max_length=253)]
    """The public name."""
    namespace: ObjectName
    """The Service's namespace."""
    service: ObjectName
    """The Service."""
    port: Port
    """The Service's port."""
    component: Name | None = None
    """The exposed component."""
    path: Annotated[str, Field(max_length=512)] | None = None
    """The path a visitor is sent to first."""
    private: bool = False
    """Whether visitors must sign in."""


class RouteAnswer(Status):
    """What dns-proxy said last about a host."""

    live: bool
    """Whether the host answers in public."""
    at: AwareDatetime | None = None
    """When it said so."""
    reason: _Sentence | None = None
    """Why it does not."""
    failed: bool = False
    """Whether it should answer and does not, as the environment lives; so it is no answer to a teardown."""


class BuildAnswer(Status):
    """What builder said about the build asked for last."""

    key: Annotated[str, Field(max_length=128)]
    """The question's key."""
    attempt: Annotated[int, Field(ge=1)] = 1
    """The question's attempt."""
    outcome: Literal["succeeded", "failed", "superseded"]
    """What came of it."""
    at: AwareDatetime
    """When builder said so."""
    digest: Digest | None = None
    """The image's digest."""
    ports: Annotated[tuple[Port, ...], Field(max_length=64)] = ()
    """The ports it exposes."""
    user: Annotated[str, Field(max_length=256)] | None = None
    """The user it runs as; absent: root."""
    reason: Annotated[str, Field(max_length=256)] | None = None
    """Why it failed, in one word."""
    message: _LogEnd | None = None
    """Why it failed: a sentence, and from the second line on the end of the log."""


class Answers(Status):
    """What other services answered to the questions this status asks."""

    routes: dict[Annotated[str, Field(max_length=253)], RouteAnswer] = mapped(64)
    """By host."""
    builds: dict[Name, BuildAnswer] = mapped(64)
    """By component."""
    builds_cleaned: bool | None = None
    """Whether builder removed everything it made for this environment."""


class Pull(Status):
    """How the environment's pods prove at the registry's token realm that they may pull."""

    sha256: Annotated[str, Field(max_length=64, pattern="^[0-9a-f]{64}$")]
    """SHA-256 of the pull secret's random password, which itself stands nowhere but in that Secret."""


class Stage(Status):
    """The last run of one stage on the way, such as Accepted, Namespace or Baseline."""

    name: Annotated[str, Field(max_length=80, pattern="^[A-Z][A-Za-z0-9]*$")]
    """Which stage, in CamelCase; one of a component's own ends in its name."""
    started_at: AwareDatetime
    """When it began."""
    finished_at: AwareDatetime | None = None
    """When it ended; absent while it runs."""


class EnvironmentStatus(Status):
    """What env-controller observed and asked for."""

    observed_generation: _Count | None = None
    """The metadata.generation this status speaks of."""
    phase: Phase = Phase.PENDING
    """The state in one word."""
    conditions: tuple[Condition, ...] = keyed("type", max_items=32)
    """The state by aspect, with reasons."""
    url: HttpsUrl | None = None
    """Where to click."""
    commit: Commit | None = None
    """The commit this status speaks of."""
    namespace: NamespaceRef | None = None
    """The workload namespace that was made."""
    components: tuple[ComponentStatus, ...] = keyed("name", max_items=64)
    """What runs."""
    builds: dict[Name, BuildQuestion] = mapped(64)
    """The build asked for last, by component."""
    routes: tuple[Route, ...] = keyed("host", max_items=64)
    """Hosts that were handed out."""
    answers: Answers | None = None
    """What other services answered."""
    pull: Pull | None = None
    """The credential of the environment's image pulls, as a digest."""
    stages: tuple[Stage, ...] = keyed("name", max_items=96)
    """When each stage last ran."""

    def condition(self, type_: str) -> Condition | None:
        """The condition of that type, if there is one."""
        return next((condition for condition in self.conditions if condition.type == type_), None)


class Environment(Resource):
    """One running copy of a project."""

    KIND: ClassVar[str] = "Environment"

    kind: Literal["Environment"] = "Environment"
    spec: EnvironmentSpec
    """What somebody wants to run."""
    status: EnvironmentStatus | None = None
    """What env-controller observed and asked for."""

    @property
    def identity(self) -> Identity:
        """Team, project, environment. Raises `InvalidName`."""
        return Identity(self.spec.project_ref.team, self.spec.project_ref.name, self.metadata.name)
