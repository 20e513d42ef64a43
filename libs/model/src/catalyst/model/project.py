"""Project: what a team wants environments of, and how. Lives in the team's namespace."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from catalyst.model.containers import (
    ContainerPort,
    ContainerSettings,
    InitContainer,
    LocalRef,
    Probe,
    Volume,
    VolumeClaim,
    exactly_one,
)
from catalyst.model.fields import (
    VARIABLE_KEYS,
    AbsolutePath,
    Cidr,
    Duration,
    EnvName,
    GitRef,
    Image,
    Name,
    Port,
    Quantity,
    RefPattern,
    Repository,
    RepositoryPath,
    UrlPath,
    cel,
    keyed,
    mapped,
    ruled,
    unique,
)
from catalyst.model.resource import Condition, NamespaceRef, Resource, Spec, Status

_QUOTA_KEYS = cel(
    "self.all(key, key.matches('^((requests|limits)[.](cpu|memory|ephemeral-storage)|requests[.]storage|pods|services|"
    "services[.](nodeports|loadbalancers)|secrets|configmaps|persistentvolumeclaims|count/[a-z0-9.-]+)$'))",
    "quota keys are those of a ResourceQuota, such as requests.cpu, limits.memory, pods or count/jobs.batch",
)
_LIMIT_KEYS = cel(
    "self.all(key, key in ['cpu', 'memory', 'ephemeral-storage'])",
    "limits are by resource: cpu, memory or ephemeral-storage",
)
_LabelText = Annotated[str, Field(max_length=100, min_length=1)]


class Source(Spec):
    """Where the code is."""

    forge: Literal["github"] = "github"
    """Which forge."""
    repository: Repository
    """The repository as owner/name, without regard to case."""
    default_branch: GitRef | None = None
    """The branch that pull requests usually aim at; without it, the forge's own setting."""
    credentials_ref: LocalRef | None = None
    """A Secret with the forge's credentials; without it, those of the installation."""


class LabelFilter(Spec):
    """Which pull requests, by their labels."""

    require: Annotated[tuple[_LabelText, ...], unique(32)] = ()
    """All of these must be set."""
    exclude: Annotated[tuple[_LabelText, ...], unique(32)] = ()
    """None of these may be set."""


class PullRequestTrigger(Spec):
    """Which pull requests get an environment by themselves."""

    enabled: bool = True
    """Whether any do."""
    drafts: bool = False
    """Whether drafts do."""
    forks: Literal["Approval", "Always", "Never"] = "Approval"
    """Pull requests from forks: after approval of each commit, always, or never."""
    labels: LabelFilter = LabelFilter()
    """Only with, or without, these labels."""
    base_branches: Annotated[tuple[RefPattern, ...], unique(32)] = ()
    """Only those that aim at a branch matching one of these patterns; empty means every branch."""


class BranchTrigger(Spec):
    """Branches that get an environment by themselves."""

    pattern: RefPattern
    """A glob over branch names, such as release/*."""


class Triggers(Spec):
    """What makes an environment appear."""

    pull_requests: PullRequestTrigger = PullRequestTrigger()
    """Pull requests."""
    branches: tuple[BranchTrigger, ...] = keyed("pattern", max_items=32)
    """Branches."""
    manual: bool = True
    """Whether people may ask for one."""
    agents: bool = True
    """Whether AI agents may ask for one."""


class Build(Spec):
    """How an image is built from the repository."""

    context: RepositoryPath = "."
    """The folder sent to the build."""
    dockerfile: RepositoryPath = "Dockerfile"
    """The Dockerfile, from the repository's root."""
    target: Annotated[str, Field(max_length=128, pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = None
    """The stage to build; without it, the last."""
    args: dict[EnvName, Annotated[str, Field(max_length=4096)]] = mapped(64, VARIABLE_KEYS)
    """Build arguments; not for secrets."""


class Expose(Spec):
    """A public URL for a component."""

    port: Port
    """The port that answers HTTP."""
    path: UrlPath = "/"
    """The path a visitor is sent to first."""
    private: bool = False
    """Whether visitors must sign in."""


class DevelopmentMode(Spec):
    """How a component runs while somebody works in it: source in a volume, reloading on change."""

    command: Annotated[tuple[Annotated[str, Field(max_length=4096)], ...], Field(max_length=64, min_length=1)]
    """The command that reloads on change."""
    source_path: AbsolutePath
    """Where the source appears in the container."""


class Component(ContainerSettings):
    """One part of the project that runs: an image, built or given, as a container."""

    name: Name
    """Unique within the project."""
    build: Build | None = None
    """Build the image from the repository; either this or image."""
    image: Image | None = None
    """An existing image; either this or build."""
    replicas: Annotated[int, Field(ge=0, le=50)] = 1
    """How many pods."""
    ports: tuple[ContainerPort, ...] = keyed("containerPort", "protocol", max_items=16)
    """Ports the container listens on."""
    liveness_probe: Probe | None = None
    """When it fails, the container is restarted."""
    readiness_probe: Probe | None = None
    """While it fails, no traffic arrives. Not asked before the third second: until then neighbours may be refused."""
    startup_probe: Probe | None = None
    """The other probes wait for it."""
    init_containers: tuple[InitContainer, ...] = keyed("name", max_items=8)
    """Run to their end, one after the other, before the component starts."""
    volumes: tuple[Volume, ...] = keyed("name", max_items=16)
    """What its containers may mount."""
    expose: Expose | None = None
    """A public URL; the first exposed component gets the environment's own host."""
    depends_on: Annotated[tuple[Name, ...], unique(16)] = ()
    """Components and services that must be ready first."""
    development: DevelopmentMode | None = None
    """How it runs while somebody works in it."""

    model_config = Spec.model_config | {
        "json_schema_extra": ruled(
            cel(exactly_one("build", "image"), "a component needs exactly one of build and image"),
            cel(
                "!has(self.volumeMounts) || self.volumeMounts.all(mount, "
                "has(self.volumes) && self.volumes.exists(volume, volume.name == mount.name))",
                "every volumeMounts[].name must be the name of one of volumes",
            ),
        )
    }


class Backup(Spec):
    """Backups of a service's data."""

    every: Duration = "24h"
    """How often."""
    keep: Annotated[int, Field(ge=1, le=365)] = 7
    """How many."""


class ServiceContainer(ContainerSettings):
    """Overrides for a service's container."""

    image: Image | None = None
    """Instead of the engine's image."""


class Service(Spec):
    """A database, cache or object store beside the components."""

    name: Name
    """Unique among components and services; its host name inside the environment."""
    engine: Literal["postgres", "redis", "s3"]
    """What it is."""
    version: Annotated[str, Field(max_length=32, pattern="^[0-9A-Za-z][0-9A-Za-z._-]*$")] | None = None
    """Which version; without it, the platform's default."""
    container: ServiceContainer | None = None
    """Overrides for its container."""
    storage: VolumeClaim | None = None
    """Its disk, which lives as long as the service; without it, one of 1Gi."""
    credentials_ref: LocalRef | None = None
    """The Secret that receives its credentials; without it, the service's name with `-credentials` behind it."""
    backup: Backup | None = None
    """Backups of its data."""


class SharedSecret(Spec):
    """A Secret of the team, the project or the environment that its components receive."""

    name: Annotated[str, Field(max_length=200, min_length=1, pattern="^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]
    """The Secret's name, in the team's namespace, the project's, or the environment's own; of two with one key the
    later of these counts. Its keys become variables of every container."""
    types: Annotated[tuple[Literal["Development", "Deployment"], ...], unique(2)] = ("Development", "Deployment")
    """Which kinds of environment receive it."""
    forks: bool = False
    """Whether environments of pull requests from forks receive it."""


class Helm(Spec):
    """A chart in the repository."""

    chart: RepositoryPath
    """The chart's folder."""
    values_files: Annotated[tuple[RepositoryPath, ...], Field(max_length=16)] = ()
    """Values files, later ones winning."""
    values: dict[Annotated[str, Field(max_length=253)], Annotated[str, Field(max_length=4096)]] = mapped(128)
    """Single values by dotted path, as in helm's --set-string."""


class Manifests(Spec):
    """Kubernetes manifests in the repository."""

    paths: Annotated[tuple[RepositoryPath, ...], Field(max_length=32, min_length=1)]
    """Files and folders, applied in order."""
    kustomize: bool = False
    """Whether the folders are kustomizations."""


class Definition(Spec):
    """A definition kept in the repository, instead of components."""

    compose: RepositoryPath | None = None
    """A compose file."""
    devcontainer: RepositoryPath | None = None
    """A devcontainer.json."""
    helm: Helm | None = None
    """A chart."""
    manifests: Manifests | None = None
    """Manifests."""

    model_config = Spec.model_config | {
        "json_schema_extra": ruled(
            cel(
                exactly_one("compose", "devcontainer", "helm", "manifests"),
                "a definition needs exactly one of compose, devcontainer, helm and manifests",
            )
        )
    }


class Limits(Spec):
    """What a container gets when it does not say, and the most it may ask for; as in a LimitRange."""

    default: dict[str, Quantity] = mapped(8, _LIMIT_KEYS)
    """Limits of a container that names none."""
    default_request: dict[str, Quantity] = mapped(8, _LIMIT_KEYS)
    """Requests of a container that names none."""
    max: dict[str, Quantity] = mapped(8, _LIMIT_KEYS)
    """The most a container may ask for."""
    max_persistent_volume_claim: Quantity | None = None
    """The largest disk."""


class EgressPort(Spec):
    """A port that may be reached."""

    port: Port
    """The port's number."""
    protocol: Literal["TCP", "UDP"] = "TCP"
    """The transport protocol."""


class Egress(Spec):
    """A network that environments may reach besides the public web."""

    cidr: Cidr
    """The network, such as 203.0.113.0/24."""
    ports: tuple[EgressPort, ...] = keyed("port", "protocol", max_items=16)
    """Only these ports; empty means every port."""


class Sleep(Spec):
    """When an idle environment goes to sleep."""

    after: Duration
    """After this long without a visitor."""


class Development(Spec):
    """Settings of development environments."""

    quota: dict[str, Quantity] = mapped(32, _QUOTA_KEYS)
    """Overrides of the ResourceQuota, by Kubernetes' own keys such as requests.cpu or pods."""
    limits: Limits = Limits()
    """Overrides of the LimitRange."""
    egress: tuple[Egress, ...] = keyed("cidr", max_items=32)
    """Networks that may be reached besides the public web."""
    ttl: Duration | None = None
    """How long an environment lives after it was last wanted; without it, until it is closed."""
    sleep: Sleep | None = None
    """When an idle environment goes to sleep; without it, never."""


class Approval(Spec):
    """Who must agree before a deployment changes."""

    required: Annotated[int, Field(ge=0, le=10)] = 1
    """How many people."""
    approvers: Annotated[tuple[Annotated[str, Field(max_length=253, min_length=1)], ...], unique(64)] = ()
    """Users and groups who may; empty means the deployment's admins."""
    checks: Annotated[tuple[Annotated[str, Field(max_length=253, min_length=1)], ...], unique(32)] = ()
    """Checks of the forge that must have passed."""


class Deployment(Spec):
    """A long-lived environment such as staging or production."""

    name: Name
    """The environment's name."""
    branch: GitRef | None = None
    """Updated when this branch moves."""
    release: RefPattern | None = None
    """Updated when a release with a matching tag is published."""
    promote_from: Name | None = None
    """Takes the images of this deployment instead of building."""
    approval: Approval | None = None
    """Who must agree first; without it, nobody."""

    model_config = Spec.model_config | {
        "json_schema_extra": ruled(
            cel(
                exactly_one("branch", "release", "promoteFrom"),
                "a deployment needs exactly one of branch, release and promoteFrom",
            ),
            cel("!self.name.matches('^pr-[0-9]+$')", "a deployment may not be named like a pull request's environment"),
        )
    }


class ProjectSpec(Spec):
    """What the team wants."""

    source: Source
    """Where the code is."""
    triggers: Triggers = Triggers()
    """What makes an environment appear."""
    components: tuple[Component, ...] = keyed("name", max_items=32)
    """The parts that run."""
    services: tuple[Service, ...] = keyed("name", max_items=16)
    """Databases, caches and object stores beside them."""
    definition: Definition | None = None
    """A definition kept in the repository, instead of components."""
    secrets: tuple[SharedSecret, ...] = keyed("name", max_items=32)
    """Secrets that environments receive."""
    development: Development = Development()
    """Settings of development environments."""
    deployments: tuple[Deployment, ...] = keyed("name", max_items=16)
    """Long-lived environments."""
    paused: bool = False
    """While true, nothing new is made, built or updated, and waits; what runs goes on, and closing still removes."""

    model_config = Spec.model_config | {
        "json_schema_extra": ruled(
            cel(
                "!has(self.components) || !has(self.services) || self.services.all(service, "
                "!self.components.exists(component, component.name == service.name))",
                "a service may not have the name of a component",
            ),
            cel(
                "!has(self.components) || self.components.all(component, !has(component.dependsOn) || "
                "component.dependsOn.all(name, self.components.exists(other, other.name == name) || "
                "(has(self.services) && self.services.exists(service, service.name == name))))",
                "every components[].dependsOn must be the name of a component or service",
            ),
            cel(
                "!has(self.deployments) || self.deployments.all(deployment, !has(deployment.promoteFrom) || "
                "self.deployments.exists(other, other != deployment && other.name == deployment.promoteFrom))",
                "every deployments[].promoteFrom must be the name of another deployment",
            ),
        )
    }


class ProjectStatus(Status):
    """What env-controller found."""

    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """The metadata.generation this status speaks of."""
    conditions: tuple[Condition, ...] = keyed("type", max_items=32)
    """Accepted: whether the project may be used. Supported: whether everything it asks for is implemented."""
    namespace: NamespaceRef | None = None
    """The namespace that holds the project's Environments."""

    def condition(self, type_: str) -> Condition | None:
        """The condition of that type, if there is one."""
        return next((condition for condition in self.conditions if condition.type == type_), None)


class Project(Resource):
    """What a team wants environments of, and how."""

    KIND: ClassVar[str] = "Project"

    kind: Literal["Project"] = "Project"
    spec: ProjectSpec
    """What the team wants."""
    status: ProjectStatus | None = None
    """What env-controller found."""

    @property
    def team(self) -> str:
        """The team: the name of the Project's namespace, "" when it has none."""
        return self.metadata.namespace or ""
