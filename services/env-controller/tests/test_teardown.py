"""Teardown: asked, answered, removed, released, in that order and never otherwise."""

from dataclasses import replace
from typing import Any

import pytest
from makers import GRANTS, HOST, NOW, NOW_TEXT, PLATFORM, at, environment, project, stored, subject

from catalyst.env_controller.core import baseline
from catalyst.env_controller.core.environment import decide
from catalyst.env_controller.core.teardown import unanswered
from catalyst.env_controller.core.world import Decision, Observed, World
from catalyst.model import labels
from catalyst.model.environment import Environment, EnvironmentStatus, Phase
from catalyst.model.manifest import Manifest

NAMESPACE = stored(baseline.namespace(subject()), "uid-n", "7")
GOING_NAMESPACE = stored(baseline.namespace(subject()), "uid-n", "8", terminating=True)
ROUTES = [{"host": HOST, "namespace": "acme--shop--pr-42", "service": "web", "port": 80}]
RECORDED = {"name": "acme--shop--pr-42", "uid": "uid-n"}


def going(**status: Any) -> Environment:
    return environment(metadata={"deletionTimestamp": NOW_TEXT}, status=status or None)


def world(namespace: Observed | None = None, children: dict[str, Observed] | None = None) -> World:
    return World(PLATFORM, project(), GRANTS, namespace, children or {})


def reason(decision: Decision) -> tuple[Phase, str]:
    assert isinstance(decision.status, EnvironmentStatus)
    terminating, ready = decision.status.condition("Terminating"), decision.status.condition("Ready")
    assert terminating is not None
    assert ready is not None
    assert (terminating.status, ready.status, ready.reason) == ("True", "False", "Terminating")
    return decision.status.phase, terminating.reason


def answered(live: bool) -> Manifest:
    return {"routes": {HOST: {"live": live, "at": NOW_TEXT}}}


BUILDS = {"web": {"key": "k", "attempt": 1}}


@pytest.mark.parametrize(
    ("status", "open_"),
    [
        ({}, []),
        ({"namespace": RECORDED}, []),
        ({"routes": ROUTES}, [f"route {HOST}"]),
        ({"routes": ROUTES, "answers": answered(live=True)}, [f"route {HOST}"]),
        ({"routes": ROUTES, "answers": {"routes": {"other.host": {"live": False, "at": NOW_TEXT}}}}, [f"route {HOST}"]),
        ({"routes": ROUTES, "answers": answered(live=False)}, []),
        ({"builds": BUILDS}, ["builds"]),
        ({"builds": BUILDS, "answers": {"buildsCleaned": False}}, ["builds"]),
        ({"builds": BUILDS, "answers": {"buildsCleaned": True}}, []),
        ({"routes": ROUTES, "builds": BUILDS, "answers": answered(live=False)}, ["builds"]),
        ({"routes": ROUTES, "builds": BUILDS, "answers": {"buildsCleaned": True}}, [f"route {HOST}"]),
        ({"routes": ROUTES, "builds": BUILDS}, [f"route {HOST}", "builds"]),
    ],
)
def test_only_what_was_handed_out_is_awaited(status: Manifest, open_: list[str]) -> None:
    assert unanswered(EnvironmentStatus.model_validate(status)) == open_
    decision = decide(
        going(**status, **({} if "namespace" in status else {"namespace": RECORDED})), world(NAMESPACE), NOW
    )
    assert bool(decision.delete) == (not open_), "nothing is removed before the answers are in"
    assert not decision.release


@pytest.mark.parametrize(
    ("seconds", "again", "requeue"), [(0, 0, 60), (59, 0, 1), (60, 1, 60), (61, 1, 59), (3600, 60, 60), (-5, 0, 65)]
)
def test_an_open_question_is_asked_again_every_minute(seconds: int, again: int, requeue: float) -> None:
    decision = decide(going(routes=ROUTES, namespace=RECORDED), world(NAMESPACE), at(seconds))
    assert (decision.again, decision.requeue_after, decision.announce) == (again, requeue, True)
    assert reason(decision) == (Phase.TERMINATING, "AwaitingAnswers")
    assert decision.status is not None
    terminating = decision.status.condition("Terminating")
    assert terminating is not None
    assert terminating.message == (
        f"Waiting for the answer that these are gone: route {HOST}. "
        "Asked again every minute; the namespace is not removed before."
    )
    assert not decision.changes_objects


RUNNING = [
    stored(
        {"apiVersion": "apps/v1", "kind": kind, "metadata": {**named, "labels": subject().labels}},
        f"uid-{kind}",
    )
    for kind, named in (
        ("Deployment", {"namespace": "acme--shop--pr-42", "name": "web"}),
        ("StatefulSet", {"namespace": "acme--shop--pr-42", "name": "db"}),
        ("Service", {"namespace": "acme--shop--pr-42", "name": "web"}),
    )
]
SOMEBODY_ELSES = Observed(replace(RUNNING[0].ref, name="other", uid="uid-o"), {labels.ENVIRONMENT_UID: "another"})
ON_ITS_WAY = replace(RUNNING[0], ref=replace(RUNNING[0].ref, name="old", uid="uid-g"), terminating=True)
THERE = {one.key: one for one in (*RUNNING, SOMEBODY_ELSES, ON_ITS_WAY)}


@pytest.mark.parametrize("builds", [{}, {"builds": BUILDS}])
def test_what_runs_goes_when_no_route_leads_to_it_any_more(builds: Manifest) -> None:
    """Its pods end while Kubernetes, or builder, is still busy with the rest. Only what is ours, and by its uid."""
    before = decide(going(routes=ROUTES, namespace=RECORDED, **builds), world(NAMESPACE, THERE), NOW)
    assert before.delete == ()
    after = going(routes=ROUTES, namespace=RECORDED, answers=answered(live=False), **builds)
    decision = decide(after, world(NAMESPACE, THERE), NOW)
    namespace = () if builds else (NAMESPACE.ref,)
    assert decision.delete == (*namespace, RUNNING[0].ref, RUNNING[1].ref)
    assert reason(decision) == (Phase.TERMINATING, "AwaitingAnswers" if builds else "RemovingNamespace")


def test_the_namespace_is_recorded_before_it_is_deleted() -> None:
    decision = decide(going(), world(NAMESPACE), NOW)
    assert not decision.changes_objects
    assert decision.requeue_after == 0
    assert reason(decision) == (Phase.TERMINATING, "RecordingNamespace")
    assert decision.status is not None
    assert decision.status.namespace is not None
    assert decision.status.namespace.uid == "uid-n"


def test_a_namespace_made_anew_is_recorded_instead_of_the_old_one() -> None:
    decision = decide(going(namespace={**RECORDED, "uid": "uid-old"}), world(NAMESPACE), NOW)
    assert not decision.changes_objects
    assert decision.status is not None
    assert decision.status.namespace is not None
    assert decision.status.namespace.uid == "uid-n"


def test_the_namespace_is_deleted_by_uid() -> None:
    decision = decide(going(namespace=RECORDED), world(NAMESPACE), NOW)
    assert decision.delete == (NAMESPACE.ref,)
    assert NAMESPACE.ref.uid == "uid-n"
    assert reason(decision) == (Phase.TERMINATING, "RemovingNamespace")


def test_while_it_goes_it_is_waited_for() -> None:
    decision = decide(going(namespace=RECORDED), world(GOING_NAMESPACE), NOW)
    assert not decision.changes_objects
    assert reason(decision) == (Phase.TERMINATING, "RemovingNamespace")


FOREIGN = Observed(NAMESPACE.ref, {labels.ENVIRONMENT_UID: "uid-of-another"})
OTHER_UID = Observed(stored(baseline.namespace(subject()), "uid-other").ref, {labels.ENVIRONMENT_UID: "uid-of-another"})


@pytest.mark.parametrize(
    ("status", "seen"),
    [
        ({"namespace": RECORDED}, world()),
        ({}, world()),
        ({"namespace": RECORDED}, world(OTHER_UID)),
        ({}, world(FOREIGN)),
    ],
)
def test_released_when_everything_of_ours_is_gone(status: Manifest, seen: World) -> None:
    assert decide(going(**status), seen, NOW) == Decision(release=True, announce=False)


def test_labels_changed_by_hand_do_not_save_the_recorded_namespace_nor_lose_another() -> None:
    assert decide(going(namespace=RECORDED), world(FOREIGN), NOW).delete == (NAMESPACE.ref,)


def test_without_our_finalizer_nothing_is_done() -> None:
    gone = environment(
        metadata={"deletionTimestamp": NOW_TEXT, "finalizers": ["other"]}, status={"namespace": RECORDED}
    )
    assert decide(gone, world(NAMESPACE), NOW) == Decision(announce=False)


def test_a_project_that_is_gone_or_refused_does_not_hold_teardown_up() -> None:
    for project_, grants in ((None, GRANTS), (project(), None)):
        decision = decide(going(namespace=RECORDED), World(PLATFORM, project_, grants, NAMESPACE), NOW)
        assert decision.delete == (NAMESPACE.ref,)
