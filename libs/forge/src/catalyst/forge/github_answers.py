"""The few fields of GitHub's answers that we read, tolerantly; names are GitHub's."""

from typing import Annotated, Any, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from catalyst.forge.errors import ForgeUnavailable
from catalyst.forge.protocol import CheckStatus

T = TypeVar("T")


class Answer(BaseModel):
    """Something GitHub answers."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class User(Answer):
    """An account."""

    login: str


class Installation(Answer):
    """An App at one account."""

    id: int


class App(Answer):
    """The App that we are."""

    slug: str


class WholeApp(App):
    """The same with what it may and is told of."""

    permissions: dict[str, str]
    events: tuple[str, ...]


class Account(Answer):
    """A person's or organization's has a login, an enterprise's a slug."""

    login: str | None = None
    slug: str | None = None


class WholeInstallation(Installation):
    """The same with what the account has accepted."""

    account: Account | None = None
    permissions: dict[str, str]

    @property
    def at(self) -> str:
        account = self.account or Account()
        return account.login or account.slug or f"installation {self.id}"


class RepositoryName(Answer):
    """A repository in a list."""

    full_name: str


class InstallationRepositories(Answer):
    """One page of what an installation was given."""

    repositories: tuple[RepositoryName, ...]


class CollaboratorPermission(Answer):
    """`role_name` may be one that the organisation made up; `permission` is the old name of what it amounts to."""

    permission: str
    role_name: str | None = None


class Delivery(Answer):
    """An attempt to deliver a webhook."""

    id: int
    guid: Annotated[str, Field(min_length=1)]
    event: str
    delivered_at: AwareDatetime
    status_code: int


class DeliveryRequest(Answer):
    """What was sent."""

    headers: dict[str, str] | None
    payload: dict[str, Any] | None


class WholeDelivery(Answer):
    """An attempt with what was sent."""

    request: DeliveryRequest


class IssueComment(Answer):
    """A comment."""

    id: int
    body: str | None = None
    user: User | None
    html_url: str
    created_at: AwareDatetime
    updated_at: AwareDatetime


class GitHubDeployment(Answer):
    """A deployment."""

    id: int
    sha: str
    environment: str


class GitHubDeploymentStatus(Answer):
    """One step of a deployment; they are listed newest first."""

    state: str


class GitHubCheckRun(Answer):
    """A check run."""

    id: int
    name: str
    head_sha: str
    external_id: str | None
    status: CheckStatus


class CheckRuns(Answer):
    """One page of a commit's check runs."""

    check_runs: tuple[GitHubCheckRun, ...]


class TreeId(Answer):
    """Which folder."""

    sha: str


class GitCommit(Answer):
    """A commit."""

    tree: TreeId


class GitTreeEntry(Answer):
    """A file or a folder; `path` is its name alone unless the whole tree was asked for."""

    path: str
    mode: str
    sha: str


class GitTree(Answer):
    """What a folder holds. `truncated`: GitHub left something out."""

    tree: tuple[GitTreeEntry, ...]
    truncated: bool


def understood(kind: type[T], told: Any, asked: str) -> T:
    """`told` as `kind`. Raises `ForgeUnavailable` naming the field: a proxy's page, or a forge that changed."""
    try:
        return TypeAdapter(kind).validate_python(told)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the answer"
        raise ForgeUnavailable(asked, f"the answer cannot be understood: {place}: {first['msg']}") from exc
