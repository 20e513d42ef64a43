"""From any world, asking and acting ends where nothing is left to change; and what must never happen does not happen
on the way (the simulator checks it at every act).
"""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import GRANTS, HOST, NOW, NOW_TEXT, at, environment_manifest, project, stored, subject
from simulated import Simulated

from catalyst.env_controller.core import baseline
from catalyst.env_controller.core.environment import decide
from catalyst.env_controller.core.world import Decision, Observed, World, from_json, object_key, to_json
from catalyst.model import labels
from catalyst.model.environment import Environment, Phase
from catalyst.model.manifest import Manifest, Ref

OURS, OTHERS = "uid-of-environment", "uid-of-another"
WORKLOAD = "acme--shop--pr-42"
MANIFESTS = baseline.children(subject())
KEYS = [object_key(m["kind"], m["metadata"]["namespace"], m["metadata"]["name"]) for m in MANIFESTS]
FOREIGN_ENTRY = {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {"f:extra": {}}}}


def _child(manifest: Manifest, state: str, number: int) -> Observed:
    good = stored(manifest, f"uid-of-old-child-{number}", f"{1000 + number}")
    match state:
        case "outdated":
            return replace(good, applied="another digest")
        case "changed by others":
            return replace(good, managed=[*good.managed, FOREIGN_ENTRY])
        case "field removed":
            entry = {**good.managed[0], "fieldsV1": {"f:metadata": good.managed[0]["fieldsV1"]["f:metadata"]}}
            return replace(good, managed=[entry])
        case "never applied":
            return replace(good, managed=[])
        case "relabelled":
            return replace(good, labels={**good.labels, labels.PROJECT: "other"})
        case "foreign":
            return replace(good, labels={**good.labels, labels.ENVIRONMENT_UID: OTHERS})
        case "terminating":
            return replace(good, terminating=True)
        case _:
            return good


CHILD_STATES = (
    "missing",
    "good",
    "outdated",
    "changed by others",
    "field removed",
    "never applied",
    "relabelled",
    "foreign",
    "terminating",
)
LEFT_OVER = baseline.with_digest(
    {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "allow-egress-listed", "namespace": WORKLOAD, "labels": subject().labels},
        "spec": {"podSelector": {}},
    }
)


@st.composite
def namespaces(draw: st.DrawFn) -> Observed | None:
    kind = draw(st.sampled_from(["absent", "ours", "relabelled", "foreign", "unlabelled"]))
    if kind == "absent":
        return None
    found = stored(baseline.namespace(subject()), draw(st.sampled_from(["uid-n-1", "uid-n-2"])), "7")
    if kind == "relabelled":
        found = replace(found, labels={**found.labels, "pod-security.kubernetes.io/enforce": "privileged"})
    if kind == "foreign":
        found = replace(found, labels={**found.labels, labels.ENVIRONMENT_UID: OTHERS})
    if kind == "unlabelled":
        found = replace(found, labels={})
    return replace(found, terminating=draw(st.booleans()))


@st.composite
def environments(draw: st.DrawFn) -> Environment:
    spec: dict[str, Any] = {}
    if draw(st.booleans()):
        spec["hold"] = {"reason": "Draft", "message": "wait"}
    if draw(st.booleans()):
        spec["expiresAt"] = draw(st.sampled_from(["2026-11-23T19:00:00Z", NOW_TEXT, "2026-11-24T20:00:00Z"]))
    if draw(st.booleans()):
        spec["deletion"] = {"reason": "Closed", "at": NOW_TEXT, "evidence": "delivery d-1"}
    metadata: dict[str, Any] = {
        "finalizers": draw(st.sampled_from([[], [labels.FINALIZER], ["other", labels.FINALIZER]]))
    }
    if metadata["finalizers"] and draw(st.booleans()):
        metadata["deletionTimestamp"] = "2026-11-23T19:58:30Z"
    status: Manifest = {}
    if draw(st.booleans()):
        status["namespace"] = {"name": WORKLOAD, "uid": draw(st.sampled_from(["uid-n-1", "uid-n-2"]))}
        status["phase"] = draw(st.sampled_from(["Provisioning", "Provisioned"]))
    if draw(st.booleans()):
        status["routes"] = [{"host": HOST, "namespace": WORKLOAD, "service": "web", "port": 80}]
        if live := draw(st.sampled_from([None, True, False])) is not None:
            status["answers"] = {"routes": {HOST: {"live": draw(st.booleans()) and live, "at": NOW_TEXT}}}
    if draw(st.booleans()):
        status["builds"] = {"web": {"key": "k", "attempt": 1}}
        status.setdefault("answers", {})["buildsCleaned"] = draw(st.booleans())
    return Environment.parse(environment_manifest(metadata=metadata, status=status or None, **spec))


@st.composite
def simulations(draw: st.DrawFn) -> Simulated:
    states = draw(st.lists(st.sampled_from(CHILD_STATES), min_size=len(KEYS), max_size=len(KEYS)))
    if draw(st.booleans()):
        states = ["good"] * len(KEYS)
        states[draw(st.integers(0, len(KEYS) - 1))] = draw(st.sampled_from(CHILD_STATES))
    children = {
        key: _child(manifest, state, number)
        for number, (key, manifest, state) in enumerate(zip(KEYS, MANIFESTS, states, strict=True))
        if state != "missing"
    }
    if draw(st.booleans()):
        children[f"NetworkPolicy/{WORKLOAD}/allow-egress-listed"] = stored(LEFT_OVER, "uid-of-left-over", "9")
    namespace = draw(namespaces())
    if namespace is None and draw(st.booleans()):  # the mirror of children may be behind that of namespaces
        children = {key: child for key, child in children.items() if child.ref.namespace != WORKLOAD}
    return Simulated(
        environment=draw(environments()),
        namespace=namespace,
        children=children,
        project=draw(st.sampled_from([project(), project(), project(), None])),
        grants=draw(st.sampled_from([GRANTS, GRANTS, GRANTS, None])),
    )


@settings(max_examples=400, deadline=None)
@given(simulations())
def test_any_world_comes_to_rest_where_it_should(simulated: Simulated) -> None:
    start = simulated.namespace
    untouched = None if start and start.terminating else start
    now = simulated.settle(NOW)
    environment = simulated.environment
    if environment is None:
        assert simulated.namespace is None or simulated.namespace.labels.get(labels.ENVIRONMENT_UID) != OURS
        assert not [child for child in simulated.children.values() if _is_ours(child, "acme--shop")]
        return
    again = decide(environment, simulated.world, now)
    assert not again.changes_objects
    assert again.status in (None, environment.status)
    status = environment.status
    if environment.metadata.deletion_timestamp:
        assert environment.metadata.finalizers == ("other",) or (status and status.phase == Phase.TERMINATING)
        return
    assert not environment.spec.deletion
    assert status is not None
    accepted = status.condition("Accepted")
    assert accepted is not None
    if simulated.project is None or simulated.grants is None:
        assert accepted.status == "False"
        assert simulated.namespace == untouched, "nothing is made, and what exists stays as it is"
    elif simulated.namespace and simulated.namespace.labels.get(labels.ENVIRONMENT_UID) != OURS:
        assert status.phase == Phase.FAILED
        assert simulated.namespace == untouched
    elif simulated.namespace is None:
        assert environment.spec.hold is not None
        assert status.phase == Phase.WAITING
    else:
        assert status.phase == (Phase.WAITING if environment.spec.hold else Phase.PROVISIONED)
        assert _is_complete(simulated)


def _is_ours(child: Observed, namespace: str) -> bool:
    return child.labels.get(labels.ENVIRONMENT_UID) == OURS and child.ref.namespace == namespace


def _is_complete(simulated: Simulated) -> bool:
    assert simulated.namespace is not None
    wanted = baseline.namespace(subject())["metadata"]["labels"]
    assert {key: simulated.namespace.labels.get(key) for key in wanted} == wanted
    assert set(simulated.children) == set(KEYS)
    for key, manifest in zip(KEYS, MANIFESTS, strict=True):
        found = simulated.children[key]
        assert not found.is_drifted_from(manifest)
        assert found.applied == manifest["metadata"]["annotations"][labels.APPLIED]
        assert found.labels == manifest["metadata"]["labels"]
    return True


@settings(max_examples=200, deadline=None)
@given(simulations())
def test_decisions_are_values(simulated: Simulated) -> None:
    """The same inputs give the same decision, without an event loop; and World and Decision round-trip as JSON."""
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    environment = simulated.environment
    assert environment is not None
    world = simulated.world
    before = to_json(world)
    decision = decide(environment, world, NOW)
    assert decide(environment, world, NOW) == decision
    assert to_json(world) == before, "decide changed what it was given"
    assert from_json(World, before) == world
    assert from_json(Decision, to_json(decision)) == decision
    replayed = decide(environment, from_json(World, to_json(world)), NOW)
    assert replayed == decision


@settings(max_examples=100, deadline=None)
@given(simulations())
def test_a_restart_writes_nothing(simulated: Simulated) -> None:
    """At rest, a controller that knows nothing but the world has nothing to write."""
    now = simulated.settle(NOW)
    written = simulated.writes
    simulated.settle(now)
    assert simulated.writes == written


@given(simulations())
def test_no_decision_names_a_secret(simulated: Simulated) -> None:
    assert simulated.environment is not None
    decision = decide(simulated.environment, simulated.world, NOW)
    assert not [manifest for manifest in decision.apply if manifest["kind"] == "Secret"]


def test_evidence_during_making_ends_in_nothing() -> None:
    """The whole life: made, drifted, expired, gone."""
    simulated = Simulated(
        environment=Environment.parse(environment_manifest(expiresAt="2026-11-23T21:00:00Z")), project=project()
    )
    simulated.settle(NOW)
    assert simulated.environment is not None
    assert simulated.environment.status is not None
    assert simulated.environment.status.phase == Phase.PROVISIONED
    assert _is_complete(simulated)
    simulated.settle(at(3600))
    assert _left_by(simulated) == []


def _left_by(simulated: Simulated) -> list[object]:
    found = [simulated.environment, simulated.namespace, *simulated.children.values()]
    return [thing for thing in found if thing is not None]


def test_a_namespace_made_anew_and_not_recorded_is_torn_down_too() -> None:
    """The recorded namespace was deleted by hand, another was made, and the controller stopped before recording it."""
    namespace = stored(baseline.namespace(subject()), "uid-n-2", "7")
    simulated = Simulated(
        environment=Environment.parse(
            environment_manifest(
                metadata={"deletionTimestamp": NOW_TEXT},
                status={"namespace": {"name": WORKLOAD, "uid": "uid-n-1"}, "phase": "Provisioning"},
            )
        ),
        namespace=namespace,
        project=project(),
    )
    simulated.settle(NOW)
    assert _left_by(simulated) == []


def test_a_namespace_of_the_same_name_that_is_not_ours_survives_everything() -> None:
    foreign = Observed(Ref("v1", "Namespace", "", WORKLOAD, "uid-n-9", "7"), {labels.ENVIRONMENT_UID: OTHERS})
    for deleted in ({}, {"deletionTimestamp": NOW_TEXT}):
        simulated = Simulated(
            environment=Environment.parse(environment_manifest(metadata=deleted)), namespace=foreign, project=project()
        )
        simulated.settle(NOW)
        assert simulated.namespace == foreign
