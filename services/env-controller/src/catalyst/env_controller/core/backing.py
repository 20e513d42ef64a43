"""What stands beside the components: a postgres or redis of the Project's `services[]`, one pod with a disk each.

    Secret <name>-credentials   made once, before the rest, with a password that nobody keeps
    StatefulSet <name>          runs as its image's own user, without privilege and without a token
    Service <name>              its host name inside the environment

Every component is told where it is, by reference to that Secret: `<NAME>_URL`, `<NAME>_HOST`, `<NAME>_PORT`,
`<NAME>_PASSWORD` (postgres: `<NAME>_USER`, `<NAME>_DATABASE`), and `DATABASE_URL` and `REDIS_URL` of the first of each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from catalyst.env_controller.core import workload
from catalyst.env_controller.core.baseline import Subject, with_digest
from catalyst.env_controller.core.components import Part
from catalyst.env_controller.core.workload import Image
from catalyst.env_controller.core.world import NewSecret
from catalyst.model import labels
from catalyst.model.manifest import Manifest
from catalyst.model.project import Component, Project, Service

STORAGE: Final = "1Gi"
"""The disk of a service that asks for none."""
DATA: Final = "/data"
"""Where the disk is, whatever the image's own place for its data is."""
_USER: Final = "app"
"""The postgres user, and its database."""
_REDIS: Final = "exec redis-server - <<END\nrequirepass $REDIS_PASSWORD\ndir /data\nappendonly yes\nEND\n"
"""The password goes by standard input: neither a file nor the command line holds it."""


@dataclass(frozen=True, slots=True)
class Engine:
    """How one kind of service is run. `uid`: the user of the official image, and the group of its disk."""

    image: str
    version: str
    port: int
    uid: int
    url: str
    short: str
    probe: tuple[str, ...]
    resources: Mapping[str, Mapping[str, str]]
    command: tuple[str, ...] = ()


ENGINES: Final[Mapping[str, Engine]] = {
    "postgres": Engine(
        image="postgres",
        version="15",
        port=5432,
        uid=999,
        url=f"postgresql://{_USER}:$password@{{host}}:5432/{_USER}",
        short="DATABASE_URL",
        # By TCP: while its database is being made it answers on the socket only.
        probe=("pg_isready", "--host=127.0.0.1", f"--username={_USER}", f"--dbname={_USER}"),
        resources={"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"cpu": "500m", "memory": "512Mi"}},
    ),
    "redis": Engine(
        image="redis",
        version="7",
        port=6379,
        uid=999,
        url="redis://:$password@{host}:6379/0",
        short="REDIS_URL",
        probe=("sh", "-c", "redis-cli ping | grep -q PONG"),
        resources={"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"cpu": "250m", "memory": "256Mi"}},
        command=("sh", "-c", _REDIS),
    ),
}
"""What is implemented; any other engine is named in `Supported=False`."""


def backings(project: Project) -> tuple[Service, ...]:
    """The services that are run, in the Project's order."""
    return tuple(service for service in project.spec.services if service.engine in ENGINES)


def image(service: Service) -> Image:
    engine = ENGINES[service.engine]
    return Image(f"{engine.image}:{service.version or engine.version}")


def part(service: Service) -> Part:
    """As a component, for whoever only asks how its pods are."""
    return Part(Component(name=service.name, image=image(service).reference))


def secret_name(service: Service) -> str:
    return f"{service.name}-credentials"


def credentials(subject: Subject, service: Service) -> NewSecret:
    engine = ENGINES[service.engine]
    return NewSecret(
        namespace=subject.namespace,
        name=secret_name(service),
        labels={**subject.labels, labels.COMPONENT: service.name},
        values={"password": "$password", "url": engine.url.format(host=service.name)},
    )


def variables(project: Project) -> list[Manifest]:
    """What every component is told. Of two with one name, `DATABASE_URL` and `REDIS_URL` mean what they always mean."""
    named: dict[str, Manifest] = {}
    short: dict[str, Manifest] = {}
    for service in backings(project):
        engine, prefix = ENGINES[service.engine], service.name.upper().replace("-", "_")
        plain = {"HOST": service.name, "PORT": str(engine.port)}
        if service.engine == "postgres":
            plain |= {"USER": _USER, "DATABASE": _USER}
        named |= {f"{prefix}_{key}": {"name": f"{prefix}_{key}", "value": value} for key, value in plain.items()}
        for key in ("password", "url"):
            named[f"{prefix}_{key.upper()}"] = _from_secret(service, f"{prefix}_{key.upper()}", key)
        short.setdefault(engine.short, _from_secret(service, engine.short, "url"))
    return list((named | short).values())


def manifests(subject: Subject, service: Service) -> list[Manifest]:
    return [with_digest(stateful_set(subject, service)), with_digest(entrance(subject, service))]


def entrance(subject: Subject, service: Service) -> Manifest:
    port = ENGINES[service.engine].port
    return workload.made(
        subject,
        service.name,
        "v1",
        "Service",
        service.name,
        {
            "selector": {labels.COMPONENT: service.name},
            "ports": [{"name": service.engine, "port": port, "targetPort": port, "protocol": "TCP"}],
        },
    )


def stateful_set(subject: Subject, service: Service) -> Manifest:
    """Its disk goes with it. Several pods at once (Parallel) would be made, so that a broken one can be replaced."""
    marks = {**subject.labels, labels.COMPONENT: service.name}
    size = str(service.storage.size) if service.storage else STORAGE
    storage_class = service.storage.storage_class_name if service.storage else None
    claim: Manifest = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    if storage_class:
        claim["storageClassName"] = storage_class
    return workload.made(
        subject,
        service.name,
        "apps/v1",
        "StatefulSet",
        service.name,
        {
            "replicas": 1,
            "revisionHistoryLimit": 2,
            "serviceName": service.name,
            "podManagementPolicy": "Parallel",
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"},
            "selector": {"matchLabels": {labels.COMPONENT: service.name}},
            "template": {"metadata": {"labels": marks}, "spec": _pod(subject, service)},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
        },
    )


def _pod(subject: Subject, service: Service) -> Manifest:
    engine = ENGINES[service.engine]
    spec: Manifest = {
        "serviceAccountName": "workload",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": engine.uid,
            "runAsGroup": engine.uid,
            "fsGroup": engine.uid,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(service, engine)],
    }
    if workload.has_user_namespace(subject):
        spec["hostUsers"] = False
    return spec


def _container(service: Service, engine: Engine) -> Manifest:
    container: Manifest = {
        "name": service.name,
        "image": image(service).reference,
        "env": _settings(service),
        "ports": [{"name": service.engine, "containerPort": engine.port, "protocol": "TCP"}],
        "readinessProbe": {
            "exec": {"command": list(engine.probe)},
            "periodSeconds": 2,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        "resources": {kind: dict(amounts) for kind, amounts in engine.resources.items()},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "data", "mountPath": DATA}],
    }
    if engine.command:
        container["command"] = list(engine.command)
    return container


def _settings(service: Service) -> list[Manifest]:
    if service.engine == "redis":
        return [_from_secret(service, name, "password") for name in ("REDIS_PASSWORD", "REDISCLI_AUTH")]
    return [
        {"name": "POSTGRES_USER", "value": _USER},
        {"name": "POSTGRES_DB", "value": _USER},
        _from_secret(service, "POSTGRES_PASSWORD", "password"),
        # A folder of its own: the disk's root may hold lost+found, and belongs to root.
        {"name": "PGDATA", "value": f"{DATA}/pgdata"},
    ]


def _from_secret(service: Service, name: str, key: str) -> Manifest:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret_name(service), "key": key}}}
