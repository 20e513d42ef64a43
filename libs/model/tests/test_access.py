"""The role table, as the rules the API server gets. Real requests as the real roles are in tests/."""

import itertools

import pytest

from catalyst.model.access import (
    ENVIRONMENT_OWNER,
    ENVIRONMENT_READER,
    READ,
    ROLES,
    WRITE,
    Role,
    cluster_role_name,
    cluster_roles,
    group,
)


def granted(name: str) -> set[tuple[str, str, str]]:
    """(API group, resource, verb) of a ClusterRole."""
    (role,) = (role for role in cluster_roles() if role["metadata"]["name"] == name)
    return {
        triple
        for rule in role["rules"]
        for triple in itertools.product(rule["apiGroups"], rule["resources"], rule["verbs"])
    }


NEVER = (
    "serviceaccounts/token", "pods/proxy", "services/proxy", "nodes", "roles", "rolebindings", "clusterroles",
    "clusterrolebindings", "users", "groups", "persistentvolumes", "customresourcedefinitions",
    "environments/status", "environments/finalizers", "projects",
)  # fmt: skip


@pytest.mark.parametrize("role", ROLES)
def test_what_nobody_may(role: Role) -> None:
    triples = granted(cluster_role_name(role))
    assert not {resource for _, resource, _ in triples} & set(NEVER)
    assert not {verb for _, _, verb in triples} & {"escalate", "bind", "impersonate", "*"}
    assert not any("*" in (api_group, resource) for api_group, resource, _ in triples)
    for resource in ("networkpolicies", "resourcequotas", "limitranges", "events", "daemonsets", "ingresses"):
        assert {verb for _, name, verb in triples if name == resource} == set(READ)


def test_an_observer_writes_nothing_and_sees_no_configuration() -> None:
    triples = granted("catalyst-observer")
    assert {verb for _, _, verb in triples} == set(READ)
    hidden = {"configmaps", "secrets", "pods/exec", "pods/attach", "pods/portforward", "serviceaccounts"}
    assert not {resource for _, resource, _ in triples} & hidden


def test_an_owner_is_an_admin_with_a_debugger() -> None:
    more = granted("catalyst-owner") - granted("catalyst-admin")
    assert more == {("", "pods/ephemeralcontainers", verb) for verb in ("get", "update", "patch")}
    assert granted("catalyst-observer") < granted("catalyst-admin")
    assert {("", "secrets", verb) for verb in (*READ, *WRITE)} <= granted("catalyst-admin")


def test_environments_are_read_by_all_and_changed_by_owners() -> None:
    assert granted(ENVIRONMENT_READER) == {("catalyst.dev", "environments", verb) for verb in READ}
    assert granted(ENVIRONMENT_OWNER) == {
        ("catalyst.dev", "environments", verb) for verb in ("update", "patch", "delete")
    }


def test_a_group_cannot_be_forged() -> None:
    assert group("acme", "shop", "owner") == "catalyst:acme:shop:owner"
    for team, project in (("acme:shop", "x"), ("acme", "shop:owner"), ("", "shop")):
        with pytest.raises(ValueError, match="expected names"):
            group(team, project, "owner")
