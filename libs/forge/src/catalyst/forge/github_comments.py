"""GitHub's `issue_comment` webhooks: a new comment of a pull request that begins with `/catalyst` is a fact, all else
is ignored. Whether its author may say so is asked later: a webhook does not know (`author_association` is no
permission).
"""

import re
from typing import Any, Final

from catalyst.events.payload import carried
from catalyst.forge import github_payloads as payloads
from catalyst.forge.protocol import Ignored

COMMAND: Final = re.compile(r"/catalyst(\s|$)", re.IGNORECASE)
LONGEST_LINE: Final = 1000


class Issue(payloads.Payload, frozen=True):
    """What was commented on; `pull_request` is there when it is one."""

    number: payloads.Positive
    pull_request: dict[str, Any] | None = None


class Comment(payloads.Payload, frozen=True):
    """The comment."""

    id: payloads.Positive
    html_url: str
    created_at: payloads.When
    body: str | None = None
    user: payloads.User | None = None


class IssueCommentPayload(payloads.Payload, frozen=True):
    """`issue_comment`."""

    action: str
    issue: Issue
    comment: Comment
    repository: payloads.Repository
    sender: payloads.User | None = None


def ignored(told: IssueCommentPayload) -> Ignored | None:
    """Why a comment is no command; None when it may be one."""
    if told.action != "created":
        return Ignored(f"a comment that was {told.action[:50]} is no command, only a new one is")
    if told.issue.pull_request is None:
        return Ignored("a comment on an issue is no command, only one on a pull request is")
    line = first_line(told.comment.body)
    if not COMMAND.match(line):
        return Ignored("a comment that does not begin with /catalyst is no command")
    if len(line) > LONGEST_LINE:
        return Ignored(f"a line of more than {LONGEST_LINE} characters is no command")
    return None


def written(told: IssueCommentPayload, body: bytes) -> dict[str, Any]:
    """The fields of `CommentWritten`, but for the repository."""
    comment = told.comment
    author = comment.user or told.sender
    return {
        "number": told.issue.number,
        "comment_id": comment.id,
        "line": first_line(comment.body),
        "author": author.login if author else "ghost",
        "author_id": author.id if author else None,
        "url": comment.html_url,
        "written_at": comment.created_at,
        **carried(body),
    }


def first_line(body: str | None) -> str:
    """The first line that is not blank, without the blanks around it."""
    return next((line.strip() for line in (body or "").splitlines() if line.strip()), "")
