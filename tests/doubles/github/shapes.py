"""What is there, as GitHub's JSON.

The frame of each answer is one of GitHub's own examples (`@octokit/webhooks-examples`) with our names put in, so that
every field is there; the description says whether the result is right.
"""

import base64
import copy
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from doubles.github.git import Commit
from doubles.github.state import (
    LEGACY,
    CheckRun,
    Comment,
    Deployment,
    DeploymentStatus,
    Installation,
    PullRequest,
    Reaction,
    Repository,
    User,
)

EXAMPLES = Path(__file__).resolve().parents[2] / "data" / "github-webhooks" / "payloads.jsonl"
SIGNS = ("+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes")

JSON = dict[str, Any]


@cache
def example(name: str) -> JSON:
    """One of GitHub's example payloads."""
    with EXAMPLES.open(encoding="utf-8") as lines:
        found: JSON = next(line["payload"] for line in map(json.loads, lines) if line["name"] == name)
    return found


def when(time: datetime | None) -> str | None:
    """A moment as GitHub writes it: whole seconds, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ") if time else None


def node(kind: str, id_: int) -> str:
    """An opaque name, as GraphQL has them."""
    return base64.b64encode(f"{kind}{id_}".encode()).decode()


class Shapes:
    """`api` and `web` are the addresses of the API and of the pages, without a slash at the end."""

    def __init__(self, api: str, web: str, app: "App") -> None:
        self.api = api
        self.web = web
        self._app = app

    def user(self, user: User) -> JSON:
        """A simple user."""
        made = self._framed(example("pull_request/opened/1")["sender"], {"Codertocat": user.login})
        return {
            **made,
            "id": user.id,
            "node_id": node("User", user.id),
            "type": user.type,
            "avatar_url": f"{self.web}/avatars/{user.id}",
            "user_view_type": "public",
        }

    def repository(self, repository: Repository) -> JSON:
        """A repository as it stands in lists, pull requests and webhooks."""
        frame = example("pull_request/opened/1")["repository"]
        made = self._framed(
            frame, {"Codertocat/Hello-World": repository.full_name, "Codertocat": repository.owner.login}
        )
        open_pulls = sum(pull.state == "open" for pull in repository.pulls.values())
        return {
            **made,
            "id": repository.id,
            "node_id": node("Repository", repository.id),
            "name": repository.name,
            "full_name": repository.full_name,
            "owner": self.user(repository.owner),
            "private": repository.private,
            "visibility": "private" if repository.private else "public",
            "fork": repository.parent is not None,
            "default_branch": repository.default_branch,
            "clone_url": f"{self.web}/{repository.full_name}.git",
            "git_url": f"git://{self._host}/{repository.full_name}.git",
            "ssh_url": f"git@{self._host}:{repository.full_name}.git",
            "created_at": when(repository.created_at),
            "updated_at": when(repository.pushed_at),
            "pushed_at": when(repository.pushed_at),
            "open_issues": open_pulls,
            "open_issues_count": open_pulls,
            "has_discussions": False,
            "topics": [],
            "is_template": False,
            "allow_forking": True,
            "web_commit_signoff_required": False,
        }

    def full_repository(self, repository: Repository) -> JSON:
        """A repository asked for by its name."""
        parent = {"parent": self.repository(repository.parent)} if repository.parent else {}
        return {**self.repository(repository), **parent, "network_count": 0, "subscribers_count": 0}

    def pull_request(self, pull: PullRequest) -> JSON:
        """A pull request in a list."""
        frame = {
            key: value for key, value in example("pull_request/opened/1")["pull_request"].items() if key not in _WHOLE
        }
        path = pull.repository.full_name
        made = self._framed(
            frame,
            {
                "Codertocat/Hello-World/pulls/2": f"{path}/pulls/{pull.number}",
                "Codertocat/Hello-World/pull/2": f"{path}/pull/{pull.number}",
                "Codertocat/Hello-World/issues/2": f"{path}/issues/{pull.number}",
                "ec26c3e57ca3a959ca5aad62de7213c562f8c821": pull.head,
                "Codertocat/Hello-World": path,
                "Codertocat": pull.repository.owner.login,
            },
        )
        head = pull.head_repository
        return {
            **made,
            "id": pull.id,
            "node_id": node("PullRequest", pull.id),
            "number": pull.number,
            "state": pull.state,
            "title": pull.title,
            "body": pull.body,
            "user": self.user(pull.author),
            "draft": pull.draft,
            "labels": [self.label(pull.repository, name) for name in pull.labels],
            "created_at": when(pull.created_at),
            "updated_at": when(pull.updated_at),
            "closed_at": when(pull.closed_at),
            "merged_at": when(pull.merged_at),
            "merge_commit_sha": pull.merge_commit,
            "author_association": _association(pull.repository, pull.author),
            "auto_merge": None,
            "active_lock_reason": None,
            "head": self._end(head, pull.author if head is None else head.owner, pull.head_ref, pull.head),
            "base": self._end(pull.repository, pull.repository.owner, pull.base_ref, pull.base),
        }

    def whole_pull_request(self, pull: PullRequest) -> JSON:
        """A pull request asked for by its number, and in webhooks."""
        additions, deletions, files, commits = pull.changes
        return {
            **self.pull_request(pull),
            "merged": pull.merged_at is not None,
            "mergeable": None if pull.state == "closed" else True,
            "rebaseable": None if pull.state == "closed" else True,
            "mergeable_state": "unknown" if pull.state == "closed" else "clean",
            "merged_by": self.user(pull.merged_by) if pull.merged_by else None,
            "comments": len(pull.comments),
            "review_comments": 0,
            "maintainer_can_modify": False,
            "commits": commits,
            "additions": additions,
            "deletions": deletions,
            "changed_files": files,
        }

    def label(self, repository: Repository, name: str) -> JSON:
        """A label."""
        id_ = int.from_bytes(name.encode()[:6], "big")
        url = f"{self.api}/repos/{repository.full_name}/labels/{name}"
        told = {"id": id_, "node_id": node("Label", id_), "url": url, "name": name}
        return {**told, "description": "", "color": "ededed", "default": False}

    def issue(self, pull: PullRequest) -> JSON:
        """A pull request seen as an issue, in webhooks about comments."""
        frame = copy.deepcopy(example("issue_comment/created/1")["issue"])
        path = pull.repository.full_name
        made = self._framed(
            frame,
            {
                "Codertocat/Hello-World/issues/1": f"{path}/issues/{pull.number}",
                "Codertocat/Hello-World": path,
                "Codertocat": pull.repository.owner.login,
            },
        )
        html = f"{self.web}/{path}/pull/{pull.number}"
        api = f"{self.api}/repos/{path}/pulls/{pull.number}"
        return {
            **made,
            "id": pull.id,
            "node_id": node("Issue", pull.id),
            "html_url": html,
            "number": pull.number,
            "title": pull.title,
            "user": self.user(pull.author),
            "labels": [self.label(pull.repository, name) for name in pull.labels],
            "state": pull.state,
            "assignee": None,
            "assignees": [],
            "milestone": None,
            "comments": len(pull.comments),
            "created_at": when(pull.created_at),
            "updated_at": when(pull.updated_at),
            "closed_at": when(pull.closed_at),
            "author_association": _association(pull.repository, pull.author),
            "body": pull.body,
            "draft": pull.draft,
            "active_lock_reason": None,
            "performed_via_github_app": None,
            "state_reason": None,
            "timeline_url": f"{self.api}/repos/{path}/issues/{pull.number}/timeline",
            "reactions": self._reactions(f"{self.api}/repos/{path}/issues/{pull.number}", {}),
            "pull_request": {
                "url": api,
                "html_url": html,
                "diff_url": f"{html}.diff",
                "patch_url": f"{html}.patch",
                "merged_at": when(pull.merged_at),
            },
        }

    def comment(self, comment: Comment) -> JSON:
        """A comment."""
        pull = comment.pull
        path = pull.repository.full_name
        url = f"{self.api}/repos/{path}/issues/comments/{comment.id}"
        return {
            "id": comment.id,
            "node_id": node("IssueComment", comment.id),
            "url": url,
            "html_url": f"{self.web}/{path}/pull/{pull.number}#issuecomment-{comment.id}",
            "issue_url": f"{self.api}/repos/{path}/issues/{pull.number}",
            "body": comment.body,
            "user": self.user(comment.author),
            "created_at": when(comment.created_at),
            "updated_at": when(comment.updated_at),
            "author_association": _association(pull.repository, comment.author),
            "performed_via_github_app": self.app() if comment.by_app else None,
            "reactions": self._reactions(url, comment.reactions),
        }

    def reaction(self, reaction: Reaction) -> JSON:
        """A reaction."""
        return {
            "id": reaction.id,
            "node_id": node("Reaction", reaction.id),
            "user": self.user(reaction.user),
            "content": reaction.content,
            "created_at": when(reaction.created_at),
        }

    def git_commit(self, repository: Repository, commit: Commit, parents: Sequence[str]) -> JSON:
        """A commit as git has it."""
        base, pages = f"{self.api}/repos/{repository.full_name}/git", f"{self.web}/{repository.full_name}/commit"
        person = {"name": commit.author, "email": commit.email, "date": commit.time}
        unsigned = {"verified": False, "reason": "unsigned", "signature": None, "payload": None, "verified_at": None}
        return {
            "sha": commit.sha,
            "node_id": base64.b64encode(f"C_{commit.sha}".encode()).decode(),
            "url": f"{base}/commits/{commit.sha}",
            "html_url": f"{pages}/{commit.sha}",
            "author": person,
            "committer": person,
            "tree": {"sha": commit.tree, "url": f"{base}/trees/{commit.tree}"},
            "message": commit.message,
            "parents": [{"sha": p, "url": f"{base}/commits/{p}", "html_url": f"{pages}/{p}"} for p in parents],
            "verification": unsigned,
        }

    def git_tree(self, repository: Repository, sha: str, held: Sequence[tuple[str, str, str, str]]) -> JSON:
        """What a folder of a commit holds: (mode, type, id, name)."""
        base = f"{self.api}/repos/{repository.full_name}/git"
        listed = [
            {"path": name, "mode": mode, "type": kind, "sha": id_, "url": f"{base}/{kind}s/{id_}"}
            for mode, kind, id_, name in held
        ]
        return {"sha": sha, "url": f"{base}/trees/{sha}", "truncated": False, "tree": listed}

    def deployment(self, repository: Repository, deployment: Deployment) -> JSON:
        """A deployment."""
        base = f"{self.api}/repos/{repository.full_name}"
        last = deployment.statuses[-1].created_at if deployment.statuses else deployment.created_at
        return {
            "id": deployment.id,
            "node_id": node("Deployment", deployment.id),
            "url": f"{base}/deployments/{deployment.id}",
            "sha": deployment.sha,
            "ref": deployment.ref,
            "task": deployment.task,
            "payload": deployment.payload,
            "original_environment": deployment.environment,
            "environment": deployment.environment,
            "description": deployment.description or None,
            "creator": self.user(deployment.creator),
            "created_at": when(deployment.created_at),
            "updated_at": when(last),
            "statuses_url": f"{base}/deployments/{deployment.id}/statuses",
            "repository_url": base,
            "transient_environment": deployment.transient,
            "production_environment": deployment.production,
            "performed_via_github_app": None,
        }

    def deployment_status(self, repository: Repository, deployment: Deployment, status: DeploymentStatus) -> JSON:
        """A deployment's status."""
        base = f"{self.api}/repos/{repository.full_name}"
        return {
            "id": status.id,
            "node_id": node("DeploymentStatus", status.id),
            "url": f"{base}/deployments/{deployment.id}/statuses/{status.id}",
            "state": status.state,
            "creator": self.user(status.creator),
            "description": status.description,
            "environment": deployment.environment,
            "target_url": status.log_url,
            "log_url": status.log_url,
            "environment_url": status.environment_url,
            "created_at": when(status.created_at),
            "updated_at": when(status.created_at),
            "deployment_url": f"{base}/deployments/{deployment.id}",
            "repository_url": base,
            "performed_via_github_app": None,
        }

    def check_run(self, repository: Repository, check: CheckRun) -> JSON:
        """A check run."""
        base = f"{self.api}/repos/{repository.full_name}"
        output = check.output
        return {
            "id": check.id,
            "node_id": node("CheckRun", check.id),
            "head_sha": check.sha,
            "external_id": check.external_id,
            "url": f"{base}/check-runs/{check.id}",
            "html_url": f"{self.web}/{repository.full_name}/runs/{check.id}",
            "details_url": check.details_url,
            "status": check.status,
            "conclusion": check.conclusion,
            "started_at": when(check.started_at),
            "completed_at": when(check.completed_at),
            "output": {
                "title": output.get("title"),
                "summary": output.get("summary"),
                "text": output.get("text"),
                "annotations_count": 0,
                "annotations_url": f"{base}/check-runs/{check.id}/annotations",
            },
            "name": check.name,
            "check_suite": {"id": repository.id},
            "app": self.app() | {"id": check.app_id},
            "pull_requests": [],
        }

    def app(self) -> JSON:
        """The App."""
        app = self._app
        return {
            "id": app.id,
            "slug": app.slug,
            "client_id": f"Iv1.{app.id:016x}",
            "node_id": node("App", app.id),
            "owner": self.user(app.owner),
            "name": app.slug.title(),
            "description": "",
            "external_url": "https://catalyst.dev",
            "html_url": f"{self.web}/apps/{app.slug}",
            "created_at": when(app.created_at),
            "updated_at": when(app.created_at),
            "permissions": app.permissions,
            "events": app.events,
        }

    def installation(self, installation: Installation) -> JSON:
        """The App at one account."""
        return {
            "id": installation.id,
            "account": self.user(installation.account),
            "repository_selection": "all" if installation.repositories is None else "selected",
            "access_tokens_url": f"{self.api}/app/installations/{installation.id}/access_tokens",
            "repositories_url": f"{self.api}/installation/repositories",
            "html_url": f"{self.web}/settings/installations/{installation.id}",
            "app_id": self._app.id,
            "app_slug": self._app.slug,
            "target_id": installation.account.id,
            "target_type": installation.account.type,
            "permissions": installation.permissions,
            "events": self._app.events,
            "single_file_name": None,
            "created_at": when(installation.created_at),
            "updated_at": when(installation.created_at),
            "suspended_by": None,
            "suspended_at": None,
        }

    def listed_installation(self, installation: Installation) -> JSON:
        """As the list has it: the description wants the account to be a user and an enterprise at once."""
        made, since = self.installation(installation), when(installation.created_at)
        login = installation.account.login
        made["account"] |= {"name": login, "slug": login, "created_at": since, "updated_at": since}
        return made

    def collaborator(self, repository: Repository, user: User) -> JSON:
        """What somebody may do."""
        role = repository.role(user)
        order = ("read", "triage", "write", "maintain", "admin")
        rank = order.index(role) if role in order else -1
        rights = {right: rank >= at for at, right in enumerate(("pull", "triage", "push", "maintain", "admin"))}
        told = {**self.user(user), "permissions": rights, "role_name": role}
        return {"permission": LEGACY[role], "role_name": role, "user": told}

    @property
    def _host(self) -> str:
        return self.web.partition("://")[2]

    def _end(self, repository: Repository | None, owner: User, ref: str, sha: str) -> JSON:
        return {
            "label": f"{owner.login}:{ref}",
            "ref": ref,
            "sha": sha,
            "user": self.user(owner),
            "repo": self.repository(repository) if repository else None,
        }

    def _reactions(self, url: str, reactions: Mapping[int, Reaction]) -> JSON:
        given = [reaction.content for reaction in reactions.values()]
        counts = {sign: given.count(sign) for sign in SIGNS}
        return {"url": f"{url}/reactions", "total_count": len(given), **counts}

    def _framed(self, frame: Any, names: Mapping[str, str]) -> JSON:
        """The example with our addresses and names in every text."""
        addresses = {"https://api.github.com": self.api, "https://github.com": self.web}
        made: JSON = _replaced(frame, {**addresses, **names})
        return made


class App:
    """The GitHub App that Catalyst signs in as."""

    def __init__(
        self, id_: int, slug: str, owner: User, bot: User, permissions: Mapping[str, str], now: datetime
    ) -> None:
        self.id = id_
        self.slug = slug
        self.owner = owner
        self.bot = bot
        self.permissions = dict(permissions)
        self.events = ["issue_comment", "pull_request", "push"]
        self.created_at = now


_WHOLE = frozenset(
    (
        "merged", "mergeable", "rebaseable", "mergeable_state", "merged_by", "comments", "review_comments",
        "maintainer_can_modify", "commits", "additions", "deletions", "changed_files",
    )
)  # fmt: skip
"""What only a pull request asked for by its number has."""


def _association(repository: Repository, user: User) -> str:
    if user is repository.owner:
        return "OWNER"
    return "COLLABORATOR" if user.login.lower() in repository.collaborators else "NONE"


def _replaced(value: Any, names: Mapping[str, str]) -> Any:
    match value:
        case str():
            for old, new in names.items():
                value = value.replace(old, new)
            return value
        case dict():
            return {key: _replaced(each, names) for key, each in value.items()}
        case list():
            return [_replaced(each, names) for each in value]
        case _:
            return value
