"""What limits/by_hand.py is given: an environment of ours as the API server has it, written down as manifests that
somebody could apply by hand, with credentials that are simply there, in namespaces without quota, policy or owner; and
an edge of its own.
"""

import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx

from bench.on_node import Product, Pull
from bench.servers import tool
from catalyst.builder.core.access import Access
from catalyst.builder.core.tokens import Signer, private_key
from catalyst.dns_proxy.core.caddy import proxy
from catalyst.local.edge import executable
from catalyst.local.node import layout
from catalyst.local.process import Part, free_ports
from catalyst.model import labels
from catalyst.model.clock import utc_now
from catalyst.model.names import build_namespace

PULL_SECRET: Final = "catalyst-pull"
ZONE: Final = "hand.test"
JOB_FIELDS: Final = ("backoffLimit", "activeDeadlineSeconds", "podFailurePolicy", "podReplacementPolicy")

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Recording:
    """What was made for one environment with one component: the specs, and the Secret that its pods pull with."""

    job: Manifest
    deployment: Manifest
    service: Manifest
    pull: Manifest
    project: tuple[str, str]

    def pulling_with(self, other: "Recording") -> "Recording":
        """The same, but with another environment's right to pull: this one's ends with it."""
        return replace(self, pull=other.pull, project=other.project)


def recorded(pull: Pull) -> Recording:
    """Of an environment that is ready."""
    identity, sight = pull.identity, pull.site.product.sight
    there = f"namespaces/{pull.namespace}"
    build = build_namespace(identity.team, identity.project, trusted=True)

    def found(place: str, **query: str) -> Manifest:
        listed = sight.get(place, **query) or {"items": []}
        last: Manifest = max(listed["items"], key=lambda each: each["metadata"]["creationTimestamp"])
        return last

    secret = sight.get(f"/api/v1/{there}/secrets/{PULL_SECRET}")
    if secret is None:
        raise RuntimeError(f"{pull.namespace} has no Secret {PULL_SECRET}")
    own = f"{labels.ENVIRONMENT}={identity.environment}"
    return Recording(
        job=found(f"/apis/batch/v1/namespaces/{build}/jobs", labelSelector=own)["spec"],
        deployment=found(f"/apis/apps/v1/{there}/deployments")["spec"],
        service=found(f"/api/v1/{there}/services")["spec"],
        pull={"type": secret["type"], "data": secret["data"]},
        project=(identity.team, identity.project),
    )


class Hand:
    """Whose namespaces are `<name>-build` and `<name>`, and whose images lie beside the recorded project's: its pull
    Secret is good for them.
    """

    def __init__(self, product: Product, recording: Recording) -> None:
        self.name = f"hand-{uuid4().hex[:8]}"
        self._product = product
        self._recording = recording
        self._begun = False

    @property
    def image(self) -> str:
        """Where it goes, without the registry."""
        return "/".join((*self._recording.project, self.name))

    def deploy(self, door: "Edge", repository: str, commit: str) -> dict[str, Any]:
        """The limit: build this commit, run it, answer with it. The first time everything is made."""
        plan = door.folder / f"{self.name}-{commit}.json"
        plan.write_text(json.dumps(self._plan(repository, commit)))
        self._begun = True
        return tool(
            "limits.by_hand",
            kubeconfig=self._product.state.kubeconfig,
            plan=plan,
            admin=door.admin,
            edge=door.address,
            authority=door.authority,
            host=self.host,
            expects=commit,
        )

    def run(self, image: str) -> None:
        """Only the pods, of an image that is there; returns when they are available."""
        self._product.kubectl.apply(_namespace(self.name))
        inside = self._product.kubectl.within(self.name)
        inside.apply(self._pull_secret(), self._service(), self._deployment(image, None))
        inside.wait(f"deployment/{self.name}", "condition=Available")

    def remove(self) -> None:
        """All that it made, until it is gone."""
        names = (self.name, f"{self.name}-build")
        self._product.kubectl.run("delete", "namespace", *names, "--ignore-not-found", "--timeout=90s")

    @property
    def host(self) -> str:
        return f"{self.name}.{ZONE}"

    def _plan(self, repository: str, commit: str) -> Manifest:
        build = f"{self.name}-{commit[:8]}"
        image = f"{layout.REGISTRY}/{self.image}@@DIGEST@"
        namespaces = [] if self._begun else [_namespace(self.name), _namespace(f"{self.name}-build")]
        inside = [] if self._begun else [self._pull_secret(), self._service()]
        return {
            "namespaces": namespaces,
            "first": [*self._build_secrets(build, repository), *inside],
            "job": self._job(build, repository, commit),
            "deployment": self._deployment(image, commit),
            "route": None if self._begun else {"match": [{"host": [self.host]}], "handle": [proxy("@UPSTREAM@")]},
        }

    def _job(self, name: str, repository: str, commit: str) -> Manifest:
        """The recorded Job of another commit, not suspended."""
        spec: Manifest = {field: self._recording.job[field] for field in JOB_FIELDS if field in self._recording.job}
        pod = copy.deepcopy(self._recording.job["template"]["spec"])
        for field in ("serviceAccount", "serviceAccountName"):
            pod.pop(field, None)
        told = {"SOURCE_URL": self._clone_url(repository), "SOURCE_COMMIT": commit, "KNOWN": ""}
        where = {
            "--destination": f"{layout.REGISTRY}/{self.image}:{name}",
            "--cache-repo": f"{layout.REGISTRY}/{self.image}-cache",
        }
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            for variable in container.get("env", ()):
                variable["value"] = told.get(variable["name"], variable.get("value", ""))
            container["args"] = [_replaced(argument, where) for argument in container.get("args", ())]
        for volume in pod["volumes"]:
            if "secret" in volume:
                volume["secret"]["secretName"] = f"{name}-{volume['name']}"
        spec["template"] = {"metadata": {"labels": {"app": name}}, "spec": pod}
        return _object("batch/v1", "Job", f"{self.name}-build", name, spec=spec)

    def _build_secrets(self, name: str, repository: str) -> list[Manifest]:
        """By the volume's name: what git and Kaniko sign in with."""
        owner = self._product.github.user(repository.partition("/")[0])
        token = self._registry_token(self.image, f"{self.image}-cache")
        contents = {
            volume["name"]: {
                "token": owner.token,
                "config.json": json.dumps({"auths": {layout.REGISTRY: {"registrytoken": token}}}),
            }
            for volume in self._recording.job["template"]["spec"]["volumes"]
            if "secret" in volume
        }
        return [
            _object("v1", "Secret", f"{self.name}-build", f"{name}-{volume}", stringData=content)
            for volume, content in contents.items()
        ]

    def _deployment(self, image: str, commit: str | None) -> Manifest:
        spec = copy.deepcopy(self._recording.deployment)
        pod = spec["template"]["spec"]
        for field in ("serviceAccount", "serviceAccountName"):
            pod.pop(field, None)
        (container,) = pod["containers"]
        container["image"] = image
        for variable in container["env"]:
            if variable["name"] == "CATALYST_COMMIT" and commit:
                variable["value"] = commit
        spec["selector"] = {"matchLabels": {"app": self.name}}
        spec["template"] = {"metadata": {"labels": {"app": self.name}}, "spec": pod}
        return _object("apps/v1", "Deployment", self.name, self.name, spec=spec)

    def _service(self) -> Manifest:
        spec = {"selector": {"app": self.name}, "ports": self._recording.service["ports"]}
        return _object("v1", "Service", self.name, self.name, spec=spec)

    def _pull_secret(self) -> Manifest:
        return _object("v1", "Secret", self.name, PULL_SECRET, **self._recording.pull)

    def _clone_url(self, repository: str) -> str:
        return f"{self._product.github.git_url}/{repository}.git"

    def _registry_token(self, *repositories: str) -> str:
        access = [Access(name, ("pull", "push")) for name in repositories]
        return _signer(self._product).token("hand", access, utc_now(), uuid4().hex)


def _replaced(argument: str, where: Mapping[str, str]) -> str:
    name, equals, _ = argument.partition("=")
    return f"{name}={where[name]}" if equals and name in where else argument


def _object(api_version: str, kind: str, namespace: str | None, name: str, **content: Any) -> Manifest:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}


def _namespace(name: str) -> Manifest:
    return _object("v1", "Namespace", None, name)


# The registry


def manifest_status(product: Product, repository: str, digest: str) -> int:
    """What the registry answers to who may read everything there."""
    token = _signer(product).token("bench", [Access(repository, ("pull",))], utc_now(), uuid4().hex)
    accepted = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
    answer = httpx.head(
        f"http://{layout.ADDRESS}:{layout.REGISTRY_PORT}/v2/{repository}/manifests/{digest}",
        headers={"authorization": f"Bearer {token}", "accept": accepted},
        trust_env=False,
    )
    return answer.status_code


def _signer(product: Product) -> Signer:
    key = Path(product.state.kubeconfig).parent / "realm" / "key.pem"
    return Signer(private_key(key.read_text()), layout.REALM_ISSUER, layout.REGISTRY)


# Its edge


@dataclass(frozen=True)
class Edge:
    """A Caddy of its own, which ends TLS for `*.hand.test` and takes routes from anybody on this machine.

    `admin`, `address`: host and port of its admin endpoint, and for visitors.
    """

    folder: Path
    admin: str
    address: str

    @property
    def authority(self) -> Path:
        """Its root certificate; there once it is up."""
        return self.storage / "pki" / "authorities" / "local" / "root.crt"

    @property
    def storage(self) -> Path:
        return self.folder / "caddy"


@contextmanager
def edge(folder: Path) -> Iterator[Edge]:
    admin, https = free_ports(2)
    found = Edge(folder, f"127.0.0.1:{admin}", f"127.0.0.1:{https}")
    config = folder / "caddy.json"
    config.write_text(json.dumps(_caddy(found)))
    command: list[str | Path] = [executable(), "run", "--config", config]
    own_place = {"XDG_DATA_HOME": str(found.storage), "XDG_CONFIG_HOME": str(found.storage)}
    part = Part("edge by hand", command, folder / "caddy.log", env=own_place, cwd=folder, stop_within=3)
    part.start()
    try:
        part.wait_until(found.authority.exists, within=20)
        yield found
    finally:
        part.stop()


def _caddy(of: Edge) -> Manifest:
    names = [f"*.{ZONE}"]
    server = {
        "listen": [of.address],
        "automatic_https": {"disable": True},
        "tls_connection_policies": [{}],
        "routes": [],
    }
    return {
        "admin": {"listen": of.admin, "config": {"persist": False}},
        "storage": {"module": "file_system", "root": str(of.storage)},
        "logging": {"logs": {"default": {"level": "WARN"}}},
        "apps": {
            "pki": {"certificate_authorities": {"local": {"install_trust": False}}},
            "tls": {
                "certificates": {"automate": names},
                "automation": {"policies": [{"subjects": names, "issuers": [{"module": "internal"}]}]},
            },
            "http": {"servers": {"hand": server}},
        },
    }
