"""GitHub's webhooks: HMAC-SHA256 over the raw body, and what they say in our words.

| `X-GitHub-Event` | becomes |
|---|---|
| `pull_request` | `PullRequestChanged` |
| `push` to a branch | `BranchPushed` |
| `push` of a tag or another ref | `Ignored` |
| `issue_comment`, new, on a pull request, `/catalyst …` | `CommentWritten` |
| any other `issue_comment` | `Ignored` |
| `ping` | `Ping` |
| anything else | `Ignored`, once its body is known to be a JSON object |

Source: https://docs.github.com/en/webhooks/webhook-events-and-payloads
"""

import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from catalyst.events.catalogue import (
    Base,
    BranchPushed,
    CommentWritten,
    Data,
    Head,
    HeadCommit,
    PullRequestChanged,
    Repository,
    ScmData,
)
from catalyst.events.payload import carried
from catalyst.forge import github_comments as comments
from catalyst.forge import github_payloads as payloads
from catalyst.forge.errors import BadPayload, BadSignature
from catalyst.forge.protocol import Delivery, Headers, Ignored, Ping, Translation

SIGNATURE: Final = "x-hub-signature-256"
SHA1_SIGNATURE: Final = "x-hub-signature"
EVENT: Final = "x-github-event"
DELIVERY: Final = "x-github-delivery"

BRANCHES: Final = "refs/heads/"
GHOST: Final = "ghost"
"""GitHub's own name for an account that was deleted."""
MESSAGE_CHARACTERS: Final = 2000
"""A commit message may have megabytes: the normalised state carries its beginning, the payload all of it."""

_ALGORITHM: Final = "sha256="
_TOKEN: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}")

D = TypeVar("D", bound=Data)


class GitHub:
    """The `Forge` of github.com and of GitHub Enterprise Server."""

    name: Final = "github"

    @property
    def events(self) -> frozenset[str]:
        """Every event that GitHub documents."""
        return payloads.EVENTS

    def verify(self, headers: Headers, body: bytes, secrets: Sequence[bytes]) -> None:
        """Compare in constant time with the HMAC of each secret."""
        given = headers.get(SIGNATURE)
        if given is None:
            also = "; SHA-1 (X-Hub-Signature) is not accepted" if SHA1_SIGNATURE in headers else ""
            raise BadSignature(f"header X-Hub-Signature-256 is missing: give the webhook a secret{also}")
        if not given.startswith(_ALGORITHM):
            raise BadSignature("header X-Hub-Signature-256: expected sha256=<64 hexadecimal digits>")
        signature = given.removeprefix(_ALGORITHM).encode()
        for secret in secrets:
            if hmac.compare_digest(hmac.digest(secret, body, "sha256").hex().encode(), signature):
                return
        raise BadSignature("header X-Hub-Signature-256 does not fit the body: the webhook's secret is none of ours")

    def delivery(self, headers: Headers) -> Delivery:
        """From `X-GitHub-Delivery` and `X-GitHub-Event`."""
        return Delivery(_header(headers, DELIVERY, "the GUID"), _header(headers, EVENT, "the event's name"))

    def translate(self, delivery: Delivery, body: bytes) -> Translation:
        """See the table above."""
        translator = TRANSLATORS.get(delivery.event)
        if translator is None:
            payloads.read(payloads.Payload, body)
            return Ignored(f"{delivery.event} events are not used yet")
        return translator(body)


def pull_request(body: bytes) -> ScmData:
    """The pull request as it is after what happened."""
    told = payloads.read(payloads.PullRequestPayload, body)
    pr = told.pull_request
    head = pr.head.repo
    return _fact(
        PullRequestChanged,
        {
            "repository": _repository(told.repository),
            "number": pr.number,
            "action": told.action,
            "state": pr.state,
            "merged": pr.merged if pr.merged is not None else pr.merged_at is not None,
            "draft": pr.draft,
            "fork": head is None or head.id != told.repository.id,
            "title": pr.title,
            "url": pr.html_url,
            "author": _login(pr.user),
            "sender": _login(told.sender),
            "sender_id": told.sender and told.sender.id,
            "labels": tuple(label.name for label in pr.labels),
            "head": Head(ref=pr.head.ref, sha=pr.head.sha, repository=head.full_name if head else None),
            "base": Base(ref=pr.base.ref, sha=pr.base.sha),
            "before": told.before,
            "created_at": pr.created_at,
            "updated_at": pr.updated_at,
            "closed_at": pr.closed_at,
            **carried(body),
        },
    )


def push(body: bytes) -> Translation:
    """A branch as it is after the push."""
    told = payloads.read(payloads.PushPayload, body)
    if not told.ref.startswith(BRANCHES):
        return Ignored(f"a push to {told.ref[:200]} moves no branch")
    commit = told.head_commit
    return _fact(
        BranchPushed,
        {
            "repository": _repository(told.repository),
            "branch": told.ref.removeprefix(BRANCHES),
            "before": told.before,
            "after": told.after,
            "created": told.created,
            "deleted": told.deleted,
            "forced": told.forced,
            "head_commit": commit
            and HeadCommit(id=commit.id, message=commit.message[:MESSAGE_CHARACTERS], timestamp=commit.timestamp),
            "pusher": told.pusher.name,
            "sender": _login(told.sender),
            "sender_id": told.sender and told.sender.id,
            "pushed_at": told.repository.pushed_at,
            **carried(body),
        },
    )


def issue_comment(body: bytes) -> Translation:
    """A command, or why it is none."""
    told = payloads.read(comments.IssueCommentPayload, body)
    none = comments.ignored(told)
    if none is not None:
        return none
    return _fact(CommentWritten, {"repository": _repository(told.repository), **comments.written(told, body)})


def ping(body: bytes) -> Ping:
    """GitHub sends it when a hook is made."""
    payloads.read(payloads.Payload, body)
    return Ping()


TRANSLATORS: Mapping[str, Callable[[bytes], Translation]] = {
    "issue_comment": issue_comment,
    "ping": ping,
    "pull_request": pull_request,
    "push": push,
}


def _header(headers: Headers, name: str, meaning: str) -> str:
    value = headers.get(name, "")
    if not _TOKEN.fullmatch(value):
        raise BadPayload(f"header {name}", f"expected {meaning}: 1 to 100 letters, digits, '_', '.' or '-'")
    return value


def _fact(model: type[D], fields: dict[str, Any]) -> D:
    try:
        return model.model_validate(fields)
    except ValidationError as exc:
        raise _bad(exc) from exc


def _bad(error: ValidationError) -> BadPayload:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    expected = "a value, but it is missing" if first["type"] == "missing" else first["msg"]
    return BadPayload(".".join(map(str, first["loc"])) or "body", f"expected {expected[:1].lower()}{expected[1:]}")


def _repository(repository: payloads.Repository) -> Repository:
    return Repository(
        forge=GitHub.name,
        id=repository.id,
        full_name=repository.full_name,
        default_branch=repository.default_branch,
        clone_url=repository.clone_url,
        private=repository.private,
        fork=repository.fork,
    )


def _login(user: payloads.User | None) -> str:
    return user.login if user is not None else GHOST
