"""decide_project(project, world, now): the namespace that holds a project's Environments, and who may read and
change them.

A Project that is deleted takes its development environments along, each by evidence recorded in that Environment. A
deployment environment (staging, production) is never deleted that way: it holds the Project until a person has
deleted it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from catalyst.env_controller.core import acceptance, admission, shares
from catalyst.env_controller.core.admission import NO_PAUSE, Pauses
from catalyst.env_controller.core.baseline import with_digest
from catalyst.env_controller.core.conditions import with_condition
from catalyst.env_controller.core.platform import Platform
from catalyst.env_controller.core.world import Observed, Patch, ProjectDecision, meant_for, object_key
from catalyst.model import access, labels
from catalyst.model.environment import Deletion, Environment
from catalyst.model.manifest import Manifest, Ref
from catalyst.model.names import project_namespace
from catalyst.model.project import Project, ProjectStatus
from catalyst.model.resource import NamespaceRef


@dataclass(frozen=True, slots=True)
class ProjectWorld:
    """`namespace`: whatever holds the project namespace's name; `environments`: all Environments in it."""

    platform: Platform
    grants: tuple[str, ...] | None = None
    namespace: Observed | None = None
    children: Mapping[str, Observed] = field(default_factory=dict)
    environments: tuple[Environment, ...] = ()
    pauses: Pauses = NO_PAUSE


def decide_project(project: Project, world: ProjectWorld, now: datetime) -> ProjectDecision:
    if project.metadata.deletion_timestamp:
        return _teardown(project, world, now)
    if labels.FINALIZER not in project.metadata.finalizers:
        return ProjectDecision(amend={"metadata": {"finalizers": [*project.metadata.finalizers, labels.FINALIZER]}})
    status = _said_paused(_judged(project, world, now), project, world, now)
    if not is_accepted(status):
        return ProjectDecision(status=status)
    wanted = _namespace(project)
    bindings = [with_digest(binding) for binding in _bindings(project, world.platform)]
    if world.namespace is None:
        return ProjectDecision(create=(wanted,), apply=tuple(bindings), status=status)
    if world.namespace.labels.get(labels.PROJECT_UID) != project.metadata.uid:
        message = (
            f"Namespace {world.namespace.ref.name} exists and does not belong to this Project "
            f"(label {labels.PROJECT_UID} is {world.namespace.labels.get(labels.PROJECT_UID)!r}): "
            "remove that namespace, or give the Project another name"
        )
        return ProjectDecision(status=_said(status, project, now, "Ready", False, "NamespaceTaken", message))
    if world.namespace.terminating:
        return ProjectDecision(
            status=_said(
                status,
                project,
                now,
                "Ready",
                False,
                "NamespaceTerminating",
                "Somebody deleted the namespace; it is made anew.",
            )
        )
    status = status.model_copy(
        update={"namespace": NamespaceRef(name=world.namespace.ref.name, uid=world.namespace.ref.uid)}
    )
    status = _said(
        status,
        project,
        now,
        "Ready",
        True,
        "Ready",
        f"Environments may be made in namespace {world.namespace.ref.name}.",
    )
    differing = (_difference(binding, world) for binding in bindings)
    return ProjectDecision(
        apply=tuple(meant for meant in differing if meant), delete=_left_over(project, bindings, world), status=status
    )


def is_accepted(status: ProjectStatus | None) -> bool:
    accepted = status.condition("Accepted") if status else None
    return accepted is not None and accepted.status == "True"


def _left_over(project: Project, bindings: list[Manifest], world: ProjectWorld) -> tuple[Ref, ...]:
    """Our right to read Secrets here, when none is shared any more."""
    wanted = {binding["metadata"]["name"] for binding in bindings}
    found = (seen for seen in world.children.values() if seen.ref.name == shares.BINDING not in wanted)
    return tuple(seen.ref for seen in found if seen.labels.get(labels.PROJECT_UID) == project.metadata.uid)


def _difference(binding: Manifest, world: ProjectWorld) -> Manifest | None:
    """The binding as it must be written: anew, or for the uid and resourceVersion of one that differs; else None."""
    found = world.children.get(object_key("RoleBinding", binding["metadata"]["namespace"], binding["metadata"]["name"]))
    if found is None:
        return binding
    is_current = found.applied == binding["metadata"]["annotations"][labels.APPLIED]
    return None if is_current and not found.is_drifted_from(binding) else meant_for(binding, found.ref)


def _judged(project: Project, world: ProjectWorld, now: datetime) -> ProjectStatus:
    status = (project.status or ProjectStatus()).model_copy(update={"observed_generation": project.metadata.generation})
    problem = acceptance.project_problem(project, world.grants, world.platform)
    if problem:
        status = _said(status, project, now, "Accepted", False, problem.reason, problem.message)
        return _said(status, project, now, "Ready", False, problem.reason, problem.message)
    status = _said(status, project, now, "Accepted", True, "Accepted", "Everything that was asked for is allowed.")
    fields = acceptance.unsupported_in_project(project)
    if fields:
        message = f"Not implemented yet, and without effect: {', '.join(fields)}. Everything else is done."
        return _said(status, project, now, "Supported", False, "NotImplemented", message)
    return _said(status, project, now, "Supported", True, "Supported", "Everything that was asked for is implemented.")


def _said_paused(status: ProjectStatus, project: Project, world: ProjectWorld, now: datetime) -> ProjectStatus:
    """`Paused` is there only while it is."""
    wait = admission.pause(project, world.pauses, world.platform.system_namespace)
    if wait:
        return _said(status, project, now, "Paused", True, wait.reason, wait.message)
    left = tuple(one for one in status.conditions if one.type != "Paused")
    return status.model_copy(update={"conditions": left}) if len(left) < len(status.conditions) else status


def _teardown(project: Project, world: ProjectWorld, now: datetime) -> ProjectDecision:
    if labels.FINALIZER not in project.metadata.finalizers:
        return ProjectDecision()
    status = (project.status or ProjectStatus()).model_copy(update={"observed_generation": project.metadata.generation})
    if world.environments:
        held = [env.metadata.name for env in world.environments if env.spec.type == "Deployment"]
        going = tuple(_evidence(env, project, now) for env in world.environments if _may_go(env))
        reason, message = (
            ("DeploymentEnvironments", f"Delete these deployment environments first: {', '.join(held)}")
            if held
            else ("RemovingEnvironments", f"Waiting for {len(world.environments)} environments to go.")
        )
        return ProjectDecision(patch=going, status=_said(status, project, now, "Ready", False, reason, message))
    own = _own_namespace(project, status, world)
    if own is None:
        return ProjectDecision(release=True)
    status = _said(
        status, project, now, "Ready", False, "RemovingNamespace", f"Namespace {own.ref.name} is being removed."
    )
    return ProjectDecision(delete=() if own.terminating else (own.ref,), status=status)


def _own_namespace(project: Project, status: ProjectStatus, world: ProjectWorld) -> Observed | None:
    """The recorded namespace, or the one that carries our uid label: a crash may have come before it was recorded."""
    found = world.namespace
    if found is None:
        return None
    recorded = status.namespace is not None and status.namespace.uid == found.ref.uid
    return found if recorded or found.labels.get(labels.PROJECT_UID) == project.metadata.uid else None


def _may_go(environment: Environment) -> bool:
    return (
        environment.spec.type == "Development"
        and not environment.spec.deletion
        and not environment.metadata.deletion_timestamp
    )


def _evidence(environment: Environment, project: Project, now: datetime) -> Patch:
    deletion = Deletion(
        reason="TriggerWithdrawn",
        at=now,
        evidence=f"Project {project.team}/{project.metadata.name} (uid {project.metadata.uid}) was deleted",
    )
    return Patch(
        environment.ref, {"spec": {"deletion": deletion.model_dump(mode="json", by_alias=True, exclude_none=True)}}
    )


def _namespace(project: Project) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": project_namespace(project.team, project.metadata.name), "labels": _labels(project)},
    }


def _bindings(project: Project, platform: Platform) -> list[Manifest]:
    found = [_readers(project), _owners(project)]
    if project.spec.secrets:
        namespace = project_namespace(project.team, project.metadata.name)
        found.append(shares.binding(namespace, _labels(project), shares.READER, platform.system_namespace))
    return found


def _readers(project: Project) -> Manifest:
    """Whoever has any role in the project may read its Environments."""
    return _binding(project, "catalyst-environment-readers", access.ENVIRONMENT_READER, access.ROLES)


def _owners(project: Project) -> Manifest:
    """Its owners may change and delete them; a policy keeps deployment environments from them."""
    return _binding(project, "catalyst-environment-owners", access.ENVIRONMENT_OWNER, ("owner",))


def _binding(project: Project, name: str, cluster_role: str, roles: tuple[access.Role, ...]) -> Manifest:
    api_group = "rbac.authorization.k8s.io"
    groups = [access.group(project.team, project.metadata.name, role) for role in roles]
    return {
        "apiVersion": f"{api_group}/v1",
        "kind": "RoleBinding",
        "metadata": {
            "name": name,
            "namespace": project_namespace(project.team, project.metadata.name),
            "labels": _labels(project),
        },
        "roleRef": {"apiGroup": api_group, "kind": "ClusterRole", "name": cluster_role},
        "subjects": [{"apiGroup": api_group, "kind": "Group", "name": group} for group in groups],
    }


def _labels(project: Project) -> dict[str, str]:
    return {
        labels.TEAM: project.team,
        labels.PROJECT: project.metadata.name,
        labels.PROJECT_UID: project.metadata.uid or "",
    }


def _said(
    status: ProjectStatus, project: Project, now: datetime, kind: str, holds: bool, reason: str, message: str
) -> ProjectStatus:
    generation = project.metadata.generation or 0
    conditions = with_condition(status.conditions, kind, holds, reason, message, generation=generation, now=now)
    return status.model_copy(update={"conditions": conditions})
