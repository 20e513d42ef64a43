"""Is what a resource asks for allowed, and is all of it implemented?

An unsafe wish is a `Problem`: `Accepted=False`, nothing is made. A wish that nothing implements yet is named in
`Supported=False`, and everything else is made all the same. Nothing is ignored in silence.
"""

import re
import shlex
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network, ip_network

from catalyst.env_controller.core.backing import ENGINES
from catalyst.env_controller.core.platform import Platform
from catalyst.model import labels
from catalyst.model.environment import Environment
from catalyst.model.names import is_name, project_namespace
from catalyst.model.project import Project

NEVER_OPEN = (
    "169.254.0.0/16",
    "127.0.0.0/8",
    "::1/128",
    "fe80::/10",
    "::ffff:0:0/96",
    "100.100.100.200/32",
    "fd00:ec2::254/128",
    "fd20:ce::254/128",
)
"""Link-local and loopback, IPv4 spelled as IPv6 (which would hide both), and the clouds' metadata services outside
link-local (Alibaba, AWS, Google): no Project may open these.
"""

FIXED_QUOTA = ("services.nodeports", "services.loadbalancers", "count/ingresses.networking.k8s.io")
"""The edge is the only door, so a Project cannot raise these above 0."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a resource is not accepted: a CamelCase reason, and a sentence that names the field, what was expected and
    the remedy. `remedy`: that of the platform's people as a command, where it is one.
    """

    reason: str
    message: str
    remedy: str = field(default="", compare=False)


def project_problem(project: Project, grants: tuple[str, ...] | None, platform: Platform) -> Problem | None:
    return (
        _bad_name("metadata.namespace", project.team)
        or _bad_name("metadata.name", project.metadata.name)
        or _not_granted(project, grants)
        or _unsafe_quota(project)
        or _unsafe_egress(project, platform)
    )


def refusal(project: Project, grants: tuple[str, ...] | None, platform: Platform) -> str | None:
    """Why this Project may not be used, or None."""
    problem = project_problem(project, grants, platform)
    return f"the Project is not accepted: {problem.message}" if problem else None


def environment_problem(
    environment: Environment, project: Project | None, grants: tuple[str, ...] | None, platform: Platform
) -> Problem | None:
    wanted = environment.spec.project_ref
    expected = project_namespace(wanted.team, wanted.name)
    if environment.metadata.namespace != expected:
        return Problem(
            "NamespaceMismatch",
            f"spec.projectRef names {wanted.team}/{wanted.name}, whose environments live in namespace {expected}, "
            f"not in {environment.metadata.namespace}: create this Environment there",
        )
    if name := _bad_name("metadata.name", environment.metadata.name):
        return name
    if project is None:
        return Problem(
            "ProjectNotFound",
            f"spec.projectRef: there is no Project {wanted.name} in namespace {wanted.team}: create it",
        )
    return project_problem(project, grants, platform)


def granted(annotation: str | None) -> tuple[str, ...] | None:
    """The patterns in the annotation of a team's namespace; None when it says nothing."""
    return tuple(re.split(r"[\s,]+", annotation.strip())) if annotation and annotation.strip() else None


def is_granted(forge: str, repository: str, grants: tuple[str, ...] | None) -> bool:
    """Patterns are `<forge>/<owner>/<name>`, each part a glob of its own: `github/acme*` grants nothing,
    `github/acme/*` all of acme.
    """
    wanted = f"{forge}/{repository}".lower().split("/")
    return any(_fits(wanted, pattern.lower().split("/")) for pattern in grants or ())


def _fits(wanted: list[str], pattern: list[str]) -> bool:
    return len(wanted) == len(pattern) == 3 and all(
        fnmatchcase(part, glob) for part, glob in zip(wanted, pattern, strict=True)
    )


def _bad_name(field: str, name: str) -> Problem | None:
    if is_name(name):
        return None
    return Problem(
        "InvalidName",
        f"{field}: {name!r} must be lower case letters, digits and single hyphens, at most 60, "
        "with a letter or digit at both ends: rename it",
    )


def _not_granted(project: Project, grants: tuple[str, ...] | None) -> Problem | None:
    source = project.spec.source
    if is_granted(source.forge, source.repository, grants):
        return None
    has = ", ".join(grants) if grants else "none"
    wanted = " ".join((*(grants or ()), f"{source.forge}/{source.repository}"))
    return Problem(
        "RepositoryNotGranted",
        f"spec.source.repository: {source.forge}/{source.repository} is not granted to team {project.team} "
        f"(granted: {has}); the platform's people grant it in the annotation {labels.REPOSITORIES} of "
        f"namespace {project.team}",
        f"kubectl annotate namespace {project.team} --overwrite {labels.REPOSITORIES}={shlex.quote(wanted)}",
    )


def _unsafe_quota(project: Project) -> Problem | None:
    for key in FIXED_QUOTA:
        if project.spec.development.quota.get(key, 0) not in (0, "0"):
            return Problem(
                "UnsafeQuota", f"spec.development.quota[{key}]: must stay 0, the edge is the only door: remove it"
            )
    return None


def _unsafe_egress(project: Project, platform: Platform) -> Problem | None:
    closed = [ip_network(cidr) for cidr in (*NEVER_OPEN, *platform.protected_networks)]
    for index, rule in enumerate(project.spec.development.egress):
        asked = ip_network(rule.cidr, strict=False)
        for network in closed:
            if _overlap(asked, network):
                return Problem(
                    "UnsafeEgress",
                    f"spec.development.egress[{index}].cidr: {rule.cidr} reaches {network}, which the platform keeps "
                    "closed: name a smaller network",
                )
    return None


def _overlap(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    if isinstance(one, IPv4Network) and isinstance(other, IPv4Network):
        return one.overlaps(other)
    if isinstance(one, IPv6Network) and isinstance(other, IPv6Network):
        return one.overlaps(other)
    return False


def unsupported_in_project(project: Project) -> list[str]:
    """Fields that are set and that nothing implements yet, as paths."""
    spec = project.spec
    wishes = {
        "spec.components[].development": any(component.development for component in spec.components),
        "spec.components[].expose.private": any(c.expose and c.expose.private for c in spec.components),
        "spec.services[].engine: s3": any(service.engine not in ENGINES for service in spec.services),
        "spec.services[].container": any(service.container is not None for service in spec.services),
        "spec.services[].credentialsRef": any(service.credentials_ref is not None for service in spec.services),
        "spec.services[].backup": any(service.backup is not None for service in spec.services),
        "spec.definition": spec.definition is not None,
        "spec.deployments": bool(spec.deployments),
        "spec.development.sleep": spec.development.sleep is not None,
        "spec.source.defaultBranch": spec.source.default_branch is not None,
        "spec.source.credentialsRef": spec.source.credentials_ref is not None,
        "spec.triggers.manual": not spec.triggers.manual,
        "spec.triggers.agents": not spec.triggers.agents,
    }
    return [path for path, wished in wishes.items() if wished]


def unsupported_in_environment(environment: Environment) -> list[str]:
    spec = environment.spec
    wishes = {
        "spec.type: Deployment": spec.type == "Deployment",
        "spec.desiredState: Sleeping": spec.desired_state == "Sleeping",
        "spec.approval": spec.approval is not None,
    }
    return [path for path, wished in wishes.items() if wished]
