"""Who reads and keeps shared Secrets, by real requests: env-controller binds itself where a Project shares some, and
reaches nothing one step beyond. Each refusal stands beside its allowed twin.
"""

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from catalyst.env_controller.core import shares
from catalyst.local.installation import Installation

from .cluster import (
    BARE,
    DEPLOYMENT,
    DEVELOPMENT,
    FOREIGN,
    IDENTITY,
    PROJECT,
    RBAC,
    SYSTEM,
    TEAM,
    Answer,
    Manifest,
    Tenancy,
    group,
    object_path,
    path,
)

OURS = {**IDENTITY, "catalyst.dev/environment": "pr-1", "catalyst.dev/environment-uid": "uid-shop-pr-1"}
COPY = shares.copy_name("stripe")


def secret(where: str, name: str = "stripe", **labels: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": where, "labels": labels},
        "data": {"KEY": base64.b64encode(where.encode()).decode()},
    }


def binding(where: str, role: str, *subjects: Manifest) -> Manifest:
    return {**shares.binding(where, {}, role, SYSTEM), **({"subjects": list(subjects)} if subjects else {})}


@pytest.fixture(scope="module")
def tenancy(installation: Installation) -> Iterator[Tenancy]:
    """With a Secret everywhere, a copy and a credential of ours in the environment, and our own two bindings."""
    tenancy = Tenancy(installation.control_plane).create()
    seeds = [secret(where) for where in (TEAM, PROJECT, DEVELOPMENT, DEPLOYMENT, FOREIGN)]
    seeds += [secret(DEVELOPMENT, COPY, **OURS), secret(DEVELOPMENT, "db-credentials", **OURS)]
    for manifest in seeds:
        assert_done(tenancy.admin.apply(object_path(manifest), manifest))
    for where, role in ((PROJECT, shares.READER), (DEVELOPMENT, shares.KEEPER)):
        assert_done(
            tenancy.env_controller.request(
                "POST", path(RBAC, where, "rolebindings"), binding(where, role), dry_run=False
            )
        )
    tenancy.env_controller.wait_until_may("get", "", "secrets", PROJECT)
    tenancy.env_controller.wait_until_may("list", "", "secrets", DEVELOPMENT)
    try:
        yield tenancy
    finally:
        tenancy.close()


def assert_done(answer: Answer) -> None:
    assert answer.status in (200, 201) or answer.reason == "AlreadyExists", answer


def assert_refused(answer: Answer, *words: str) -> None:
    assert (answer.status, answer.reason) == (403, "Forbidden"), answer
    for word in words:
        assert word in answer.message, answer


# Binding


def bound(tenancy: Tenancy, where: str, role: str, *subjects: Manifest) -> Answer:
    manifest = binding(where, role, *subjects)
    manifest["metadata"] = {**manifest["metadata"], "name": "another"}
    return tenancy.env_controller.request("POST", path(RBAC, where, "rolebindings"), manifest)


@pytest.mark.parametrize(
    ("where", "role", "other"), [(PROJECT, shares.READER, shares.KEEPER), (DEVELOPMENT, shares.KEEPER, shares.READER)]
)
def test_it_binds_itself_alone_and_each_role_in_its_place(tenancy: Tenancy, where: str, role: str, other: str) -> None:
    policy = "catalyst-env-controller-grants"
    assert_done(bound(tenancy, where, role))
    assert_refused(bound(tenancy, where, other), policy, f"roleRef: is ClusterRole {other}")
    people = {"apiGroup": RBAC, "kind": "Group", "name": group("owner")}
    account = {"kind": "ServiceAccount", "name": "env-controller", "namespace": SYSTEM}
    for subject in (people, {**account, "name": "builder"}, {**account, "namespace": where}):
        answer = bound(tenancy, where, role, account, subject)
        assert_refused(answer, policy, "subjects: expected only ServiceAccount env-controller of catalyst-system")
    lookalike = binding(where, role)
    lookalike["roleRef"] = {**lookalike["roleRef"], "kind": "Role"}
    answer = tenancy.env_controller.request("POST", path(RBAC, where, "rolebindings"), lookalike)
    assert answer.status == 403, answer


def test_people_are_bound_to_people_s_roles_only(tenancy: Tenancy) -> None:
    """The rule of our own account opens nothing of theirs to it."""
    account = {"kind": "ServiceAccount", "name": "env-controller", "namespace": SYSTEM}
    people = {"apiGroup": RBAC, "kind": "Group", "name": group("owner")}
    assert_done(bound(tenancy, DEVELOPMENT, "catalyst-owner", people))
    assert_refused(bound(tenancy, DEVELOPMENT, "catalyst-owner", account), "catalyst-env-controller-grants", "subjects")


@pytest.mark.parametrize("where", [TEAM, SYSTEM, "kube-system", "default"])
@pytest.mark.parametrize("role", [shares.READER, shares.KEEPER])
def test_it_lets_itself_in_nowhere_else(tenancy: Tenancy, where: str, role: str) -> None:
    assert_refused(bound(tenancy, where, role), "catalyst-env-controller-")
    everywhere = {**binding("", role), "kind": "ClusterRoleBinding", "metadata": {"name": "everywhere"}}
    answer = tenancy.env_controller.request("POST", path(RBAC, "", "clusterrolebindings"), everywhere)
    assert_refused(answer, 'cannot create resource "clusterrolebindings"')


# Reading


def test_in_a_project_it_reads_a_secret_by_its_name_and_that_is_all(tenancy: Tenancy) -> None:
    api, secrets = tenancy.env_controller, path("", PROJECT, "secrets")
    assert_done(api.request("GET", f"{secrets}/stripe"))
    assert_refused(api.request("GET", secrets), 'cannot list resource "secrets"')
    assert_refused(api.watch(secrets), 'cannot watch resource "secrets"')
    assert_refused(api.request("PUT", f"{secrets}/stripe", secret(PROJECT)), 'cannot update resource "secrets"')
    assert_refused(api.request("PATCH", f"{secrets}/stripe", {"data": {}}), 'cannot patch resource "secrets"')
    assert_refused(api.request("DELETE", f"{secrets}/stripe"), 'cannot delete resource "secrets"')
    for where in (TEAM, DEPLOYMENT, FOREIGN, BARE, SYSTEM, "kube-system"):
        assert_refused(api.request("GET", path("", where, "secrets", "stripe")), 'cannot get resource "secrets"')
        assert_refused(api.request("GET", path("", where, "secrets")), 'cannot list resource "secrets"')


def test_in_a_team_s_namespace_it_reads_what_the_platform_lets_it(tenancy: Tenancy) -> None:
    api, at = tenancy.env_controller, path("", TEAM, "secrets", "stripe")
    assert_refused(api.request("GET", at), 'cannot get resource "secrets"')
    # One Secret by a Role of its own: the narrow way.
    rules = [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["stripe"], "verbs": ["get"]}]
    role = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "Role",
        "metadata": {"name": shares.BINDING, "namespace": TEAM},
        "rules": rules,
    }
    narrow: Manifest = binding(TEAM, shares.BINDING)
    narrow["roleRef"] = {**narrow["roleRef"], "kind": "Role"}
    other = secret(TEAM, "other")
    for manifest in (role, narrow, other):
        assert_done(tenancy.admin.apply(object_path(manifest), manifest))
    api.wait_until_may("get", "", "secrets", TEAM, "stripe")
    assert_done(api.request("GET", at))
    assert_refused(api.request("GET", path("", TEAM, "secrets", "other")), 'cannot get resource "secrets"')
    # All of them by our ClusterRole: the wide one.
    assert_done(tenancy.admin.request("DELETE", object_path(narrow), dry_run=False))
    wide = binding(TEAM, shares.READER)
    assert_done(tenancy.admin.apply(object_path(wide), wide))
    try:
        api.wait_until_may("get", "", "secrets", TEAM, "other")
        assert_done(api.request("GET", path("", TEAM, "secrets", "other")))
        assert_refused(api.request("GET", path("", TEAM, "secrets")), 'cannot list resource "secrets"')
        assert_refused(api.request("DELETE", at), 'cannot delete resource "secrets"')
    finally:
        for manifest in (wide, role, other):
            assert_done(tenancy.admin.request("DELETE", object_path(manifest), dry_run=False))


# Keeping copies


def test_in_an_environment_it_keeps_its_copies_and_touches_nothing_else(tenancy: Tenancy) -> None:
    api, secrets = tenancy.env_controller, path("", DEVELOPMENT, "secrets")
    assert_done(api.request("GET", secrets))
    for name in (COPY, "stripe"):
        assert_done(api.request("GET", f"{secrets}/{name}"))
    assert_done(api.request("PUT", f"{secrets}/{COPY}", secret(DEVELOPMENT, COPY, **OURS)))
    assert_done(api.request("DELETE", f"{secrets}/{COPY}"))
    policy = "catalyst-env-controller-secrets"
    for name, marks in (("stripe", {}), ("db-credentials", OURS)):
        assert_refused(api.request("PUT", f"{secrets}/{name}", secret(DEVELOPMENT, name, **marks)), policy, name)
        assert_refused(api.request("DELETE", f"{secrets}/{name}"), policy, name)
    assert_refused(api.watch(secrets), 'cannot watch resource "secrets"')
    assert_refused(api.request("PATCH", f"{secrets}/{COPY}", {"data": {}}), 'cannot patch resource "secrets"')


def test_one_that_is_called_like_a_copy_and_is_none_stays(tenancy: Tenancy) -> None:
    """As it may be there from before the name was reserved."""
    api, older = tenancy.env_controller, secret(DEVELOPMENT, shares.copy_name("older"))
    assert_done(tenancy.admin.apply(object_path(older), older))
    for method, body in (("PUT", older), ("DELETE", None)):
        assert_refused(api.request(method, object_path(older), body), "catalyst-env-controller-secrets", "our labels")


@pytest.mark.parametrize(("role", "where"), [("owner", DEVELOPMENT), ("admin", DEPLOYMENT)])
def test_people_make_secrets_of_their_own_under_every_other_name(tenancy: Tenancy, role: str, where: str) -> None:
    api, secrets = tenancy.role(role), path("", where, "secrets")

    def made(name: str, **more: Any) -> Answer:
        return api.request("POST", secrets, {**secret(where, name), **more})

    for name in ("fresh", "shared.stripe", "my-catalyst-secret"):
        assert_done(made(name))
    for name in (shares.copy_name("fresh"), "catalyst-pull", "catalyst-anything"):
        assert_refused(made(name), "catalyst-reserved-secrets", f"metadata.name: is {name}")
    generated = made("", metadata={"generateName": "catalyst-"})
    assert_refused(generated, "catalyst-reserved-secrets", "metadata.name: is catalyst-")


def test_an_owner_changes_no_copy_and_may_delete_it(tenancy: Tenancy) -> None:
    owner, secrets = tenancy.role("owner"), path("", DEVELOPMENT, "secrets")
    assert_done(owner.request("PATCH", f"{secrets}/stripe", {"data": {"KEY": ""}}))
    assert_refused(owner.request("PATCH", f"{secrets}/{COPY}", {"data": {"KEY": ""}}), "catalyst-reserved-secrets")
    assert_done(owner.request("GET", f"{secrets}/{COPY}"))
    assert_done(owner.request("DELETE", f"{secrets}/{COPY}"))
    observer = tenancy.role("observer")
    assert_refused(observer.request("GET", f"{secrets}/{COPY}"), 'cannot get resource "secrets"')
