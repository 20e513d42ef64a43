"""Where each kind lives on the API server. Pure values: no discovery request is ever made."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


class UnknownResource(LookupError):
    """A manifest names an apiVersion and kind that this library has no path for."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind as the API server serves it, such as `Resource("apps/v1", "Deployment", "deployments", True)`."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """`/api/v1/namespaces/a/secrets/b`. Without a namespace: the collection over all namespaces.

        Raises ValueError when an object of a namespaced kind is named without its namespace, or a segment could leave
        the path.
        """
        group = "/api/" if "/" not in self.api_version else "/apis/"
        parts = [group + self.api_version]
        if self.namespaced and namespace:
            parts += ["namespaces", _segment("namespace", namespace)]
        parts.append(self.plural)
        if name is not None:
            if self.namespaced and not namespace:
                raise ValueError(f"{self.kind} {name!r}: expected a namespace, got none; set metadata.namespace")
            parts.append(_segment("name", name))
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


def _segment(field: str, value: str) -> str:
    if value in ("", ".", "..") or "/" in value or "%" in value:
        raise ValueError(f"metadata.{field} {value!r}: expected a Kubernetes name without '/' or '%', not '.' or '..'")
    return quote(value, safe=":")


NAMESPACE = Resource("v1", "Namespace", "namespaces", False)
RESOURCE_QUOTA = Resource("v1", "ResourceQuota", "resourcequotas", True)
LIMIT_RANGE = Resource("v1", "LimitRange", "limitranges", True)
SERVICE_ACCOUNT = Resource("v1", "ServiceAccount", "serviceaccounts", True)
SECRET = Resource("v1", "Secret", "secrets", True)
CONFIG_MAP = Resource("v1", "ConfigMap", "configmaps", True)
SERVICE = Resource("v1", "Service", "services", True)
POD = Resource("v1", "Pod", "pods", True)
NODE = Resource("v1", "Node", "nodes", False)
CORE_EVENT = Resource("v1", "Event", "events", True)
PERSISTENT_VOLUME_CLAIM = Resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims", True)
DEPLOYMENT = Resource("apps/v1", "Deployment", "deployments", True)
STATEFUL_SET = Resource("apps/v1", "StatefulSet", "statefulsets", True)
DAEMON_SET = Resource("apps/v1", "DaemonSet", "daemonsets", True)
REPLICA_SET = Resource("apps/v1", "ReplicaSet", "replicasets", True)
JOB = Resource("batch/v1", "Job", "jobs", True)
CRON_JOB = Resource("batch/v1", "CronJob", "cronjobs", True)
AUTOSCALER = Resource("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", True)
DISRUPTION_BUDGET = Resource("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", True)
NETWORK_POLICY = Resource("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", True)
INGRESS = Resource("networking.k8s.io/v1", "Ingress", "ingresses", True)
ENDPOINT_SLICE = Resource("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", True)
ROLE = Resource("rbac.authorization.k8s.io/v1", "Role", "roles", True)
ROLE_BINDING = Resource("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings", True)
CLUSTER_ROLE = Resource("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", False)
CLUSTER_ROLE_BINDING = Resource("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", False)
STORAGE_CLASS = Resource("storage.k8s.io/v1", "StorageClass", "storageclasses", False)
LEASE = Resource("coordination.k8s.io/v1", "Lease", "leases", True)
CUSTOM_RESOURCE_DEFINITION = Resource(
    "apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", False
)
ADMISSION_POLICY = Resource(
    "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", False
)
ADMISSION_POLICY_BINDING = Resource(
    "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", False
)
FLOW_SCHEMA = Resource("flowcontrol.apiserver.k8s.io/v1", "FlowSchema", "flowschemas", False)
PRIORITY_LEVEL = Resource(
    "flowcontrol.apiserver.k8s.io/v1", "PriorityLevelConfiguration", "prioritylevelconfigurations", False
)
PROJECT = Resource("catalyst.dev/v1alpha1", "Project", "projects", True)
ENVIRONMENT = Resource("catalyst.dev/v1alpha1", "Environment", "environments", True)

RESOURCES: dict[tuple[str, str], Resource] = {
    (resource.api_version, resource.kind): resource
    for resource in list(globals().values())
    if isinstance(resource, Resource)
}


def resource_of(api_version: str, kind: str) -> Resource:
    """The resource that serves this apiVersion and kind. Raises UnknownResource, naming both."""
    try:
        return RESOURCES[api_version, kind]
    except KeyError:
        raise UnknownResource(
            f"apiVersion {api_version!r}, kind {kind!r}: expected one of catalyst.kube.resources.RESOURCES"
        ) from None
