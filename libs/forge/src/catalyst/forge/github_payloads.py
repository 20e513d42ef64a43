"""The few fields of GitHub's payloads that we read, tolerantly: what else is there does not matter, and may change.

Field names are GitHub's, so that an error names what its sender can find. Decoded by msgspec: it checks the syntax of
all the JSON and makes objects of these fields alone, in half the time of parsing everything. Numbers beyond a double
(`1e999`) are JSON and pass.
"""

from datetime import datetime
from functools import lru_cache
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from catalyst.forge.errors import BadPayload

Sha = Annotated[str, Meta(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]
Positive = Annotated[int, Meta(ge=1)]
When = Annotated[datetime, Meta(tz=True)]


class Payload(msgspec.Struct, frozen=True):
    """Something GitHub sends: a JSON object."""


P = TypeVar("P", bound=Payload)


class User(Payload, frozen=True):
    """An account."""

    login: str
    id: int | None = None


class Label(Payload, frozen=True):
    """A label of a pull request."""

    name: str


class Repository(Payload, frozen=True):
    """A repository."""

    id: int
    full_name: Annotated[str, Meta(pattern=r"^[^/].*/[^/]+$")]
    default_branch: str
    clone_url: str
    private: bool
    fork: bool


class PushedRepository(Repository, frozen=True):
    """In a push: `pushed_at` is Unix seconds there, a date elsewhere."""

    pushed_at: int | str


class HeadRepository(Payload, frozen=True):
    """Where a pull request comes from."""

    id: int
    full_name: str


class Ref(Payload, frozen=True):
    """A branch at a commit."""

    ref: Annotated[str, Meta(min_length=1)]
    sha: Sha


class HeadRef(Ref, frozen=True):
    """`repo` is null when the fork was deleted."""

    repo: HeadRepository | None


class PullRequest(Payload, frozen=True):
    """A pull request. Old servers send no `draft`."""

    number: Positive
    state: Annotated[str, Meta(pattern="^(open|closed)$")]
    title: str
    html_url: str
    user: User | None
    head: HeadRef
    base: Ref
    created_at: When
    updated_at: When
    merged: bool | None = None
    merged_at: When | None = None
    draft: bool = False
    labels: tuple[Label, ...] = ()
    closed_at: When | None = None


class PullRequestPayload(Payload, frozen=True):
    """`pull_request`; `before` is there when the head moved."""

    action: str
    pull_request: PullRequest
    repository: Repository
    sender: User | None = None
    before: Sha | None = None


class Commit(Payload, frozen=True):
    """The newest commit of a push."""

    id: Sha
    message: str
    timestamp: When


class Pusher(Payload, frozen=True):
    """Who pushed, by account name."""

    name: str


class PushPayload(Payload, frozen=True):
    """`push`, of a branch or a tag."""

    ref: str
    before: Sha
    after: Sha
    created: bool
    deleted: bool
    forced: bool
    pusher: Pusher
    repository: PushedRepository
    head_commit: Commit | None = None
    sender: User | None = None


def read(kind: type[P], body: bytes) -> P:
    """The fields of `kind` in a JSON object. Raises `BadPayload` naming the field."""
    try:
        body.decode()  # what is skipped is not checked for it
        told: P = _decoder(kind).decode(body)
    except msgspec.ValidationError as exc:
        raise _bad(str(exc)) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        hint = "; set the webhook's content type to application/json" if body.startswith(b"payload=") else ""
        raise BadPayload("body", f"expected a JSON object{hint} ({exc})") from exc
    return told


@lru_cache
def _decoder(kind: type[P]) -> msgspec.json.Decoder[P]:
    return msgspec.json.Decoder(kind)


def _bad(told: str) -> BadPayload:
    """msgspec says ``Object missing required field `sha` - at `$.pull_request.head` ``, or ``Expected `int`, …``."""
    what, _, where = told.partition(" - at `$")
    path = where.removesuffix("`").removeprefix(".")
    if what.startswith("Object missing required field"):
        name = what.split("`")[1]
        return BadPayload(f"{path}.{name}" if path else name, "expected a value, but it is missing")
    if not path:
        return BadPayload("body", f"expected a JSON object, found {what.split('`')[-2]}")
    return BadPayload(path, f"{what[:1].lower()}{what[1:]}".replace("`", ""))


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
