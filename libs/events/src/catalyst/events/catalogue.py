"""The catalogue: every event there is, what it carries, who writes it. Pure.

| Data | Subject | Writer |
|---|---|---|
| `PullRequestChanged` | `scm…pull_request.<n>` | webhook-ingest |
| `BranchPushed` | `scm…branch.<name>` | webhook-ingest |
| `CommentWritten` | `scm…comment.<n>` | webhook-ingest |
| `CommandGiven` | `scm…command.<n>` | webhook-ingest |
| `EnvironmentChanged` | `env…environment.changed` | env-controller |
| `BuildRequested` | `env…build.requested` | env-controller |
| `BuildFinished`, `BuildCleaned` | `env…build.finished`, `.cleaned` | builder |
| `RouteChanged` | `env…route.changed` | dns-proxy |
| `SessionOpened`, `SessionClosed` | `env…session.opened`, `.closed` | gateway |
| `AuditRecord` | `audit.…` | env-controller |
| `DeadLetter` | `dead.<service>` | every consumer |
| `DeadSettled` | `dead.oncall` | who is on call |

Fields are camelCase on the wire. Readers ignore unknown fields; writers never remove one. A subject is a function of
the data, so an event cannot be filed under another environment than the one it speaks of.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from catalyst.events import subjects
from catalyst.events.payload import Omitted, Verbatim
from catalyst.model.environment import Phase
from catalyst.model.names import Identity
from catalyst.model.snapshot import Snapshot

PREFIX: Final = "dev.catalyst."
GONE_KEPT: Final = timedelta(days=90)
"""STATE has no age; the last word about an environment leaves it after this time."""
SCHEMA_BASE: Final = "https://catalyst.dev/schemas/"

Sha = Annotated[str, Field(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$", description="A git object id, SHA-1 or SHA-256.")]
Positive = Annotated[int, Field(ge=1)]


class Part(BaseModel):
    """A piece of an event's data."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, validate_by_alias=True, validate_by_name=True
    )


class Data(Part):
    """What an event carries. `TYPE` names event and schema version; `WRITERS` the services that may publish it."""

    TYPE: ClassVar[str]
    WRITERS: ClassVar[tuple[str, ...]]

    @classmethod
    def short_type(cls) -> str:
        """`scm.pull_request.changed`: the type without its prefix and version."""
        return cls.TYPE.removeprefix(PREFIX).rpartition(".")[0]

    @classmethod
    def dataschema(cls) -> str:
        """The URI of the JSON Schema of this data."""
        return f"{SCHEMA_BASE}{cls.schema_file()}"

    @classmethod
    def schema_file(cls) -> str:
        """The schema's file name: `scm.pull_request.changed.v1.json`."""
        return f"{cls.TYPE.removeprefix(PREFIX)}.json"

    def kept(self) -> timedelta | None:
        """How long it is kept; None: as long as its stream keeps everything."""
        return None

    def nats_subject(self) -> str:
        """Where the event is published."""
        raise NotImplementedError

    def about(self) -> str:
        """The CloudEvents `subject`: the thing it speaks of, for people."""
        raise NotImplementedError


class Repository(Part):
    """A repository at a forge."""

    forge: str = Field(min_length=1, examples=["github"])
    id: int = Field(description="The forge's number: stays when the repository is renamed.")
    full_name: str = Field(pattern=r"^[^/].*/[^/]+$", examples=["acme/shop"])
    default_branch: str
    clone_url: str
    private: bool
    fork: bool


class Head(Part):
    """The branch somebody wants merged."""

    ref: str = Field(description="The branch's name.")
    sha: Sha
    repository: str | None = Field(default=None, description="Its repository's full name; absent when deleted.")


class Base(Part):
    """The branch it is to be merged into."""

    ref: str
    sha: Sha


class ScmData(Data):
    """A fact from a forge."""

    WRITERS = ("webhook-ingest",)

    repository: Repository
    payload: Verbatim | None = Field(default=None, description="The forge's payload, if it has at most 512 KB.")
    payload_omitted: Omitted | None = Field(default=None, description="Size and digest of a larger payload.")

    @model_validator(mode="after")
    def _one_payload_at_most(self) -> Self:
        if self.payload is not None and self.payload_omitted is not None:
            raise ValueError("payload and payloadOmitted: expected at most one of the two")
        return self


class PullRequestChanged(ScmData):
    """A pull request's whole state after something happened to it."""

    TYPE = "dev.catalyst.scm.pull_request.changed.v1"

    number: Positive
    action: str = Field(description="What the forge says happened: opened, synchronize, closed, …")
    state: Literal["open", "closed"]
    merged: bool
    draft: bool
    fork: bool = Field(description="The head is in another repository than the base, or that repository is gone.")
    title: str
    url: str
    author: str
    sender: str = Field(description="Who caused this change.")
    sender_id: int | None = Field(default=None, description="The forge's number of the sender, if it told.")
    labels: tuple[str, ...] = ()
    head: Head
    base: Base
    before: Sha | None = Field(default=None, description="The head this push replaced.")
    created_at: AwareDatetime
    updated_at: AwareDatetime = Field(description="Whole seconds at GitHub.")
    closed_at: AwareDatetime | None = None

    def nats_subject(self) -> str:
        return subjects.pull_request_subject(self.repository.forge, self.repository.full_name, self.number)

    def about(self) -> str:
        return f"{self.repository.forge}/{self.repository.full_name}/pull/{self.number}"


class HeadCommit(Part):
    """The newest commit of a push."""

    id: Sha
    message: str
    timestamp: AwareDatetime


class BranchPushed(ScmData):
    """A branch was created, moved or deleted."""

    TYPE = "dev.catalyst.scm.branch.pushed.v1"

    branch: str = Field(min_length=1)
    before: Sha
    after: Sha = Field(description="All zeros when the branch was deleted.")
    created: bool
    deleted: bool
    forced: bool
    head_commit: HeadCommit | None = None
    pusher: str
    sender: str
    sender_id: int | None = Field(default=None, description="The forge's number of the sender, if it told.")
    pushed_at: AwareDatetime

    def nats_subject(self) -> str:
        return subjects.branch_subject(self.repository.forge, self.repository.full_name, self.branch)

    def about(self) -> str:
        return f"{self.repository.forge}/{self.repository.full_name}/branch/{self.branch}"


class CommentWritten(ScmData):
    """A comment that begins with `/catalyst`, before anybody asked who may say so. Only webhook-ingest reads it."""

    TYPE = "dev.catalyst.scm.comment.written.v1"

    number: Positive
    comment_id: Positive = Field(description="The forge's number of the comment.")
    line: str = Field(max_length=1000, description="Its first line, which is the command.")
    author: str
    author_id: int | None = Field(default=None, description="The forge's number of the author, if it told.")
    url: str
    written_at: AwareDatetime

    def nats_subject(self) -> str:
        return subjects.comment_subject(self.repository.forge, self.repository.full_name, self.number)

    def about(self) -> str:
        return f"{self.repository.forge}/{self.repository.full_name}/pull/{self.number}"


class CommandGiven(ScmData):
    """A `/catalyst` command in a pull request, by somebody whom the forge lets write."""

    TYPE = "dev.catalyst.scm.command.given.v1"

    number: Positive
    command: Literal["deploy", "stop", "sleep", "wake", "extend", "approve", "help"]
    arguments: tuple[str, ...] = ()
    author: str
    author_id: int | None = Field(default=None, description="The forge's number of the author, if it told.")
    permission: Literal["admin", "maintain", "write"] = Field(description="What the forge answered when asked.")
    head_sha: Sha | None = Field(default=None, description="The head an approval is for.")
    comment_id: Positive | None = Field(default=None, description="The forge's number of the comment, to react to it.")
    url: str
    given_at: AwareDatetime

    def nats_subject(self) -> str:
        return subjects.command_subject(self.repository.forge, self.repository.full_name, self.number)

    def about(self) -> str:
        return f"{self.repository.forge}/{self.repository.full_name}/pull/{self.number}"


class EnvironmentName(Part):
    """Which environment, and which life of it. Raises a validation error when a part is no name."""

    team: str
    project: str
    environment: str
    uid: str = Field(min_length=1, description="metadata.uid of the Environment: a new life has a new one.")

    @model_validator(mode="after")
    def _names(self) -> Self:
        Identity(self.team, self.project, self.environment)
        return self

    @property
    def identity(self) -> Identity:
        return Identity(self.team, self.project, self.environment)

    @classmethod
    def of(cls, identity: Identity, uid: str) -> Self:
        return cls(team=identity.team, project=identity.project, environment=identity.environment, uid=uid)


class EnvironmentData(Data):
    """News about one environment."""

    NOUN: ClassVar[str]
    VERB: ClassVar[str]

    environment: EnvironmentName

    def nats_subject(self) -> str:
        return subjects.environment_subject(self.environment.identity, self.NOUN, self.VERB)

    def about(self) -> str:
        return str(self.environment.identity)


class EnvironmentChanged(Data):
    """The whole public state of an environment. The last one's phase is `Gone`."""

    TYPE = "dev.catalyst.environment.changed.v1"
    WRITERS = ("env-controller",)

    snapshot: Snapshot

    def kept(self) -> timedelta | None:
        return GONE_KEPT if self.snapshot.phase == Phase.GONE else None

    def nats_subject(self) -> str:
        return subjects.environment_subject(self.snapshot.key, "environment", "changed")

    def about(self) -> str:
        return str(self.snapshot.key)


class Build(EnvironmentData):
    """Which build: the answer counts only for the key and attempt asked for last."""

    NOUN = "build"

    component: str = Field(min_length=1)
    key: str = Field(min_length=1, description="Hash of commit and inputs.")
    attempt: Positive


class BuildRequested(Build):
    """A build is wanted; repeated while unanswered."""

    TYPE = "dev.catalyst.build.requested.v1"
    WRITERS = ("env-controller",)
    VERB = "requested"

    commit: Sha
    repository: Repository
    trusted: bool = Field(description="False for a fork's code: no secrets, no push token, no shared cache.")
    inputs: dict[str, str] = Field(default_factory=dict, description="dockerfile, context, target and build arguments.")


class BuildFinished(Build):
    """A build ended. `digest` when it succeeded, `reason` when not."""

    TYPE = "dev.catalyst.build.finished.v1"
    WRITERS = ("builder",)
    VERB = "finished"

    outcome: Literal["succeeded", "failed", "superseded"]
    image: str | None = None
    digest: str | None = Field(default=None, pattern=r"^sha256:[0-9a-f]{64}$")
    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = Field(default=(), description="Ports the image exposes.")
    user: str | None = Field(default=None, description="The user the image runs as; absent: root.")
    duration_seconds: float = Field(ge=0)
    reason: str | None = Field(default=None, description="Why it failed, in one CamelCase word.")
    message: str | None = Field(default=None, description="Why, as a sentence that says what to do.")
    log_tail: str | None = Field(default=None, description="The last lines of the log, without secrets.")

    @model_validator(mode="after")
    def _says_what_came_of_it(self) -> Self:
        if self.outcome == "succeeded" and self.digest is None:
            raise ValueError("digest: expected one when outcome is succeeded")
        if self.outcome == "failed" and self.reason is None:
            raise ValueError("reason: expected one when outcome is failed")
        return self


class BuildCleaned(EnvironmentData):
    """Nothing of this environment's builds is left."""

    TYPE = "dev.catalyst.build.cleaned.v1"
    WRITERS = ("builder",)
    NOUN = "build"
    VERB = "cleaned"


class RouteChanged(EnvironmentData):
    """A public hostname began or ceased to answer."""

    TYPE = "dev.catalyst.route.changed.v1"
    WRITERS = ("dns-proxy",)
    NOUN = "route"
    VERB = "changed"

    host: str = Field(min_length=1)
    live: bool
    reason: str | None = None


class Session(EnvironmentData):
    """Somebody inside an environment."""

    NOUN = "session"
    WRITERS = ("gateway",)

    session: str = Field(min_length=1)
    principal: str
    door: Literal["browser", "cli", "ssh", "agent"]
    at: AwareDatetime
    recording: str | None = None


class SessionOpened(Session):
    """A session began."""

    TYPE = "dev.catalyst.session.opened.v1"
    VERB = "opened"


class SessionClosed(Session):
    """A session ended, by itself or because access was revoked."""

    TYPE = "dev.catalyst.session.closed.v1"
    VERB = "closed"

    reason: str | None = None


class Principal(Part):
    """Who did it, as the door knew them."""

    kind: Literal["forge", "kubernetes", "oncall"]
    name: str = Field(min_length=1, max_length=256, examples=["mona", "system:serviceaccount:ci:deployer"])
    id: str | None = Field(
        default=None,
        max_length=256,
        description="The forge's number or the cluster's uid: stays when they are renamed.",
    )
    acting_as: str | None = Field(default=None, max_length=256, description="Whom they impersonated.")


class AuditRecord(Data):
    """One operation by a principal; `previous` chains it to the record before it on its subject."""

    TYPE = "dev.catalyst.audit.recorded.v1"
    WRITERS = ("env-controller",)

    team: str
    project: str
    environment: str | None = Field(default=None, description="Absent: the operation is on the Project.")
    uid: str | None = Field(default=None, description="Which life of the environment, if there was one.")
    principal: Principal
    door: Literal["pull-request", "push", "command", "resend", "sweep", "kubectl"]
    operation: str = Field(min_length=1, max_length=256, examples=["opened", "approve", "patch"])
    target: str = Field(min_length=1, max_length=1024, examples=["github/acme/shop/pull/42"])
    outcome: Literal["done", "refused", "held", "failed"]
    reason: str | None = Field(default=None, max_length=1024, description="Why it was not done, or not yet.")
    at: AwareDatetime = Field(description="When it was done, by the door's clock.")
    number: Positive = Field(description="Its place in the chain of its subject: 1, 2, 3, …")
    previous: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 of the body of the record before; absent in the first.",
    )

    @model_validator(mode="after")
    def _names(self) -> Self:
        Identity(self.team, self.project, self.environment or "environment")
        if (self.number == 1) != (self.previous is None):
            raise ValueError("previous: expected one in every record but number 1")
        return self

    def nats_subject(self) -> str:
        return subjects.audit_subject(self.team, self.project, self.environment)

    def about(self) -> str:
        return "/".join(part for part in (self.team, self.project, self.environment) if part)


class DeadLetter(Data):
    """A message its consumer could not handle, with the reason. The original stays in its stream."""

    TYPE = "dev.catalyst.dead.letter.v1"
    WRITERS = ("webhook-ingest", "env-controller", "builder", "dns-proxy", "notifier", "gateway")

    service: str = Field(min_length=1)
    consumer: str
    stream: str
    sequence: Positive
    original_subject: str
    delivered: Positive = Field(description="How often it had been delivered.")
    reason: str
    event_type: str | None = None
    event_id: str | None = None
    message: str | None = Field(default=None, description="The message, if it is text that fits.")
    message_omitted: Omitted | None = None

    def nats_subject(self) -> str:
        return subjects.dead_subject(self.service)

    def about(self) -> str:
        return f"{self.stream}/{self.sequence}"


class DeadSettled(Data):
    """Somebody dealt with a dead letter: its message was sent again, or dropped. The letter stays where it is."""

    TYPE = "dev.catalyst.dead.settled.v1"
    WRITERS = ("oncall",)

    consumer: str = Field(min_length=1, description="Whose letter: it, stream and sequence are those of the letter.")
    stream: str
    sequence: Positive
    outcome: Literal["resent", "dropped"]
    by: str = Field(min_length=1, description="Who says to have done it. The credential itself is everybody's on call.")
    reason: str | None = Field(default=None, max_length=1024, description="Why it was dropped.")
    resent_sequence: Positive | None = Field(default=None, description="Where in the stream the message is again.")

    @model_validator(mode="after")
    def _says_how(self) -> Self:
        if self.outcome == "resent" and self.resent_sequence is None:
            raise ValueError("resentSequence: expected one when outcome is resent")
        if self.outcome == "dropped" and not self.reason:
            raise ValueError("reason: expected one when outcome is dropped")
        return self

    def nats_subject(self) -> str:
        return subjects.dead_subject(self.WRITERS[0])

    def about(self) -> str:
        return f"{self.stream}/{self.sequence}"


CATALOGUE: Final[Mapping[str, type[Data]]] = {
    data.TYPE: data
    for data in (
        PullRequestChanged,
        BranchPushed,
        CommentWritten,
        CommandGiven,
        EnvironmentChanged,
        BuildRequested,
        BuildFinished,
        BuildCleaned,
        RouteChanged,
        SessionOpened,
        SessionClosed,
        AuditRecord,
        DeadLetter,
        DeadSettled,
    )
}
