"""The build namespace of a project and trust level, and its baseline: no secrets of environments, no way to anything
but the registry, the forge, DNS and the public internet.

RBAC is bound here, and only here: builder's rights to Jobs, pods, logs and Secrets end at this namespace.
"""

from collections.abc import Mapping
from typing import Any, Final

from catalyst.builder.core.build import Build
from catalyst.builder.core.job import SERVICE_ACCOUNT
from catalyst.builder.core.platform import Platform
from catalyst.model import labels
from catalyst.model.manifest import Manifest

ROLE: Final = "catalyst-builds"
PRIVATE_V4: Final = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "100.64.0.0/10",
    "127.0.0.0/8",
)
PRIVATE_V6: Final = ("fc00::/7", "fe80::/10", "::1/128", "64:ff9b::/96")


def namespace(build: Build, platform: Platform) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": build.namespace,
            "labels": {
                **_identity(build),
                "pod-security.kubernetes.io/enforce": "baseline",
                "pod-security.kubernetes.io/enforce-version": platform.pod_security_version,
            },
        },
    }


def is_ours(found: Manifest, build: Build) -> bool:
    """Whether a namespace of that name was made for this project and trust level."""
    carried = found["metadata"].get("labels", {})
    return all(carried.get(label) == value for label, value in _identity(build).items())


def binding(build: Build, platform: Platform) -> Manifest:
    """What gives builder its rights here."""
    return _object(
        build,
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        ROLE,
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ROLE},
        subjects=[{"kind": "ServiceAccount", "name": "builder", "namespace": platform.system_namespace}],
    )


def baseline(build: Build, platform: Platform) -> list[Manifest]:
    """Everything else, applied before every build: what somebody changed is as it was again."""
    limits = platform.limits
    pods = str(limits.per_project + 2)  # one that is going, one that is made anew
    return [
        _object(build, "v1", "ServiceAccount", SERVICE_ACCOUNT, automountServiceAccountToken=False),
        _object(
            build,
            "v1",
            "ResourceQuota",
            "builds",
            spec={
                "hard": {
                    "pods": pods,
                    "count/jobs.batch": "500",
                    "secrets": "500",
                    "configmaps": "2000",
                    "services": "0",
                    "persistentvolumeclaims": "0",
                    "count/deployments.apps": "0",
                    "count/statefulsets.apps": "0",
                    "count/cronjobs.batch": "0",
                    "count/ingresses.networking.k8s.io": "0",
                }
            },
        ),
        _object(
            build,
            "v1",
            "LimitRange",
            "builds",
            spec={
                "limits": [
                    {
                        "type": "Container",
                        "default": {"cpu": "500m", "memory": "512Mi", "ephemeral-storage": "1Gi"},
                        "defaultRequest": {"cpu": "100m", "memory": "64Mi", "ephemeral-storage": "256Mi"},
                        "max": {"cpu": limits.cpu, "memory": limits.memory, "ephemeral-storage": limits.disk},
                    }
                ]
            },
        ),
        *_network_policies(build, platform),
    ]


def _network_policies(build: Build, platform: Platform) -> list[Manifest]:
    """Nothing comes in. Out: DNS, the public web, and what the platform opened (registry, realm, forge)."""
    dns = _peer("kube-system", {"k8s-app": "kube-dns"})
    services = [_peer(platform.system_namespace, {"app.kubernetes.io/name": name}) for name in ("registry", "builder")]
    listed = [
        {"to": [{"ipBlock": {"cidr": opening.cidr}}], "ports": [_port(port) for port in opening.ports]}
        for opening in platform.openings
    ]
    web = [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": _closed(PRIVATE_V4, platform)}},
        {"ipBlock": {"cidr": "::/0", "except": _closed(PRIVATE_V6, platform)}},
    ]
    return [
        _policy(build, "default-deny", ["Ingress", "Egress"]),
        _policy(build, "allow-dns", ["Egress"], [{"to": [dns], "ports": [_port(53, "UDP"), _port(53)]}]),
        _policy(build, "allow-registry", ["Egress"], [{"to": services, "ports": [_port(5000), _port(8080)]}, *listed]),
        _policy(build, "allow-public-web", ["Egress"], [{"to": web, "ports": [_port(80), _port(443)]}]),
    ]


def _closed(always: tuple[str, ...], platform: Platform) -> list[str]:
    is_v6 = ":" in always[0]
    return list(dict.fromkeys((*always, *(net for net in platform.private_networks if (":" in net) == is_v6))))


def _peer(where: str, pods: Mapping[str, str]) -> dict[str, Any]:
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": where}},
        "podSelector": {"matchLabels": dict(pods)},
    }


def _port(port: int, protocol: str = "TCP") -> dict[str, Any]:
    return {"port": port, "protocol": protocol}


def _policy(build: Build, name: str, types: list[str], egress: list[dict[str, Any]] | None = None) -> Manifest:
    spec: dict[str, Any] = {"podSelector": {}, "policyTypes": types}
    if egress is not None:
        spec["egress"] = egress
    return _object(build, "networking.k8s.io/v1", "NetworkPolicy", name, spec=spec)


def _identity(build: Build) -> dict[str, str]:
    return {labels.TEAM: build.identity.team, labels.PROJECT: build.identity.project, labels.TRUST: build.trust}


def _object(build: Build, api_version: str, kind: str, name: str, **fields: Any) -> Manifest:
    metadata = {"name": name, "namespace": build.namespace, "labels": _identity(build)}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}
