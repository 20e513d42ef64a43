"""What nobody may do, whatever a role allows: each policy of deploy/k8s/policies by real requests.

Every refusal has a twin that differs in the forbidden thing only and is accepted. All are dry runs.
"""

import copy
import time
from collections.abc import Iterator
from typing import Any

import pytest

from catalyst.local.installation import Installation

from .cluster import (
    BARE,
    DEPLOYMENT,
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
    namespace,
    object_path,
    path,
    role_binding,
)

POLICIES = {
    "catalyst-build-grants",
    "catalyst-build-pods",
    "catalyst-builder-namespaces",
    "catalyst-deployments",
    "catalyst-env-controller-grants",
    "catalyst-env-controller-namespaces",
    "catalyst-env-controller-projects",
    "catalyst-env-controller-secrets",
    "catalyst-finalizer",
    "catalyst-namespace-labels",
    "catalyst-object-labels",
    "catalyst-pods",
    "catalyst-project-ref",
    "catalyst-reserved-secrets",
    "catalyst-routes",
    "catalyst-secrets",
    "catalyst-services",
    "catalyst-user-namespaces",
}
POLICY_API = "/apis/admissionregistration.k8s.io/v1"


@pytest.fixture(scope="module")
def tenancy(installation: Installation) -> Iterator[Tenancy]:
    tenancy = Tenancy(installation.control_plane).create()
    seeds = [("pods", pod(DEVELOPMENT)), ("services", service()), ("configmaps", configmap())]
    for resource, manifest in seeds:
        answer = tenancy.admin.request("POST", path("", DEVELOPMENT, resource), named(manifest, "here"), dry_run=False)
        assert answer.status == 201 or answer.reason == "AlreadyExists", answer
    yield tenancy
    tenancy.close()


def assert_refused(answer: Answer, policy: str, *words: str, reason: str = "Forbidden") -> None:
    """By our policy, and the sentence names the field."""
    assert (answer.status, answer.reason) == ({"Forbidden": 403, "Invalid": 422}[reason], reason), answer
    assert f"ValidatingAdmissionPolicy '{policy}" in answer.message, answer
    for word in words:
        assert word in answer.message, answer


def assert_accepted(answer: Answer) -> None:
    assert answer.status in (200, 201), answer


def test_every_policy_denies_and_fails_closed(tenancy: Tenancy) -> None:
    found = tenancy.admin.request("GET", f"{POLICY_API}/validatingadmissionpolicies").body["items"]
    ours = {each["metadata"]["name"]: each for each in found if each["metadata"]["name"].startswith("catalyst-")}
    assert set(ours) == POLICIES
    for name, policy in ours.items():
        assert policy["spec"]["failurePolicy"] == "Fail", name
        assert "expressionWarnings" not in policy.get("status", {}).get("typeChecking", {}), name
    bindings = tenancy.admin.request("GET", f"{POLICY_API}/validatingadmissionpolicybindings").body["items"]
    ours_bound = [each["spec"] for each in bindings if each["spec"]["policyName"] in POLICIES]
    assert {spec["policyName"] for spec in ours_bound} == POLICIES
    assert all(spec["validationActions"] == ["Deny"] for spec in ours_bound)


# Manifests ----------------------------------------------------------------------------------------------------------


def named(manifest: Manifest, name: str) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], "name": name}}


def service(**spec: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"ports": [{"port": 80}], **spec},
    }


def configmap(**labels: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web", "labels": labels}}


def pod_spec() -> Manifest:
    """Fit for Pod Security `restricted`."""
    safe = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {
        "hostUsers": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "web", "image": "example.test/web", "securityContext": safe}],
    }


def pod(where: str, spec: Manifest | None = None) -> Manifest:
    metadata = {"name": "web", "namespace": where}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec or pod_spec()}


TEMPLATED = {
    "Deployment": "spec.template.spec",
    "StatefulSet": "spec.template.spec",
    "DaemonSet": "spec.template.spec",
    "ReplicaSet": "spec.template.spec",
    "ReplicationController": "spec.template.spec",
    "Job": "spec.template.spec",
    "CronJob": "spec.jobTemplate.spec.template.spec",
    "PodTemplate": "template.spec",
}


def templated(kind: str, spec: Manifest, **template_labels: str) -> Manifest:
    """A workload of that kind around this pod."""
    template = {"metadata": {"labels": {"app": "web", **template_labels}}, "spec": spec}
    selected = {"selector": {"matchLabels": {"app": "web"}}, "template": template}
    job = {"template": {**template, "spec": {**spec, "restartPolicy": "Never"}}}
    kinds: dict[str, tuple[str, Manifest]] = {
        "Deployment": ("apps/v1", {"spec": {**selected, "replicas": 0}}),
        "StatefulSet": ("apps/v1", {"spec": {**selected, "replicas": 0, "serviceName": "web"}}),
        "DaemonSet": ("apps/v1", {"spec": selected}),
        "ReplicaSet": ("apps/v1", {"spec": {**selected, "replicas": 0}}),
        "ReplicationController": ("v1", {"spec": {"replicas": 0, "selector": {"app": "web"}, "template": template}}),
        "Job": ("batch/v1", {"spec": job}),
        "CronJob": ("batch/v1", {"spec": {"schedule": "@yearly", "jobTemplate": {"spec": job}}}),
        "PodTemplate": ("v1", {"template": template}),
    }
    api_version, body = kinds[kind]
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "web"}, **body}


def created(api: Api, manifest: Manifest, where: str) -> Answer:
    collection = object_path({**manifest, "metadata": {"name": "", "namespace": where}})
    return api.request(
        "POST", collection.rstrip("/"), {**manifest, "metadata": {**manifest["metadata"], "namespace": where}}
    )


# Services and routes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"type": "NodePort"}, ("spec.type: is NodePort", "expected ClusterIP")),
        ({"type": "LoadBalancer"}, ("spec.type: is LoadBalancer", "expected ClusterIP")),
        ({"type": "ExternalName", "externalName": "example.test"}, ("spec.type: is ExternalName",)),
        ({"externalIPs": ["203.0.113.7"]}, ("spec.externalIPs: is [203.0.113.7]", "expected none")),
    ],
)
@pytest.mark.parametrize(("role", "where"), [("owner", DEVELOPMENT), ("admin", DEPLOYMENT)])
def test_services_are_inside_only(
    tenancy: Tenancy, role: str, where: str, spec: Manifest, words: tuple[str, ...]
) -> None:
    api = tenancy.role(role)
    assert_accepted(created(api, service(), where))
    assert_accepted(created(api, service(clusterIP="None"), where))
    assert_refused(created(api, service(**spec), where), "catalyst-services", *words)


def test_a_service_cannot_become_a_door_later(tenancy: Tenancy) -> None:
    here = path("", DEVELOPMENT, "services", "here")
    owner = tenancy.role("owner")
    assert_accepted(owner.request("PATCH", here, {"spec": {"selector": {"app": "web"}}}))
    assert_refused(owner.request("PATCH", here, {"spec": {"type": "NodePort"}}), "catalyst-services", "spec.type")
    assert_refused(tenancy.admin.request("PATCH", here, {"spec": {"type": "NodePort"}}), "catalyst-services")
    elsewhere = {"spec": {"type": "NodePort", "ports": [{"port": 80}]}}
    assert_accepted(tenancy.admin.request("POST", path("", SYSTEM, "services"), {**service(), **elsewhere}))


INGRESS = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "Ingress",
    "metadata": {"name": "web"},
    "spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}},
}


def test_no_ingress_in_an_environment(tenancy: Tenancy) -> None:
    ingresses = "/apis/networking.k8s.io/v1/namespaces/{}/ingresses"
    assert_accepted(tenancy.admin.request("POST", ingresses.format("default"), INGRESS))
    assert_refused(tenancy.admin.request("POST", ingresses.format(DEVELOPMENT), INGRESS), "catalyst-routes", "Ingress")
    by_owner = tenancy.role("owner").request("POST", ingresses.format(DEVELOPMENT), INGRESS)
    assert (by_owner.status, by_owner.reason) == (403, "Forbidden")


def test_no_gateway_route_in_an_environment(tenancy: Tenancy, http_routes: str) -> None:
    route = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "web"}}
    assert_accepted(tenancy.admin.request("POST", http_routes.format("default"), route))
    assert_refused(
        tenancy.admin.request("POST", http_routes.format(DEVELOPMENT), route), "catalyst-routes", "HTTPRoute"
    )


@pytest.fixture
def http_routes(tenancy: Tenancy) -> Iterator[str]:
    """A CRD of the Gateway API's name, arriving after the policy; its fields do not matter here."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "httproutes.gateway.networking.k8s.io",
            "annotations": {"api-approved.kubernetes.io": "unapproved, in a test"},
        },
        "spec": {
            "group": "gateway.networking.k8s.io",
            "scope": "Namespaced",
            "names": {
                "kind": "HTTPRoute",
                "plural": "httproutes",
                "singular": "httproute",
                "listKind": "HTTPRouteList",
            },
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    assert_accepted(tenancy.admin.request("POST", crds, crd, dry_run=False))
    routes = "/apis/gateway.networking.k8s.io/v1/namespaces/{}/httproutes"
    ends = time.monotonic() + 20
    while tenancy.admin.request("GET", routes.format("default")).status != 200:
        assert time.monotonic() < ends, "the CRD is not served"
        time.sleep(0.05)
    yield routes
    assert_accepted(tenancy.admin.request("DELETE", f"{crds}/{crd['metadata']['name']}", dry_run=False))  # type: ignore[index]


# Pods and templates -------------------------------------------------------------------------------------------------

WEB = ("containers", 0)
HOSTILE: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "hostNetwork": (("hostNetwork",), True, ".hostNetwork: is true"),
    "hostPID": (("hostPID",), True, ".hostPID: is true"),
    "hostIPC": (("hostIPC",), True, ".hostIPC: is true"),
    "hostPath": (("volumes",), [{"name": "v", "hostPath": {"path": "/"}}], ".volumes: has hostPath"),
    "nfs": (("volumes",), [{"name": "v", "nfs": {"server": "10.0.0.1", "path": "/"}}], ".volumes: has nfs"),
    "privileged": ((*WEB, "securityContext"), {"privileged": True}, ".containers[web].securityContext.privileged"),
    "capabilities": (
        (*WEB, "securityContext"),
        {"capabilities": {"add": ["CHOWN", "SYS_ADMIN"]}},
        ".containers[web].securityContext.capabilities.add",
    ),
    "all capabilities": ((*WEB, "securityContext"), {"capabilities": {"add": ["ALL"]}}, "capabilities.add"),
    "hostPort": ((*WEB, "ports"), [{"containerPort": 80, "hostPort": 80}], ".containers[web].ports.hostPort"),
    "nodeName": (("nodeName",), "node-1", ".nodeName: is node-1"),
    "node-critical": (("priorityClassName",), "system-node-critical", ".priorityClassName: is system-node-critical"),
    "cluster-critical": (("priorityClassName",), "system-cluster-critical", ".priorityClassName"),
    "init container": (
        ("initContainers",),
        [{"name": "setup", "image": "x", "securityContext": {"privileged": True}}],
        ".containers[setup].securityContext.privileged",
    ),
}
HARMLESS: dict[str, tuple[tuple[Any, ...], Any]] = {
    "volumes": (("volumes",), [{"name": "v", "emptyDir": {}}, {"name": "c", "configMap": {"name": "web"}}]),
    "capabilities": ((*WEB, "securityContext"), {"capabilities": {"add": ["CHOWN", "NET_BIND_SERVICE"]}}),
    "not privileged": ((*WEB, "securityContext"), {"privileged": False}),
    "port": ((*WEB, "ports"), [{"containerPort": 80}]),
    "not hostNetwork": (("hostNetwork",), False),
}


# With hostUsers: false the API server itself refuses these, so they are asked where it may be left out.
HOST_NAMESPACES = ("hostNetwork", "hostPID", "hostIPC")


def hostile_spec(hostile: str) -> Manifest:
    where, value, _ = HOSTILE[hostile]
    spec = having(pod_spec(), where, value)
    if hostile in HOST_NAMESPACES:
        del spec["hostUsers"]
    return spec


def having(spec: Manifest, where: tuple[Any, ...], value: Any) -> Manifest:
    changed = copy.deepcopy(spec)
    at: Any = changed
    for key in where[:-1]:
        at = at[key]
    at[where[-1]] = value
    return changed


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("kind", TEMPLATED)
def test_hostile_templates_are_refused(tenancy: Tenancy, kind: str, hostile: str) -> None:
    field = HOSTILE[hostile][2]
    where = DEPLOYMENT if hostile in HOST_NAMESPACES else DEVELOPMENT
    answer = created(tenancy.admin, templated(kind, hostile_spec(hostile)), where)
    assert_refused(answer, "catalyst-pods", f"{TEMPLATED[kind]}{field}" if field.startswith(".") else field)


@pytest.mark.parametrize("harmless", HARMLESS)
@pytest.mark.parametrize("kind", TEMPLATED)
def test_their_twins_are_accepted(tenancy: Tenancy, kind: str, harmless: str) -> None:
    assert_accepted(created(tenancy.admin, templated(kind, pod_spec()), DEVELOPMENT))
    spec = having(pod_spec(), *HARMLESS[harmless])
    assert_accepted(created(tenancy.admin, templated(kind, spec), DEVELOPMENT))
    del spec["hostUsers"]
    assert_accepted(created(tenancy.admin, templated(kind, spec), DEPLOYMENT))


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "ReplicaSet", "Job", "CronJob"])
def test_an_owner_gets_no_hostile_template_in(tenancy: Tenancy, kind: str) -> None:
    owner, admin = tenancy.role("owner"), tenancy.role("admin")
    privileged = having(pod_spec(), *HOSTILE["privileged"][:2])
    assert_accepted(created(owner, templated(kind, pod_spec()), DEVELOPMENT))
    assert_refused(created(owner, templated(kind, privileged), DEVELOPMENT), "catalyst-pods", "privileged")
    assert_accepted(created(admin, templated(kind, pod_spec()), DEPLOYMENT))
    assert_refused(created(admin, templated(kind, privileged), DEPLOYMENT), "catalyst-pods", "privileged")


@pytest.mark.parametrize("hostile", [each for each in HOSTILE if each not in HOST_NAMESPACES])
def test_hostile_pods_are_refused_without_pod_security(tenancy: Tenancy, hostile: str) -> None:
    field = HOSTILE[hostile][2]
    assert_accepted(created(tenancy.admin, pod(BARE), BARE))
    answer = created(tenancy.admin, pod(BARE, hostile_spec(hostile)), BARE)
    assert_refused(answer, "catalyst-pods", f"spec{field}" if field.startswith(".") else field)


@pytest.mark.parametrize("field", HOST_NAMESPACES)
def test_a_pod_in_a_user_namespace_shares_none_with_its_node(tenancy: Tenancy, field: str) -> None:
    assert_accepted(created(tenancy.admin, pod(BARE, {**pod_spec(), field: False}), BARE))
    answer = created(tenancy.admin, pod(BARE, {**pod_spec(), field: True}), BARE)
    assert (answer.status, answer.reason) == (422, "Invalid")
    assert "when `hostUsers` is false" in answer.message
    without = {key: value for key, value in pod_spec().items() if key != "hostUsers"}
    assert_refused(created(tenancy.admin, pod(BARE, {**without, field: True}), BARE), "catalyst-")


@pytest.mark.parametrize(
    "hostile", ["hostNetwork", "hostPID", "hostIPC", "hostPath", "privileged", "capabilities", "hostPort"]
)
def test_hostile_pods_are_refused_by_pod_security_first(tenancy: Tenancy, hostile: str) -> None:
    owner = tenancy.role("owner")
    assert_accepted(created(owner, pod(DEVELOPMENT), DEVELOPMENT))
    answer = created(owner, pod(DEVELOPMENT, hostile_spec(hostile)), DEVELOPMENT)
    assert (answer.status, answer.reason) == (403, "Forbidden")
    assert 'violates PodSecurity "baseline:v1.36"' in answer.message


@pytest.mark.parametrize("where", [DEVELOPMENT, BARE])
def test_hostile_ephemeral_containers_are_refused(tenancy: Tenancy, where: str) -> None:
    pods = path("", where, "pods")
    answer = tenancy.admin.request("POST", pods, named(pod(where), "here"), dry_run=False)
    assert answer.status == 201 or answer.reason == "AlreadyExists", answer
    api = tenancy.role("owner") if where == DEVELOPMENT else tenancy.admin
    at = f"{pods}/here/ephemeralcontainers"
    debug = {"name": "debug", "image": "example.test/debug"}
    privileged = {**debug, "securityContext": {"privileged": True}}
    assert_accepted(api.request("PATCH", at, {"spec": {"ephemeralContainers": [debug]}}))
    refused = api.request("PATCH", at, {"spec": {"ephemeralContainers": [privileged]}})
    if where == BARE:
        assert_refused(refused, "catalyst-pods", "spec.containers[debug].securityContext.privileged")
    else:
        assert (refused.status, refused.reason) == (403, "Forbidden")
        assert "violates PodSecurity" in refused.message


@pytest.mark.parametrize("kind", ["Pod", *TEMPLATED])
def test_development_runs_in_user_namespaces(tenancy: Tenancy, kind: str) -> None:
    def with_host_users(where: str, **host_users: bool) -> Answer:
        spec = {key: value for key, value in pod_spec().items() if key != "hostUsers"} | host_users
        return created(tenancy.admin, pod(where, spec) if kind == "Pod" else templated(kind, spec), where)

    field = f"{TEMPLATED.get(kind, 'spec')}.hostUsers: is not false, expected false. Write hostUsers: false there"
    assert_accepted(with_host_users(DEVELOPMENT, hostUsers=False))
    assert_refused(with_host_users(DEVELOPMENT), "catalyst-user-namespaces", field)
    assert_refused(with_host_users(DEVELOPMENT, hostUsers=True), "catalyst-user-namespaces", field)
    assert_refused(with_host_users(BARE), "catalyst-user-namespaces", field)
    # `restricted` stands without: deployments, and everything on a cluster that has no user namespaces.
    assert_accepted(with_host_users(DEPLOYMENT))


def test_a_scheduled_pod_may_still_be_labelled(tenancy: Tenancy) -> None:
    """The scheduler's own way is open, and what it wrote does not lock the pod."""
    pods = path("", DEVELOPMENT, "pods")
    tenancy.admin.request("DELETE", f"{pods}/bound", {"kind": "DeleteOptions", "gracePeriodSeconds": 0}, dry_run=False)
    assert_accepted(tenancy.admin.request("POST", pods, named(pod(DEVELOPMENT), "bound"), dry_run=False))
    target = {"apiVersion": "v1", "kind": "Node", "name": "node-1"}
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "bound"}, "target": target}
    assert_accepted(tenancy.admin.request("POST", f"{pods}/bound/binding", binding, dry_run=False))
    assert_accepted(tenancy.role("owner").request("PATCH", f"{pods}/bound", {"metadata": {"labels": {"seen": "yes"}}}))
    gone = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
    assert_accepted(tenancy.admin.request("DELETE", f"{pods}/bound", gone, dry_run=False))


# Secrets ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "where"), [("owner", DEVELOPMENT), ("admin", DEPLOYMENT), ("", PROJECT)])
def test_no_token_that_never_expires(tenancy: Tenancy, role: str, where: str) -> None:
    api = tenancy.role(role) if role else tenancy.admin
    annotations = {"kubernetes.io/service-account.name": "default"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token", "annotations": annotations}}
    assert_accepted(created(api, secret, where))
    assert_refused(
        created(api, {**secret, "type": "kubernetes.io/service-account-token"}, where),
        "catalyst-secrets",
        "type: is kubernetes.io/service-account-token",
    )


def test_no_token_by_request_either(tenancy: Tenancy) -> None:
    """RBAC's part: TokenRequest."""
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    at = path("", DEVELOPMENT, "serviceaccounts/token", "default")
    answer = tenancy.role("owner").request("POST", at, request)
    assert (answer.status, answer.reason) == (403, "Forbidden")
    assert_accepted(tenancy.admin.request("POST", at, request))


# Labels -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster_admin(tenancy: Tenancy) -> Iterator[Api]:
    """All of RBAC, but not group system:masters: what a careless platform engineer or a pipeline has."""
    binding = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "test-platform"},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": RBAC, "kind": "Group", "name": "platform"}],
    }
    assert_accepted(tenancy.admin.apply(object_path(binding), binding))
    platform = tenancy.person("platform")
    platform.wait_until_may("create", "batch", "cronjobs", DEVELOPMENT)
    yield platform
    assert_accepted(tenancy.admin.request("DELETE", object_path(binding), dry_run=False))


UID, SECURITY = "catalyst.dev/environment-uid", "pod-security.kubernetes.io/enforce"


@pytest.mark.parametrize(
    "labels",
    [{UID: "other"}, {UID: None}, {"catalyst.dev/new": "yes"}, {SECURITY: "privileged"}, {SECURITY: None}],
    ids=str,
)
@pytest.mark.parametrize("subresource", ["", "/status"])
def test_a_namespace_keeps_its_labels(
    tenancy: Tenancy, cluster_admin: Api, labels: dict[str, str | None], subresource: str
) -> None:
    at = path("", "", "namespaces", DEVELOPMENT) + subresource
    patch = {"metadata": {"labels": labels}}
    assert_accepted(cluster_admin.request("PATCH", at, {"metadata": {"labels": {"example.test/mine": "yes"}}}))
    answer = cluster_admin.request("PATCH", at, patch)
    assert_refused(answer, "catalyst-namespace-labels", "metadata.labels:", next(iter(labels)))
    assert_accepted(tenancy.admin.request("PATCH", at, patch))  # the break glass
    for role in ("owner", "observer"):
        answer = tenancy.role(role).request("PATCH", at, patch)
        assert (answer.status, answer.reason) == (403, "Forbidden")


def test_nobody_else_makes_a_namespace_of_ours(tenancy: Tenancy, cluster_admin: Api) -> None:
    namespaces = path("", "", "namespaces")
    assert_accepted(
        cluster_admin.request("POST", namespaces, namespace("globex--shop--pr-7", {"example.test/mine": "yes"}))
    )
    forged = namespace("globex--shop--pr-7", {UID: "forged"}, "privileged")
    assert_refused(cluster_admin.request("POST", namespaces, forged), "catalyst-namespace-labels", UID)
    # Outside our namespaces Pod Security is the platform's own business.
    free = {"metadata": {"labels": {SECURITY: "privileged"}}}
    assert_accepted(cluster_admin.request("PATCH", path("", "", "namespaces", "default"), free))


def test_objects_keep_their_labels(tenancy: Tenancy) -> None:
    owner = tenancy.role("owner")
    assert_accepted(created(owner, configmap(app="web"), DEVELOPMENT))
    assert_refused(
        created(owner, configmap(**{UID: "forged"}), DEVELOPMENT), "catalyst-object-labels", f"metadata.labels: {UID}"
    )
    here = path("", DEVELOPMENT, "configmaps", "here")
    ours = {"metadata": {"labels": {"catalyst.dev/component": "web"}}}
    assert_refused(owner.request("PATCH", here, ours), "catalyst-object-labels", "catalyst.dev/component")
    assert_accepted(tenancy.admin.request("PATCH", here, ours, dry_run=False))
    try:
        assert_accepted(owner.request("PATCH", here, {"data": {"key": "other"}}))
        for value in ("other", None):
            changed = {"metadata": {"labels": {"catalyst.dev/component": value}}}
            assert_refused(owner.request("PATCH", here, changed), "catalyst-object-labels", "catalyst.dev/component")
    finally:
        clean = {"metadata": {"labels": {"catalyst.dev/component": None}}}
        assert_accepted(tenancy.admin.request("PATCH", here, clean, dry_run=False))


@pytest.mark.parametrize("kind", TEMPLATED)
def test_templates_carry_no_label_of_ours(tenancy: Tenancy, cluster_admin: Api, kind: str) -> None:
    assert_accepted(created(cluster_admin, templated(kind, pod_spec(), tier="web"), DEVELOPMENT))
    exposed = {"catalyst.dev/exposed": "true"}
    # Jobs and ReplicationControllers take their own labels from the template, and those are told first.
    at = "" if kind in ("Job", "ReplicationController") else TEMPLATED[kind].removesuffix("spec")
    field = f"denied request: {at}metadata.labels: catalyst.dev/exposed"
    assert_refused(
        created(cluster_admin, templated(kind, pod_spec(), **exposed), DEVELOPMENT), "catalyst-object-labels", field
    )


def test_controllers_may_copy_labels(tenancy: Tenancy) -> None:
    """A template with our label is ours; its pods are made by Kubernetes."""
    controllers = {"Impersonate-User": "system:serviceaccount:kube-system:replicaset-controller"}
    controllers["Impersonate-Group"] = "system:serviceaccounts:kube-system"
    exposed = pod(DEVELOPMENT)
    exposed["metadata"]["labels"] = {"catalyst.dev/exposed": "true"}
    pods = path("", DEVELOPMENT, "pods")
    assert_accepted(tenancy.admin.request("POST", pods, exposed, headers=controllers))
    assert_refused(
        tenancy.role("owner").request("POST", pods, exposed), "catalyst-object-labels", "catalyst.dev/exposed"
    )


# Environments -------------------------------------------------------------------------------------------------------

ENVIRONMENTS = "/apis/catalyst.dev/v1alpha1/namespaces/{}/environments"


def test_an_environment_fits_its_namespace(tenancy: Tenancy) -> None:
    assert_accepted(tenancy.admin.request("POST", ENVIRONMENTS.format(PROJECT), environment("pr-2")))
    for ref in ({"team": TEAM, "name": "blog"}, {"team": "other", "name": "shop"}):
        answer = tenancy.admin.request("POST", ENVIRONMENTS.format(PROJECT), environment("pr-2", projectRef=ref))
        words = (f"spec.projectRef: is {ref['team']}/{ref['name']}", "expected globex/shop")
        assert_refused(answer, "catalyst-project-ref", *words, reason="Invalid")
    for where in ("kube-system", "default", TEAM, DEVELOPMENT):
        manifest = environment("pr-2")
        manifest["metadata"]["namespace"] = where
        answer = tenancy.admin.request("POST", ENVIRONMENTS.format(where), manifest)
        assert_refused(answer, "catalyst-project-ref", f"metadata.namespace: is {where}", reason="Invalid")


def test_deployments_change_through_the_gateway_only(tenancy: Tenancy, cluster_admin: Api) -> None:
    production = environment("production", type="Deployment")
    at, staging = ENVIRONMENTS.format(PROJECT), ENVIRONMENTS.format(PROJECT) + "/staging"
    change = {"spec": {"desiredState": "Sleeping"}}
    for api in (tenancy.env_controller, tenancy.admin):
        assert_accepted(api.request("POST", at, production))
        assert_accepted(api.request("PATCH", staging, change))
    gateway = {"Impersonate-User": f"system:serviceaccount:{SYSTEM}:gateway", "Impersonate-Group": "platform"}
    assert_accepted(tenancy.admin.request("POST", at, production, headers=gateway))
    assert_accepted(cluster_admin.request("POST", at, environment("pr-2")))
    for api in (cluster_admin, tenancy.role("owner")):
        assert_accepted(api.request("PATCH", f"{at}/pr-1", change))
        assert_accepted(api.request("DELETE", f"{at}/pr-1"))
    for answer in (
        cluster_admin.request("POST", at, production),
        cluster_admin.request("PATCH", staging, change),
        cluster_admin.request("DELETE", staging),
        tenancy.role("owner").request("PATCH", staging, change),
        tenancy.role("owner").request("PUT", staging, tenancy.admin.request("GET", staging).body),
        tenancy.role("owner").request("DELETE", staging),
    ):
        assert_refused(answer, "catalyst-deployments", "spec.type: is Deployment", "Ask the gateway")


def test_nobody_strips_the_finalizer(tenancy: Tenancy) -> None:
    """An owner may change and delete an Environment, not make it vanish with its namespace left behind."""
    at, owner = f"{ENVIRONMENTS.format(PROJECT)}/pr-1", tenancy.role("owner")
    finalizer = {"metadata": {"finalizers": ["catalyst.dev/environment"]}}
    answer = tenancy.admin.request("PATCH", at, finalizer, dry_run=False)
    assert_accepted(answer)
    try:
        assert_accepted(owner.request("PATCH", at, {"metadata": {"annotations": {"note": "mine"}}}))
        for finalizers in ([], ["example.org/other"]):
            answer = owner.request("PATCH", at, {"metadata": {"finalizers": finalizers}})
            assert_refused(answer, "catalyst-finalizer", "metadata.finalizers", "expected to stay")
        assert_accepted(
            owner.request(
                "PATCH", at, {"metadata": {"finalizers": [*finalizer["metadata"]["finalizers"], "example.org/other"]}}
            )
        )
        assert_accepted(tenancy.env_controller.request("PATCH", at, {"metadata": {"finalizers": []}}))
    finally:
        assert_accepted(tenancy.admin.request("PATCH", at, {"metadata": {"finalizers": None}}, dry_run=False))


# What bounds env-controller itself ----------------------------------------------------------------------------------


def _workload(kind: str) -> Manifest:
    pod = {"hostUsers": False, "containers": [{"name": "web", "image": "nginx"}]}
    marks = {"app": "new"}
    template = {"metadata": {"labels": marks}, "spec": pod}
    return {"apiVersion": "apps/v1", "kind": kind, "spec": {"selector": {"matchLabels": marks}, "template": template}}


@pytest.mark.parametrize(
    "manifest",
    [
        {"apiVersion": "v1", "kind": "ResourceQuota", "spec": {"hard": {"pods": "0"}}},
        {"apiVersion": "v1", "kind": "LimitRange", "spec": {"limits": []}},
        {"apiVersion": "v1", "kind": "ServiceAccount"},
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": {"podSelector": {}}},
        {"apiVersion": "v1", "kind": "Secret"},
        {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80}]}},
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        },
        _workload("Deployment"),
        {**_workload("StatefulSet"), "spec": {**_workload("StatefulSet")["spec"], "serviceName": "new"}},
    ],
    ids=lambda manifest: manifest["kind"],
)
def test_env_controller_writes_only_where_it_belongs(tenancy: Tenancy, manifest: Manifest) -> None:
    named_manifest = {**manifest, "metadata": {"name": "new"}}
    assert_accepted(created(tenancy.env_controller, named_manifest, DEVELOPMENT))
    for where in ("kube-system", "default", SYSTEM, TEAM):
        answer = created(tenancy.env_controller, named_manifest, where)
        assert_refused(answer, "catalyst-env-controller-namespaces", where, "expected one")


def test_env_controller_deletes_nothing_elsewhere(tenancy: Tenancy) -> None:
    account = path("", "kube-system", "serviceaccounts", "default")
    answer = tenancy.env_controller.request("DELETE", account)
    assert_refused(answer, "catalyst-env-controller-namespaces", "kube-system")
    mine = path("", DEVELOPMENT, "serviceaccounts", "workload")
    assert_accepted(tenancy.env_controller.request("DELETE", mine))


def test_env_controller_makes_only_its_own_namespaces(tenancy: Tenancy) -> None:
    api, namespaces = tenancy.env_controller, path("", "", "namespaces")
    labels = {**IDENTITY, UID: "uid-new"}
    policy = "catalyst-env-controller-namespaces"
    assert_accepted(api.request("POST", namespaces, namespace("globex--shop--new", labels, "baseline")))
    assert_refused(api.request("POST", namespaces, namespace("globex--shop--new", IDENTITY, "baseline")), policy)
    for level in ("privileged", ""):
        answer = api.request("POST", namespaces, namespace("globex--shop--new", labels, level))
        assert_refused(answer, policy, SECURITY)
    mine, team = f"{namespaces}/{DEVELOPMENT}", f"{namespaces}/{TEAM}"
    assert_accepted(api.request("PATCH", mine, {"metadata": {"annotations": {"seen": "yes"}}}))
    assert_accepted(api.request("PATCH", mine, {"metadata": {"labels": {"catalyst.dev/team": "repaired"}}}))
    for uid in ("other", None):
        assert_refused(api.request("PATCH", mine, {"metadata": {"labels": {UID: uid}}}), policy, UID)
    assert_refused(api.request("PATCH", mine, {"metadata": {"labels": {SECURITY: "privileged"}}}), policy, SECURITY)
    granted = {"metadata": {"annotations": {"catalyst.dev/repositories": "github/*"}}}
    assert_refused(api.request("PATCH", team, granted), policy, TEAM)
    adopted = {"metadata": {"labels": {UID: "mine-now"}}}
    assert_refused(api.request("PATCH", team, adopted), policy, TEAM)
    assert_accepted(tenancy.admin.request("PATCH", team, granted))


def test_env_controller_deletes_only_its_own_namespaces(tenancy: Tenancy) -> None:
    def deleted(where: str, uid: str) -> Answer:
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        return tenancy.env_controller.request("DELETE", path("", "", "namespaces", where), options)

    def uid(where: str) -> str:
        return str(tenancy.admin.request("GET", path("", "", "namespaces", where)).body["metadata"]["uid"])

    assert_accepted(deleted(DEVELOPMENT, uid(DEVELOPMENT)))
    other = deleted(DEVELOPMENT, "other")
    assert (other.status, other.reason) == (409, "Conflict")
    for where in (TEAM, SYSTEM, "kube-node-lease"):
        assert_refused(deleted(where, uid(where)), "catalyst-env-controller-namespaces", where, "expected one")


def test_env_controller_grants_only_to_the_projects_people(tenancy: Tenancy) -> None:
    policy = "catalyst-env-controller-grants"

    def bound(where: str, role_ref: str, *groups: str, kind: str = "ClusterRole") -> Answer:
        return created(tenancy.env_controller, role_binding(where, "new", role_ref, *groups, kind=kind), where)

    assert_accepted(bound(DEVELOPMENT, "catalyst-owner", group("owner")))
    assert_refused(bound(DEVELOPMENT, "catalyst-owner", "system:authenticated"), policy, "catalyst:globex:shop:")
    assert_refused(bound(DEVELOPMENT, "catalyst-owner", "catalyst:other:shop:owner"), policy, "subjects")
    assert_refused(bound(DEVELOPMENT, "catalyst-owner", group("owner", "blog")), policy, "subjects")
    assert_refused(bound(DEVELOPMENT, "catalyst-environment-author", group("owner")), policy, "roleRef")
    assert_refused(bound(PROJECT, "catalyst-owner", group("owner")), policy, "roleRef: is ClusterRole catalyst-owner")
    assert_accepted(bound(PROJECT, "catalyst-environment-reader", group("owner")))
    assert_accepted(bound(PROJECT, "catalyst-environment-owner", group("owner")))
    role = {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": {"name": "catalyst-environment-owner"}, "rules": []}
    at = path(RBAC, PROJECT, "roles")
    assert_accepted(tenancy.admin.request("POST", at, role, dry_run=False))
    try:
        lookalike = bound(PROJECT, "catalyst-environment-owner", group("owner"), kind="Role")
        assert_refused(lookalike, policy, "roleRef: is Role catalyst-environment-owner", "expected ClusterRole")
    finally:
        assert_accepted(tenancy.admin.request("DELETE", f"{at}/catalyst-environment-owner", dry_run=False))
    assert_refused(bound(DEVELOPMENT, "catalyst-environment-owner", group("owner")), policy, "roleRef")
    for where in ("kube-system", TEAM):
        for role_ref in ("catalyst-owner", "catalyst-environment-reader"):
            assert_refused(bound(where, role_ref, group("owner")), "catalyst-env-controller-")


def test_env_controller_leaves_a_projects_spec_alone(tenancy: Tenancy) -> None:
    projects = path("catalyst.dev", TEAM, "projects")
    project = {
        "apiVersion": "catalyst.dev/v1alpha1",
        "kind": "Project",
        "metadata": {"name": "policies"},
        "spec": {"source": {"forge": "github", "repository": "globex/policies"}},
    }
    assert_accepted(tenancy.admin.request("POST", projects, project, dry_run=False))
    at = f"{projects}/policies"
    try:
        held = {"metadata": {"finalizers": ["catalyst.dev/environment"]}}
        assert_accepted(tenancy.env_controller.request("PATCH", at, held))
        answer = tenancy.env_controller.request("PATCH", at, {"spec": {"paused": True}})
        assert_refused(answer, "catalyst-env-controller-projects", "spec:")
        assert_accepted(tenancy.admin.request("PATCH", at, {"spec": {"paused": True}}))
    finally:
        assert_accepted(tenancy.admin.request("DELETE", at, dry_run=False))


# The baseline is out of its owners' reach ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "body"),
    [
        (path("networking.k8s.io", DEVELOPMENT, "networkpolicies", "default-deny"), None),
        (path("", DEVELOPMENT, "resourcequotas", "environment"), None),
        (path("", DEVELOPMENT, "resourcequotas", "environment"), {"spec": {"hard": {"services": "1000"}}}),
        (path("", DEVELOPMENT, "limitranges", "environment"), {"spec": {"limits": []}}),
        (path("", DEVELOPMENT, "serviceaccounts", "default"), {"automountServiceAccountToken": True}),
        (path(RBAC, DEVELOPMENT, "rolebindings", "catalyst-owner"), None),
    ],
)
def test_an_owner_cannot_loosen_the_baseline(tenancy: Tenancy, at: str, body: Manifest | None) -> None:
    verb = "PATCH" if body else "DELETE"
    answer = tenancy.role("owner").request(verb, at, body)
    assert (answer.status, answer.reason) == (403, "Forbidden")
    assert f"cannot {verb.lower()} resource" in answer.message
    assert_accepted(tenancy.env_controller.request(verb, at, body))


def test_an_owner_cannot_bind_a_role(tenancy: Tenancy) -> None:
    for role_ref in ("cluster-admin", "catalyst-owner"):
        answer = created(
            tenancy.role("owner"), role_binding(DEVELOPMENT, "more", role_ref, group("owner")), DEVELOPMENT
        )
        assert (answer.status, answer.reason) == (403, "Forbidden")
        assert 'cannot create resource "rolebindings"' in answer.message
    ours = role_binding(DEVELOPMENT, "more", "catalyst-owner", group("owner"))
    assert_accepted(created(tenancy.env_controller, ours, DEVELOPMENT))
