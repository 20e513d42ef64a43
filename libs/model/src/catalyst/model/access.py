"""Who may do what inside an environment: the role table, as data.

```
                                                  observer    admin         owner
pods, services, claims, workloads, scaling, …     R           RW            RW
daemonsets, events, policies, quotas, …           R           R             R
the namespace itself, pods/log                    get         get           get
configmaps, secrets                               –           RW            RW
exec, attach, portforward                         –           get, create   get, create
ephemeralcontainers                               –           –             get, update, patch
eviction                                          –           create        create
serviceaccounts                                   –           R             R
```

Never Kubernetes' own view, edit and admin: `edit` mints tokens and deletes NetworkPolicies, `view` reads ConfigMaps.
What is not in the table (tokens, impersonation, proxies, nodes, roles, bindings, anything cluster-wide) nobody may do.
Observers write nothing at all: who may patch a Deployment may mount any Secret.
"""

from typing import Final, Literal

from catalyst.model import labels
from catalyst.model.manifest import Manifest
from catalyst.model.names import is_name

Role = Literal["observer", "admin", "owner"]
ROLES: Final[tuple[Role, ...]] = ("observer", "admin", "owner")

READ: Final = ("get", "list", "watch")
WRITE: Final = ("create", "update", "patch", "delete", "deletecollection")
_BOTH = READ + WRITE
_NONE: tuple[str, ...] = ()

# (API group, resources, verbs of observer, admin, owner). A scale has no list or watch, and is never made or deleted.
_Row = tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]
_WORKLOADS = ("deployments", "statefulsets", "replicasets")
_SCALE = ("get", "update", "patch")
TABLE: Final[tuple[_Row, ...]] = (
    ("", ("pods", "services", "persistentvolumeclaims"), READ, _BOTH, _BOTH),
    ("apps", _WORKLOADS, READ, _BOTH, _BOTH),
    ("apps", tuple(f"{workload}/scale" for workload in _WORKLOADS), ("get",), _SCALE, _SCALE),
    ("batch", ("jobs", "cronjobs"), READ, _BOTH, _BOTH),
    ("autoscaling", ("horizontalpodautoscalers",), READ, _BOTH, _BOTH),
    ("policy", ("poddisruptionbudgets",), READ, _BOTH, _BOTH),
    ("", ("events", "resourcequotas", "limitranges"), READ, READ, READ),
    ("apps", ("daemonsets",), READ, READ, READ),
    ("discovery.k8s.io", ("endpointslices",), READ, READ, READ),
    ("events.k8s.io", ("events",), READ, READ, READ),
    ("networking.k8s.io", ("ingresses", "networkpolicies"), READ, READ, READ),
    ("", ("namespaces",), ("get",), ("get",), ("get",)),
    ("", ("pods/log",), ("get",), ("get",), ("get",)),
    ("", ("configmaps", "secrets"), _NONE, _BOTH, _BOTH),
    ("", ("pods/exec", "pods/attach", "pods/portforward"), _NONE, ("get", "create"), ("get", "create")),
    ("", ("pods/ephemeralcontainers",), _NONE, _NONE, ("get", "update", "patch")),
    ("", ("pods/eviction",), _NONE, ("create",), ("create",)),
    ("", ("serviceaccounts",), _NONE, READ, READ),
)

ENVIRONMENT_READER: Final = "catalyst-environment-reader"
"""The ClusterRole that reads Environments, bound once in every project namespace to all of the project's people."""
ENVIRONMENT_OWNER: Final = "catalyst-environment-owner"
"""The ClusterRole that changes and deletes Environments, bound once in every project namespace to its owners. An
admission policy keeps deployment environments from everybody but the gateway."""


def cluster_role_name(role: Role) -> str:
    """The ClusterRole of a role: `catalyst-owner`."""
    return f"catalyst-{role}"


def group(team: str, project: str, role: Role) -> str:
    """The group of users that has this role in a project: `catalyst:acme:shop:owner`.

    Raises:
        ValueError: team or project is no name; such a text could forge another group.
    """
    if not is_name(team) or not is_name(project):
        raise ValueError(f"expected names of a team and a project, got {team!r} and {project!r}")
    return f"catalyst:{team}:{project}:{role}"


def cluster_roles() -> list[Manifest]:
    """The ClusterRoles; each is only ever bound inside one namespace."""
    return [
        *(_cluster_role(cluster_role_name(role), _rules(role)) for role in ROLES),
        _cluster_role(ENVIRONMENT_READER, [_rule(labels.GROUP, ("environments",), READ)]),
        _cluster_role(ENVIRONMENT_OWNER, [_rule(labels.GROUP, ("environments",), ("update", "patch", "delete"))]),
    ]


def _rules(role: Role) -> list[Manifest]:
    rows = ((api_group, resources, dict(zip(ROLES, verbs, strict=True))) for api_group, resources, *verbs in TABLE)
    return [_rule(api_group, resources, verbs[role]) for api_group, resources, verbs in rows if verbs[role]]


def _rule(api_group: str, resources: tuple[str, ...], verbs: tuple[str, ...]) -> Manifest:
    return {"apiGroups": [api_group], "resources": list(resources), "verbs": list(verbs)}


def _cluster_role(name: str, rules: list[Manifest]) -> Manifest:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": rules,
    }
