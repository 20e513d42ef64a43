"""One example of every event, for the documents and for tests. Pure; fields can be overridden."""

from datetime import UTC, datetime
from typing import Any, Final

from catalyst.events.catalogue import (
    AuditRecord,
    BranchPushed,
    BuildCleaned,
    BuildFinished,
    BuildRequested,
    CommandGiven,
    CommentWritten,
    DeadLetter,
    DeadSettled,
    EnvironmentName,
    Principal,
    PullRequestChanged,
    Repository,
    RouteChanged,
    SessionClosed,
    SessionOpened,
)
from catalyst.events.event import (
    Event,
    audit_recorded,
    build_cleaned,
    build_finished,
    build_requested,
    dead_letter,
    dead_settled,
    environment_changed,
    route_changed,
    scm_event,
    session_event,
)
from catalyst.events.payload import carried
from catalyst.model.environment import Phase
from catalyst.model.snapshot import Snapshot, SnapshotIdentity, SnapshotSource

NOW: Final = datetime(2026, 11, 23, 20, 0, tzinfo=UTC)
REPOSITORY: Final = Repository(
    forge="github",
    id=7,
    full_name="Acme/Shop",
    default_branch="main",
    clone_url="https://github.com/Acme/Shop.git",
    private=False,
    fork=False,
)
ENVIRONMENT: Final = EnvironmentName(team="acme", project="shop", environment="pr-42", uid="u-1")


def pull_request(number: int = 42, delivery: str = "d-1", *, payload: bytes = b"{}", **fields: Any) -> Event:
    """A pull request was opened."""
    data: dict[str, Any] = {
        "repository": REPOSITORY,
        "number": number,
        "action": "opened",
        "state": "open",
        "merged": False,
        "draft": False,
        "fork": False,
        "title": "Add a basket",
        "url": f"https://github.com/Acme/Shop/pull/{number}",
        "author": "mona",
        "sender": "mona",
        "labels": ("shop",),
        "head": {"ref": "basket", "sha": "a" * 40, "repository": "Acme/Shop"},
        "base": {"ref": "main", "sha": "b" * 40},
        "created_at": NOW,
        "updated_at": NOW,
        **carried(payload),
        **fields,
    }
    return scm_event(PullRequestChanged(**data), delivery=delivery, time=NOW, actor="mona")


def push(branch: str = "main", delivery: str = "d-2", **fields: Any) -> Event:
    """A branch was pushed."""
    data: dict[str, Any] = {
        "repository": REPOSITORY,
        "branch": branch,
        "before": "a" * 40,
        "after": "c" * 40,
        "created": False,
        "deleted": False,
        "forced": False,
        "head_commit": {"id": "c" * 40, "message": "Add a basket", "timestamp": NOW},
        "pusher": "mona",
        "sender": "mona",
        "pushed_at": NOW,
        **fields,
    }
    return scm_event(BranchPushed(**data), delivery=delivery, time=NOW, actor="mona")


def comment(number: int = 42, delivery: str = "d-4", **fields: Any) -> Event:
    """Somebody wrote a command; nobody has asked yet whether they may."""
    data: dict[str, Any] = {
        "repository": REPOSITORY,
        "number": number,
        "comment_id": 1,
        "line": "/catalyst approve",
        "author": "hubot",
        "url": f"https://github.com/Acme/Shop/pull/{number}#issuecomment-1",
        "written_at": NOW,
        **fields,
    }
    return scm_event(CommentWritten(**data), delivery=delivery, time=NOW, actor="hubot")


def command(number: int = 42, delivery: str = "d-3", **fields: Any) -> Event:
    """Somebody who may write approved a head."""
    data: dict[str, Any] = {
        "repository": REPOSITORY,
        "number": number,
        "command": "approve",
        "author": "hubot",
        "permission": "write",
        "head_sha": "a" * 40,
        "comment_id": 1,
        "url": f"https://github.com/Acme/Shop/pull/{number}#issuecomment-1",
        "given_at": NOW,
        **fields,
    }
    return scm_event(CommandGiven(**data), delivery=delivery, time=NOW, actor="hubot")


def snapshot(version: int = 1, *, environment: str = "pr-42", phase: Phase = Phase.READY, uid: str = "u-1") -> Snapshot:
    """An environment's state at one version."""
    return Snapshot(
        uid=uid,
        resource_version=str(version),
        identity=SnapshotIdentity(team="acme", project="shop", environment=environment),
        phase=phase,
        source=SnapshotSource(forge="github", repository="Acme/Shop"),
    )


def changed(version: int = 1, *, again: int = 0, **of: Any) -> Event:
    """An environment's state changed."""
    return environment_changed(snapshot(version, **of), time=NOW, again=again)


def examples() -> dict[str, Event]:
    """One event of every type in the catalogue."""
    asked = changed(phase=Phase.TERMINATING)
    build: dict[str, Any] = {"environment": ENVIRONMENT, "component": "web", "key": "9f8e7d6c", "attempt": 1}
    session: dict[str, Any] = {
        "environment": ENVIRONMENT,
        "session": "s-1",
        "principal": "mona",
        "door": "cli",
        "at": NOW,
    }
    requested = BuildRequested(**build, commit="a" * 40, repository=REPOSITORY, trusted=True, inputs={"context": "."})
    finished = BuildFinished(
        **build,
        outcome="succeeded",
        image="registry.example.org/acme/shop/web",
        digest=f"sha256:{'d' * 64}",
        ports=(8080,),
        duration_seconds=41.5,
    )
    audited = AuditRecord(
        team="acme",
        project="shop",
        environment="pr-42",
        uid="u-1",
        principal=Principal(kind="forge", name="mona", id="4711"),
        door="command",
        operation="stop",
        target="github/acme/shop/pull/42",
        outcome="done",
        at=NOW,
        number=1,
    )
    letter = DeadLetter(
        service="env-controller",
        consumer="env-controller",
        stream="SCM",
        sequence=17,
        original_subject="scm.github.acme.shop.pull_request.42",
        delivered=1,
        reason="data.number: Field required",
        message="{}",
    )
    settled = DeadSettled(
        consumer="env-controller", stream="SCM", sequence=17, outcome="dropped", by="hubot", reason="A test."
    )
    found = [
        pull_request(),
        push(),
        comment(),
        command(),
        changed(),
        build_requested(requested, time=NOW),
        build_finished(finished, time=NOW),
        build_cleaned(BuildCleaned(environment=ENVIRONMENT), causing=asked, time=NOW),
        route_changed(
            RouteChanged(environment=ENVIRONMENT, host="pr-42--shop--acme.example.org", live=True),
            causing=asked,
            time=NOW,
        ),
        session_event(SessionOpened(**session), time=NOW),
        session_event(SessionClosed(**session, reason="revoked"), time=NOW),
        audit_recorded(audited, operation="op-1", time=NOW, source="env-controller"),
        dead_letter(letter, time=NOW),
        dead_settled(settled, time=NOW),
    ]
    return {event.type: event for event in found}
