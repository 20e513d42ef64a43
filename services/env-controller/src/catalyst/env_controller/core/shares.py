"""Which Secrets a Project shares with an environment, what they are called there, and who may read and write them.

    team's namespace        <team>                      Secret <name>   weakest
    project's               <team>--<project>           Secret <name>
    the environment's own   <team>--<project>--<env>    Secret <name>   strongest; its owners make it
         └─ merged by key ─▶ Secret catalyst-shared.<name> in the workload namespace ─▶ envFrom of every container

No service and no component can have a dot in its name, and a policy keeps everybody else from Secrets that are named
`catalyst-…`; so a copy's name is never taken.
"""

from typing import Final

from catalyst.model.environment import Environment
from catalyst.model.manifest import Manifest
from catalyst.model.project import Project

PREFIX: Final = "catalyst-shared."
BINDING: Final = "catalyst-shared-secrets"
READER: Final = "catalyst-shared-secrets"
"""The ClusterRole that reads one Secret by its name: bound in project namespaces by us, in a team's by the platform."""
KEEPER: Final = "catalyst-shared-secret-copies"
"""The ClusterRole that keeps the copies, bound in the workload namespaces that have some."""
ACCOUNT: Final = "env-controller"


def shares(project: Project, environment: Environment) -> tuple[str, ...]:
    """The names of the Secrets that this environment gets, in the Project's order."""
    return tuple(
        secret.name
        for secret in project.spec.secrets
        if environment.spec.type in secret.types and (secret.forks or not is_fork(environment))
    )


def withheld(project: Project, environment: Environment) -> tuple[str, ...]:
    """The names of those that the Project shares, but not with this one."""
    given = shares(project, environment)
    return tuple(secret.name for secret in project.spec.secrets if secret.name not in given)


def is_fork(environment: Environment) -> bool:
    pull_request = environment.spec.source.pull_request
    return pull_request is not None and pull_request.fork


def copy_name(name: str) -> str:
    return f"{PREFIX}{name}"


def binding(namespace: str, labels: dict[str, str], cluster_role: str, system_namespace: str) -> Manifest:
    """env-controller itself may read, or keep, Secrets in this namespace."""
    api_group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{api_group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": BINDING, "namespace": namespace, "labels": labels},
        "roleRef": {"apiGroup": api_group, "kind": "ClusterRole", "name": cluster_role},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": system_namespace}],
    }
