"""Curated Kubernetes types: who knows a Deployment knows a Project.

Names and meaning are Kubernetes' own. What is left out is left out on purpose: nothing here can reach the host, pick a
node, or raise privileges.
"""

from typing import Annotated, Literal

from pydantic import Field

from catalyst.model.fields import (
    AbsolutePath,
    EnvName,
    Image,
    IntOrString,
    Key,
    Name,
    ObjectName,
    Port,
    PortName,
    Quantity,
    RepositoryPath,
    UrlPath,
    cel,
    keyed,
    mapped,
    ruled,
)
from catalyst.model.resource import Spec

_RESOURCE_KEYS = cel(
    "self.all(key, key in ['cpu', 'memory', 'ephemeral-storage'] || key.contains('/'))",
    "resources are cpu, memory, ephemeral-storage, or an extended resource such as example.com/gpu",
)
_Arguments = Annotated[tuple[Annotated[str, Field(max_length=4096)], ...], Field(max_length=64)]


def exactly_one(*fields: str) -> str:
    """A CEL rule: one of these fields is set and no other."""
    return f"[{', '.join(f'has(self.{field})' for field in fields)}].filter(set, set).size() == 1"


def at_most_one(*fields: str) -> str:
    """A CEL rule: no two of these fields are set."""
    return f"[{', '.join(f'has(self.{field})' for field in fields)}].filter(set, set).size() <= 1"


class LocalRef(Spec):
    """A Kubernetes object in the same namespace."""

    name: ObjectName
    """The object's name."""


class KeyRef(Spec):
    """One key of a Secret or ConfigMap."""

    name: ObjectName
    """The Secret's or ConfigMap's name."""
    key: Key
    """The key whose value is taken."""
    optional: bool = False
    """Whether the container starts when the object or the key is missing."""


class EnvVarSource(Spec):
    """Where a variable's value comes from."""

    secret_key_ref: KeyRef | None = None
    """A key of a Secret."""
    config_map_key_ref: KeyRef | None = None
    """A key of a ConfigMap."""

    model_config = Spec.model_config | {
        "json_schema_extra": ruled(
            cel(
                exactly_one("secretKeyRef", "configMapKeyRef"),
                "valueFrom needs exactly one of secretKeyRef and configMapKeyRef",
            )
        )
    }


class EnvVar(Spec):
    """One environment variable."""

    name: EnvName
    """The variable's name."""
    value: Annotated[str, Field(max_length=32768)] | None = None
    """The value itself; not for secrets."""
    value_from: EnvVarSource | None = None
    """Where the value comes from, instead of value."""

    model_config = Spec.model_config | {
        "json_schema_extra": ruled(cel(at_most_one("value", "valueFrom"), "set value or valueFrom, not both"))
    }


class EnvSource(Spec):
    """Many variables at once."""

    name: ObjectName
    """The Secret's or ConfigMap's name."""
    optional: bool = False
    """Whether the container starts when the object is missing."""


class EnvFromSource(Spec):
    """A Secret or ConfigMap whose keys all become variables."""

    prefix: Annotated[str, Field(max_length=128, pattern="^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """Put before every key."""
    config_map_ref: EnvSource | None = None
    """A ConfigMap."""
    secret_ref: EnvSource | None = None
    """A Secret."""

    model_config = Spec.model_config | {
        "json_schema_extra": ruled(
            cel(exactly_one("configMapRef", "secretRef"), "envFrom needs exactly one of configMapRef and secretRef")
        )
    }


class ContainerPort(Spec):
    """A port the container listens on."""

    name: PortName | None = None
    """A name to refer to, such as http."""
    container_port: Port
    """The port's number."""
    protocol: Literal["TCP", "UDP"] = "TCP"
    """The transport protocol."""


class ResourceRequirements(Spec):
    """What a container is promised and may use."""

    requests: dict[str, Quantity] = mapped(16, _RESOURCE_KEYS)
    """Promised amounts by resource, such as cpu: 100m."""
    limits: dict[str, Quantity] = mapped(16, _RESOURCE_KEYS)
    """Upper bounds by resource, such as memory: 512Mi."""


class HttpHeader(Spec):
    """One header of a probe's request."""

    name: Annotated[str, Field(max_length=128, pattern="^[-A-Za-z0-9]+$")]
    """The header's name."""
    value: Annotated[str, Field(max_length=1024)]
    """The header's value."""


class HttpGetAction(Spec):
    """A probe by an HTTP request."""

    path: UrlPath = "/"
    """The path asked for."""
    port: IntOrString
    """The port's number or name."""
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"
    """How to ask."""
    http_headers: Annotated[tuple[HttpHeader, ...], Field(max_length=16)] = ()
    """Headers to send."""


class TcpSocketAction(Spec):
    """A probe by opening a connection."""

    port: IntOrString
    """The port's number or name."""


class GrpcAction(Spec):
    """A probe by gRPC's health protocol."""

    port: Port
    """The port's number."""
    service: Annotated[str, Field(max_length=253)] | None = None
    """The service asked about."""


class ExecAction(Spec):
    """A probe by a command; exit status 0 means well."""

    command: Annotated[_Arguments, Field(min_length=1)]
    """The command and its arguments, without a shell."""


class Probe(Spec):
    """A question asked again and again: are you alive, ready, started?"""

    http_get: HttpGetAction | None = None
    """Ask by HTTP."""
    tcp_socket: TcpSocketAction | None = None
    """Ask by opening a connection."""
    grpc: GrpcAction | None = None
    """Ask by gRPC."""
    exec: ExecAction | None = None
    """Ask by a command."""
    initial_delay_seconds: Annotated[int, Field(ge=0, le=3600)] | None = None
    """Wait this long before the first question."""
    period_seconds: Annotated[int, Field(ge=1, le=3600)] | None = None
    """How often to ask."""
    timeout_seconds: Annotated[int, Field(ge=1, le=3600)] | None = None
    """How long to wait for an answer."""
    success_threshold: Annotated[int, Field(ge=1, le=100)] | None = None
    """Good answers in a row that count as well."""
    failure_threshold: Annotated[int, Field(ge=1, le=10000)] | None = None
    """Bad answers in a row that count as failed."""

    model_config = Spec.model_config | {
        "json_schema_extra": ruled(
            cel(
                exactly_one("httpGet", "tcpSocket", "grpc", "exec"),
                "a probe needs exactly one of httpGet, tcpSocket, grpc and exec",
            )
        )
    }


class VolumeMount(Spec):
    """Where a volume appears in the container."""

    name: Name
    """The volume's name, as in volumes[].name."""
    mount_path: AbsolutePath
    """Where it appears."""
    sub_path: RepositoryPath | None = None
    """Only this folder of the volume."""
    read_only: bool = False
    """Whether the container may only read it."""


class ContainerSettings(Spec):
    """What components, init containers and services share; the names are those of a Kubernetes container."""

    command: _Arguments = ()
    """Instead of the image's entry point."""
    args: _Arguments = ()
    """Arguments to the entry point."""
    working_dir: AbsolutePath | None = None
    """The folder the command starts in."""
    env: tuple[EnvVar, ...] = keyed("name", max_items=128)
    """Environment variables."""
    env_from: Annotated[tuple[EnvFromSource, ...], Field(max_length=16)] = ()
    """Secrets and ConfigMaps whose keys all become variables."""
    resources: ResourceRequirements | None = None
    """What the container is promised and may use."""
    volume_mounts: tuple[VolumeMount, ...] = keyed("mountPath", max_items=16)
    """Where volumes appear."""


class InitContainer(ContainerSettings):
    """Runs to its end before the component starts."""

    name: Name
    """Unique within the component."""
    image: Image | None = None
    """Its image; without one, the component's own."""


class EmptyDir(Spec):
    """An empty folder that lives as long as the pod."""

    size_limit: Quantity | None = None
    """The most it may hold."""


class VolumeClaim(Spec):
    """A disk that lives as long as the environment."""

    size: Quantity
    """How much it holds, such as 5Gi."""
    storage_class_name: ObjectName | None = None
    """The kind of disk; without it, the cluster's default."""


class Volume(Spec):
    """Something to mount."""

    name: Name
    """Unique within the component."""
    empty_dir: EmptyDir | None = None
    """An empty folder."""
    persistent_volume_claim: VolumeClaim | None = None
    """A disk of the environment's own."""
    config_map: LocalRef | None = None
    """The keys of a ConfigMap as files."""
    secret: LocalRef | None = None
    """The keys of a Secret as files."""

    model_config = Spec.model_config | {
        "json_schema_extra": ruled(
            cel(
                exactly_one("emptyDir", "persistentVolumeClaim", "configMap", "secret"),
                "a volume needs exactly one of emptyDir, persistentVolumeClaim, configMap and secret",
            )
        )
    }
