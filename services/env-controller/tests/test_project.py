"""decide_project: the namespace of a project's Environments, its readers, and how a Project goes."""

from dataclasses import replace
from typing import Any

import pytest
from makers import GRANTS, NOW, NOW_TEXT, PLATFORM, environment, merged, project, project_manifest, stored

from catalyst.env_controller.core.baseline import with_digest
from catalyst.env_controller.core.project import ProjectWorld, decide_project, is_accepted
from catalyst.env_controller.core.world import Observed, ProjectDecision, from_json, to_json
from catalyst.model import labels
from catalyst.model.environment import Environment
from catalyst.model.manifest import Manifest
from catalyst.model.project import Project, ProjectStatus

IDENTITY = {
    "catalyst.dev/team": "acme",
    "catalyst.dev/project": "shop",
    "catalyst.dev/project-uid": "uid-of-acme-shop",
}
NAMESPACE: Manifest = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {"name": "acme--shop", "labels": IDENTITY},
}
RBAC = "rbac.authorization.k8s.io"


def binding(name: str, cluster_role: str, *roles: str) -> Manifest:
    return with_digest(
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": "acme--shop", "labels": IDENTITY},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": cluster_role},
            "subjects": [{"apiGroup": RBAC, "kind": "Group", "name": f"catalyst:acme:shop:{role}"} for role in roles],
        }
    )


READERS = binding("catalyst-environment-readers", "catalyst-environment-reader", "observer", "admin", "owner")
OWNERS = binding("catalyst-environment-owners", "catalyst-environment-owner", "owner")
SEEN = stored(NAMESPACE, "uid-n", "7")
BOUND = stored(READERS, "uid-b", "8")
OWNED = stored(OWNERS, "uid-o", "9")
MADE = ProjectWorld(PLATFORM, GRANTS, SEEN, {BOUND.key: BOUND, OWNED.key: OWNED})


def world(**changed: Any) -> ProjectWorld:
    return replace(MADE, **changed)


def changed_project(*, status: Manifest | None = None, **metadata: Any) -> Project:
    manifest = merged(project_manifest(), {"metadata": metadata})
    return Project.parse({**manifest, **({"status": status} if status else {})})


def said(decision: ProjectDecision) -> dict[str, tuple[str, str]]:
    assert isinstance(decision.status, ProjectStatus)
    return {item.type: (item.status, item.reason) for item in decision.status.conditions}


def test_the_finalizer_comes_first() -> None:
    decision = decide_project(changed_project(finalizers=["other"]), world(namespace=None), NOW)
    assert decision == ProjectDecision(amend={"metadata": {"finalizers": ["other", labels.FINALIZER]}})


def test_the_namespace_and_its_bindings_are_made() -> None:
    decision = decide_project(project(), world(namespace=None, children={}), NOW)
    assert (decision.create, decision.apply) == ((NAMESPACE,), (READERS, OWNERS))
    assert said(decision) == {"Accepted": ("True", "Accepted"), "Supported": ("True", "Supported")}


def test_ready() -> None:
    decision = decide_project(project(), MADE, NOW)
    assert not decision.changes_objects
    assert said(decision)["Ready"] == ("True", "Ready")
    assert isinstance(decision.status, ProjectStatus)
    assert decision.status.namespace is not None
    assert (decision.status.namespace.name, decision.status.namespace.uid) == ("acme--shop", "uid-n")
    assert is_accepted(decision.status)


def test_the_binding_is_made_again_brought_up_to_date_and_repaired() -> None:
    meant = merged(READERS, {"metadata": {"uid": "uid-b", "resourceVersion": "8"}})
    entry = {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:subjects": {}, "f:extra": {}}}
    assert decide_project(project(), world(children={}), NOW).apply == (READERS, OWNERS)
    outdated = replace(BOUND, applied="old")
    assert decide_project(project(), world(children={BOUND.key: outdated, OWNED.key: OWNED}), NOW).apply == (meant,)
    drifted = replace(BOUND, managed=[*BOUND.managed, entry])
    assert decide_project(project(), world(children={BOUND.key: drifted, OWNED.key: OWNED}), NOW).apply == (meant,)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (replace(SEEN, labels={}), "NamespaceTaken"),
        (replace(SEEN, labels={labels.PROJECT_UID: "another"}), "NamespaceTaken"),
        (replace(SEEN, terminating=True), "NamespaceTerminating"),
    ],
)
def test_a_namespace_that_is_not_ours_or_going_is_left_alone(seen: Observed, reason: str) -> None:
    decision = decide_project(project(), world(namespace=seen, children={}), NOW)
    assert not decision.changes_objects
    assert said(decision)["Ready"] == ("False", reason)


def test_not_accepted_makes_nothing_and_removes_nothing() -> None:
    for seen in (None, SEEN):
        decision = decide_project(project(), world(grants=None, namespace=seen), NOW)
        assert not decision.changes_objects
        assert said(decision) == {
            "Accepted": ("False", "RepositoryNotGranted"),
            "Ready": ("False", "RepositoryNotGranted"),
        }
        assert not is_accepted(decision.status)


def test_what_is_not_implemented_is_named() -> None:
    decision = decide_project(project(deployments=[{"name": "staging", "branch": "main"}]), MADE, NOW)
    assert isinstance(decision.status, ProjectStatus)
    supported = decision.status.condition("Supported")
    assert supported is not None
    assert supported.message == ("Not implemented yet, and without effect: spec.deployments. Everything else is done.")
    assert said(decision)["Ready"] == ("True", "Ready")


# Shared Secrets

READS = with_digest(
    {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "catalyst-shared-secrets", "namespace": "acme--shop", "labels": IDENTITY},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "catalyst-shared-secrets"},
        "subjects": [{"kind": "ServiceAccount", "name": "env-controller", "namespace": "catalyst-system"}],
    }
)


def test_who_shares_secrets_lets_them_be_read_and_who_shares_none_does_not() -> None:
    sharing = project(secrets=[{"name": "stripe"}])
    assert decide_project(sharing, MADE, NOW).apply == (READS,)
    bound = stored(READS, "uid-r", "10")
    children = {**MADE.children, bound.key: bound}
    assert not decide_project(sharing, world(children=children), NOW).changes_objects
    assert decide_project(project(), world(children=children), NOW).delete == (bound.ref,)
    foreign = replace(bound, labels={})
    assert not decide_project(project(), world(children={**MADE.children, bound.key: foreign}), NOW).changes_objects


# Deletion

GOING = changed_project(deletionTimestamp=NOW_TEXT, status={"namespace": {"name": "acme--shop", "uid": "uid-n"}})


def named(name: str, **more: Any) -> Environment:
    return environment(name, **more)


def test_development_environments_go_by_evidence_of_their_own() -> None:
    already = named("pr-2", deletion={"reason": "Closed", "at": NOW_TEXT, "evidence": "e"})
    leaving = named("pr-3", metadata={"deletionTimestamp": NOW_TEXT})
    decision = decide_project(GOING, world(environments=(named("pr-1"), already, leaving)), NOW)
    (patch,) = decision.patch
    assert patch.ref == named("pr-1").ref
    assert patch.body == {
        "spec": {
            "deletion": {
                "reason": "TriggerWithdrawn",
                "at": NOW_TEXT,
                "evidence": "Project acme/shop (uid uid-of-acme-shop) was deleted",
            }
        }
    }
    assert said(decision)["Ready"] == ("False", "RemovingEnvironments")
    assert (decision.delete, decision.release) == ((), False)


def test_a_deployment_environment_holds_its_project() -> None:
    decision = decide_project(GOING, world(environments=(named("production", type="Deployment"),)), NOW)
    assert not decision.changes_objects
    assert isinstance(decision.status, ProjectStatus)
    ready = decision.status.condition("Ready")
    assert ready is not None
    assert (ready.reason, ready.message) == (
        "DeploymentEnvironments",
        "Delete these deployment environments first: production",
    )


UNRECORDED = changed_project(deletionTimestamp=NOW_TEXT)
FOREIGN = replace(SEEN, labels={labels.PROJECT_UID: "another"})
OTHER_LIFE = replace(stored(NAMESPACE, "uid-other"), labels={labels.PROJECT_UID: "another"})


@pytest.mark.parametrize(
    ("project_", "seen", "deleted", "released"),
    [
        (GOING, SEEN, True, False),
        (GOING, FOREIGN, True, False),  # relabelled by hand: the recorded uid decides
        (GOING, replace(SEEN, terminating=True), False, False),
        (GOING, None, False, True),
        (GOING, OTHER_LIFE, False, True),
        (UNRECORDED, SEEN, True, False),  # made, and the controller stopped before it was recorded
        (UNRECORDED, FOREIGN, False, True),
        (UNRECORDED, None, False, True),
    ],
)
def test_the_namespace_goes_and_then_the_finalizer(
    project_: Project, seen: Observed | None, deleted: bool, released: bool
) -> None:
    decision = decide_project(project_, world(namespace=seen), NOW)
    assert decision.delete == ((SEEN.ref,) if deleted else ())
    assert decision.release is released


def test_without_our_finalizer_nothing_is_done() -> None:
    gone = changed_project(deletionTimestamp=NOW_TEXT, finalizers=["other"])
    assert decide_project(gone, MADE, NOW) == ProjectDecision()


@pytest.mark.parametrize(
    ("project_", "seen"),
    [
        (project(), MADE),
        (project(), world(namespace=None)),
        (project(), world(grants=None)),
        (GOING, world(environments=(named("pr-1"),))),
        (GOING, MADE),
    ],
)
def test_worlds_and_decisions_round_trip_as_json(project_: Project, seen: ProjectWorld) -> None:
    decision = decide_project(project_, seen, NOW)
    assert from_json(ProjectWorld, to_json(seen)) == seen
    assert from_json(ProjectDecision, to_json(decision)) == decision
    assert decide_project(project_, from_json(ProjectWorld, to_json(seen)), NOW) == decision
