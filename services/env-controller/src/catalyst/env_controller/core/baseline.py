"""The objects every environment gets, whatever runs in it: one small maker each, tested by whole-manifest equality.

namespace                                 identity labels, pinned Pod Security
ResourceQuota, LimitRange                 defaults, each key overridable by the Project
NetworkPolicies                           deny all, then exactly what an environment needs
ServiceAccounts default, workload         no token in pods
RoleBindings                              the roles of the access table, for this namespace only; our own right to keep
                                          copies of Secrets, where some are shared
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from catalyst.env_controller.core import shares
from catalyst.env_controller.core.platform import PRIVATE_NETWORKS_V4, PRIVATE_NETWORKS_V6, Platform
from catalyst.model import labels
from catalyst.model.environment import Environment
from catalyst.model.manifest import Manifest
from catalyst.model.names import Identity, workload_namespace
from catalyst.model.project import Project

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
"""What one environment may use unless its Project says otherwise (kubernetes.md, baseline 2)."""

LIMITS: dict[str, dict[str, str]] = {
    "default": {"cpu": "500m", "memory": "512Mi", "ephemeral-storage": "1Gi"},
    "defaultRequest": {"cpu": "100m", "memory": "128Mi", "ephemeral-storage": "256Mi"},
    "max": {"cpu": "2", "memory": "4Gi", "ephemeral-storage": "5Gi"},
}
"""Per container; `MAX_CLAIM` is the largest volume claim."""
MAX_CLAIM = "10Gi"


@dataclass(frozen=True, slots=True)
class Subject:
    """The one thing every maker gets: whose objects these are."""

    identity: Identity
    uid: str
    environment: Environment
    project: Project
    platform: Platform

    @property
    def namespace(self) -> str:
        return workload_namespace(self.identity)

    @property
    def labels(self) -> dict[str, str]:
        return {
            labels.TEAM: self.identity.team,
            labels.PROJECT: self.identity.project,
            labels.ENVIRONMENT: self.identity.environment,
            labels.ENVIRONMENT_UID: self.uid,
        }


def namespace(subject: Subject) -> Manifest:
    kind = subject.environment.spec.type
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": subject.namespace,
            "labels": {
                **subject.labels,
                labels.TYPE: kind.lower(),
                "pod-security.kubernetes.io/enforce": subject.platform.pod_security(kind),
                "pod-security.kubernetes.io/enforce-version": subject.platform.pod_security_version,
            },
        },
    }


def children(subject: Subject) -> list[Manifest]:
    """Everything but the namespace itself. Each carries the digest of its own intent, so that a reader of metadata
    alone knows whether it is current.
    """
    return [
        with_digest(manifest)
        for manifest in (
            resource_quota(subject),
            limit_range(subject),
            *network_policies(subject),
            *service_accounts(subject),
            *role_bindings(subject),
            *shared_secrets(subject),
        )
    ]


def with_digest(manifest: Manifest) -> Manifest:
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), labels.APPLIED: digest(manifest)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def digest(manifest: Manifest) -> str:
    """sha256 of what we want the object to be, in one canonical spelling."""
    return hashlib.sha256(orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS)).hexdigest()


def resource_quota(subject: Subject) -> Manifest:
    return _object(
        subject,
        "v1",
        "ResourceQuota",
        "environment",
        spec={"hard": {**QUOTA, **_quantities(subject.project.spec.development.quota)}},
    )


def limit_range(subject: Subject) -> Manifest:
    limits = subject.project.spec.development.limits
    given = {"default": limits.default, "defaultRequest": limits.default_request, "max": limits.max}
    container = {name: {**LIMITS[name], **_quantities(given[name])} for name in LIMITS}
    claim = {"storage": str(limits.max_persistent_volume_claim or MAX_CLAIM)}
    per_item = [{"type": "Container", **container}, {"type": "PersistentVolumeClaim", "max": claim}]
    return _object(subject, "v1", "LimitRange", "environment", spec={"limits": per_item})


def _quantities(given: Mapping[str, int | str]) -> dict[str, str]:
    """As strings: the API server stores them so, and an unchanged object must look unchanged."""
    return {key: str(value) for key, value in given.items()}


def network_policies(subject: Subject) -> list[Manifest]:
    """Deny both ways, then open: DNS, the namespace itself, the edge in, the edge out (its own public URL), the
    public web, the Project's list.
    """
    edge = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": subject.platform.edge_namespace}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "edge"}},
    }
    dns = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }
    web = [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": _outside(subject, PRIVATE_NETWORKS_V4)}},
        {"ipBlock": {"cidr": "::/0", "except": _outside(subject, PRIVATE_NETWORKS_V6)}},
    ]
    everyone: dict[str, Any] = {"podSelector": {}}
    policies = [
        _policy(subject, "default-deny", {}, policyTypes=["Ingress", "Egress"]),
        _policy(
            subject,
            "allow-dns",
            {},
            policyTypes=["Egress"],
            egress=[{"to": [dns], "ports": [_port(53, "UDP"), _port(53)]}],
        ),
        _policy(
            subject,
            "allow-same-namespace",
            {},
            policyTypes=["Ingress", "Egress"],
            ingress=[{"from": [everyone]}],
            egress=[{"to": [everyone]}],
        ),
        _policy(
            subject,
            "allow-from-edge",
            {"matchLabels": {labels.EXPOSED: "true"}},
            policyTypes=["Ingress"],
            ingress=[{"from": [edge]}],
        ),
        _policy(subject, "allow-egress-to-edge", {}, policyTypes=["Egress"], egress=[{"to": [edge]}]),
        _policy(
            subject,
            "allow-egress-public",
            {},
            policyTypes=["Egress"],
            egress=[{"to": web, "ports": [_port(80), _port(443)]}],
        ),
    ]
    listed = [
        {
            "to": [{"ipBlock": {"cidr": rule.cidr}}],
            **({"ports": [_port(port.port, port.protocol) for port in rule.ports]} if rule.ports else {}),
        }
        for rule in subject.project.spec.development.egress
    ]
    if listed:
        policies.append(_policy(subject, "allow-egress-listed", {}, policyTypes=["Egress"], egress=listed))
    return policies


def _outside(subject: Subject, always: tuple[str, ...]) -> list[str]:
    """The always private networks and the platform's protected ones of the same address family."""
    is_v6 = ":" in always[0]
    return list(
        dict.fromkeys((*always, *(net for net in subject.platform.protected_networks if (":" in net) == is_v6)))
    )


def _port(port: int, protocol: str = "TCP") -> dict[str, Any]:
    return {"port": port, "protocol": protocol}


def _policy(subject: Subject, name: str, pods: dict[str, Any], **spec: Any) -> Manifest:
    return _object(subject, "networking.k8s.io/v1", "NetworkPolicy", name, spec={"podSelector": pods, **spec})


def service_accounts(subject: Subject) -> list[Manifest]:
    return [
        _object(subject, "v1", "ServiceAccount", name, automountServiceAccountToken=False)
        for name in ("default", "workload")
    ]


def role_bindings(subject: Subject) -> list[Manifest]:
    """Observers read; owners do anything inside a development environment, admins administer a deployment."""
    roles = ("observer", _changing_role(subject))
    return [
        _object(
            subject,
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            f"catalyst-{role}",
            roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": f"catalyst-{role}"},
            subjects=[_group(subject, role)],
        )
        for role in roles
    ]


def shared_secrets(subject: Subject) -> list[Manifest]:
    """We may keep copies of Secrets here, where some are shared."""
    if not shares.shares(subject.project, subject.environment):
        return []
    return [shares.binding(subject.namespace, subject.labels, shares.KEEPER, subject.platform.system_namespace)]


def _changing_role(subject: Subject) -> str:
    return "owner" if subject.environment.spec.type == "Development" else "admin"


def _group(subject: Subject, role: str) -> dict[str, str]:
    name = f"catalyst:{subject.identity.team}:{subject.identity.project}:{role}"
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": name}


def _object(subject: Subject, api_version: str, kind: str, name: str, **fields: Any) -> Manifest:
    metadata = {"name": name, "namespace": subject.namespace, "labels": subject.labels}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}
