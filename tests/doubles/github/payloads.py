"""What webhooks say, as GitHub's JSON."""

from datetime import datetime
from typing import Any

from doubles.github.git import ZERO, Commit
from doubles.github.shapes import Shapes, node, when
from doubles.github.state import Comment, Installation, PullRequest, Repository, User

JSON = dict[str, Any]


class Payloads:
    """Makes them; `installation` is the one they are sent for."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes

    def ping(self, hook: int, url: str, now: datetime) -> JSON:
        """Is anybody there?"""
        config = {"content_type": "json", "insecure_ssl": "0", "secret": "********", "url": url}
        return {
            "zen": "Keep it logically awesome.",
            "hook_id": hook,
            "hook": {
                "type": "App",
                "id": hook,
                "name": "web",
                "active": True,
                "events": ["issue_comment", "pull_request", "push"],
                "config": config,
                "updated_at": when(now),
                "created_at": when(now),
                "app_id": hook,
                "deliveries_url": f"{self._shapes.api}/app/hook/deliveries",
            },
        }

    def pull_request(
        self, pull: PullRequest, action: str, who: User, installation: Installation | None, **more: Any
    ) -> JSON:
        """Something happened to a pull request."""
        return {
            "action": action,
            "number": pull.number,
            "pull_request": self._shapes.whole_pull_request(pull),
            **more,
            **self._common(pull.repository, who, installation),
        }

    def comment(self, comment: Comment, action: str, who: User, installation: Installation | None, **more: Any) -> JSON:
        """Something happened to a comment."""
        return {
            "action": action,
            "issue": self._shapes.issue(comment.pull),
            "comment": self._shapes.comment(comment),
            **more,
            **self._common(comment.pull.repository, who, installation),
        }

    def push(
        self, repository: Repository, who: User, ref: str, before: str, after: str, installation: Installation | None
    ) -> JSON:
        """A branch or tag was made, moved or deleted."""
        git, created, deleted = repository.git, before == ZERO, after == ZERO
        told = self._shapes.repository(repository)
        mail = f"{who.login}@users.noreply.github.com"
        new = [] if deleted else git.log(f"{after}^!" if created else f"{before}..{after}")
        page = f"{self._shapes.web}/{repository.full_name}"
        return {
            "ref": ref,
            "before": before,
            "after": after,
            "created": created,
            "deleted": deleted,
            "forced": not (created or deleted) and not git.descends(after, before),
            "base_ref": None,
            "compare": f"{page}/compare/{before[:12]}...{after[:12]}",
            "commits": [_commit(each, page) for each in reversed(new)],
            "head_commit": None if deleted else _commit(git.log(f"{after}^!", limit=1)[0], page),
            "pusher": {"name": who.login, "email": mail},
            **self._common(repository, who, installation),
            "repository": {
                **told,
                "owner": {**told["owner"], "name": repository.owner.login, "email": None},
                "created_at": int(repository.created_at.timestamp()),
                "pushed_at": int(repository.pushed_at.timestamp()),
                "stargazers": 0,
                "master_branch": repository.default_branch,
            },
        }

    def _common(self, repository: Repository, who: User, installation: Installation | None) -> JSON:
        common: JSON = {"repository": self._shapes.repository(repository), "sender": self._shapes.user(who)}
        if installation is not None:
            common["installation"] = {"id": installation.id, "node_id": node("Installation", installation.id)}
        return common


def _commit(commit: Commit, page: str) -> JSON:
    person = {"name": commit.author, "email": commit.email, "username": commit.author, "date": commit.time}
    return {
        "id": commit.sha,
        "tree_id": commit.tree,
        "distinct": True,
        "message": commit.message.strip(),
        "timestamp": commit.time,
        "url": f"{page}/commit/{commit.sha}",
        "author": person,
        "committer": person,
        "added": [],
        "removed": [],
        "modified": [],
    }
