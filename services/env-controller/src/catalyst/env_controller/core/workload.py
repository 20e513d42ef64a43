"""The objects of one component: Deployment, Service, volume claims. One small maker each.

What the Project declares goes through as it is. Ours are: who may reach the pod (labels), what it may do (no token, a
user namespace, no privilege), where it is (CATALYST_* and PORT), and that the old version serves until the new one is
ready.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel

from catalyst.env_controller.core.baseline import Subject, with_digest
from catalyst.env_controller.core.components import DEFAULT_PORT, Part
from catalyst.model import labels
from catalyst.model.environment import BuildAnswer
from catalyst.model.manifest import Manifest

PULL_SECRET: Final = "catalyst-pull"  # noqa: S105 - a name
KINDS: Final = frozenset({"Deployment", "Service", "PersistentVolumeClaim", "StatefulSet"})
"""What runs in an environment; everything else in it is its baseline."""
RUNS: Final = frozenset({"Deployment", "StatefulSet"})
"""Those of them that have pods."""
ONCE: Final = frozenset({"PersistentVolumeClaim"})
"""Kinds that are made and never changed: Kubernetes lets nobody change them."""
PROGRESS_SECONDS: Final = 300
DRAIN_SECONDS: Final = 3
"""A pod that goes serves this long, until the edge and its neighbours have noticed."""
SETTLE_SECONDS: Final = 2
"""A pod that is new answers this long before anybody is sent to it: firewalls learn its address about a second after
the kubelet does, and until then its neighbours are refused.
"""


@dataclass(frozen=True, slots=True)
class Image:
    """What is to run. `user` as the image says it, None when that is unknown or root."""

    reference: str
    digest: str | None = None
    ports: tuple[int, ...] = ()
    user: str | None = None
    commit: str | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """What all components of an environment are told. `services`: variables from its services, for every component.
    `secrets`: by the name of a shared Secret, that of its copy; `secrets_version`: another one when a value may be.
    """

    url: str | None = None
    services: Sequence[Manifest] = ()
    secrets: Mapping[str, str] = field(default_factory=dict)
    secrets_version: str | None = None


def built_image(subject: Subject, part: Part, answer: BuildAnswer) -> Image:
    """Where builder puts it is a rule, so that no event can make us run an image from elsewhere."""
    source = subject.environment.spec.source
    fork = source.pull_request is not None and source.pull_request.fork
    path = f"{subject.identity.team}/{subject.identity.project}/{'forks/' if fork else ''}{part.name}"
    reference = f"{subject.platform.registry}/{path}@{answer.digest}"
    return Image(reference, answer.digest, answer.ports, answer.user, source.commit)


def given_image(part: Part) -> Image:
    reference = part.component.image or ""
    _, at, digest = reference.partition("@")
    return Image(reference, digest if at and digest.startswith("sha256:") and len(digest) == 71 else None)


def ports(part: Part, image: Image) -> tuple[tuple[int, str, str | None], ...]:
    """(number, protocol, name) of what it listens on, the exposed one first: declared, else what its image exposes."""
    component = part.component
    declared = [(port.container_port, port.protocol, port.name) for port in component.ports]
    if not declared:
        declared = [(number, "TCP", None) for number in image.ports]
    first = component.expose.port if component.expose else None
    if first is not None and (first, "TCP") not in [(number, protocol) for number, protocol, _ in declared]:
        declared = [(first, "TCP", None), *(declared if component.ports else ())]
    if not declared and part.is_default:
        declared = [(DEFAULT_PORT, "TCP", None)]
    found: list[tuple[int, str, str | None]] = [*declared]
    found.sort(key=lambda port: (port[0], port[1]) != (first, "TCP"))
    return tuple(found)


def port(part: Part, image: Image) -> int | None:
    """Where the edge finds it, and what PORT says."""
    return next((number for number, protocol, _ in ports(part, image) if protocol == "TCP"), None)


def manifests(subject: Subject, part: Part, image: Image, given: Given) -> list[Manifest]:
    found = [*claims(subject, part), deployment(subject, part, image, given)]
    if ports(part, image):
        found.append(service(subject, part, image))
    return [with_digest(manifest) for manifest in found]


def deployment(subject: Subject, part: Part, image: Image, given: Given) -> Manifest:
    component = part.component
    marks = {**subject.labels, labels.COMPONENT: part.name, **({labels.EXPOSED: "true"} if part.is_exposed else {})}
    notes = {"annotations": {labels.SECRETS: given.secrets_version}} if given.secrets_version else {}
    return _object(
        subject,
        part,
        "apps/v1",
        "Deployment",
        part.name,
        {
            "replicas": component.replicas,
            "revisionHistoryLimit": 2,
            "progressDeadlineSeconds": PROGRESS_SECONDS,
            "selector": {"matchLabels": {labels.COMPONENT: part.name}},
            "strategy": _strategy(part),
            "template": {"metadata": {"labels": marks, **notes}, "spec": _pod(subject, part, image, given)},
        },
    )


def service(subject: Subject, part: Part, image: Image) -> Manifest:
    listed = [
        {
            "name": name or f"{protocol.lower()}-{number}",
            "port": number,
            "targetPort": number,
            "protocol": protocol,
        }
        for number, protocol, name in ports(part, image)
    ]
    return _object(
        subject, part, "v1", "Service", part.name, {"selector": {labels.COMPONENT: part.name}, "ports": listed}
    )


def claims(subject: Subject, part: Part) -> list[Manifest]:
    return [
        _object(
            subject,
            part,
            "v1",
            "PersistentVolumeClaim",
            _claim(part, volume.name),
            {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": str(volume.persistent_volume_claim.size)}},
                **_some(storageClassName=volume.persistent_volume_claim.storage_class_name),
            },
        )
        for volume in part.component.volumes
        if volume.persistent_volume_claim
    ]


def _claim(part: Part, volume: str) -> str:
    return f"{part.name}-{volume}"


def _strategy(part: Part) -> Manifest:
    """A disk belongs to one version at a time; everything else is replaced without a gap."""
    if any(volume.persistent_volume_claim for volume in part.component.volumes):
        return {"type": "Recreate"}
    return {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


def _pod(subject: Subject, part: Part, image: Image, given: Given) -> Manifest:
    component = part.component
    disk = any(volume.persistent_volume_claim for volume in component.volumes)
    user = _number(image.user)
    spec: Manifest = {
        "serviceAccountName": "workload",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "seccompProfile": {"type": "RuntimeDefault"},
            **({"fsGroup": user} if disk and user else {}),
        },
        "containers": [_main(subject, part, image, given)],
    }
    if has_user_namespace(subject):
        spec["hostUsers"] = False
    if subject.platform.registry:
        spec["imagePullSecrets"] = [{"name": PULL_SECRET}]
    if component.init_containers:
        spec["initContainers"] = [
            _container(subject, part, image, given, init, init.name, init.image or image.reference)
            for init in component.init_containers
        ]
    if component.volumes:
        spec["volumes"] = [_volume(part, volume, given) for volume in component.volumes]
    return spec


def _main(subject: Subject, part: Part, image: Image, given: Given) -> Manifest:
    component = part.component
    container = _container(subject, part, image, given, component, part.name, image.reference)
    listed = ports(part, image)
    if listed:
        container["ports"] = [
            {"containerPort": number, "protocol": protocol, **_some(name=name)} for number, protocol, name in listed
        ]
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": DRAIN_SECONDS}}}
    probes = {
        "livenessProbe": component.liveness_probe,
        "readinessProbe": component.readiness_probe,
        "startupProbe": component.startup_probe,
    }
    container |= {name: _json(probe) for name, probe in probes.items() if probe}
    if has_own_probe(part, image):
        container["readinessProbe"] = _open_port(port(part, image))
    elif listed and "readinessProbe" in container:
        container["readinessProbe"] = _settled(container["readinessProbe"])
    return container


def _open_port(number: int | None) -> Manifest:
    """Open for SETTLE_SECONDS, looked at every second: ready early, and not taken for gone while it is merely busy."""
    return {
        "tcpSocket": {"port": number},
        "periodSeconds": 1,
        "successThreshold": SETTLE_SECONDS + 1,
        "failureThreshold": 6,
    }


def _settled(probe: Manifest) -> Manifest:
    """A declared probe as it is, but not asked before its pod is known to its neighbours."""
    return {**probe, "initialDelaySeconds": max(probe.get("initialDelaySeconds", 0), SETTLE_SECONDS + 1)}


def has_own_probe(part: Part, image: Image) -> bool:
    """Nobody declared one: we ask whether its port is open."""
    return part.component.readiness_probe is None and port(part, image) is not None


def _container(
    subject: Subject, part: Part, image: Image, given: Given, settings: Any, name: str, reference: str
) -> Manifest:
    declared = {
        "command": list(settings.command),
        "args": list(settings.args),
        "workingDir": settings.working_dir,
        "envFrom": _sources(given, settings.env_from),
        "resources": _json(settings.resources) if settings.resources else None,
        "volumeMounts": [_json(mount) for mount in settings.volume_mounts],
    }
    return {
        "name": name,
        "image": reference,
        "env": _variables(subject, part, image, given, settings.env),
        "securityContext": _restrictions(subject, image if reference == image.reference else Image(reference)),
        **{key: value for key, value in declared.items() if value},
    }


def _sources(given: Given, declared: Any) -> list[Manifest]:
    """The shared Secrets, then what the component names; of two with one key the last counts."""
    shared = [{"secretRef": {"name": copy}} for copy in given.secrets.values()]
    return [*shared, *(_shared(_json(source), "secretRef", given) for source in declared)]


def _shared(source: Manifest, field_: str, given: Given) -> Manifest:
    """A reference to a shared Secret means its copy."""
    name = source.get(field_, {}).get("name", "")
    return {**source, field_: {**source[field_], "name": given.secrets[name]}} if name in given.secrets else source


def _variable(declared: Any, given: Given) -> Manifest:
    variable = _json(declared)
    if source := variable.get("valueFrom"):
        variable["valueFrom"] = _shared(source, "secretKeyRef", given)
    return variable


def _variables(subject: Subject, part: Part, image: Image, given: Given, declared: Any) -> list[Manifest]:
    """Ours, then the services', then what the component says; of two with one name the last counts, but ours stay."""
    number = port(part, image)
    ours = {
        "CATALYST_URL": given.url,
        "CATALYST_ENVIRONMENT": subject.identity.environment,
        "CATALYST_COMMIT": subject.environment.spec.source.commit,
    }
    told = {name: {"name": name, "value": value} for name, value in ours.items() if value}
    more: dict[str, Manifest] = {"PORT": {"name": "PORT", "value": str(number)}} if number else {}
    more |= {variable["name"]: variable for variable in given.services}
    more |= {variable.name: _variable(variable, given) for variable in declared}
    return [*told.values(), *(variable for name, variable in more.items() if name not in told)]


def _restrictions(subject: Subject, image: Image) -> Manifest:
    """As much as the image's user allows; where Pod Security is `restricted`, all of it."""
    least: Manifest = {"allowPrivilegeEscalation": False}
    number = _number(image.user)
    strict = subject.platform.pod_security(subject.environment.spec.type) == "restricted"
    if strict or number:
        return {**least, "runAsNonRoot": True, "capabilities": {"drop": ["ALL"]}}
    if image.user and number is None and image.user.partition(":")[0] != "root":
        return {**least, "capabilities": {"drop": ["ALL"]}}
    return least


def _number(user: str | None) -> int | None:
    """The image's user as a number, None when it is a name or not known; 0 is root."""
    first = (user or "").partition(":")[0]
    return int(first) if first.isascii() and first.isdigit() and len(first) < 10 else None


def has_user_namespace(subject: Subject) -> bool:
    return subject.platform.pod_security(subject.environment.spec.type) == "baseline"


def _volume(part: Part, volume: Any, given: Given) -> Manifest:
    if volume.persistent_volume_claim:
        source: Manifest = {"persistentVolumeClaim": {"claimName": _claim(part, volume.name)}}
    elif volume.config_map:
        source = {"configMap": {"name": volume.config_map.name}}
    elif volume.secret:
        source = {"secret": {"secretName": given.secrets.get(volume.secret.name, volume.secret.name)}}
    else:
        source = {"emptyDir": _json(volume.empty_dir) if volume.empty_dir else {}}
    return {"name": volume.name, **source}


def _object(subject: Subject, part: Part, api_version: str, kind: str, name: str, spec: Manifest) -> Manifest:
    return made(subject, part.name, api_version, kind, name, spec)


def made(subject: Subject, owner: str, api_version: str, kind: str, name: str, spec: Manifest) -> Manifest:
    """An object of the component or service `owner`."""
    marks = {**subject.labels, labels.COMPONENT: owner}
    metadata = {"name": name, "namespace": subject.namespace, "labels": marks}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}


def _some(**fields: Any) -> Manifest:
    return {key: value for key, value in fields.items() if value is not None}


def _json(model: BaseModel) -> Manifest:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
