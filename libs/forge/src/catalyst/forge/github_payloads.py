"""The few fields of GitHub's payloads that we read, tolerantly: what else is there does not matter, and may change.

Field names are GitHub's, so that an error names what its sender can find.
"""

from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from catalyst.events.catalogue import Positive, Sha


class Payload(BaseModel):
    """Something GitHub sends."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class User(Payload):
    """An account."""

    login: str


class Label(Payload):
    """A label of a pull request."""

    name: str


class Repository(Payload):
    """A repository."""

    id: int
    full_name: Annotated[str, Field(pattern=r"^[^/].*/[^/]+$")]
    default_branch: str
    clone_url: str
    private: bool
    fork: bool


class PushedRepository(Repository):
    """In a push: `pushed_at` is Unix seconds there, a date elsewhere."""

    pushed_at: AwareDatetime


class HeadRepository(Payload):
    """Where a pull request comes from."""

    id: int
    full_name: str


class Ref(Payload):
    """A branch at a commit."""

    ref: Annotated[str, Field(min_length=1)]
    sha: Sha


class HeadRef(Ref):
    """`repo` is null when the fork was deleted."""

    repo: HeadRepository | None


class PullRequest(Payload):
    """A pull request. Old servers send no `draft`."""

    number: Positive
    state: Literal["open", "closed"]
    merged: bool | None = None
    merged_at: AwareDatetime | None = None
    draft: bool = False
    title: str
    html_url: str
    user: User | None
    labels: tuple[Label, ...] = ()
    head: HeadRef
    base: Ref
    created_at: AwareDatetime
    updated_at: AwareDatetime
    closed_at: AwareDatetime | None = None


class PullRequestPayload(Payload):
    """`pull_request`; `before` is there when the head moved."""

    action: str
    pull_request: PullRequest
    repository: Repository
    sender: User | None = None
    before: Sha | None = None


class Commit(Payload):
    """The newest commit of a push."""

    id: Sha
    message: str
    timestamp: AwareDatetime


class Pusher(Payload):
    """Who pushed, by account name."""

    name: str


class PushPayload(Payload):
    """`push`, of a branch or a tag."""

    ref: str
    before: Sha
    after: Sha
    created: bool
    deleted: bool
    forced: bool
    head_commit: Commit | None = None
    pusher: Pusher
    repository: PushedRepository
    sender: User | None = None


# fmt: off
EVENTS: Final = frozenset((
    "branch_protection_configuration", "branch_protection_rule", "check_run", "check_suite",
    "code_scanning_alert", "commit_comment", "create", "custom_property", "custom_property_values", "delete",
    "dependabot_alert", "deploy_key", "deployment", "deployment_protection_rule", "deployment_review",
    "deployment_status", "discussion", "discussion_comment", "fork", "github_app_authorization", "gollum",
    "installation", "installation_repositories", "installation_target", "issue_comment", "issue_dependencies",
    "issues", "label", "marketplace_purchase", "member", "membership", "merge_group", "meta", "milestone",
    "org_block", "organization", "package", "page_build", "personal_access_token_request", "ping", "project",
    "project_card", "project_column", "projects_v2", "projects_v2_item", "projects_v2_status_update", "public",
    "pull_request", "pull_request_review", "pull_request_review_comment", "pull_request_review_thread", "push",
    "registry_package", "release", "repository", "repository_advisory", "repository_dispatch",
    "repository_import", "repository_ruleset", "repository_vulnerability_alert", "secret_scanning_alert",
    "secret_scanning_alert_location", "secret_scanning_scan", "security_advisory", "security_and_analysis",
    "sponsorship", "star", "status", "sub_issues", "team", "team_add", "watch", "workflow_dispatch",
    "workflow_job", "workflow_run",
))
# fmt: on
"""Every event that GitHub documents."""
