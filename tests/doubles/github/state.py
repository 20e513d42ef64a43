"""What there is at the double's GitHub, as plain values that change. Who changes them holds the double's lock."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any, Literal

from doubles.github.git import GitRepository

Role = Literal["admin", "maintain", "write", "triage", "read"]
LEGACY = {"admin": "admin", "maintain": "write", "write": "write", "triage": "read", "read": "read", "none": "none"}
"""What the older field `permission` says for each role."""
PERMISSIONS = {
    "metadata": "read",
    "contents": "read",
    "pull_requests": "write",
    "issues": "write",
    "deployments": "write",
    "checks": "write",
}
"""What an App for Catalyst asks for."""


@dataclass
class User:
    """A person, an organisation, or an App's bot. `token` signs them in, with all their rights."""

    id: int
    login: str
    type: Literal["User", "Organization", "Bot"]
    token: str


@dataclass
class Repository:
    """`collaborators`: login in lower case → role; the owner has `admin`."""

    id: int
    owner: User
    name: str
    git: GitRepository
    private: bool
    default_branch: str
    created_at: datetime
    pushed_at: datetime
    parent: "Repository | None" = None
    collaborators: dict[str, Role] = field(default_factory=dict)
    pulls: dict[int, "PullRequest"] = field(default_factory=dict)
    deployments: dict[int, "Deployment"] = field(default_factory=dict)
    checks: dict[int, "CheckRun"] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        return f"{self.owner.login}/{self.name}"

    def role(self, user: User) -> str:
        """What the forge lets this user do."""
        if user is self.owner:
            return "admin"
        return self.collaborators.get(user.login.lower(), "none" if self.private else "read")


@dataclass
class PullRequest:
    """`head` is a commit; `head_repository` None: the fork was deleted."""

    id: int
    number: int
    repository: Repository
    author: User
    title: str
    body: str | None
    head_repository: Repository | None
    head_ref: str
    head: str
    base_ref: str
    base: str
    created_at: datetime
    updated_at: datetime
    draft: bool = False
    labels: list[str] = field(default_factory=list)
    state: Literal["open", "closed"] = "open"
    closed_at: datetime | None = None
    merged_at: datetime | None = None
    merged_by: User | None = None
    merge_commit: str | None = None
    changes: tuple[int, int, int, int] = (0, 0, 0, 0)
    comments: dict[int, "Comment"] = field(default_factory=dict)


@dataclass
class Reaction:
    """Somebody's answer to a comment in one sign."""

    id: int
    user: User
    content: str
    created_at: datetime


@dataclass
class Comment:
    """`by_app`: written with an installation's token. `edits`: when it was written and each change of it."""

    id: int
    pull: PullRequest
    author: User
    body: str
    created_at: datetime
    updated_at: datetime
    by_app: bool
    reactions: dict[int, Reaction] = field(default_factory=dict)
    edits: list[datetime] = field(default_factory=list)


@dataclass
class DeploymentStatus:
    """One step of a deployment."""

    id: int
    state: str
    description: str
    environment_url: str
    log_url: str
    creator: User
    created_at: datetime


@dataclass
class Deployment:
    """A commit on its way to an environment."""

    id: int
    sha: str
    ref: str
    task: str
    environment: str
    description: str
    payload: Any
    transient: bool
    production: bool
    creator: User
    created_at: datetime
    statuses: list[DeploymentStatus] = field(default_factory=list)


@dataclass
class CheckRun:
    """A check of a commit. `output`: title, summary, text. `app_id`: who made it, and alone changes it."""

    id: int
    sha: str
    name: str
    status: str
    conclusion: str | None
    external_id: str
    details_url: str | None
    output: dict[str, Any]
    started_at: datetime | None
    completed_at: datetime | None
    app_id: int


@dataclass
class Installation:
    """The App at one account. `repositories`: their ids; None: all of the account's."""

    id: int
    account: User
    permissions: dict[str, str]
    repositories: set[int] | None
    created_at: datetime


@dataclass
class State:
    """Everything."""

    users: dict[str, User] = field(default_factory=dict)
    repositories: dict[str, Repository] = field(default_factory=dict)
    installations: dict[int, Installation] = field(default_factory=dict)
    ids: Iterator[int] = field(default_factory=lambda: count(1001))

    def repository(self, full_name: str) -> Repository | None:
        """By name, whose case does not matter."""
        return self.repositories.get(full_name.lower())

    def installed_at(self, repository: Repository) -> Installation | None:
        """The App's installation that knows a repository."""
        for installation in self.installations.values():
            if installation.account is repository.owner and (
                installation.repositories is None or repository.id in installation.repositories
            ):
                return installation
        return None

    def repositories_of(self, installation: Installation) -> list[Repository]:
        """What an installation was given."""
        return [each for each in self.repositories.values() if self.installed_at(each) is installation]

    def comment(self, repository: Repository, number: int) -> Comment | None:
        """A comment by its id."""
        found = (pull.comments.get(number) for pull in repository.pulls.values())
        return next((each for each in found if each is not None), None)
