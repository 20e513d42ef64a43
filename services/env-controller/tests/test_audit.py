"""The audit's pure part: who counts, whose it is, and what came of it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from makers import NOW, fact, project

from catalyst.env_controller.core.api_audit import ApiEvent, Place, entry_of, latest, machines, place_of
from catalyst.env_controller.core.audit import DONE, Judgement, Standing, judged
from catalyst.env_controller.core.audit import entry_of as entry_of_fact
from catalyst.env_controller.core.recorded import PullRequestInputs
from catalyst.events.examples import command, pull_request, push
from catalyst.model import labels
from catalyst.model.names import Identity

SHOP = Identity("acme", "shop", "pr-42")
OURS = machines("catalyst-system", "catalyst-edge")


def api_event(**changes: Any) -> ApiEvent:
    ref = {"resource": "pods", "namespace": "acme--shop--pr-42", "name": "web-1"} | changes.pop("ref", {})
    return ApiEvent.model_validate(
        {
            "auditID": "a-1",
            "stage": "ResponseComplete",
            "verb": "delete",
            "user": {"username": "carol"},
            "objectRef": ref,
            "responseStatus": {"code": 200},
            "requestReceivedTimestamp": datetime(2026, 11, 23, tzinfo=UTC).isoformat(),
            **changes,
        }
    )


def whose(namespace: str) -> Place | None:
    return place_of(namespace, {})


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({}, True),
        ({"verb": "get"}, False),
        ({"verb": "get", "ref": {"resource": "secrets"}}, True),
        ({"verb": "get", "ref": {"subresource": "exec"}}, True),
        ({"verb": "get", "ref": {"subresource": "exec"}, "stage": "ResponseStarted"}, True),
        ({"stage": "ResponseStarted"}, False),
        ({"stage": "RequestReceived"}, False),
        ({"user": {"username": "system:serviceaccount:catalyst-system:env-controller"}}, False),
        ({"user": {"username": "system:serviceaccount:kube-system:replicaset-controller"}}, False),
        ({"user": {"username": "system:node:n1"}}, False),
        ({"user": {"username": "system:serviceaccount:ci:deployer"}}, True),
        ({"ref": {"namespace": "kube-system"}}, False),
        ({"ref": {"namespace": "acme"}}, False),
        ({"ref": {"resource": "projects", "apiGroup": "catalyst.dev", "namespace": "acme", "name": "shop"}}, True),
    ],
)
def test_what_counts(changes: dict[str, Any], counts: bool) -> None:
    assert (entry_of(api_event(**changes), whose, OURS) is not None) == counts


@pytest.mark.parametrize(
    ("status", "stage", "judgement"),
    [
        ({"code": 201}, "ResponseComplete", DONE),
        ({"code": 101}, "ResponseComplete", DONE),
        ({"code": 403, "reason": "Forbidden"}, "ResponseComplete", Judgement("refused", "Forbidden (403)")),
        ({"code": 422, "reason": "x: 'hunter2'"}, "ResponseComplete", Judgement("refused", "refused (422)")),
        ({"code": 503}, "ResponseComplete", Judgement("failed", "the API server failed (503)")),
        ({}, "Panic", Judgement("failed", "the API server failed")),
    ],
)
def test_what_came_of_it(status: dict[str, Any], stage: str, judgement: Judgement) -> None:
    entry = entry_of(api_event(responseStatus=status, stage=stage), whose, OURS)
    assert entry is not None
    assert entry.judgement == judgement


def test_whose_it_is() -> None:
    assert place_of("acme--shop--pr-42", {}) == Place("acme", "shop", "pr-42")
    assert place_of("acme--shop", {}) == Place("acme", "shop")
    assert place_of("acme", {}) is None
    hashed = {labels.TEAM: "acme", labels.PROJECT: "shop", labels.ENVIRONMENT: "pr-42"}
    assert place_of("acme-shop-pr-42-0a1b2c3d", hashed) == Place("acme", "shop", "pr-42")
    assert place_of("a--b--c--d", hashed) is None


def test_a_session_is_recorded_once_and_by_its_end_if_that_is_known() -> None:
    begun, ended = api_event(stage="ResponseStarted"), api_event()
    assert latest([begun, ended]) == latest([ended, begun]) == [ended]


def test_who_impersonates_is_named() -> None:
    entry = entry_of(api_event(impersonatedUser={"username": "dave"}), whose, OURS)
    assert entry is not None
    assert (entry.principal.name, entry.principal.acting_as) == ("carol", "dave")


def test_facts() -> None:
    standing = Standing(SHOP, "u-1", DONE)
    for event, door in ((pull_request(), "pull-request"), (push(), "push"), (command(), "command")):
        entry = entry_of_fact(event, standing)
        assert entry is not None
        assert (entry.door, entry.id) == (door, f"{event.message_id}/acme/shop/pr-42")
    resent = entry_of_fact(pull_request(), standing, "resent/SCM/17")
    assert resent is not None
    assert (resent.principal.kind, resent.door, resent.id) == ("oncall", "resend", "resent/SCM/17/acme/shop/pr-42")


def test_what_is_asked_for_in_a_pause_is_done_and_what_nobody_granted_is_refused() -> None:
    """Its environment is there, and waits."""

    def told(refusal: str | None) -> Judgement:
        inputs = PullRequestInputs(project(paused=True), refusal, (fact("d-1"),), (), None, None, NOW)
        return judged(inputs, inputs.decided())

    assert told(None) == DONE
    assert told("not granted") == Judgement("refused", "not granted")
