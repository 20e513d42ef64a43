"""Each service's own account, rule by rule: a request that its Role is for, and the next one, which nothing allows.

That the Roles suffice is shown by the product, which runs with them (tests/e2e). Here is what they do not reach:
another verb of the same resource, another resource beside it, another name, another namespace. Real requests; what
bounds the same accounts by admission policies is in test_policies.py and test_builder_rights.py.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from asked import PLATFORM

from catalyst.builder.core import job, namespace
from catalyst.builder.core.build import Build, build_of
from catalyst.builder.core.job import Asked
from catalyst.builder.core.kaniko import Kaniko
from catalyst.events import examples
from catalyst.events.catalogue import BuildRequested
from catalyst.local.installation import Installation
from catalyst.local.platform import OVERLAYS

from .cluster import (
    DEVELOPMENT,
    IDENTITY,
    PROJECT,
    RBAC,
    SYSTEM,
    TEAM,
    Answer,
    Api,
    Manifest,
    Tenancy,
    environment,
    group,
    object_path,
    path,
    role_binding,
)
from .cluster import namespace as a_namespace

LEASES = "coordination.k8s.io"
NET = "networking.k8s.io"
CRDS = "catalyst.dev"
ROLES = Path(OVERLAYS).parent / "base"
REQUEST = examples.examples()["dev.catalyst.build.requested.v1"]


def _build() -> Build:
    assert isinstance(REQUEST.data, BuildRequested)
    found = build_of(REQUEST.data, PLATFORM)
    assert isinstance(found, Build)
    return found


BUILD = _build()
PLACE = BUILD.namespace
"""The build namespace that builder makes in this test."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. APPLY is a server-side apply."""

    method: str
    path: str
    body: Manifest | None = None

    def by(self, api: Api) -> Answer:
        """Leaves nothing."""
        if self.method == "APPLY":
            assert self.body
            return api.apply(self.path, self.body, dry_run=True)
        return api.watch(self.path) if self.method == "WATCH" else api.request(self.method, self.path, self.body)


@dataclass(frozen=True, slots=True)
class Row:
    """`rule`: the `resource.group` of a rule. `refusal`: of RBAC's sentence about the second request."""

    account: str
    rule: str
    allowed: Ask
    beyond: Ask
    refusal: str


def thing(kind: str, where: str, name: str = "seed", api_version: str = "v1", **fields: Any) -> Manifest:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": where}, **fields}


def lease(name: str, where: str = SYSTEM) -> Manifest:
    spec = {"holderIdentity": "test", "leaseDurationSeconds": 10}
    return thing("Lease", where, name, f"{LEASES}/v1", spec=spec)


def cannot(verb: str, resource: str) -> str:
    return f'cannot {verb} resource "{resource}"'


POD: Manifest = {"hostUsers": False, "containers": [{"name": "web", "image": "web"}]}
SEEN: Manifest = {"metadata": {"annotations": {"seen": "yes"}}}
SPEC: Manifest = {
    "selector": {"matchLabels": {"app": "x"}},
    "template": {"metadata": {"labels": {"app": "x"}}, "spec": POD},
}
CLAIM: Manifest = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
PULL = thing("Secret", DEVELOPMENT, "catalyst-pull")
NOT_HELD = "is attempting to grant RBAC permissions not currently held"


def _env_controller() -> list[Row]:
    def at(resource: str, name: str = "", api_group: str = "", where: str = DEVELOPMENT) -> str:
        return path(api_group, where, resource, name)

    def row(rule: str, allowed: Ask, beyond: Ask, refusal: str) -> Row:
        return Row("env-controller", rule, allowed, beyond, refusal)

    team = "projects.catalyst.dev"
    mine = {**IDENTITY, "catalyst.dev/environment-uid": "uid-new"}
    claims, bindings = "persistentvolumeclaims", f"rolebindings.{RBAC}"
    projects = path(CRDS, TEAM, "projects")
    environments = path(CRDS, PROJECT, "environments")
    project = {**thing("Project", TEAM, "new", f"{CRDS}/v1alpha1"), "spec": {"source": {"repository": "globex/new"}}}
    bound = role_binding(DEVELOPMENT, "new", "catalyst-owner", group("owner"))
    return [
        row(
            team, Ask("WATCH", path(CRDS, "", "projects")), Ask("POST", projects, project), cannot("create", "projects")
        ),
        row(
            "projects/status.catalyst.dev",
            Ask("PATCH", f"{projects}/rights/status", {"status": {"observedGeneration": 1}}),
            Ask("DELETE", f"{projects}/rights"),
            cannot("delete", "projects"),
        ),
        row(
            "environments.catalyst.dev",
            Ask("POST", environments, environment("pr-2")),
            Ask("DELETE", environments),
            cannot("deletecollection", "environments"),
        ),
        row(
            "environments/status.catalyst.dev",
            Ask("PATCH", f"{environments}/pr-1/status", {"status": {"phase": "Ready"}}),
            Ask("PATCH", at("pods", "seed") + "/status", {"status": {"phase": "Succeeded"}}),
            cannot("patch", "pods/status"),
        ),
        row(
            "environments/finalizers.catalyst.dev",
            Ask("PATCH", f"{environments}/pr-1", {"metadata": {"finalizers": ["catalyst.dev/x"]}}),
            Ask("PATCH", path("", "", "namespaces", DEVELOPMENT) + "/finalize", {}),
            cannot("patch", "namespaces/finalize"),
        ),
        row(
            "namespaces.",
            Ask("POST", path("", "", "namespaces"), a_namespace("globex--shop--new", mine, "baseline")),
            Ask("PUT", path("", "", "namespaces", DEVELOPMENT), a_namespace(DEVELOPMENT, mine, "baseline")),
            cannot("update", "namespaces"),
        ),
        row(
            "resourcequotas.",
            Ask("PATCH", at("resourcequotas", "environment"), SEEN),
            Ask("PATCH", at("resourcequotas", "environment") + "/status", {"status": {"used": {"pods": "0"}}}),
            cannot("patch", "resourcequotas/status"),
        ),
        row(
            "limitranges.",
            Ask("PATCH", at("limitranges", "environment"), SEEN),
            Ask("DELETE", at("limitranges")),
            cannot("deletecollection", "limitranges"),
        ),
        row(
            "serviceaccounts.",
            Ask("PATCH", at("serviceaccounts", "workload"), SEEN),
            Ask("POST", at("serviceaccounts", "workload") + "/token", {}),
            cannot("create", "serviceaccounts/token"),
        ),
        row(
            "deployments.apps",
            Ask(
                "POST",
                at("deployments", api_group="apps"),
                thing("Deployment", DEVELOPMENT, api_version="apps/v1", spec=SPEC),
            ),
            Ask(
                "POST",
                at("daemonsets", api_group="apps"),
                thing("DaemonSet", DEVELOPMENT, api_version="apps/v1", spec=SPEC),
            ),
            cannot("create", "daemonsets"),
        ),
        row(
            "statefulsets.apps",
            Ask("GET", path("apps", "", "statefulsets")),
            Ask("PATCH", at("statefulsets", "seed", "apps") + "/scale", {"spec": {"replicas": 9}}),
            cannot("patch", "statefulsets/scale"),
        ),
        row(
            "services.",
            Ask("POST", at("services"), thing("Service", DEVELOPMENT, spec={"ports": [{"port": 80}]})),
            Ask("GET", at("services", "seed") + "/proxy"),
            cannot("get", "services/proxy"),
        ),
        row(
            "persistentvolumeclaims.",
            Ask("POST", at(claims), thing("PersistentVolumeClaim", DEVELOPMENT, spec=CLAIM)),
            Ask("PATCH", at(claims, "seed"), {"spec": {"resources": {"requests": {"storage": "9Gi"}}}}),
            cannot("patch", claims),
        ),
        row("pods.", Ask("GET", at("pods")), Ask("GET", at("pods", "seed")), cannot("get", "pods")),
        row(
            "pods.",
            Ask("GET", at("pods")),
            Ask("POST", at("pods"), thing("Pod", DEVELOPMENT, "x", spec=POD)),
            cannot("create", "pods"),
        ),
        row(
            "pods/log.",
            Ask("GET", at("pods", "seed") + "/log"),
            Ask("POST", at("pods", "seed") + "/exec"),
            cannot("create", "pods/exec"),
        ),
        row(
            "secrets.",
            Ask("POST", at("secrets"), thing("Secret", DEVELOPMENT, "new")),
            Ask("GET", at("secrets")),
            cannot("list", "secrets"),
        ),
        row(
            "secrets.",
            Ask("GET", at("secrets", "catalyst-pull")),
            Ask("GET", at("secrets", "seed")),
            cannot("get", "secrets"),
        ),
        row(
            "secrets.",
            Ask("GET", at("secrets", "catalyst-pull")),
            Ask("PATCH", at("secrets", "catalyst-pull"), SEEN),
            cannot("patch", "secrets"),
        ),
        row(
            "networkpolicies.networking.k8s.io",
            Ask("PATCH", at("networkpolicies", "default-deny", NET), SEEN),
            Ask("POST", at("ingresses", api_group=NET), thing("Ingress", DEVELOPMENT, api_version=f"{NET}/v1")),
            cannot("create", "ingresses"),
        ),
        row(
            bindings,
            Ask("POST", at("rolebindings", api_group=RBAC), bound),
            Ask("POST", at("roles", api_group=RBAC), thing("Role", DEVELOPMENT, "new", f"{RBAC}/v1", rules=[])),
            cannot("create", "roles"),
        ),
        row(
            f"clusterroles.{RBAC}",
            Ask("POST", at("rolebindings", api_group=RBAC), bound),
            Ask("POST", at("rolebindings", api_group=RBAC), role_binding(DEVELOPMENT, "new", "admin", group("owner"))),
            NOT_HELD,
        ),
        *_leases("env-controller", another="builder"),
    ]


def _builder() -> list[Row]:
    def at(resource: str, name: str = "", api_group: str = "", where: str = PLACE) -> str:
        return path(api_group, where, resource, name)

    def row(rule: str, allowed: Ask, beyond: Ask, refusal: str) -> Row:
        return Row("builder", rule, allowed, beyond, refusal)

    assert isinstance(REQUEST.data, BuildRequested)
    made = job.job(BUILD, Asked.of(REQUEST, REQUEST.data, deployment=False), Kaniko(), PLATFORM, ())
    other = {**namespace.namespace(BUILD, PLATFORM)}
    other["metadata"] = {**other["metadata"], "name": "catalyst-builds-trusted-" + "0" * 39}
    binding = namespace.binding(BUILD, PLATFORM)
    observer = {**binding, "metadata": {**binding["metadata"], "name": "new"}}
    observer["roleRef"] = {**binding["roleRef"], "name": "catalyst-observer"}
    secret = thing("Secret", PLACE, "new")
    return [
        row(
            "namespaces.",
            Ask("POST", path("", "", "namespaces"), other),
            Ask("PATCH", path("", "", "namespaces", PLACE), SEEN),
            cannot("patch", "namespaces"),
        ),
        row(
            "jobs.batch",
            Ask("WATCH", path("batch", "", "jobs")),
            Ask("GET", path("batch", DEVELOPMENT, "jobs", "seed")),
            cannot("get", "jobs"),
        ),
        row(
            "jobs.batch",
            Ask("POST", at("jobs", api_group="batch"), made),
            Ask("POST", path("batch", DEVELOPMENT, "jobs"), made),
            cannot("create", "jobs"),
        ),
        row(
            "jobs.batch",
            Ask("GET", at("jobs", api_group="batch")),
            Ask("DELETE", at("jobs", api_group="batch")),
            cannot("deletecollection", "jobs"),
        ),
        row(
            f"rolebindings.{RBAC}",
            Ask("APPLY", at("rolebindings", namespace.ROLE, RBAC), binding),
            Ask("DELETE", at("rolebindings", namespace.ROLE, RBAC)),
            cannot("delete", "rolebindings"),
        ),
        row(
            f"clusterroles.{RBAC}",
            Ask("APPLY", at("rolebindings", namespace.ROLE, RBAC), binding),
            Ask("POST", at("rolebindings", api_group=RBAC), observer),
            NOT_HELD,
        ),
        row("pods.", Ask("GET", at("pods")), Ask("GET", at("pods", "seed")), cannot("get", "pods")),
        row("pods.", Ask("GET", at("pods")), Ask("GET", path("", DEVELOPMENT, "pods")), cannot("list", "pods")),
        row(
            "pods/log.",
            Ask("GET", at("pods", "seed") + "/log"),
            Ask("POST", at("pods", "seed") + "/exec"),
            cannot("create", "pods/exec"),
        ),
        row(
            "secrets.", Ask("POST", at("secrets"), secret), Ask("GET", at("secrets", "seed")), cannot("get", "secrets")
        ),
        row("secrets.", Ask("POST", at("secrets"), secret), Ask("GET", at("secrets")), cannot("list", "secrets")),
        row(
            "secrets.",
            Ask("POST", at("secrets"), secret),
            Ask("POST", path("", SYSTEM, "secrets"), {**secret, "metadata": {"name": "new"}}),
            cannot("create", "secrets"),
        ),
        row(
            "configmaps.",
            Ask("GET", at("configmaps")),
            Ask("PATCH", at("configmaps", "seed"), {"data": {"record.json": "{}"}}),
            cannot("patch", "configmaps"),
        ),
        row(
            "serviceaccounts.",
            Ask("PATCH", at("serviceaccounts", "build"), SEEN),
            Ask("POST", at("serviceaccounts", "build") + "/token", {}),
            cannot("create", "serviceaccounts/token"),
        ),
        row(
            "resourcequotas.",
            Ask("PATCH", at("resourcequotas", "builds"), SEEN),
            Ask("DELETE", at("resourcequotas", "builds")),
            cannot("delete", "resourcequotas"),
        ),
        row(
            "limitranges.",
            Ask("PATCH", at("limitranges", "builds"), SEEN),
            Ask("DELETE", at("limitranges", "builds")),
            cannot("delete", "limitranges"),
        ),
        row(
            "networkpolicies.networking.k8s.io",
            Ask("PATCH", at("networkpolicies", "default-deny", NET), SEEN),
            Ask("DELETE", at("networkpolicies", "default-deny", NET)),
            cannot("delete", "networkpolicies"),
        ),
        *_leases("builder", another="env-controller"),
    ]


def _leases(account: str, *, another: str) -> list[Row]:
    """Its own, by name; a create cannot be restricted to one, but ends at the namespace."""
    rule, here = f"leases.{LEASES}", path(LEASES, SYSTEM, "leases")
    elsewhere = path(LEASES, "kube-system", "leases")
    own = Ask("PATCH", f"{here}/{account}", {"spec": {"holderIdentity": "other"}})
    return [
        Row(account, rule, own, Ask("PATCH", f"{here}/{another}", own.body), cannot("patch", "leases")),
        Row(account, rule, own, Ask("DELETE", f"{here}/{account}"), cannot("delete", "leases")),
        Row(
            account,
            rule,
            Ask("POST", here, lease("new")),
            Ask("POST", elsewhere, lease("new", "kube-system")),
            cannot("create", "leases"),
        ),
    ]


ROWS = [*_env_controller(), *_builder()]


@pytest.fixture(scope="module")
def tenancy(installation: Installation) -> Iterator[Tenancy]:
    """With one of each thing that the rows ask about."""
    made = Tenancy(installation.control_plane).create()
    builder = made.service_account(SYSTEM, "builder")
    created(builder, namespace.namespace(BUILD, PLATFORM))
    applied(builder, namespace.binding(BUILD, PLATFORM))
    builder.wait_until_may("create", "", "secrets", PLACE)
    for manifest in namespace.baseline(BUILD, PLATFORM):
        applied(builder, manifest)
    source = {"source": {"repository": "globex/rights"}}
    created(made.admin, {**thing("Project", TEAM, "rights", f"{CRDS}/v1alpha1"), "spec": source})
    created(made.env_controller, PULL)
    for account in ("env-controller", "builder"):
        created(made.admin, lease(account))
    for where, account in ((DEVELOPMENT, "workload"), (PLACE, "build")):
        no_token = {"automountServiceAccountToken": False, "serviceAccountName": account}
        created(made.admin, thing("Pod", where, spec={**POD, **no_token}))
        created(made.admin, thing("Secret", where))
        created(made.admin, thing("ConfigMap", where))
    try:
        yield made
    finally:
        made.admin.request("DELETE", path(CRDS, TEAM, "projects", "rights"), dry_run=False)
        made.admin.request("DELETE", path("", "", "namespaces", PLACE), dry_run=False)
        made.close()


def created(api: Api, manifest: Manifest) -> None:
    """What another module left is as good."""
    answer = api.request("POST", object_path(manifest).rpartition("/")[0], manifest, dry_run=False)
    assert answer.status == 201 or answer.reason == "AlreadyExists", answer


def applied(api: Api, manifest: Manifest) -> None:
    answer = api.apply(object_path(manifest), manifest, manager=job.FIELD_MANAGER)
    assert answer.status in (200, 201), answer


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.account} {row.rule} {row.refusal}")
def test_one_step_beyond(tenancy: Tenancy, row: Row) -> None:
    api = tenancy.service_account(SYSTEM, row.account)
    may = row.allowed.by(api)
    assert may.status in (200, 201, 204), may  # 204: the log of a pod that has not begun
    beyond = row.beyond.by(api)
    assert (beyond.status, beyond.reason) == (403, "Forbidden"), beyond
    assert row.refusal in beyond.message, beyond


@pytest.mark.parametrize("account", ["env-controller", "builder"])
def test_every_rule_has_a_row(account: str) -> None:
    """A rule that comes later needs its own step beyond."""
    documents = [d for d in yaml.safe_load_all((ROLES / f"{account}.yaml").read_text()) if "rules" in d]
    rules = {
        f"{resource}.{api_group}"
        for document in documents
        for rule in document["rules"]
        for api_group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert {row.rule for row in ROWS if row.account == account} == rules


# Those without any rights


@pytest.fixture(scope="module")
def accounts(binaries: dict[str, Path], tenancy: Tenancy) -> list[tuple[str, str]]:
    """(namespace, name) of every account that an overlay's pods run as; all are there."""
    found: dict[tuple[str, str], Manifest] = {}
    for overlay in ("local", "production"):
        command = [str(binaries["kubectl"]), "kustomize", str(OVERLAYS / overlay)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for manifest in yaml.safe_load_all(text):
            if manifest["kind"] == "ServiceAccount":
                found[manifest["metadata"]["namespace"], manifest["metadata"]["name"]] = manifest
            if manifest["kind"] in ("Deployment", "StatefulSet"):
                pod = manifest["spec"]["template"]["spec"]
                has_rights = pod["serviceAccountName"] in ("env-controller", "builder")
                assert pod["automountServiceAccountToken"] is has_rights, manifest["metadata"]["name"]
    for where in {each[0] for each in found}:
        created(tenancy.admin, a_namespace(where, {}))
    for manifest in found.values():
        created(tenancy.admin, manifest)
    return sorted(found)


def test_the_others_have_no_rights(tenancy: Tenancy, accounts: list[tuple[str, str]]) -> None:
    """And no token either, so nothing could ask as them. What they are refused, those who may are not."""
    reads = [
        path(CRDS, PROJECT, "environments"),
        path(CRDS, TEAM, "projects"),
        path("", DEVELOPMENT, "pods"),
        path("", DEVELOPMENT, "secrets"),
        path("", SYSTEM, "secrets"),
        path("", SYSTEM, "configmaps"),
        path("", "", "namespaces"),
        path(LEASES, SYSTEM, "leases"),
    ]
    writes = [
        Ask("POST", path("", SYSTEM, "configmaps"), thing("ConfigMap", SYSTEM, "new")),
        Ask("POST", path(LEASES, SYSTEM, "leases"), lease("new")),
        Ask("PATCH", path(CRDS, PROJECT, "environments", "pr-1") + "/status", {"status": {"phase": "Ready"}}),
    ]
    asked = [*(Ask("GET", each) for each in reads), *writes]
    for ask in asked:
        twin = ask.by(tenancy.admin)
        assert twin.status in (200, 201), twin
    without = [each for each in accounts if each[1] not in ("env-controller", "builder")]
    names = {name for _, name in without}
    assert names >= {"webhook-ingest", "dns-proxy", "notifier", "nats", "edge", "cloudflared"}
    for where, name in without:
        api = tenancy.service_account(where, name)
        answers = {(ask.method, ask.path): ask.by(api) for ask in asked}
        assert {(a.status, a.reason) for a in answers.values()} == {(403, "Forbidden")}, f"{name}: {answers}"
        assert all("cannot" in a.message for a in answers.values())
