"""Who reads and keeps shared Secrets, by real requests: env-controller binds itself where a Project shares some, and
reaches nothing one step beyond. Each refusal stands beside its allowed twin.
"""

import base64
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from makers import GRANTS, NOW, PLATFORM

from catalyst.env_controller.core import shares
from catalyst.env_controller.core.sharing import made_of
from catalyst.env_controller.core.world import FIELD_MANAGER, Decision, Observed, SecretCopy, World, object_key
from catalyst.env_controller.effects.cluster import BELIEF, Cluster
from catalyst.events.errors import Retry
from catalyst.kube.client import Kube
from catalyst.kube.errors import Conflict, NotFound
from catalyst.kube.settings import KubeSettings
from catalyst.local.installation import Installation
from catalyst.model.environment import Environment
from catalyst.model.manifest import Ref
from catalyst.model.project import Project

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
    environment,
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
    twin = {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": {"name": role, "namespace": where}, "rules": []}
    assert_done(tenancy.admin.apply(object_path(twin), twin))
    try:
        lookalike = binding(where, role)
        lookalike["metadata"] = {**lookalike["metadata"], "name": "another"}
        lookalike["roleRef"] = {**lookalike["roleRef"], "kind": "Role"}
        answer = tenancy.env_controller.request("POST", path(RBAC, where, "rolebindings"), lookalike)
        assert_refused(answer, policy, f"roleRef: is Role {role}")
    finally:
        assert_done(tenancy.admin.request("DELETE", object_path(twin), dry_run=False))


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


# What env-controller makes of it


@pytest.fixture
async def cluster(tenancy: Tenancy, installation: Installation) -> AsyncIterator[Cluster]:
    settings = KubeSettings(kubeconfig=installation.kubeconfig("env-controller"))
    async with await Kube.connect(settings, field_manager=FIELD_MANAGER) as kube:
        yield Cluster(kube, kube, PLATFORM)


def there(tenancy: Tenancy, where: str, name: str = "stripe") -> Ref:
    metadata = tenancy.admin.request("GET", path("", where, "secrets", name)).body["metadata"]
    return Ref("v1", "Secret", where, name, metadata["uid"], metadata["resourceVersion"])


def looked_at(project: str, name: str, uid: str, where: str) -> tuple[Environment, World]:
    manifest = environment(name)
    metadata = {**manifest["metadata"], "uid": uid, "namespace": f"{TEAM}--{project}"}
    about = Environment.parse(
        {**manifest, "metadata": metadata, "spec": {"projectRef": {"team": TEAM, "name": project}}}
    )
    spec = {"source": {"repository": "globex/shop"}, "secrets": [{"name": "stripe"}, {"name": "nowhere"}]}
    kind = {"apiVersion": "catalyst.dev/v1alpha1", "kind": "Project"}
    of = Project.parse({**kind, "metadata": {"name": project, "namespace": TEAM}, "spec": spec})
    bound = Observed(Ref(f"{RBAC}/v1", "RoleBinding", where, shares.BINDING))
    namespace = Observed(Ref("v1", "Namespace", "", where))
    children = {object_key("RoleBinding", where, shares.BINDING): bound}
    return about, World(PLATFORM, of, GRANTS, namespace, children)


async def test_it_sees_versions_and_what_is_closed(tenancy: Tenancy, cluster: Cluster) -> None:
    about, world = looked_at("shop", "pr-1", OURS["catalyst.dev/environment-uid"], DEVELOPMENT)
    seen = (await cluster.look(about, world, NOW)).secrets
    assert seen is not None
    assert seen.sources == (there(tenancy, PROJECT), there(tenancy, DEVELOPMENT))
    assert {name: copy.ref for name, copy in seen.copies.items()} == {"stripe": there(tenancy, DEVELOPMENT, COPY)}
    assert [(ref.namespace, ref.name) for ref in seen.hidden] == [(TEAM, "stripe"), (TEAM, "nowhere")]
    assert (seen.taken, seen.closed) == ((), ())
    foreign = secret(DEVELOPMENT, shares.copy_name("nowhere"))
    assert_done(tenancy.admin.apply(object_path(foreign), foreign))
    try:
        seen = (await cluster.look(about, world, NOW)).secrets
        assert seen is not None
        assert (seen.taken, set(seen.copies)) == (("nowhere",), {"stripe"})
    finally:
        assert_done(tenancy.admin.request("DELETE", object_path(foreign), dry_run=False))


async def test_a_refusal_is_believed_after_a_while(tenancy: Tenancy, cluster: Cluster) -> None:
    """Nobody has bound us there."""
    about, world = looked_at("blog", "pr-9", "uid-blog-pr-9", FOREIGN)
    for passed in (timedelta(), BELIEF - timedelta(seconds=1)):
        with pytest.raises(Retry, match=f"Secrets of namespace {FOREIGN} may not be read yet"):
            await cluster.look(about, world, NOW + passed)
    with pytest.raises(Retry, match="Secrets of namespace globex--blog may not be read yet"):
        await cluster.look(about, world, NOW + BELIEF)
    seen = (await cluster.look(about, world, NOW + 2 * BELIEF)).secrets
    assert seen is not None
    assert (seen.closed, seen.sources, seen.copies) == ((FOREIGN,), (), {})


async def test_a_copy_is_made_of_exactly_what_was_decided(tenancy: Tenancy, cluster: Cluster) -> None:
    name = shares.copy_name("made")
    sources = (there(tenancy, PROJECT), there(tenancy, DEVELOPMENT))
    wish = SecretCopy(DEVELOPMENT, name, "made", OURS, sources, made_of(sources))
    at = path("", DEVELOPMENT, "secrets", name)
    await cluster.realise(Decision(copies=(wish,)))
    try:
        found = tenancy.admin.request("GET", at).body
        assert found["data"] == secret(DEVELOPMENT)["data"], "the owners' own counts more"
        assert found["metadata"]["annotations"] == {"catalyst.dev/sources": made_of(sources)}
        assert found["metadata"]["labels"] == OURS

        # Of another version, or another life, nothing is written; nor over a copy that somebody else changed meanwhile.
        copy = there(tenancy, DEVELOPMENT, name)
        for stale, error in (
            (replace(sources[0], resource_version="1"), Conflict),
            (replace(sources[0], uid="another"), NotFound),
        ):
            with pytest.raises(error):
                await cluster.realise(Decision(copies=(replace(wish, sources=(stale,), replaces=copy),)))
        for older in (None, replace(copy, resource_version="1")):
            with pytest.raises(Conflict):
                await cluster.realise(Decision(copies=(replace(wish, replaces=older),)))
        assert there(tenancy, DEVELOPMENT, name) == copy

        await cluster.realise(Decision(copies=(replace(wish, sources=sources[:1], replaces=copy),)))
        assert tenancy.admin.request("GET", at).body["data"] == secret(PROJECT)["data"]
        await cluster.realise(Decision(delete=(there(tenancy, DEVELOPMENT, name),)))
        assert tenancy.admin.request("GET", at).status == 404
    finally:
        tenancy.admin.request("DELETE", at, dry_run=False)
