"""From a folded fact to a change of spec: create, update or remove one Environment, or leave it and say why.

state \\ Environment   none                          alive                    going
open and wanted       create (unless it expired     update if it differs     leave: made anew when it is gone
                      or was deleted this round,
                      and nobody said deploy since)
open, not wanted      leave                         record TriggerWithdrawn  leave
open, stopped         leave                         record Requested         leave
closed                leave                         record Closed            leave
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from catalyst.env_controller.core import triggers
from catalyst.env_controller.core.facts import Branch, CommandFact, PullRequest
from catalyst.env_controller.core.merge import merge_patch
from catalyst.env_controller.core.triggers import NotWanted, Stopped, Wanted
from catalyst.env_controller.core.world import Patch
from catalyst.model import environment as model
from catalyst.model import labels
from catalyst.model.environment import CommitApproval, Deletion, Environment, EnvironmentSource, Hold
from catalyst.model.fields import GitRef, HttpsUrl, Repository, duration
from catalyst.model.manifest import Manifest
from catalyst.model.names import branch_environment, project_namespace, pull_request_environment
from catalyst.model.project import Project
from catalyst.model.snapshot import Snapshot

_LONGEST_TITLE = 1024
_STAYS_GONE = ("Expired", "Requested")
AS_IT_SHOULD_BE = "the environment is as it should be"
STILL_GOING = "the older environment of this name is still going; the new one is made when it is gone"


@dataclass(frozen=True, slots=True)
class Create:
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Update:
    patch: Patch


@dataclass(frozen=True, slots=True)
class Leave:
    """Nothing to do, and why."""

    reason: str


Request = Create | Update | Leave


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a fact asks of one Project, whatever kind of fact it was."""

    name: str
    branch: str
    source: EnvironmentSource
    wanted: Wanted | NotWanted | Stopped | None
    """None: closed or deleted at the forge."""
    evidence: str
    """The delivery or command that decided."""
    owner: str | None
    deploy: CommandFact | None = None
    """Somebody asked for it in a comment."""
    approval: CommitApproval | None = None
    """Somebody's consent to run this commit."""

    @property
    def cause(self) -> str:
        """The event's message id: what everything that follows is caused by."""
        return f"webhook-ingest/{self.evidence}"


def for_pull_request(
    project: Project,
    refusal: str | None,
    pull_request: PullRequest,
    existing: Environment | None,
    last: Snapshot | None,
    now: datetime,
) -> Request:
    state = pull_request.state
    source = EnvironmentSource(
        branch=_if_valid(GitRef, state.head.ref),
        commit=state.head.sha,
        pull_request=model.PullRequest(
            number=state.number,
            head_repository=_if_valid(Repository, state.head.repository),
            fork=state.fork,
            draft=state.draft,
            opened_at=pull_request.opened_at,
            author=state.author[:253] or None,
            title=state.title[:_LONGEST_TITLE],
            url=_if_valid(HttpsUrl, state.url),
        ),
    )
    wanted = triggers.for_pull_request(project, pull_request) if pull_request.is_open else None
    wish = _Wish(
        pull_request_environment(state.number),
        state.head.ref,
        source,
        wanted,
        pull_request.cause,
        state.author[:253] or None,
        pull_request.deploy,
        _approval(pull_request),
    )
    return _request(project, refusal, wish, existing, last, now)


def _approval(pull_request: PullRequest) -> CommitApproval | None:
    given = pull_request.approval
    if given is None:
        return None
    return CommitApproval(commit=pull_request.state.head.sha, by=given.data.author[:253], at=given.data.given_at)


def for_branch(
    project: Project,
    refusal: str | None,
    branch: Branch,
    existing: Environment | None,
    last: Snapshot | None,
    now: datetime,
) -> Request:
    name = branch.state.branch
    if branch.exists and _if_valid(GitRef, name) is None:
        return Leave(f"the branch name {name!r} cannot be handed to git safely")
    source = EnvironmentSource(branch=_if_valid(GitRef, name), commit=branch.state.after if branch.exists else None)
    wanted = triggers.for_branch(project, branch) if branch.exists else None
    wish = _Wish(branch_environment(name), name, source, wanted, branch.evidence, branch.state.pusher[:253] or None)
    return _request(project, refusal, wish, existing, last, now)


def _request(
    project: Project,
    refusal: str | None,
    wish: _Wish,
    existing: Environment | None,
    last: Snapshot | None,
    now: datetime,
) -> Request:
    if existing is None:
        return _appear(project, refusal, wish, last, now)
    if not _is_for(existing, wish):
        return Leave(f"Environment {wish.name} exists and was made for something else: rename it, or let it go")
    if existing.metadata.deletion_timestamp or existing.spec.deletion:
        return Leave(STILL_GOING)
    if wish.wanted is None:
        return _remove(existing, wish, "Closed", "", now)
    if isinstance(wish.wanted, NotWanted):
        return _remove(existing, wish, "TriggerWithdrawn", f": {wish.wanted.reason}", now)
    if isinstance(wish.wanted, Stopped):
        # Its own time, so that a deploy said after it is also later than the deletion.
        return _remove(existing, wish, "Requested", f": /catalyst stop by {_said(wish.wanted)}", wish.wanted.at)
    return _update(project, refusal, existing, wish, hold_of(existing, wish.wanted), now)


def _appear(project: Project, refusal: str | None, wish: _Wish, last: Snapshot | None, now: datetime) -> Request:
    if wish.wanted is None:
        return Leave("closed, and there is no environment")
    if isinstance(wish.wanted, NotWanted):
        return Leave(wish.wanted.reason)
    if isinstance(wish.wanted, Stopped):
        return Leave(f"stopped by {_said(wish.wanted)}: /catalyst deploy, or reopening, brings it back")
    if reason := _unwilling(project, refusal):
        return Leave(reason)
    if last and _stays_gone(last, wish):
        why = last.deletion.reason if last.deletion else ""
        return Leave(f"the environment of this commit is gone ({why}): push, reopen or deploy, to get a new one")
    return Create(_manifest(project, wish, wish.wanted.hold, now))


def _unwilling(project: Project, refusal: str | None) -> str | None:
    if project.metadata.deletion_timestamp:
        return "the Project is being deleted"
    return refusal


def _stays_gone(last: Snapshot, wish: _Wish) -> bool:
    """Expired, or deleted by a person, stays gone for this round: the same commit of the same opening, unless somebody
    has asked for it since.
    """
    if last.deletion is None or last.deletion.reason not in _STAYS_GONE:
        return False
    if wish.deploy and wish.deploy.data.given_at >= last.deletion.at:
        return False
    before, now = last.source.pull_request, wish.source.pull_request
    return last.source.commit == wish.source.commit and (before and before.opened_at) == (now and now.opened_at)


def _is_for(existing: Environment, wish: _Wish) -> bool:
    before, now = existing.spec.source.pull_request, wish.source.pull_request
    if before or now:
        return bool(before and now and before.number == now.number)
    return existing.metadata.annotations.get(labels.BRANCH, existing.spec.source.branch) == wish.branch


def hold_of(existing: Environment | None, wanted: Wanted) -> Hold | None:
    """What a person holds back by hand, no push lets go."""
    held = existing.spec.hold if existing else None
    return held if held and held.reason == "Manual" else wanted.hold


def _remove(
    existing: Environment,
    wish: _Wish,
    reason: Literal["Closed", "Requested", "TriggerWithdrawn"],
    why: str,
    at: datetime,
) -> Update:
    deletion = Deletion(reason=reason, at=at, evidence=f"delivery {wish.evidence}{why}"[:_LONGEST_TITLE])
    body = {"metadata": {"annotations": {labels.CAUSE: wish.cause}}, "spec": {"deletion": _json(deletion)}}
    return Update(Patch(existing.ref, body))


def _said(stopped: Stopped) -> str:
    return f"{stopped.by} ({stopped.url})"


def _annotations(wish: _Wish) -> dict[str, str]:
    asked = {labels.DEPLOY: wish.deploy.id} if wish.deploy else {}
    return {labels.BRANCH: wish.branch, labels.CAUSE: wish.cause, **asked}


def _update(
    project: Project, refusal: str | None, existing: Environment, wish: _Wish, hold: Hold | None, now: datetime
) -> Request:
    before = {name: _json(getattr(existing.spec, name)) for name in ("source", "hold", "approval")}
    after = {"source": _json(wish.source), "hold": _json(hold), "approval": _json(wish.approval)}
    patch = merge_patch(before, after)
    asked = wish.deploy is not None and existing.metadata.annotations.get(labels.DEPLOY) != wish.deploy.id
    if not patch and not asked:
        return Leave(AS_IT_SHOULD_BE)
    if reason := _unwilling(project, refusal):
        return Leave(reason)
    if (
        existing.spec.source.commit != wish.source.commit
        and existing.spec.expires_at
        and (expiry := _expiry(project, now))
    ):
        patch["expiresAt"] = max(expiry, f"{existing.spec.expires_at:%Y-%m-%dT%H:%M:%SZ}")
    return Update(Patch(existing.ref, {"metadata": {"annotations": _annotations(wish)}, "spec": patch}))


def _manifest(project: Project, wish: _Wish, hold: Hold | None, now: datetime) -> Manifest:
    spec = {
        "projectRef": {"team": project.team, "name": project.metadata.name},
        "type": "Development",
        "source": _json(wish.source),
        "owner": wish.owner,
        "hold": _json(hold),
        "approval": _json(wish.approval),
        "expiresAt": _expiry(project, now),
    }
    return {
        "apiVersion": labels.API_VERSION,
        "kind": "Environment",
        "metadata": {
            "name": wish.name,
            "namespace": project_namespace(project.team, project.metadata.name),
            "labels": {labels.TEAM: project.team, labels.PROJECT: project.metadata.name, labels.ENVIRONMENT: wish.name},
            "annotations": _annotations(wish),
            "finalizers": [labels.FINALIZER],
        },
        "spec": {key: value for key, value in spec.items() if value is not None},
    }


def _expiry(project: Project, now: datetime) -> str | None:
    """Counted from the last commit that was wanted; whole seconds, as Kubernetes writes time."""
    ttl = project.spec.development.ttl
    return f"{(now + duration(ttl)).replace(microsecond=0) + timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}" if ttl else None


def _json(part: Any) -> Any:
    return part.model_dump(mode="json", by_alias=True, exclude_none=True) if part is not None else None


def _if_valid(kind: Any, text: str | None) -> str | None:
    """The text if a resource may carry it. A forge's data is hostile: what does not fit is left out, the commit
    decides.
    """
    try:
        return TypeAdapter[str](kind).validate_python(text) if text else None
    except ValidationError:
        return None
