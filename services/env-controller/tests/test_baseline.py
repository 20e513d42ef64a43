"""The whole baseline, word by word: what kubernetes.md asks for is written out here once more, and nothing else may
appear.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers import PLATFORM, environment, project, subject

from catalyst.env_controller.core import baseline
from catalyst.env_controller.core.platform import Platform
from catalyst.model.environment import Environment
from catalyst.model.manifest import Manifest

IDENTITY = {
    "catalyst.dev/team": "acme",
    "catalyst.dev/project": "shop",
    "catalyst.dev/environment": "pr-42",
    "catalyst.dev/environment-uid": "uid-of-environment",
}
WORKLOAD = "acme--shop--pr-42"
RBAC = "rbac.authorization.k8s.io"
DNS = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
}
EDGE = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "catalyst-edge"}},
    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "edge"}},
}
EVERY_POD: dict[str, Any] = {"podSelector": {}}
PRIVATE_V4 = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "127.0.0.0/8"]
PRIVATE_V6 = ["fc00::/7", "fe80::/10"]


def of(api_version: str, kind: str, name: str, namespace: str = WORKLOAD, **rest: Any) -> Manifest:
    metadata = {"name": name, "namespace": namespace, "labels": IDENTITY}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}


def policy(name: str, **spec: Any) -> Manifest:
    return of("networking.k8s.io/v1", "NetworkPolicy", name, spec={"podSelector": {}, **spec})


def group(role: str) -> dict[str, str]:
    return {"apiGroup": RBAC, "kind": "Group", "name": f"catalyst:acme:shop:{role}"}


def binding(role: str) -> Manifest:
    reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": f"catalyst-{role}"}
    return of(f"{RBAC}/v1", "RoleBinding", f"catalyst-{role}", roleRef=reference, subjects=[group(role)])


QUOTA = {
    "requests.cpu": "2",
    "limits.cpu": "4",
    "requests.memory": "4Gi",
    "limits.memory": "8Gi",
    "requests.storage": "20Gi",
    "requests.ephemeral-storage": "10Gi",
    "limits.ephemeral-storage": "20Gi",
    "pods": "20",
    "persistentvolumeclaims": "5",
    "services": "10",
    "services.nodeports": "0",
    "services.loadbalancers": "0",
    "secrets": "40",
    "configmaps": "40",
    "count/jobs.batch": "20",
    "count/cronjobs.batch": "5",
    "count/deployments.apps": "20",
    "count/ingresses.networking.k8s.io": "0",
}
LIMITS = [
    {
        "type": "Container",
        "default": {"cpu": "500m", "memory": "512Mi", "ephemeral-storage": "1Gi"},
        "defaultRequest": {"cpu": "100m", "memory": "128Mi", "ephemeral-storage": "256Mi"},
        "max": {"cpu": "2", "memory": "4Gi", "ephemeral-storage": "5Gi"},
    },
    {"type": "PersistentVolumeClaim", "max": {"storage": "10Gi"}},
]


def expected(changing_role: str) -> list[Manifest]:
    """kubernetes.md, "Namespace baseline", 2 to 7 in its order (but the pull secret)."""
    web = [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": PRIVATE_V4}},
        {"ipBlock": {"cidr": "::/0", "except": PRIVATE_V6}},
    ]
    return [
        of("v1", "ResourceQuota", "environment", spec={"hard": QUOTA}),
        of("v1", "LimitRange", "environment", spec={"limits": LIMITS}),
        policy("default-deny", policyTypes=["Ingress", "Egress"]),
        policy(
            "allow-dns",
            policyTypes=["Egress"],
            egress=[{"to": [DNS], "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}],
        ),
        policy(
            "allow-same-namespace",
            policyTypes=["Ingress", "Egress"],
            ingress=[{"from": [EVERY_POD]}],
            egress=[{"to": [EVERY_POD]}],
        ),
        policy(
            "allow-from-edge",
            podSelector={"matchLabels": {"catalyst.dev/exposed": "true"}},
            policyTypes=["Ingress"],
            ingress=[{"from": [EDGE]}],
        ),
        policy("allow-egress-to-edge", policyTypes=["Egress"], egress=[{"to": [EDGE]}]),
        policy(
            "allow-egress-public",
            policyTypes=["Egress"],
            egress=[{"to": web, "ports": [{"port": 80, "protocol": "TCP"}, {"port": 443, "protocol": "TCP"}]}],
        ),
        of("v1", "ServiceAccount", "default", automountServiceAccountToken=False),
        of("v1", "ServiceAccount", "workload", automountServiceAccountToken=False),
        binding("observer"),
        binding(changing_role),
    ]


def undigested(manifest: Manifest) -> Manifest:
    """Without the digest of its own intent, which is checked to be that."""
    annotations = dict(manifest["metadata"]["annotations"])
    digest = annotations.pop("catalyst.dev/applied")
    assert annotations == {}
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "annotations"}
    bare = {**manifest, "metadata": metadata}
    assert digest == baseline.digest(bare)
    return bare


def made(of_: Environment | None = None, platform: Platform = PLATFORM, **development: Any) -> list[Manifest]:
    return [undigested(found) for found in baseline.children(subject(of_, project(development=development), platform))]


def the(kind: str, name: str, among: list[Manifest]) -> Manifest:
    (found,) = [item for item in among if item["kind"] == kind and item["metadata"]["name"] == name]
    return found


DEPLOYMENT = environment(type="Deployment")


def test_development() -> None:
    assert made() == expected("owner")


def test_deployment() -> None:
    assert made(DEPLOYMENT) == expected("admin")


@pytest.mark.parametrize(
    ("of_", "user_namespaces", "type_", "level"),
    [
        (environment(), True, "development", "baseline"),
        (environment(), False, "development", "restricted"),
        (DEPLOYMENT, True, "deployment", "restricted"),
        (DEPLOYMENT, False, "deployment", "restricted"),
    ],
)
def test_namespace(of_: Environment, user_namespaces: bool, type_: str, level: str) -> None:
    platform = Platform(user_namespaces=user_namespaces, pod_security_version="v1.36")
    assert baseline.namespace(subject(of_, platform=platform)) == {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": WORKLOAD,
            "labels": {
                **IDENTITY,
                "catalyst.dev/type": type_,
                "pod-security.kubernetes.io/enforce": level,
                "pod-security.kubernetes.io/enforce-version": "v1.36",
            },
        },
    }


def test_quota_is_overridden_key_by_key_and_kept_as_text() -> None:
    quota = the("ResourceQuota", "environment", made(quota={"pods": 50, "requests.cpu": "4", "count/jobs.batch": 0}))
    assert quota["spec"]["hard"] == {**QUOTA, "pods": "50", "requests.cpu": "4", "count/jobs.batch": "0"}


def test_limits_are_overridden_key_by_key_and_kept_as_text() -> None:
    limits = {
        "default": {"cpu": 1},
        "defaultRequest": {"memory": "64Mi"},
        "max": {"ephemeral-storage": "8Gi"},
        "maxPersistentVolumeClaim": "50Gi",
    }
    assert the("LimitRange", "environment", made(limits=limits))["spec"]["limits"] == [
        {
            "type": "Container",
            "default": {"cpu": "1", "memory": "512Mi", "ephemeral-storage": "1Gi"},
            "defaultRequest": {"cpu": "100m", "memory": "64Mi", "ephemeral-storage": "256Mi"},
            "max": {"cpu": "2", "memory": "4Gi", "ephemeral-storage": "8Gi"},
        },
        {"type": "PersistentVolumeClaim", "max": {"storage": "50Gi"}},
    ]


def test_the_allow_list_is_a_policy_of_its_own() -> None:
    egress = [
        {"cidr": "203.0.113.0/24"},
        {"cidr": "2001:db8::/32", "ports": [{"port": 5432}, {"port": 53, "protocol": "UDP"}]},
    ]
    found = made(egress=egress)
    listed = policy(
        "allow-egress-listed",
        policyTypes=["Egress"],
        egress=[
            {"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]},
            {
                "to": [{"ipBlock": {"cidr": "2001:db8::/32"}}],
                "ports": [{"port": 5432, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
            },
        ],
    )
    assert the("NetworkPolicy", "allow-egress-listed", found) == listed
    found.remove(listed)
    assert found == expected("owner")


def test_protected_networks_are_cut_out_of_the_public_web_by_family() -> None:
    platform = Platform(protected_networks=("203.0.113.0/24", "2001:db8::/32", "10.0.0.0/8"))
    public = the("NetworkPolicy", "allow-egress-public", made(platform=platform))
    v4, v6 = (block["ipBlock"] for block in public["spec"]["egress"][0]["to"])
    assert v4 == {"cidr": "0.0.0.0/0", "except": [*PRIVATE_V4, "203.0.113.0/24"]}
    assert v6 == {"cidr": "::/0", "except": [*PRIVATE_V6, "2001:db8::/32"]}


def test_the_edge_is_where_the_platform_says() -> None:
    inward = the("NetworkPolicy", "allow-from-edge", made(platform=Platform(edge_namespace="platform")))
    (peer,) = inward["spec"]["ingress"][0]["from"]
    assert peer["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "platform"}}


def test_nothing_privileged_is_bound() -> None:
    """No binding but to our own roles, no token in any pod."""
    for of_ in (environment(), DEPLOYMENT):
        for found in made(of_):
            match found["kind"]:
                case "RoleBinding":
                    assert found["roleRef"]["name"] in {"catalyst-observer", "catalyst-owner", "catalyst-admin"}
                    assert all(who["name"].startswith("catalyst:acme:shop:") for who in found["subjects"])
                case "ServiceAccount":
                    assert found["automountServiceAccountToken"] is False


@given(st.dictionaries(st.sampled_from(sorted(QUOTA)), st.integers(0, 99)))
def test_the_digest_tells_intents_apart_and_only_those(quota: dict[str, int]) -> None:
    plain = baseline.resource_quota(subject())
    changed = baseline.resource_quota(subject(project_=project(development={"quota": quota})))
    assert (baseline.digest(plain) == baseline.digest(changed)) == (plain == changed)
    shuffled = dict(reversed(changed.items()))
    assert baseline.digest(shuffled) == baseline.digest(changed)
