"""From a folded fact to a change of spec: the matrix of requests.py, and what a hostile forge can send."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers import NOTHING, NOW, NOW_TEXT, A, B, at, branch, command, environment, merged, project, pull_request

from catalyst.env_controller.core.facts import CommandFact
from catalyst.env_controller.core.requests import Create, Leave, Request, Update, for_branch, for_pull_request
from catalyst.model import labels
from catalyst.model.environment import Environment
from catalyst.model.manifest import Manifest
from catalyst.model.names import is_name
from catalyst.model.snapshot import Snapshot, SnapshotDeletion, snapshot_of

SHOP = project()
BRANCHES = project(triggers={"branches": [{"pattern": "*"}]})
SOURCE: Manifest = {
    "branch": "basket",
    "commit": A,
    "pullRequest": {
        "number": 42,
        "headRepository": "Acme/Shop",
        "fork": False,
        "draft": False,
        "openedAt": NOW_TEXT,
        "author": "mona",
        "title": "Add a basket",
        "url": "https://github.com/Acme/Shop/pull/42",
    },
}
ALIVE = environment(source=SOURCE, owner="mona")
GOING = environment(source=SOURCE, metadata={"deletionTimestamp": NOW_TEXT})
DOOMED = environment(source=SOURCE, deletion={"reason": "Closed", "at": NOW_TEXT, "evidence": "delivery d-0"})
FOREIGN = environment(source={"branch": "basket"})


def asked(
    project_: Any = SHOP,
    existing: Environment | None = None,
    last: Snapshot | None = None,
    *,
    refusal: str | None = None,
    now: datetime = NOW,
    opened_at: datetime | None = None,
    commands: Sequence[CommandFact] = (),
    **state: Any,
) -> Request:
    folded = pull_request(commands, **state)
    folded = replace(folded, opened_at=opened_at or folded.opened_at)
    return for_pull_request(project_, refusal, folded, existing, last, now)


def created(request: Request) -> Manifest:
    assert isinstance(request, Create), request
    return request.manifest


def updated(request: Request) -> Manifest:
    assert isinstance(request, Update), request
    assert (request.patch.ref.uid, request.patch.ref.resource_version) == ("uid-of-environment", "1")
    return request.patch.body


def left(request: Request) -> str:
    assert isinstance(request, Leave), request
    return request.reason


CLOSED: dict[str, Any] = {"state": "closed", "action": "closed"}
NOT_WANTED = project(triggers={"pullRequests": {"enabled": False}})

# Create


def test_created_whole() -> None:
    assert created(asked()) == {
        "apiVersion": "catalyst.dev/v1alpha1",
        "kind": "Environment",
        "metadata": {
            "name": "pr-42",
            "namespace": "acme--shop",
            "labels": {
                "catalyst.dev/team": "acme",
                "catalyst.dev/project": "shop",
                "catalyst.dev/environment": "pr-42",
            },
            "annotations": {"catalyst.dev/branch": "basket", "catalyst.dev/cause": "webhook-ingest/d-1"},
            "finalizers": ["catalyst.dev/environment"],
        },
        "spec": {
            "projectRef": {"team": "acme", "name": "shop"},
            "type": "Development",
            "source": SOURCE,
            "owner": "mona",
        },
    }


def test_a_draft_is_created_held() -> None:
    spec = created(asked(draft=True))["spec"]
    assert spec["hold"]["reason"] == "Draft"
    assert spec["source"]["pullRequest"]["draft"] is True


def test_expiry_counts_from_now_and_rounds_up_to_whole_seconds() -> None:
    now = NOW + timedelta(microseconds=5)
    spec = created(asked(project(development={"ttl": "72h"}), now=now))["spec"]
    assert spec["expiresAt"] == "2026-11-26T20:00:01Z"
    assert "expiresAt" not in created(asked())["spec"]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (asked(**CLOSED), "closed, and there is no environment"),
        (asked(NOT_WANTED), "spec.triggers.pullRequests.enabled is false"),
        (asked(refusal="the Project is not accepted: why"), "the Project is not accepted: why"),
        (
            asked(existing=GOING),
            "the older environment of this name is still going; the new one is made when it is gone",
        ),
        (
            asked(existing=DOOMED),
            "the older environment of this name is still going; the new one is made when it is gone",
        ),
        (
            asked(existing=GOING, **CLOSED),
            "the older environment of this name is still going; the new one is made when it is gone",
        ),
        (
            asked(NOT_WANTED, existing=GOING),
            "the older environment of this name is still going; the new one is made when it is gone",
        ),
        (
            asked(existing=FOREIGN),
            "Environment pr-42 exists and was made for something else: rename it, or let it go",
        ),
        (
            asked(existing=FOREIGN, **CLOSED),
            "Environment pr-42 exists and was made for something else: rename it, or let it go",
        ),
        (asked(existing=ALIVE), "the environment is as it should be"),
        (asked(existing=ALIVE, head=B, refusal="refused"), "refused"),
    ],
)
def test_left_alone(request_: Request, reason: str) -> None:
    assert left(request_) == reason


def test_a_pause_is_no_reason_to_forget_what_was_asked() -> None:
    """`decide` makes nothing of it; what is in the spec proceeds without another webhook."""
    paused = project(paused=True)
    assert asked(paused) == asked()
    assert asked(paused, ALIVE, head=B) == asked(existing=ALIVE, head=B)


def test_a_project_that_goes_creates_nothing() -> None:
    going = SHOP.model_copy(update={"metadata": SHOP.metadata.model_copy(update={"deletion_timestamp": NOW})})
    assert left(asked(going)) == "the Project is being deleted"


# Update


def test_a_push_changes_commit_and_cause_only() -> None:
    assert updated(asked(existing=ALIVE, head=B)) == {
        "metadata": {"annotations": {labels.BRANCH: "basket", labels.CAUSE: "webhook-ingest/d-1"}},
        "spec": {"source": {"commit": B}},
    }


def test_ready_for_review_lifts_the_hold() -> None:
    draft = created(asked(draft=True))["spec"]
    held = environment(source=draft["source"], hold=draft["hold"])
    assert updated(asked(existing=held))["spec"] == {"source": {"pullRequest": {"draft": False}}, "hold": None}


def test_converted_to_draft_holds_and_keeps_what_exists() -> None:
    spec = updated(asked(existing=ALIVE, draft=True))["spec"]
    assert spec["hold"]["reason"] == "Draft"
    assert spec["source"] == {"pullRequest": {"draft": True}}


def test_no_push_lets_go_what_a_person_holds() -> None:
    held = environment(source=SOURCE, hold={"reason": "Manual", "message": "I am measuring"})
    assert updated(asked(existing=held, head=B))["spec"] == {"source": {"commit": B}}
    assert left(asked(existing=held)) == "the environment is as it should be"


def test_a_push_moves_the_expiry_and_nothing_moves_it_back() -> None:
    short = project(development={"ttl": "1h"})
    soon = environment(source=SOURCE, expiresAt="2026-11-23T20:30:00Z")
    late = environment(source=SOURCE, expiresAt="2026-12-31T00:00:00Z")
    assert updated(asked(short, soon, head=B))["spec"]["expiresAt"] == "2026-11-23T21:00:01Z"
    assert updated(asked(short, late, head=B))["spec"]["expiresAt"] == "2026-12-31T00:00:00Z"
    assert "expiresAt" not in updated(asked(short, soon, title="Only another title"))["spec"]
    assert "expiresAt" not in updated(asked(short, ALIVE, head=B))["spec"]


# Remove


def test_closed_is_recorded() -> None:
    assert updated(asked(existing=ALIVE, **CLOSED)) == {
        "metadata": {"annotations": {labels.CAUSE: "webhook-ingest/d-1"}},
        "spec": {"deletion": {"reason": "Closed", "at": NOW_TEXT, "evidence": "delivery d-1"}},
    }


@pytest.mark.parametrize("stopped", [{"refusal": "no longer granted"}, {"project_": project(paused=True)}])
def test_closing_removes_whatever_the_project_says(stopped: dict[str, Any]) -> None:
    body = updated(asked(existing=ALIVE, **CLOSED, **stopped))
    assert body["spec"]["deletion"]["reason"] == "Closed"


def test_what_is_no_longer_wanted_is_withdrawn_with_the_reason() -> None:
    assert updated(asked(NOT_WANTED, ALIVE))["spec"] == {
        "deletion": {
            "reason": "TriggerWithdrawn",
            "at": NOW_TEXT,
            "evidence": "delivery d-1: spec.triggers.pullRequests.enabled is false",
        }
    }


# Stays gone


def gone(reason: str, *, commit: str = A, **changed: Any) -> Snapshot:
    source = {**SOURCE, "commit": commit}
    deletion = {"reason": reason, "at": NOW_TEXT, "evidence": "e"}
    return snapshot_of(environment(source=source, deletion=deletion, **changed), SHOP)


@pytest.mark.parametrize("reason", ["Expired", "Requested"])
def test_stays_gone_until_a_new_commit_or_opening(reason: str) -> None:
    last = gone(reason)
    why = f"the environment of this commit is gone ({reason}): push, reopen or deploy, to get a new one"
    assert left(asked(last=last)) == why
    assert left(asked(last=last, action="labeled", labels=("shop", "new"), title="Another title")) == why
    assert created(asked(last=last, head=B))["spec"]["source"]["commit"] == B
    assert created(asked(last=last, opened_at=at(60)))["spec"]["source"]["commit"] == A


@pytest.mark.parametrize("reason", ["Expired", "Requested"])
def test_a_deploy_said_since_brings_it_back(reason: str) -> None:
    last = gone(reason)
    again = created(asked(last=last, commands=[command("c-1", given_at=NOW)]))
    assert again["metadata"]["annotations"][labels.DEPLOY] == "c-1"
    before: dict[str, Any] = {
        "created_at": at(-60),
        "updated_at": at(-60),
        "opened_at": NOW,
        "commands": [command("c", given_at=at(-1))],
    }
    assert "push, reopen or deploy" in left(asked(last=last, **before))


def test_stop_is_recorded_with_who_and_where_and_its_own_time() -> None:
    stop = command("c-9/command", "stop", given_at=at(5))
    body = updated(asked(existing=ALIVE, commands=[stop], now=at(60)))
    assert body["spec"]["deletion"] == {
        "reason": "Requested",
        "at": _text(at(5)),
        "evidence": "delivery c-9/command: /catalyst stop by lisa "
        "(https://github.com/Acme/Shop/pull/42#issuecomment-1)",
    }
    assert body["metadata"]["annotations"] == {labels.CAUSE: "webhook-ingest/c-9/command"}
    assert left(asked(commands=[stop])).startswith("stopped by lisa (https://")


def test_what_was_stopped_comes_back_by_deploy_however_late_the_stop_was_obeyed() -> None:
    said = [command("c-1", "stop", given_at=at(5)), command("c-2", given_at=at(6))]
    last = gone("Requested").model_copy(
        update={"deletion": SnapshotDeletion(reason="Requested", at=at(5), evidence="stop")}
    )
    assert created(asked(last=last, commands=said, now=at(600)))["spec"]["source"]["commit"] == A


def test_an_approval_lifts_the_hold_of_its_commit_and_a_push_voids_it() -> None:
    fork: dict[str, Any] = {"fork": True, "head": {"ref": "basket", "sha": A, "repository": "stranger/shop"}}
    approve = command("c-1", "approve", given_at=at(1))
    approved = created(asked(commands=[approve], **fork))["spec"]
    assert "hold" not in approved
    assert approved["approval"] == {"commit": A, "by": "lisa", "at": _text(at(1))}
    existing = environment(**{key: approved[key] for key in ("source", "owner", "approval")})
    pushed = updated(
        asked(
            existing=existing,
            commands=[approve],
            fork=True,
            head={**fork["head"], "sha": B},
            action="synchronize",
            updated_at=at(2),
        )
    )
    assert pushed["spec"]["approval"] is None
    assert pushed["spec"]["hold"]["reason"] == "Fork"


def test_deploy_on_what_runs_is_marked_once() -> None:
    said = [command("c-1")]
    body = updated(asked(existing=ALIVE, commands=said))
    assert body["metadata"]["annotations"][labels.DEPLOY] == "c-1"
    assert body["spec"] == {}
    marked = environment(source=SOURCE, owner="mona", metadata={"annotations": body["metadata"]["annotations"]})
    assert left(asked(existing=marked, commands=said)) == "the environment is as it should be"


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


@pytest.mark.parametrize("reason", ["Closed", "TriggerWithdrawn"])
def test_what_the_forge_took_away_it_gives_back(reason: str) -> None:
    assert created(asked(last=gone(reason)))["metadata"]["name"] == "pr-42"


def test_a_deleted_resource_counts_as_requested() -> None:
    last = snapshot_of(GOING, SHOP)
    assert "(Requested)" in left(asked(last=last))


# Branches


def of_branch(existing: Environment | None = None, last: Snapshot | None = None, **state: Any) -> Request:
    return for_branch(BRANCHES, None, branch(**state), existing, last, NOW)


def branch_environment_of(name: str, existing_name: str) -> Environment:
    return environment(existing_name, source={"branch": name}, metadata={"annotations": {labels.BRANCH: name}})


def test_a_branch_appears_moves_and_goes() -> None:
    made = created(of_branch(branch="main"))
    assert made["metadata"]["name"] == "main"
    assert made["spec"]["source"] == {"branch": "main", "commit": B}
    alive = environment(
        "main", source={"branch": "main", "commit": A}, metadata={"annotations": {labels.BRANCH: "main"}}
    )
    assert updated(of_branch(alive, branch="main"))["spec"] == {"source": {"commit": B}}
    removed = updated(of_branch(alive, branch="main", after=NOTHING, deleted=True))
    assert removed["spec"]["deletion"]["reason"] == "Closed"
    assert left(of_branch(branch="main", after=NOTHING, deleted=True)) == "closed, and there is no environment"


def test_two_branches_never_share_an_environment() -> None:
    slashed, dashed = created(of_branch(branch="a/b")), created(of_branch(branch="a-b"))
    assert slashed["metadata"]["name"] != dashed["metadata"]["name"]
    assert slashed["metadata"]["annotations"][labels.BRANCH] == "a/b"
    other = branch_environment_of("a-b", slashed["metadata"]["name"])
    assert "made for something else" in left(of_branch(other, branch="a/b"))


UNSAFE = (
    "--upload-pack=x",
    "-x",
    "/etc",
    "a..b",
    "a@{1}",
    "a b",
    "a\tb",
    "a:b",
    "a~1",
    "a^",
    "a?",
    "a*",
    "a[0]",
    "a\\b",
    "x" * 256,
)
SAFE = (
    "feature/foo",
    "ünïcode",
    "名前",
    "a.b",
    "UPPER",
    "pr-42",
    "a--b",
    "@",
    "a@b",
    "x" * 255,
    "'; rm -rf $HOME #".replace(" ", ""),
)


@pytest.mark.parametrize("name", UNSAFE)
def test_a_branch_that_git_could_misread_makes_nothing(name: str) -> None:
    assert left(of_branch(branch=name)) == f"the branch name {name!r} cannot be handed to git safely"


@pytest.mark.parametrize("name", SAFE)
def test_a_strange_branch_gets_a_valid_name(name: str) -> None:
    made = created(of_branch(branch=name))
    Environment.parse(made)
    assert made["spec"]["source"]["branch"] == name
    assert is_name(made["metadata"]["name"])
    assert made["metadata"]["name"] != "pr-42"


# A hostile forge


@pytest.mark.parametrize("ref", UNSAFE)
def test_a_head_that_git_could_misread_is_left_out_and_the_commit_decides(ref: str) -> None:
    source = created(asked(head={"ref": ref, "sha": A, "repository": "acme/shop"}))["spec"]["source"]
    assert "branch" not in source
    assert source["commit"] == A


@pytest.mark.parametrize(
    ("field", "value", "kept"),
    [
        ("title", "<img src=x onerror=alert(1)> @org/team", "<img src=x onerror=alert(1)> @org/team"),
        ("title", "x" * 70_000, "x" * 1024),
        ("title", "\U0001f4a3" * 70_000, "\U0001f4a3" * 1024),
        ("title", "", ""),
        ("url", "javascript:alert(1)", None),
        ("url", "https://github.com/a b", None),
        ("url", "", None),
        ("url", "https://github.com/acme/shop/pull/42", "https://github.com/acme/shop/pull/42"),
        ("author", "x" * 300, "x" * 253),
        ("author", "", None),
        ("author", "dependabot[bot]", "dependabot[bot]"),
    ],
)
def test_hostile_text(field: str, value: str, kept: str | None) -> None:
    state: dict[str, Any] = {field: value}
    made = created(asked(**state))
    Environment.parse(made)
    assert made["spec"]["source"]["pullRequest"].get(field) == kept
    if field == "author":
        assert made["spec"].get("owner") == kept


@pytest.mark.parametrize(
    ("repository", "kept"),
    [
        (None, None),
        ("acme/shop", "acme/shop"),
        ("../../etc", None),
        ("-x/y", None),
        ("https://evil/x", None),
        ("a/b/c", None),
    ],
)
def test_head_repository(repository: str | None, kept: str | None) -> None:
    head = {"ref": "basket", "sha": A, "repository": repository}
    made = created(asked(project(triggers={"pullRequests": {"forks": "Always"}}), head=head, fork=True))
    assert made["spec"]["source"]["pullRequest"].get("headRepository") == kept


@given(st.text(min_size=1, max_size=300), st.text(max_size=2000), st.text(max_size=400), st.text(max_size=200))
def test_whatever_the_forge_says_the_resource_can_be_read(ref: str, title: str, author: str, repository: str) -> None:
    head = {"ref": ref, "sha": A, "repository": repository}
    made = created(asked(title=title, author=author, url=title, head=head))
    assert Environment.parse(made).spec.source.commit == A


@given(st.text(min_size=1, max_size=300))
def test_whatever_a_branch_is_called(name: str) -> None:
    request = of_branch(branch=name)
    if isinstance(request, Create):
        assert is_name(Environment.parse(request.manifest).metadata.name)
    else:
        assert left(request) == f"the branch name {name!r} cannot be handed to git safely"
    gone_ = of_branch(branch=name, after=NOTHING, deleted=True)
    assert left(gone_) == "closed, and there is no environment"


@given(st.booleans(), st.sampled_from(["open", "closed"]), st.sampled_from([A, B]), st.booleans())
def test_what_was_asked_is_not_asked_again(draft: bool, state: str, head: str, fork: bool) -> None:
    """Acting on a request makes the same facts ask for nothing more."""
    first = asked(existing=ALIVE, draft=draft, state=state, head=head, fork=fork)
    if isinstance(first, Leave):
        return
    again = asked(existing=_patched(ALIVE, updated(first)), draft=draft, state=state, head=head, fork=fork)
    assert isinstance(again, Leave)


def _patched(existing: Environment, body: Manifest) -> Environment:
    return Environment.parse(merged(existing.manifest(), body))
