"""decide: state in, decision out, one table row a situation."""

from dataclasses import replace
from typing import Any

import pytest
from makers import GRANTS, NOW, NOW_TEXT, PLATFORM, at, environment, project, stored, subject

from catalyst.env_controller.core import baseline
from catalyst.env_controller.core.deploying import deploy
from catalyst.env_controller.core.environment import decide, refused_by_cluster
from catalyst.env_controller.core.platform import Platform
from catalyst.env_controller.core.world import Decision, Observed, World
from catalyst.model import labels
from catalyst.model.environment import Environment, EnvironmentStatus, Phase
from catalyst.model.manifest import Manifest, Ref

CHILDREN = baseline.children(subject())
SEEN = {seen.key: seen for seen in (stored(manifest, f"uid-{n}") for n, manifest in enumerate(CHILDREN))}
NAMESPACE = stored(baseline.namespace(subject()), "uid-of-namespace", "7")
MADE = World(PLATFORM, project(), GRANTS, NAMESPACE, SEEN)
EMPTY = World(PLATFORM, project(), GRANTS)
LATER = "2026-11-23T21:00:00Z"


def settled(world: World = MADE, **spec: Any) -> Environment:
    """An Environment whose status is what one decision in that world said."""
    found = environment(**spec)
    return found.model_copy(update={"status": decide(found, world, NOW).status})


def conditions(decision: Decision) -> dict[str, tuple[str, str]]:
    assert isinstance(decision.status, EnvironmentStatus)
    return {item.type: (item.status, item.reason) for item in decision.status.conditions}


def phase(decision: Decision) -> Phase:
    assert isinstance(decision.status, EnvironmentStatus)
    return decision.status.phase


def test_nothing_is_done_before_the_finalizer_is_there() -> None:
    finalizer = {"metadata": {"finalizers": ["other", labels.FINALIZER]}}
    for spec in ({}, {"expiresAt": "2026-01-01T00:00:00Z"}, {"deletion": _deletion()}):
        bare = environment(metadata={"finalizers": ["other"]}, **spec)
        assert decide(bare, MADE, NOW) == Decision(amend=finalizer, announce=False)


def _deletion() -> Manifest:
    return {"reason": "Closed", "at": NOW_TEXT, "evidence": "delivery d-1"}


def test_recorded_evidence_deletes_the_resource() -> None:
    assert decide(environment(deletion=_deletion()), MADE, NOW) == Decision(remove=True)


@pytest.mark.parametrize(("seconds", "expired"), [(3599, False), (3600, True), (99999, True)])
def test_expiry_is_recorded_as_evidence_at_its_time(seconds: int, expired: bool) -> None:
    decision = decide(environment(expiresAt=LATER), MADE, at(seconds))
    if not expired:
        assert decision.amend is None
        assert decision.requeue_after == 3600 - seconds
        return
    assert decision == Decision(
        amend={
            "spec": {
                "deletion": {
                    "reason": "Expired",
                    "at": f"{at(seconds):%Y-%m-%dT%H:%M:%SZ}",
                    "evidence": "spec.expiresAt 2026-11-23T21:00:00Z has passed",
                }
            }
        },
        announce=False,
    )


TERMINATING = World(PLATFORM, project(), GRANTS, stored(baseline.namespace(subject()), "u", terminating=True))
HELD: dict[str, Any] = {"hold": {"reason": "Draft", "message": "This is a draft."}}


@pytest.mark.parametrize(
    ("world", "spec"),
    [
        (EMPTY, {}),
        (EMPTY, HELD),
        (MADE, {}),
        (TERMINATING, {}),
        (World(PLATFORM, None, GRANTS), {}),
        (World(PLATFORM, project(), None), {}),
        (World(PLATFORM, project(), GRANTS, Observed(NAMESPACE.ref)), {}),
    ],
)
def test_whatever_the_state_the_expiry_is_not_forgotten(world: World, spec: dict[str, Any]) -> None:
    assert decide(environment(expiresAt=LATER, **spec), world, NOW).requeue_after == 3600
    assert decide(environment(**spec), world, NOW).requeue_after is None


def test_first_pass_creates_the_namespace_and_everything_in_it() -> None:
    decision = decide(environment(), EMPTY, NOW)
    assert decision.create == (baseline.namespace(subject()),)
    assert decision.apply == tuple(CHILDREN)
    assert (decision.patch, decision.delete) == ((), ())
    assert phase(decision) == Phase.PROVISIONING
    assert conditions(decision) == {
        "Accepted": ("True", "Accepted"),
        "Supported": ("True", "Supported"),
        "Approved": ("True", "NotHeld"),
        "BaselineReady": ("False", "Provisioning"),
        "Ready": ("False", "Provisioning"),
    }


def test_complete() -> None:
    decision = decide(environment(), MADE, NOW)
    assert not decision.changes_objects
    assert phase(decision) == Phase.PROVISIONED
    assert conditions(decision) == {
        "Accepted": ("True", "Accepted"),
        "Supported": ("True", "Supported"),
        "Approved": ("True", "NotHeld"),
        "NamespaceReady": ("True", "Created"),
        "BaselineReady": ("True", "Complete"),
        "Ready": ("False", "RegistryNotConfigured"),
    }
    assert decision.status is not None
    assert decision.status.namespace is not None
    assert decision.status.namespace.uid == "uid-of-namespace"


def test_stages_tell_how_long_each_took() -> None:
    first = environment()
    making = decide(first, EMPTY, at(1))
    second = first.model_copy(update={"status": making.status})
    done = decide(second, MADE, at(3)).status
    assert isinstance(done, EnvironmentStatus)
    assert [(stage.name, stage.started_at, stage.finished_at) for stage in done.stages] == [
        ("Accepted", NOW, at(1)),
        ("Namespace", at(1), at(3)),
        ("Baseline", at(1), at(3)),
    ]
    third = first.model_copy(update={"status": done})
    assert decide(third, MADE, at(900)).status == done


def test_held_makes_nothing_and_says_why() -> None:
    decision = decide(environment(**HELD), EMPTY, NOW)
    assert not decision.changes_objects
    assert phase(decision) == Phase.WAITING
    assert conditions(decision)["Approved"] == ("False", "Draft")
    assert conditions(decision)["Ready"] == ("False", "Draft")


def test_held_later_keeps_what_exists_and_repairs_it() -> None:
    without_quota = {key: seen for key, seen in SEEN.items() if not key.startswith("ResourceQuota")}
    decision = decide(environment(**HELD), World(PLATFORM, project(), GRANTS, NAMESPACE, without_quota), NOW)
    assert [manifest["kind"] for manifest in decision.apply] == ["ResourceQuota"]
    assert conditions(decision)["Approved"] == ("False", "Draft")


@pytest.mark.parametrize(
    ("world", "expected", "reason"),
    [
        (World(PLATFORM, None, GRANTS), Phase.PENDING, "ProjectNotFound"),
        (World(PLATFORM, project(), None), Phase.FAILED, "RepositoryNotGranted"),
        (World(PLATFORM, project(), ("github/other/*",), NAMESPACE, SEEN), Phase.FAILED, "RepositoryNotGranted"),
    ],
)
def test_what_is_not_accepted_changes_nothing(world: World, expected: Phase, reason: str) -> None:
    decision = decide(environment(), world, NOW)
    assert not decision.changes_objects
    assert phase(decision) == expected
    assert conditions(decision) == {"Accepted": ("False", reason), "Ready": ("False", reason)}


def test_an_environment_in_a_foreign_namespace_touches_nothing() -> None:
    intruder = environment(metadata={"namespace": "kube-system"})
    decision = decide(intruder, MADE, NOW)
    assert not decision.changes_objects
    assert conditions(decision)["Accepted"] == ("False", "NamespaceMismatch")


def test_what_is_not_implemented_is_named_and_the_baseline_is_made_all_the_same() -> None:
    asked = project(development={"sleep": {"after": "1h"}}, source={"repository": "acme/shop", "defaultBranch": "main"})
    decision = decide(environment(desiredState="Sleeping"), World(PLATFORM, asked, GRANTS), NOW)
    assert isinstance(decision.status, EnvironmentStatus)
    supported = decision.status.condition("Supported")
    assert supported is not None
    assert (supported.status, supported.reason) == ("False", "NotImplemented")
    assert supported.message == (
        "Not implemented yet, and without effect: Project spec.development.sleep, Project spec.source.defaultBranch, "
        "spec.desiredState: Sleeping. Everything else is made."
    )
    assert len(decision.apply) == len(CHILDREN)


@pytest.mark.parametrize("owner", [None, "uid-of-another"])
def test_a_namespace_that_is_not_ours_is_never_adopted(owner: str | None) -> None:
    found = Observed(NAMESPACE.ref, {labels.ENVIRONMENT_UID: owner} if owner else {})
    decision = decide(environment(), World(PLATFORM, project(), GRANTS, found, SEEN), NOW)
    assert not decision.changes_objects
    assert phase(decision) == Phase.FAILED
    assert conditions(decision)["NamespaceReady"] == ("False", "NamespaceTaken")
    assert isinstance(decision.status, EnvironmentStatus)
    ready = decision.status.condition("Ready")
    assert ready is not None
    assert ready.message == (
        f"Namespace acme--shop--pr-42 exists and does not belong to this Environment (label "
        f"catalyst.dev/environment-uid is {owner!r}): remove that namespace, or give the Environment another name"
    )


def test_a_namespace_that_somebody_deleted_is_waited_for() -> None:
    decision = decide(environment(), TERMINATING, NOW)
    assert not decision.changes_objects
    assert conditions(decision)["BaselineReady"] == ("False", "NamespaceTerminating")


def test_labels_of_the_namespace_are_put_back() -> None:
    relabelled = Observed(NAMESPACE.ref, {**NAMESPACE.labels, "pod-security.kubernetes.io/enforce": "privileged"})
    decision = decide(settled(), World(PLATFORM, project(), GRANTS, relabelled, SEEN), NOW)
    (patch,) = decision.patch
    assert patch.ref == NAMESPACE.ref
    assert patch.body == {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}}


def test_drift_is_repaired_with_the_uid_and_version_that_were_seen_and_nothing_flaps() -> None:
    key = "ResourceQuota/acme--shop--pr-42/environment"
    entry = {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:hard": {"f:x": {}}}}}
    drifted = Observed(SEEN[key].ref, SEEN[key].labels, SEEN[key].applied, [*SEEN[key].managed, entry])
    before = settled()
    decision = decide(before, World(PLATFORM, project(), GRANTS, NAMESPACE, {**SEEN, key: drifted}), at(60))
    (repair,) = decision.apply
    assert repair["spec"] == CHILDREN[0]["spec"]
    assert (repair["metadata"]["uid"], repair["metadata"]["resourceVersion"]) == (drifted.ref.uid, "1")
    assert decision.status == before.status
    assert decision.announce is False


def test_a_changed_project_applies_only_what_differs() -> None:
    wider = project(development={"quota": {"pods": 50}})
    decision = decide(settled(), World(PLATFORM, wider, GRANTS, NAMESPACE, SEEN), NOW)
    (applied,) = decision.apply
    assert (applied["kind"], applied["spec"]["hard"]["pods"]) == ("ResourceQuota", "50")


def test_what_is_no_longer_wanted_goes() -> None:
    listed = baseline.children(subject(project_=project(development={"egress": [{"cidr": "203.0.113.0/24"}]})))
    (extra,) = [m for m in listed if m["metadata"]["name"] == "allow-egress-listed"]
    seen = stored(extra, "uid-of-extra")
    decision = decide(settled(), World(PLATFORM, project(), GRANTS, NAMESPACE, {**SEEN, seen.key: seen}), NOW)
    assert decision.delete == (seen.ref,)


def test_what_others_made_in_the_namespace_is_left_alone() -> None:
    theirs = Observed(Ref("v1", "ServiceAccount", "acme--shop--pr-42", "mine", "u", "1"))
    assert not decide(
        settled(), World(PLATFORM, project(), GRANTS, NAMESPACE, {**SEEN, theirs.key: theirs}), NOW
    ).changes_objects


def test_a_refusal_of_the_cluster_is_said() -> None:
    status = refused_by_cluster(environment(), "x" * 5000, at(5))
    ready = status.condition("BaselineReady")
    assert ready is not None
    assert (ready.status, ready.reason, len(ready.message)) == ("False", "RefusedByCluster", 1024)
    assert status.phase == Phase.PROVISIONING


def test_a_refusal_of_what_runs_leaves_the_baseline_as_it_was() -> None:
    status = refused_by_cluster(settled(), "x" * 5000, at(5))
    baseline_ready, deployed = status.condition("BaselineReady"), status.condition("Deployed")
    assert baseline_ready is not None
    assert deployed is not None
    assert baseline_ready.status == "True"
    assert (deployed.status, deployed.reason, len(deployed.message)) == ("False", "RefusedByCluster", 1024)
    assert status.phase == Phase.FAILED


def test_conditions_move_their_time_only_with_their_status() -> None:
    before = settled()
    again = decide(before, MADE, at(600)).status
    assert again == before.status
    refused = decide(before, World(PLATFORM, project(), None, NAMESPACE, SEEN), at(600)).status
    assert isinstance(refused, EnvironmentStatus)
    accepted, supported = refused.condition("Accepted"), refused.condition("Supported")
    assert accepted is not None
    assert supported is not None
    assert (accepted.last_transition_time, supported.last_transition_time) == (at(600), NOW)


@pytest.mark.parametrize(("zone", "reason"), [("No Zone", "InvalidHost"), ("preview.example.org", "Routing")])
def test_a_host_that_cannot_be_is_said_and_the_rest_runs(zone: str, reason: str) -> None:
    of = project(components=[{"name": "web", "image": "nginx", "expose": {"port": 80}}])
    about, platform = environment(source={"commit": "a" * 40}), Platform(zone=zone)
    made = deploy(subject(about, of, platform), replace(MADE, project=of, platform=platform), EnvironmentStatus(), NOW)
    assert {manifest["kind"] for manifest in made.apply} == {"Deployment", "Service"}
    there = {seen.key: seen for seen in (stored(manifest, "u") for manifest in made.apply)}
    world = replace(MADE, project=of, platform=platform, children={**SEEN, **there})
    decision = deploy(subject(about, of, platform), world, EnvironmentStatus(), NOW)
    assert conditions(decision)["Routed"] == ("False", reason)
    assert isinstance(decision.status, EnvironmentStatus)
    routed = decision.status.condition("Routed")
    assert routed is not None
    assert zone in routed.message
