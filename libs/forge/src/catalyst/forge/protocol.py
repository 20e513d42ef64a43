"""What every forge can do with a webhook (`catalyst.forge.github` is the first):

verify(headers, body, secrets)  →  delivery(headers)  →  translate(delivery, body)

And what a service may ask of a forge's API: `ForgeReader` (webhook-ingest), `ForgeWriter` (notifier), `ForgeSources`
(builder). `catalyst.forge.client` is the first.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol

from pydantic import SecretStr

from catalyst.events.catalogue import PullRequestChanged, ScmData

Headers = Mapping[str, str]
"""HTTP headers with lower-case names."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook: its GUID, which a redelivery repeats, and the forge's name for what happened."""

    id: str
    event: str


@dataclass(frozen=True, slots=True)
class Ping:
    """The forge asks whether anybody is there."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A webhook that says nothing we use yet."""

    reason: str


Translation = ScmData | Ping | Ignored
"""The fact that the webhook tells, or why it tells none."""


class Forge(Protocol):
    """Reading a forge's webhooks."""

    @property
    def name(self) -> str:
        """`github`: the forge's token in subjects."""

    @property
    def events(self) -> frozenset[str]:
        """The forge's names for what can happen: bounds the values of metric labels."""

    def verify(self, headers: Headers, body: bytes, secrets: Sequence[bytes]) -> None:
        """Return if `body` is signed by one of `secrets` (several while one is rotated). Raises `BadSignature`."""

    def delivery(self, headers: Headers) -> Delivery:
        """Which delivery it is. Raises `BadPayload` naming the header."""

    def translate(self, delivery: Delivery, body: bytes) -> Translation:
        """What a verified body says. Raises `BadPayload` naming the field."""


Permission = Literal["admin", "maintain", "write", "triage", "read", "none"]
"""What the forge lets somebody do in a repository, in GitHub's words."""
MAY_WRITE: Final[frozenset[str]] = frozenset({"admin", "maintain", "write"})
Reaction = Literal["+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes"]
DeploymentState = Literal["error", "failure", "inactive", "in_progress", "queued", "pending", "success"]
CheckStatus = Literal["queued", "in_progress", "completed"]
Conclusion = Literal["action_required", "cancelled", "failure", "neutral", "success", "skipped", "timed_out"]


@dataclass(frozen=True, slots=True)
class Token:
    """A credential; `expires_at` None: it is the configured one, which the forge does not narrow."""

    value: SecretStr
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class FailedDelivery:
    """A webhook that was not taken. `id` is one attempt's, `guid` the delivery's, which all its attempts share."""

    id: int
    guid: str
    event: str
    delivered_at: datetime


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment of a pull request; compare `author` with `ForgeWriter.login` before it is taken for our own."""

    id: int
    author: str
    body: str
    url: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment of one commit to one environment."""

    id: int
    sha: str
    environment: str


@dataclass(frozen=True, slots=True)
class CheckRun:
    """A check of one commit; `external_id` is ours to choose."""

    id: int
    name: str
    sha: str
    external_id: str
    status: CheckStatus


class ForgeReader(Protocol):
    """What webhook-ingest asks a forge. Everything here raises `ForgeError`; `repository` is `owner/name`."""

    async def repositories(self) -> list[str]:
        """Every repository that this sign-in was given, sorted; with a bare token: none, since it cannot tell."""

    async def open_pull_requests(self, repository: str) -> list[PullRequestChanged]:
        """The open pull requests as they are now, as facts whose `action` is `swept`.

        An empty list is no evidence that anything was closed.
        """

    async def closed_pull_requests(self, repository: str, since: datetime) -> list[PullRequestChanged]:
        """Those closed ones that changed at or after `since`, newest first, `action` `swept`."""

    async def pull_request(self, repository: str, number: int) -> PullRequestChanged:
        """One pull request as it is now, `action` `swept`."""

    async def permission(self, repository: str, user: str) -> Permission:
        """What `user` may do there, by the roles the forge knows; a stranger has `read` or `none`."""

    async def failed_deliveries(self, since: datetime) -> list[FailedDelivery]:
        """Webhooks sent at or after `since` that no attempt delivered, one for each GUID, oldest first.

        With a bare token: none, since GitHub tells only an App of its deliveries.
        """

    async def delivery_payload(self, delivery: int) -> tuple[dict[str, str], bytes]:
        """An attempt's request: headers with lower-case names, and the body. The body is the same JSON, not the same
        bytes: its signature does not fit, and who sent it is known by whom it was asked of."""


class ForgeWriter(Protocol):
    """What notifier does at a forge. Everything here raises `ForgeError`; `repository` is `owner/name`."""

    async def login(self) -> str:
        """As whom we write: `catalyst[bot]`."""

    def list_comments(self, repository: str, number: int) -> AsyncIterator[Comment]:
        """All comments of a pull request, oldest first."""

    async def create_comment(self, repository: str, number: int, body: str) -> Comment:
        """Write a comment of at most 65,536 characters."""

    async def update_comment(self, repository: str, comment: int, body: str) -> Comment:
        """Replace a comment's text. Raises `NotThere` when somebody deleted it."""

    async def delete_comment(self, repository: str, comment: int) -> None:
        """Delete a comment; one that is gone already is no error."""

    async def react(self, repository: str, comment: int, content: Reaction) -> None:
        """Add our reaction to a comment; the same one twice is one."""

    def list_deployments(
        self, repository: str, *, environment: str, sha: str | None = None
    ) -> AsyncIterator[Deployment]:
        """The deployments to that environment, newest first; with `sha`, those of that commit."""

    async def deployment_state(self, repository: str, deployment: int) -> str | None:
        """What was said of it last; None: nothing yet."""

    async def create_deployment(
        self, repository: str, *, sha: str, environment: str, description: str = "", transient: bool = True
    ) -> Deployment:
        """Say that `sha` is being deployed. `transient`: the environment will not exist for ever."""

    async def create_deployment_status(
        self,
        repository: str,
        deployment: int,
        state: DeploymentState,
        *,
        environment_url: str | None = None,
        log_url: str | None = None,
        description: str = "",
    ) -> None:
        """How that deployment stands. `description`: at most 140 characters."""

    def list_check_runs(self, repository: str, *, sha: str, name: str) -> AsyncIterator[CheckRun]:
        """The check runs of that name and commit, newest first; of others' Apps none."""

    async def create_check_run(
        self,
        repository: str,
        *,
        sha: str,
        name: str,
        external_id: str,
        status: CheckStatus,
        conclusion: Conclusion | None = None,
        title: str = "",
        summary: str = "",
        details_url: str | None = None,
    ) -> CheckRun:
        """Report a check. GitHub lets only Apps do so: `NotPermitted` with a bare token."""

    async def update_check_run(
        self,
        repository: str,
        check_run: int,
        *,
        status: CheckStatus,
        conclusion: Conclusion | None = None,
        title: str = "",
        summary: str = "",
        details_url: str | None = None,
    ) -> CheckRun:
        """Change a check. `conclusion` exactly when `status` is `completed`."""


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """Something in a folder of a commit. `mode` and `id` as git has them: `040000` a folder, `100…` a file."""

    mode: str
    id: str


class ForgeSources(Protocol):
    """What builder asks a forge. Raises `ForgeError`."""

    async def token(self, repository: str, permissions: Mapping[str, str]) -> Token:
        """A credential for that one repository and these permissions only: `{"contents": "read"}`. It is good for at
        least ten minutes more."""

    async def tree_of(self, repository: str, commit: str) -> str:
        """The id of a commit's root folder."""

    async def tree(self, repository: str, tree: str) -> Mapping[str, TreeEntry]:
        """What a folder holds, by name; its own folders are not looked into."""


class ForgeClient(ForgeReader, ForgeWriter, ForgeSources, Protocol):
    """A forge's whole API, as far as we use it. Each service asks for the part that it needs."""
