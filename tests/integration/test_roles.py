"""Who may do what: the role table of docs/security.md, asked of a real API server as the real groups.

Every cell twice: by SelfSubjectAccessReview over the whole matrix, and by the request itself. Writes are dry runs, so
one object of each kind serves all. The table here is written by hand, not derived from what it checks.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from catalyst.local.installation import Installation

from .cluster import (
    BARE,
    DEPLOYMENT,
    DEVELOPMENT,
    FOREIGN,
    PROJECT,
    RBAC,
    SYSTEM,
    TEAM,
    Answer,
    Api,
    Manifest,
    Tenancy,
    env_controller_manifests,
    environment,
    group,
    namespace,
    object_path,
    path,
    role_binding,
)

READ = ("get", "list", "watch")
WRITE = ("create", "update", "patch", "delete", "deletecollection")
ALL = READ + WRITE
SCALE = ("get", "update", "patch")
NOTHING: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """Verbs a role has on a resource; `asked` are the verbs that resource knows at all."""

    group: str
    resource: str
    observer: tuple[str, ...]
    admin: tuple[str, ...]
    owner: tuple[str, ...]
    asked: tuple[str, ...] = ALL

    def verbs(self, role: str) -> tuple[str, ...]:
        return {"observer": self.observer, "admin": self.admin, "owner": self.owner}[role]


def rows(groups: dict[str, str], observer: Any, admin: Any, owner: Any, asked: Any = ALL) -> list[Row]:
    return [Row(api, each, observer, admin, owner, asked) for api, names in groups.items() for each in names.split()]


TABLE = [
    *rows(
        {
            "": "pods services persistentvolumeclaims",
            "apps": "deployments statefulsets replicasets",
            "batch": "jobs cronjobs",
            "autoscaling": "horizontalpodautoscalers",
            "policy": "poddisruptionbudgets",
        },
        READ,
        ALL,
        ALL,
    ),
    *rows({"apps": "deployments/scale statefulsets/scale replicasets/scale"}, ("get",), SCALE, SCALE, SCALE),
    *rows(
        {
            "": "events resourcequotas limitranges",
            "apps": "daemonsets",
            "discovery.k8s.io": "endpointslices",
            "events.k8s.io": "events",
            "networking.k8s.io": "ingresses networkpolicies",
        },
        READ,
        READ,
        READ,
    ),
    *rows({"": "namespaces"}, ("get",), ("get",), ("get",), ("get", "update", "patch", "delete")),
    *rows({"": "pods/log"}, ("get",), ("get",), ("get",), ("get",)),
    *rows({"": "configmaps secrets"}, NOTHING, ALL, ALL),
    *rows(
        {"": "pods/exec pods/attach pods/portforward"}, NOTHING, ("get", "create"), ("get", "create"), ("get", "create")
    ),
    *rows({"": "pods/ephemeralcontainers"}, NOTHING, NOTHING, SCALE, SCALE),
    *rows({"": "pods/eviction"}, NOTHING, ("create",), ("create",), ("create",)),
    *rows({"": "serviceaccounts"}, NOTHING, READ, READ),
    # What nobody has.
    *rows({"": "serviceaccounts/token"}, NOTHING, NOTHING, NOTHING, ("create",)),
    *rows({"": "pods/proxy services/proxy"}, NOTHING, NOTHING, NOTHING, ("get", "create", "update", "patch", "delete")),
    *rows({"": "pods/binding"}, NOTHING, NOTHING, NOTHING, ("create",)),
    *rows({"": "pods/status services/status"}, NOTHING, NOTHING, NOTHING, SCALE),
    *rows(
        {
            "": "endpoints podtemplates replicationcontrollers",
            "apps": "controllerrevisions",
            "coordination.k8s.io": "leases",
            RBAC: "roles rolebindings",
        },
        NOTHING,
        NOTHING,
        NOTHING,
    ),
    *rows({"catalyst.dev": "environments projects"}, NOTHING, NOTHING, NOTHING),
]

CLUSTER_WIDE = {
    "": "nodes namespaces persistentvolumes",
    RBAC: "clusterroles clusterrolebindings",
    "admissionregistration.k8s.io": (
        "validatingadmissionpolicies validatingadmissionpolicybindings validatingwebhookconfigurations "
        "mutatingwebhookconfigurations"
    ),
    "apiextensions.k8s.io": "customresourcedefinitions",
    "storage.k8s.io": "storageclasses",
    "scheduling.k8s.io": "priorityclasses",
    "flowcontrol.apiserver.k8s.io": "flowschemas",
    "certificates.k8s.io": "certificatesigningrequests",
}
POWERS = [
    (RBAC, "clusterroles", "bind"),
    (RBAC, "clusterroles", "escalate"),
    (RBAC, "roles", "bind"),
    (RBAC, "roles", "escalate"),
    ("", "users", "impersonate"),
    ("", "groups", "impersonate"),
    ("", "serviceaccounts", "impersonate"),
]
PLACES = {"observer": DEVELOPMENT, "owner": DEVELOPMENT, "admin": DEPLOYMENT}


# One object of each kind, fit for Pod Security `restricted` ---------------------------------------------------------

CONTAINER = {
    "name": "web",
    "image": "example.test/web",
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}
POD = {
    "hostUsers": False,
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [CONTAINER],
}
TEMPLATE = {"metadata": {"labels": {"app": "seed"}}, "spec": POD}
JOB = {"suspend": True, "template": {**TEMPLATE, "spec": {**POD, "restartPolicy": "Never"}}}
SELECTED = {"replicas": 0, "selector": {"matchLabels": {"app": "seed"}}, "template": TEMPLATE}
KINDS: dict[str, tuple[str, str, Manifest]] = {
    "pods": ("v1", "Pod", {"spec": POD}),
    "services": ("v1", "Service", {"spec": {"ports": [{"port": 80}]}}),
    "persistentvolumeclaims": (
        "v1",
        "PersistentVolumeClaim",
        {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}},
    ),
    "deployments": ("apps/v1", "Deployment", {"spec": SELECTED}),
    "statefulsets": ("apps/v1", "StatefulSet", {"spec": {**SELECTED, "serviceName": "seed"}}),
    "replicasets": ("apps/v1", "ReplicaSet", {"spec": SELECTED}),
    "daemonsets": ("apps/v1", "DaemonSet", {"spec": {key: SELECTED[key] for key in ("selector", "template")}}),
    "jobs": ("batch/v1", "Job", {"spec": JOB}),
    "cronjobs": (
        "batch/v1",
        "CronJob",
        {"spec": {"schedule": "@yearly", "suspend": True, "jobTemplate": {"spec": JOB}}},
    ),
    "horizontalpodautoscalers": (
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        {"spec": {"maxReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "seed"}}},
    ),
    "poddisruptionbudgets": (
        "policy/v1",
        "PodDisruptionBudget",
        {"spec": {"minAvailable": 0, "selector": {"matchLabels": {"app": "none"}}}},
    ),
    "resourcequotas": ("v1", "ResourceQuota", {"spec": {"hard": {"pods": "20"}}}),
    "limitranges": ("v1", "LimitRange", {"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}}]}}),
    "endpointslices": ("discovery.k8s.io/v1", "EndpointSlice", {"addressType": "IPv4", "endpoints": []}),
    "networkpolicies": ("networking.k8s.io/v1", "NetworkPolicy", {"spec": {"podSelector": {}}}),
    "configmaps": ("v1", "ConfigMap", {"data": {"key": "value"}}),
    "secrets": ("v1", "Secret", {"stringData": {"key": "value"}}),
    "serviceaccounts": ("v1", "ServiceAccount", {}),
}


def seed(resource: str, where: str, name: str = "seed") -> Manifest:
    api_version, kind, rest = KINDS[resource]
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": where}, **rest}


def event(where: str) -> Manifest:
    about = {"apiVersion": "v1", "kind": "Pod", "name": "seed", "namespace": where}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "seed", "namespace": where},
        "involvedObject": about,
        "reason": "Seeded",
    }


@pytest.fixture(scope="module")
def tenancy(installation: Installation) -> Iterator[Tenancy]:
    tenancy = Tenancy(installation.control_plane).create()
    for where in (DEVELOPMENT, DEPLOYMENT):
        for resource, (api_version, _, _) in KINDS.items():
            if resource != "events":
                at = path(api_version.rpartition("/")[0], where, resource)
                assert_made(tenancy.admin.request("POST", at, seed(resource, where), dry_run=False))
        assert_made(tenancy.admin.request("POST", path("", where, "events"), event(where), dry_run=False))
    yield tenancy
    tenancy.close()


def assert_made(answer: Answer) -> None:
    assert answer.status == 201 or answer.reason == "AlreadyExists", answer


# The whole matrix, by review ----------------------------------------------------------------------------------------

Cell = tuple[str, str, str]
"""Verb, API group, resource."""


def allowed(api: Api, cells: list[Cell], where: str) -> list[Cell]:
    """Those of the cells that the API server says this user may."""

    def is_allowed(cell: Cell) -> bool:
        verb, api_group, resource = cell
        return api.may(verb, api_group, resource, where)

    with ThreadPoolExecutor(8) as pool:
        return [cell for cell, yes in zip(cells, pool.map(is_allowed, cells), strict=True) if yes]


def cells_of(verbs: tuple[str, ...]) -> list[Cell]:
    return [(verb, row.group, row.resource) for row in TABLE for verb in verbs]


@pytest.mark.parametrize(("role", "where"), [*PLACES.items(), ("observer", DEPLOYMENT)])
def test_the_whole_table_by_review(tenancy: Tenancy, role: str, where: str) -> None:
    wanted = [(verb, row.group, row.resource) for row in TABLE for verb in ALL if verb in row.verbs(role)]
    assert wanted
    assert allowed(tenancy.role(role), cells_of(ALL), where) == wanted


@pytest.mark.parametrize(
    ("role", "where"),
    [(role, where) for role in PLACES for where in (FOREIGN, BARE, TEAM, SYSTEM, "default", "kube-system")]
    + [("owner", DEPLOYMENT), ("admin", DEVELOPMENT)],
)
def test_no_role_reaches_another_namespace(tenancy: Tenancy, role: str, where: str) -> None:
    # An owner is no owner of the project's deployments, nor an admin one of its developments.
    assert allowed(tenancy.role(role), cells_of(("get", "list", "create", "patch", "delete")), where) == []


@pytest.mark.parametrize("role", PLACES)
def test_no_role_has_anything_cluster_wide(tenancy: Tenancy, role: str) -> None:
    cells = [(verb, each, name) for each, names in CLUSTER_WIDE.items() for name in names.split() for verb in ALL]
    powers = [(verb, api_group, resource) for api_group, resource, verb in POWERS]
    assert allowed(tenancy.role(role), cells, "") == []
    assert allowed(tenancy.role(role), powers, "") == []
    assert allowed(tenancy.role(role), powers, PLACES[role]) == []


# Every cell, by the request itself ----------------------------------------------------------------------------------


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.resource}.{row.group}".strip("."))
@pytest.mark.parametrize("role", PLACES)
def test_every_cell_by_request(tenancy: Tenancy, role: str, row: Row) -> None:
    where = PLACES[role]
    for verb in row.asked:
        answer = ask(tenancy, tenancy.role(role), row, verb, where)
        if verb in row.verbs(role):
            assert is_done(row, verb, answer), f"{role} may {verb} {row.resource}, but got {answer}"
        else:
            assert (answer.status, answer.reason) == (403, "Forbidden"), (
                f"{role} may not {verb} {row.resource}: {answer}"
            )
            assert f'cannot {verb} resource "{row.resource}"' in answer.message


def is_done(row: Row, verb: str, answer: Answer) -> bool:
    """What an allowed request gets. No node runs these pods, so streams and logs end one step after the rights."""
    if row.resource in ("pods/log", "pods/exec", "pods/attach", "pods/portforward"):
        return answer.status in (200, 204, 400) and "cannot" not in answer.message
    if row.resource == "ingresses" and verb == "get":  # a policy lets none exist
        return (answer.status, answer.reason) == (404, "NotFound")
    return answer.status in (200, 201)


def ask(tenancy: Tenancy, api: Api, row: Row, verb: str, where: str) -> Answer:
    if row.resource == "namespaces":
        at = collection = path("", "", "namespaces", where)
    else:
        main = row.resource.partition("/")[0]
        collection = path(row.group, where, main)
        at = path(row.group, where, row.resource, "seed")
    match verb:
        case "get":
            return api.request("GET", at)
        case "list":
            return api.request("GET", collection)
        case "watch":
            return api.watch(collection)
        case "create":
            return api.request("POST", at if "/" in row.resource else collection, fresh(row, where))
        case "update":
            return updated(tenancy, api, at)
        case "patch":
            return api.request("PATCH", at, change(row))
        case "delete":
            return api.request("DELETE", at)
        case _:
            return api.request("DELETE", collection)


def fresh(row: Row, where: str) -> Manifest:
    if row.resource == "pods/eviction":
        return {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "seed", "namespace": where}}
    return seed(row.resource, where, "fresh") if row.resource in KINDS else {}


def change(row: Row) -> Manifest:
    if row.resource == "pods/ephemeralcontainers":
        return {"spec": {"ephemeralContainers": [{**CONTAINER, "name": "debug"}]}}
    return (
        {"spec": {"replicas": 1}} if row.resource.endswith("/scale") else {"metadata": {"annotations": {"seen": "yes"}}}
    )


def updated(tenancy: Tenancy, api: Api, at: str) -> Answer:
    """PUT what is there; a controller may write in between, so a conflict is tried again."""
    answer = Answer(0, "", "", {})
    for _ in range(5):
        answer = api.request("PUT", at, tenancy.admin.request("GET", at).body)
        if answer.reason != "Conflict":
            break
    return answer


def test_impersonation_is_refused(tenancy: Tenancy) -> None:
    owner = tenancy.role("owner")
    pods = path("", DEVELOPMENT, "pods")
    assert owner.request("GET", pods).status == 200
    for headers in (
        {"Impersonate-User": "system:admin"},
        {"Impersonate-User": "catalyst:ada", "Impersonate-Group": "system:masters"},
        {"Impersonate-User": f"system:serviceaccount:{SYSTEM}:env-controller"},
    ):
        answer = owner.request("GET", pods, headers=headers)
        assert (answer.status, answer.reason) == (403, "Forbidden")
        assert "cannot impersonate" in answer.message


# Environments in the project's namespace ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "name", "verbs"),
    [
        ("observer", "pr-1", READ),
        ("observer", "staging", READ),
        ("admin", "pr-1", READ),
        ("admin", "staging", READ),
        ("owner", "pr-1", (*READ, "update", "patch", "delete")),
        ("owner", "staging", (*READ, "update", "patch", "delete")),
    ],
)
def test_environments_by_name(tenancy: Tenancy, role: str, name: str, verbs: tuple[str, ...]) -> None:
    api = tenancy.role(role)
    asked = ("get", "list", "watch", *WRITE)
    assert [verb for verb in asked if api.may(verb, "catalyst.dev", "environments", PROJECT, name)] == [
        verb for verb in asked if verb in verbs
    ]
    row = Row("catalyst.dev", "environments", (), (), ())
    for verb in asked:
        answer = ask_environment(tenancy, api, row, verb, name)
        is_for_the_gateway = name == "staging" and verb in verbs and verb not in READ
        if is_for_the_gateway:
            # The binding covers every Environment of the project; the policy keeps its deployments from people.
            assert (answer.status, answer.reason) == (403, "Forbidden")
            assert "catalyst-deployments" in answer.message
        elif verb in verbs:
            assert answer.status == 200, f"{role} may {verb} {name}: {answer}"
        else:
            assert (answer.status, answer.reason) == (403, "Forbidden"), f"{role} may not {verb} {name}: {answer}"
            assert f'cannot {verb} resource "environments"' in answer.message


def ask_environment(tenancy: Tenancy, api: Api, row: Row, verb: str, name: str) -> Answer:
    at, collection = path("catalyst.dev", PROJECT, "environments", name), path("catalyst.dev", PROJECT, "environments")
    match verb:
        case "create":
            return api.request("POST", collection, environment("pr-2"))
        case "update":
            return updated(tenancy, api, at)
        case "patch":
            return api.request("PATCH", at, {"spec": {"desiredState": "Sleeping"}})
        case "get" | "delete":
            return api.request(verb.upper(), at)
        case "deletecollection":
            return api.request("DELETE", collection)
        case "watch":
            return api.watch(collection)
        case _:
            return api.request("GET", collection)


@pytest.mark.parametrize("subresource", ["status", "finalizers"])
@pytest.mark.parametrize("role", PLACES)
def test_nobody_writes_the_status_of_an_environment(tenancy: Tenancy, role: str, subresource: str) -> None:
    for verb in ("get", "update", "patch"):
        assert not tenancy.role(role).may(verb, "catalyst.dev", f"environments/{subresource}", PROJECT, "pr-1")
    at = path("catalyst.dev", PROJECT, "environments/status", "pr-1")
    ready = {"status": {"phase": "Ready"}}
    answer = tenancy.role(role).request("PATCH", at, ready)
    assert (answer.status, answer.reason) == (403, "Forbidden")
    assert tenancy.env_controller.request("PATCH", at, ready).status == 200


def test_an_environment_author_is_opt_in(tenancy: Tenancy) -> None:
    author = tenancy.person("catalyst:globex:shop:ci")
    environments = path("catalyst.dev", PROJECT, "environments")
    assert author.request("POST", environments, environment("pr-2")).reason == "Forbidden"
    binding = role_binding(PROJECT, "ci-authors", "catalyst-environment-author", group("ci"))
    bound = tenancy.admin.apply(object_path(binding), binding)
    assert bound.status in (200, 201), bound
    try:
        author.wait_until_may("create", "catalyst.dev", "environments", PROJECT)
        assert author.request("POST", environments, environment("pr-2")).status == 201
        assert author.request("GET", environments).status == 200
        assert author.request("DELETE", f"{environments}/pr-1").reason == "Forbidden"
        deployment = author.request("POST", environments, environment("production", type="Deployment"))
        assert (deployment.status, deployment.reason) == (403, "Forbidden")
        assert "catalyst-deployments" in deployment.message
    finally:
        assert tenancy.admin.request("DELETE", object_path(binding), dry_run=False).status == 200


# The services' own accounts -----------------------------------------------------------------------------------------


def test_webhook_ingest_has_no_rights(tenancy: Tenancy) -> None:
    ingest = tenancy.service_account(SYSTEM, "webhook-ingest")
    for each in ("", SYSTEM, TEAM, PROJECT, DEVELOPMENT):
        assert allowed(ingest, cells_of(("get", "create")), each) == []
    assert ingest.request("GET", path("catalyst.dev", PROJECT, "environments")).reason == "Forbidden"
    assert tenancy.env_controller.request("GET", path("catalyst.dev", PROJECT, "environments")).status == 200


LEASE = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"name": "env-controller", "namespace": SYSTEM},
    "spec": {"holderIdentity": "test", "leaseDurationSeconds": 10},
}


def test_env_controller_may_do_its_work(tenancy: Tenancy) -> None:
    """The exact requests it makes. That it could make the tenancy itself says the rest."""
    api = tenancy.env_controller
    watched = ["projects.catalyst.dev", "environments.catalyst.dev", "namespaces."]
    watched += ["resourcequotas.", "limitranges.", "serviceaccounts.", "networkpolicies.networking.k8s.io"]
    watched += [f"rolebindings.{RBAC}", "deployments.apps", "statefulsets.apps", "services.", "persistentvolumeclaims."]
    for each in watched:
        resource, _, api_group = each.partition(".")
        assert api.request("GET", path(api_group, "", resource)).status == 200, each
        assert api.watch(path(api_group, "", resource)).status == 200, each
    for manifest in env_controller_manifests():
        at = object_path(manifest)
        uid = api.request("GET", at).body["metadata"]["uid"]
        assert api.apply(at, {**manifest, "metadata": {**manifest["metadata"], "uid": uid}}, dry_run=True).status == 200
        delete = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        assert api.request("DELETE", at, delete).status == 200, at
    runs = {
        "deployments": seed("deployments", DEVELOPMENT, "web"),
        "services": seed("services", DEVELOPMENT, "web"),
        "secrets": seed("secrets", DEVELOPMENT, "catalyst-pull"),
    }
    # Its baselines were deleted above: their namespaces go, and take nothing in. So it is tried as far as RBAC goes.
    for resource, manifest in runs.items():
        answer = api.request("POST", path("apps" if resource == "deployments" else "", DEVELOPMENT, resource), manifest)
        assert "cannot create resource" not in answer.message, answer
    assert api.request("GET", path("", DEVELOPMENT, "pods")).status == 200
    assert api.request("GET", path("", DEVELOPMENT, "pods", "gone/log")).status == 404
    assert api.request("GET", path("", DEVELOPMENT, "secrets", "catalyst-pull")).status in (200, 404)
    environments = path("catalyst.dev", PROJECT, "environments")
    assert api.request("POST", environments, environment("pr-2")).status == 201
    assert api.request("POST", environments, environment("production", type="Deployment")).status == 201
    assert api.request("PATCH", f"{environments}/pr-1", {"metadata": {"finalizers": ["catalyst.dev/x"]}}).status == 200
    assert api.request("PATCH", f"{environments}/pr-1/status", {"status": {"phase": "Ready"}}).status == 200
    assert api.request("DELETE", f"{environments}/pr-1").status == 200
    leases = path("coordination.k8s.io", SYSTEM, "leases")
    assert_made(api.request("POST", leases, LEASE, dry_run=False))
    assert api.request("PATCH", f"{leases}/env-controller", {"spec": {"holderIdentity": "other"}}).status == 200


@pytest.mark.parametrize(
    ("verb", "api_group", "resource", "where"),
    [
        *((verb, "", "secrets", DEVELOPMENT) for verb in ("get", "list", "watch", "update", "patch", "delete")),
        ("list", "", "configmaps", DEVELOPMENT),
        ("watch", "", "pods", DEVELOPMENT),
        ("delete", "", "pods", DEVELOPMENT),
        ("update", "", "persistentvolumeclaims", DEVELOPMENT),
        ("deletecollection", "apps", "deployments", DEVELOPMENT),
        ("create", "apps", "daemonsets", DEVELOPMENT),
        ("create", "batch", "jobs", DEVELOPMENT),
        ("get", "", "pods", DEVELOPMENT),
        ("create", "", "pods", DEVELOPMENT),
        ("create", "", "pods/exec", DEVELOPMENT),
        ("create", "", "serviceaccounts/token", DEVELOPMENT),
        ("create", "catalyst.dev", "projects", TEAM),
        ("delete", "catalyst.dev", "projects", TEAM),
        ("deletecollection", "catalyst.dev", "environments", PROJECT),
        ("deletecollection", "", "namespaces", ""),
        ("update", "", "namespaces", ""),
        ("create", RBAC, "clusterroles", ""),
        ("create", RBAC, "clusterrolebindings", ""),
        ("bind", RBAC, "clusterroles", ""),
        ("escalate", RBAC, "clusterroles", ""),
        ("escalate", RBAC, "roles", PROJECT),
        ("bind", RBAC, "roles", PROJECT),
        *((verb, RBAC, "roles", PROJECT) for verb in ("get", "create", "update", "patch", "delete")),
        ("impersonate", "", "users", ""),
        ("impersonate", "", "serviceaccounts", DEVELOPMENT),
        ("create", "coordination.k8s.io", "leases", "kube-system"),
        ("update", "coordination.k8s.io", "leases", SYSTEM),
        ("delete", "coordination.k8s.io", "leases", SYSTEM),
    ],
)
def test_env_controller_may_nothing_more(
    tenancy: Tenancy, verb: str, api_group: str, resource: str, where: str
) -> None:
    assert not tenancy.env_controller.may(verb, api_group, resource, where)


def test_env_controller_is_refused_one_step_beyond(tenancy: Tenancy) -> None:
    api = tenancy.env_controller
    cluster_binding = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "taken"},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "catalyst-owner"},
        "subjects": [{"apiGroup": RBAC, "kind": "Group", "name": group("owner")}],
    }
    role = {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": {"name": "taken"}, "rules": []}
    refused = {
        "cannot get resource": api.request("GET", path("", DEVELOPMENT, "secrets", "seed")),
        "cannot create resource": api.request("POST", path("", DEVELOPMENT, "pods"), seed("pods", DEVELOPMENT, "x")),
        'cannot create resource "clusterrolebindings"': api.request(
            "POST", path(RBAC, "", "clusterrolebindings"), cluster_binding
        ),
        "is attempting to grant RBAC permissions not currently held": api.request(
            "POST",
            path(RBAC, DEVELOPMENT, "rolebindings"),
            role_binding(DEVELOPMENT, "taken", "cluster-admin", group("owner")),
        ),
        'cannot create resource "roles"': api.request("POST", path(RBAC, PROJECT, "roles"), role),
    }
    for message, answer in refused.items():
        assert (answer.status, answer.reason) == (403, "Forbidden"), answer
        assert message in answer.message


def test_tenancy_namespaces_are_what_they_should_be(tenancy: Tenancy) -> None:
    """The harness itself: without Pod Security on them, half of the refusals would prove nothing."""
    for where, level in ((DEVELOPMENT, "baseline"), (DEPLOYMENT, "restricted")):
        found = tenancy.admin.request("GET", object_path(namespace(where, {}))).body["metadata"]["labels"]
        assert found["pod-security.kubernetes.io/enforce"] == level
