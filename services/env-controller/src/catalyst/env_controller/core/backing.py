"""The objects of the Project's services[]: a database or a cache beside the components. One small maker each.

    engine     image                user  data                            asked whether it is ready by
    postgres   postgres:<version>   999   /var/lib/postgresql/data        pg_isready, over TCP
    redis      redis:<version>      999   /data                           redis-cli ping, signed in

Each gets a Service of its name, a StatefulSet of one pod, a volume claim, and a Secret that is made once with a random
password. The Secret's values are described here (`credentials`), never known here: pods are told them by
`secretKeyRef`, redis by a file. The pod needs no more than Pod Security `restricted` allows.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from catalyst.env_controller.core.baseline import Subject, with_digest
from catalyst.env_controller.core.workload import PULL_SECRET
from catalyst.env_controller.core.world import NewSecret
from catalyst.model import labels
from catalyst.model.manifest import Manifest
from catalyst.model.project import Project, Service

DEFAULT_STORAGE: Final = "1Gi"
USER: Final = "app"
"""The user of a postgres service, and the name of its database."""
RESOURCES: Final[Manifest] = {
    "requests": {"cpu": "100m", "memory": "128Mi"},
    "limits": {"cpu": "1", "memory": "512Mi"},
}
LONGEST_NAME: Final = 52
"""Kubernetes labels a StatefulSet's pods with its name and a hash; with a longer name it makes none."""
_DEBIAN: Final = r"(-(bullseye|bookworm|trixie))?"


@dataclass(frozen=True, slots=True)
class Engine:
    """`supported`: versions whose image has `user` (Alpine's postgres has another) and keeps its data at `data`."""

    image: str
    version: str
    supported: re.Pattern[str]
    expected: str
    port: int
    user: int
    data: str
    alias: str
    """The first service of the engine is also known by this variable."""
    secret: Callable[[str], dict[str, str]]
    """Service name → the Secret's values, with `$password` in them."""


def _postgres(name: str) -> dict[str, str]:
    return {
        "host": name,
        "port": "5432",
        "user": USER,
        "database": USER,
        "password": "$password",
        "url": f"postgresql://{USER}:$password@{name}:5432/{USER}",
    }


def _redis(name: str) -> dict[str, str]:
    return {
        "host": name,
        "port": "6379",
        "password": "$password",
        "url": f"redis://:$password@{name}:6379/0",
        "redis.conf": "dir /data\nappendonly yes\nprotected-mode no\nrequirepass $password\n",
    }


ENGINES: Final = {
    "postgres": Engine(
        image="postgres",
        version="15",
        supported=re.compile(r"(13|14|15|16|17)(\.[0-9]+)?" + _DEBIAN),
        expected="13 to 17, such as 15 or 16.4",
        port=5432,
        user=999,
        data="/var/lib/postgresql/data",
        alias="DATABASE_URL",
        secret=_postgres,
    ),
    "redis": Engine(
        image="redis",
        version="7",
        supported=re.compile(r"(7|8)(\.[0-9]+){0,2}" + _DEBIAN),
        expected="7 or 8, such as 7 or 7.2.5",
        port=6379,
        user=999,
        data="/data",
        alias="REDIS_URL",
        secret=_redis,
    ),
}


def unsupported(project: Project) -> dict[str, str]:
    """What is asked of services[] and not done: the field's path → what is expected instead."""
    found: dict[str, str] = {}
    secrets: dict[str, str] = {PULL_SECRET: "the registry's pull secret"}
    for service in project.spec.services:
        path = f"spec.services[{service.name}]"
        found |= {f"{path}.{field}": why for field, why in _faults(service).items()}
        holder = secrets.setdefault(_secret(service), service.name)
        if holder != service.name:
            field = "credentialsRef" if service.credentials_ref else "name"
            found[f"{path}.{field}"] = f"Secret {_secret(service)} belongs to {holder}: name another"
    return found


def _faults(service: Service) -> dict[str, str]:
    engine, container = ENGINES.get(service.engine), service.container
    if engine is None:
        return {"engine": f"expected one of {', '.join(ENGINES)}"}
    found = {}
    if len(service.name) > LONGEST_NAME:
        found["name"] = f"expected at most {LONGEST_NAME} characters"
    own_image = bool(container and container.image)
    if service.version is not None and own_image:
        found["version"] = "without effect beside container.image: name one of them"
    elif service.version is not None and not engine.supported.fullmatch(service.version):
        found["version"] = f"expected {engine.expected}"
    if service.backup:
        found["backup"] = "not implemented yet"
    if container and container.volume_mounts:
        found["container.volumeMounts"] = "not implemented: its disk is mounted by itself"
    return found


def served(subject: Subject) -> tuple[Service, ...]:
    """The services that are made: those of which nothing that matters is refused. Backups do not matter to running."""
    refused = {path for path in unsupported(subject.project) if not path.endswith((".backup", ".volumeMounts"))}
    return tuple(
        service
        for service in subject.project.spec.services
        if not any(path.startswith(f"spec.services[{service.name}].") for path in refused)
    )


def manifests(subject: Subject) -> list[Manifest]:
    """Service, volume claim and StatefulSet of every service; no Secret among them."""
    return [
        with_digest(make(subject, service)) for service in served(subject) for make in (_claim, _service, _stateful_set)
    ]


def credentials(subject: Subject) -> tuple[NewSecret, ...]:
    """The Secrets to be made once; what is there already is neither read nor written."""
    return tuple(
        NewSecret(
            namespace=subject.namespace,
            name=_secret(service),
            labels={**subject.labels, labels.COMPONENT: service.name},
            values=ENGINES[service.engine].secret(service.name),
        )
        for service in served(subject)
    )


def environment(subject: Subject) -> list[Manifest]:
    """What every component is told: `<NAME>_URL`, `_HOST`, `_PORT`, `_PASSWORD` of each service, of postgres `_USER`
    and `_DATABASE`, too; the first postgres is also `DATABASE_URL`, the first redis `REDIS_URL`.
    """
    named: dict[str, Manifest] = {}
    aliases: dict[str, Manifest] = {}
    for service in served(subject):
        engine = ENGINES[service.engine]
        for key in engine.secret(service.name):
            if key.isalpha():
                variable = f"{_variable(service.name)}_{key.upper()}"
                named[variable] = _from_secret(variable, service, key)
        aliases.setdefault(engine.alias, _from_secret(engine.alias, service, "url"))
    return list({**aliases, **named}.values())


def _claim(subject: Subject, service: Service) -> Manifest:
    storage = service.storage
    spec: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": str(storage.size) if storage else DEFAULT_STORAGE}},
    }
    if storage and storage.storage_class_name:
        spec["storageClassName"] = storage.storage_class_name
    return _object(subject, service, "v1", "PersistentVolumeClaim", _claim_name(service), spec)


def _service(subject: Subject, service: Service) -> Manifest:
    number = ENGINES[service.engine].port
    return _object(
        subject,
        service,
        "v1",
        "Service",
        service.name,
        {
            "selector": {labels.COMPONENT: service.name},
            "ports": [{"name": f"tcp-{number}", "port": number, "targetPort": number, "protocol": "TCP"}],
        },
    )


def _stateful_set(subject: Subject, service: Service) -> Manifest:
    return _object(
        subject,
        service,
        "apps/v1",
        "StatefulSet",
        service.name,
        {
            "replicas": 1,
            "revisionHistoryLimit": 2,
            "serviceName": service.name,
            "selector": {"matchLabels": {labels.COMPONENT: service.name}},
            "template": {
                "metadata": {"labels": {**subject.labels, labels.COMPONENT: service.name}},
                "spec": _pod(subject, service),
            },
        },
    )


def _pod(subject: Subject, service: Service) -> Manifest:
    user = ENGINES[service.engine].user
    spec: Manifest = {
        "serviceAccountName": "workload",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": user,
            "fsGroup": user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(service)],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": _claim_name(service)}}],
    }
    if service.engine == "redis":
        items = [{"key": "redis.conf", "path": "redis.conf"}]
        secret = {"secretName": _secret(service), "defaultMode": 0o440, "items": items}
        spec["volumes"].append({"name": "settings", "secret": secret})
    if subject.platform.pod_security(subject.environment.spec.type) == "baseline":
        spec["hostUsers"] = False
    if subject.platform.registry:
        spec["imagePullSecrets"] = [{"name": PULL_SECRET}]
    return spec


def _container(service: Service) -> Manifest:
    engine, given = ENGINES[service.engine], service.container
    own = _postgres_settings(service) if service.engine == "postgres" else _redis_settings(service)
    variables = {variable["name"]: variable for variable in own.pop("env")}
    variables |= {variable.name: _json(variable) for variable in (given.env if given else ())}
    container: Manifest = {
        "name": service.name,
        "image": (given and given.image) or f"{engine.image}:{service.version or engine.version}",
        "ports": [{"containerPort": engine.port, "protocol": "TCP"}],
        "env": list(variables.values()),
        "resources": _json(given.resources) if given and given.resources else RESOURCES,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        },
        **own,
    }
    if given:
        declared = {
            "command": list(given.command),
            "args": list(given.args),
            "workingDir": given.working_dir,
            "envFrom": [_json(source) for source in given.env_from],
        }
        container |= {key: value for key, value in declared.items() if value}
    return container


def _postgres_settings(service: Service) -> dict[str, Any]:
    """The data is a folder of the disk: a file system of its own brings a `lost+found`, which initdb refuses."""
    data = ENGINES["postgres"].data
    return {
        "env": [
            {"name": "POSTGRES_USER", "value": USER},
            {"name": "POSTGRES_DB", "value": USER},
            _from_secret("POSTGRES_PASSWORD", service, "password"),
            {"name": "PGDATA", "value": f"{data}/pgdata"},
        ],
        "volumeMounts": [{"name": "data", "mountPath": data}],
        # Over TCP: while the image prepares the database it listens on its socket only.
        "readinessProbe": _asks(
            ["pg_isready", "--quiet", "--host=127.0.0.1", f"--username={USER}", f"--dbname={USER}"]
        ),
    }


def _redis_settings(service: Service) -> dict[str, Any]:
    """The password comes by a file and a variable: a command line can be read by others."""
    return {
        "args": ["redis-server", "/etc/catalyst/redis.conf"],
        "env": [_from_secret("REDISCLI_AUTH", service, "password")],
        "volumeMounts": [
            {"name": "data", "mountPath": ENGINES["redis"].data},
            {"name": "settings", "mountPath": "/etc/catalyst", "readOnly": True},
        ],
        "readinessProbe": _asks(["redis-cli", "-e", "ping"]),
    }


def _asks(command: list[str]) -> Manifest:
    return {"exec": {"command": command}, "periodSeconds": 2, "timeoutSeconds": 3, "failureThreshold": 3}


def _from_secret(variable: str, service: Service, key: str) -> Manifest:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": _secret(service), "key": key}}}


def _secret(service: Service) -> str:
    return service.credentials_ref.name if service.credentials_ref else service.name


def _claim_name(service: Service) -> str:
    """With a dot, which no component's or volume's name has: a component's claim is `<component>-<volume>`."""
    return f"{service.name}.data"


def _variable(name: str) -> str:
    """`my-db` → `MY_DB`; a name that begins with a digit gets a `_`, which no other name begins with."""
    found = name.upper().replace("-", "_")
    return f"_{found}" if found[0].isdigit() else found


def _object(subject: Subject, service: Service, api_version: str, kind: str, name: str, spec: Manifest) -> Manifest:
    marks = {**subject.labels, labels.COMPONENT: service.name}
    metadata = {"name": name, "namespace": subject.namespace, "labels": marks}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}


def _json(model: BaseModel) -> Manifest:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
