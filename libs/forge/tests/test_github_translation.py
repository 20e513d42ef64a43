"""What GitHub's webhooks say in our words, and what each wrong one is told. GitHub's examples: tests/contract."""

import copy
import hashlib
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from catalyst.events.catalogue import BranchPushed, PullRequestChanged
from catalyst.events.payload import VERBATIM_LIMIT
from catalyst.forge import BadPayload, Delivery, GitHub, Ignored, Ping
from catalyst.forge.github import MESSAGE_CHARACTERS

SHA, OTHER, ZERO = "a" * 40, "b" * 40, "0" * 40

REPOSITORY: dict[str, Any] = {
    "id": 7,
    "full_name": "Acme/Shop.web",
    "default_branch": "main",
    "clone_url": "https://github.com/Acme/Shop.web.git",
    "private": True,
    "fork": False,
    "pushed_at": 1_700_000_000,
}
PULL_REQUEST: dict[str, Any] = {
    "action": "opened",
    "number": 42,
    "pull_request": {
        "number": 42,
        "state": "open",
        "merged": False,
        "merged_at": None,
        "draft": False,
        "title": "Ein Käse",
        "html_url": "https://github.com/Acme/Shop.web/pull/42",
        "user": {"login": "mona"},
        "labels": [{"name": "preview", "color": "ededed"}],
        "head": {"ref": "feature/x", "sha": SHA, "repo": {"id": 7, "full_name": "Acme/Shop.web"}},
        "base": {"ref": "main", "sha": OTHER},
        "created_at": "2026-11-01T10:00:00Z",
        "updated_at": "2026-11-01T10:00:05Z",
        "closed_at": None,
    },
    "repository": REPOSITORY,
    "sender": {"login": "hubot"},
}
PUSH: dict[str, Any] = {
    "ref": "refs/heads/feature/x",
    "before": OTHER,
    "after": SHA,
    "created": False,
    "deleted": False,
    "forced": True,
    "head_commit": {"id": SHA, "message": "Fix", "timestamp": "2026-11-01T12:00:00+02:00"},
    "pusher": {"name": "mona"},
    "repository": REPOSITORY,
    "sender": {"login": "mona"},
}


def told(event: str, document: Any) -> Any:
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    return GitHub().translate(Delivery("guid", event), body)


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with one field replaced, or removed when `value` is `...`."""
    copied = copy.deepcopy(document)
    *parents, last = path.split(".")
    target = copied
    for parent in parents:
        target = target[parent]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return copied


def test_a_pull_request() -> None:
    fact = told("pull_request", PULL_REQUEST)
    assert isinstance(fact, PullRequestChanged)
    assert fact.nats_subject() == "scm.github.acme.shop%2Eweb.pull_request.42"
    assert (fact.action, fact.state, fact.merged, fact.draft, fact.fork) == ("opened", "open", False, False, False)
    assert (fact.title, fact.author, fact.sender, fact.labels) == ("Ein Käse", "mona", "hubot", ("preview",))
    assert (fact.head.ref, fact.head.sha, fact.base.ref, fact.base.sha) == ("feature/x", SHA, "main", OTHER)
    assert fact.updated_at == datetime(2026, 11, 1, 10, 0, 5, tzinfo=UTC)
    assert fact.payload is not None
    assert fact.payload.raw == orjson.dumps(PULL_REQUEST)


@pytest.mark.parametrize(
    ("path", "value", "field", "expected"),
    [
        ("pull_request.head.repo", {"id": 8, "full_name": "mallory/shop.web"}, "fork", True),
        ("pull_request.head.repo", None, "fork", True),
        ("pull_request.user", None, "author", "ghost"),
        ("sender", ..., "sender", "ghost"),
        ("pull_request.draft", ..., "draft", False),
        ("pull_request.labels", ..., "labels", ()),
        ("before", OTHER, "before", OTHER),
    ],
)
def test_what_may_be_absent(path: str, value: Any, field: str, expected: Any) -> None:
    assert getattr(told("pull_request", changed(PULL_REQUEST, path, value)), field) == expected


def test_merged_is_known_by_its_date_where_the_flag_is_absent() -> None:
    document = changed(PULL_REQUEST, "pull_request.merged", ...)
    assert told("pull_request", document).merged is False
    assert told("pull_request", changed(document, "pull_request.merged_at", "2026-11-01T10:00:05Z")).merged is True


def test_a_push_to_a_branch() -> None:
    fact = told("push", PUSH)
    assert isinstance(fact, BranchPushed)
    assert fact.nats_subject() == "scm.github.acme.shop%2Eweb.branch.feature%2Fx"
    assert (fact.before, fact.after, fact.created, fact.deleted, fact.forced) == (OTHER, SHA, False, False, True)
    assert fact.pushed_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert fact.head_commit is not None
    assert fact.head_commit.timestamp == datetime(2026, 11, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize("pushed_at", ["2023-11-14T22:13:20Z", "1700000000"])
def test_the_time_of_a_push_in_any_form(pushed_at: str) -> None:
    fact = told("push", changed(PUSH, "repository", {**REPOSITORY, "pushed_at": pushed_at}))
    assert fact.pushed_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def test_a_deleted_branch_has_no_commit() -> None:
    fact = told("push", {**PUSH, "after": ZERO, "deleted": True, "head_commit": None})
    assert (fact.after, fact.deleted, fact.head_commit) == (ZERO, True, None)


def test_an_endless_commit_message_is_cut_and_the_event_still_fits() -> None:
    fact = told("push", changed(PUSH, "head_commit.message", "x" * 2_000_000))
    assert len(fact.head_commit.message) == MESSAGE_CHARACTERS
    assert fact.payload is None


@pytest.mark.parametrize("ref", ["refs/tags/v1", "refs/notes/commits"])
def test_other_refs_are_ignored_with_the_reason(ref: str) -> None:
    assert told("push", {**PUSH, "ref": ref}) == Ignored(f"a push to {ref} moves no branch")


def test_a_ping_and_what_is_not_used_yet() -> None:
    assert told("ping", {"zen": "x"}) == Ping()
    assert told("star", {"action": "created"}) == Ignored("star events are not used yet")


def test_a_large_payload_leaves_size_and_digest() -> None:
    filler = VERBATIM_LIMIT - len(orjson.dumps({**PULL_REQUEST, "filler": ""}))
    fits, beyond = ({**PULL_REQUEST, "filler": "x" * size} for size in (filler, filler + 1))
    assert told("pull_request", fits).payload_omitted is None
    fact = told("pull_request", beyond)
    body = orjson.dumps(beyond)
    assert fact.payload is None
    assert fact.payload_omitted.size == len(body) == VERBATIM_LIMIT + 1
    assert fact.payload_omitted.sha256 == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize(
    ("event", "document", "field", "expected"),
    [
        ("pull_request", b"{", "body", "expected a JSON object"),
        ("pull_request", b"payload=%7B%7D", "body", "content type to application/json"),
        ("star", b"nonsense", "body", "expected a JSON object"),
        ("pull_request", b"[1]", "body", "expected a JSON object, found array"),
        ("pull_request", b'{"x": NaN}', "body", "expected a JSON object"),
        ("pull_request", b'{"x": "\xff"}', "body", "expected a JSON object"),
        ("pull_request", changed(PULL_REQUEST, "repository", ...), "repository", "missing"),
        ("pull_request", changed(PULL_REQUEST, "pull_request.head.sha", ...), "pull_request.head.sha", "missing"),
        (
            "pull_request",
            changed(PULL_REQUEST, "pull_request.head.sha", "HEAD"),
            "pull_request.head.sha",
            "matching regex",
        ),
        ("pull_request", changed(PULL_REQUEST, "pull_request.number", 0), "pull_request.number", "expected int >= 1"),
        (
            "pull_request",
            changed(PULL_REQUEST, "pull_request.state", "odd"),
            "pull_request.state",
            "open|closed",
        ),
        (
            "pull_request",
            changed(PULL_REQUEST, "pull_request.updated_at", "now"),
            "pull_request.updated_at",
            "datetime",
        ),
        (
            "pull_request",
            changed(PULL_REQUEST, "repository.full_name", "shop"),
            "repository.full_name",
            "matching regex",
        ),
        ("push", changed(PUSH, "repository.pushed_at", ...), "repository.pushed_at", "missing"),
        ("push", changed(PUSH, "ref", "refs/heads/"), "branch", "at least 1 character"),
    ],
)
def test_a_bad_payload_is_told_which_field_and_what_was_expected(
    event: str, document: Any, field: str, expected: str
) -> None:
    with pytest.raises(BadPayload, match=expected) as refused:
        told(event, document)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"x-github-event": "push"}, "header x-github-delivery"),
        ({"x-github-delivery": "guid"}, "header x-github-event"),
        ({"x-github-delivery": "a b", "x-github-event": "push"}, "header x-github-delivery"),
        ({"x-github-delivery": "x" * 101, "x-github-event": "push"}, "header x-github-delivery"),
    ],
)
def test_a_delivery_needs_its_headers(headers: dict[str, str], field: str) -> None:
    with pytest.raises(BadPayload) as refused:
        GitHub().delivery(headers)
    assert refused.value.field == field
    assert GitHub().delivery({"x-github-delivery": "guid", "x-github-event": "push"}) == Delivery("guid", "push")
