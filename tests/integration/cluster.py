"""What the tests of roles and policies stand on: raw requests as one user, and a small tenancy made by env-controller.

    globex                     the team
    globex--shop               the project: Environments pr-1 and staging
    globex--shop--pr-1         development: observers and owners
    globex--shop--staging      deployment: observers and admins
    globex--blog--pr-9         another project of the same team
    globex--shop--bare         carries our labels but no Pod Security, so that our own policies stand alone

Raw, because a status code and a reason is exactly what is asserted here.
"""

import base64
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from catalyst.local.control_plane import ControlPlane

Manifest = dict[str, Any]

SYSTEM = "catalyst-system"
TEAM = "globex"
PROJECT = "globex--shop"
DEVELOPMENT = "globex--shop--pr-1"
DEPLOYMENT = "globex--shop--staging"
FOREIGN = "globex--blog--pr-9"
BARE = "globex--shop--bare"
NAMESPACES = (DEVELOPMENT, DEPLOYMENT, FOREIGN, BARE, PROJECT, TEAM)
RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True, slots=True)
class Answer:
    """`reason` and `message` are those of a Status, else empty."""

    status: int
    reason: str
    message: str
    body: Manifest

    def __str__(self) -> str:
        return f"{self.status} {self.reason}: {self.message}"


class Api:
    """One user's requests. Thread-safe; `close` ends its connections."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._client = httpx.Client(
            base_url=cluster["server"], verify=_tls(cluster, user), headers=_bearer(user), timeout=20, trust_env=False
        )

    def close(self) -> None:
        self._client.close()

    def request(
        self,
        method: str,
        path: str,
        body: Manifest | None = None,
        *,
        dry_run: bool = True,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """A write leaves nothing unless `dry_run` is False. PATCH is a merge patch unless `headers` say otherwise."""
        params = dict(query or {})
        if dry_run and method not in ("GET", "HEAD"):
            params["dryRun"] = "All"
            if method == "DELETE" and body is not None:
                body = {
                    **body,
                    "dryRun": ["All"],
                }  # with options in the body, the API server ignores those in the query
        kind = {"content-type": "application/merge-patch+json"} if method == "PATCH" else {}
        answer = self._client.request(method, path, json=body, params=params, headers={**kind, **(headers or {})})
        return _answer(answer)

    def watch(self, path: str) -> Answer:
        """Opens a watch and closes it once the status is known."""
        with self._client.stream("GET", path, params={"watch": "true", "timeoutSeconds": "5"}) as answer:
            if answer.status_code == httpx.codes.OK:
                return Answer(200, "", "", {})
            answer.read()
            return _answer(answer)

    def apply(self, path: str, manifest: Manifest, *, manager: str = "tests", dry_run: bool = False) -> Answer:
        """Server-side apply at the object's own path."""
        query = {"fieldManager": manager, "force": "true"}
        headers = {"content-type": "application/apply-patch+yaml"}
        return self.request("PATCH", path, manifest, dry_run=dry_run, query=query, headers=headers)

    def may(self, verb: str, group: str, resource: str, namespace: str, name: str = "") -> bool:
        """SelfSubjectAccessReview; `resource` may be `pods/log`."""
        resource, _, subresource = resource.partition("/")
        attributes = {"verb": verb, "group": group, "resource": resource, "subresource": subresource}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {**attributes, "namespace": namespace, "name": name}},
        }
        answer = self.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, dry_run=False)
        assert answer.status == 201, answer
        return bool(answer.body["status"]["allowed"])

    def wait_until_may(self, verb: str, group: str, resource: str, namespace: str, name: str = "") -> None:
        """The API server's authorizer sees a new binding a moment after it was written."""
        ends = time.monotonic() + 10
        while not self.may(verb, group, resource, namespace, name):
            assert time.monotonic() < ends, f"{verb} {resource} in {namespace}: still not allowed"
            time.sleep(0.02)


def _answer(answer: httpx.Response) -> Answer:
    is_json = answer.headers.get("content-type", "").startswith("application/json")
    body = answer.json() if is_json else {}
    is_status = body.get("kind") == "Status"
    return Answer(
        answer.status_code,
        body.get("reason", "") if is_status else "",
        body.get("message", "") if is_status else "",
        body,
    )


def _tls(cluster: Mapping[str, str], user: Mapping[str, str]) -> ssl.SSLContext:
    tls = ssl.create_default_context(cadata=_text(cluster, "certificate-authority"))
    if "client-certificate" in user or "client-certificate-data" in user:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as pair:
            pair.write(_text(user, "client-certificate") + "\n" + _text(user, "client-key"))
            pair.flush()
            tls.load_cert_chain(pair.name)
    return tls


def _bearer(user: Mapping[str, str]) -> dict[str, str]:
    token = Path(user["tokenFile"]).read_text().strip() if "tokenFile" in user else user.get("token")
    return {"authorization": f"Bearer {token}"} if token else {}


def _text(config: Mapping[str, str], key: str) -> str:
    return (
        base64.b64decode(config[f"{key}-data"]).decode() if f"{key}-data" in config else Path(config[key]).read_text()
    )


# Paths

GROUPS = {
    "": "/api/v1",
    "apps": "/apis/apps/v1",
    "batch": "/apis/batch/v1",
    "autoscaling": "/apis/autoscaling/v2",
    "policy": "/apis/policy/v1",
    "discovery.k8s.io": "/apis/discovery.k8s.io/v1",
    "events.k8s.io": "/apis/events.k8s.io/v1",
    "networking.k8s.io": "/apis/networking.k8s.io/v1",
    "coordination.k8s.io": "/apis/coordination.k8s.io/v1",
    RBAC: f"/apis/{RBAC}/v1",
    "catalyst.dev": "/apis/catalyst.dev/v1alpha1",
}


def path(group: str, namespace: str, resource: str, name: str = "") -> str:
    """`pods/log` of `web` → /api/v1/namespaces/NAMESPACE/pods/web/log. No namespace: cluster-wide."""
    resource, _, subresource = resource.partition("/")
    parts = ["namespaces", namespace] if namespace else []
    return "/".join([GROUPS[group], *parts, *(part for part in (resource, name, subresource) if part)])


# The tenancy

IDENTITY = {"catalyst.dev/team": TEAM, "catalyst.dev/project": "shop"}


def namespace(name: str, labels: Mapping[str, str], pod_security: str = "") -> Manifest:
    security = {
        "pod-security.kubernetes.io/enforce": pod_security,
        "pod-security.kubernetes.io/enforce-version": "v1.36",
    }
    metadata = {"name": name, "labels": {**labels, **(security if pod_security else {})}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def group(role: str, project: str = "shop") -> str:
    return f"catalyst:{TEAM}:{project}:{role}"


def role_binding(where: str, name: str, role_ref: str, *groups: str, kind: str = "ClusterRole") -> Manifest:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": where},
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": role_ref},
        "subjects": [{"apiGroup": RBAC, "kind": "Group", "name": group} for group in groups],
    }


def environment(name: str, **spec: Any) -> Manifest:
    return {
        "apiVersion": "catalyst.dev/v1alpha1",
        "kind": "Environment",
        "metadata": {"name": name, "namespace": PROJECT},
        "spec": {"projectRef": {"team": TEAM, "name": "shop"}, **spec},
    }


def _plural(manifest: Manifest) -> str:
    kind = manifest["kind"].lower()
    return f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"


def object_path(manifest: Manifest) -> str:
    api_group = manifest["apiVersion"].rpartition("/")[0]
    metadata = manifest["metadata"]
    return path(api_group, metadata.get("namespace", ""), _plural(manifest), metadata["name"])


class Tenancy:
    """The namespaces, bindings and Environments above, and whoever asks for them. Making it twice changes nothing."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._control_plane = control_plane
        self._callers: dict[tuple[str, ...], Api] = {}

    @property
    def admin(self) -> Api:
        """Of group system:masters: arranges, and is the break glass."""
        return self._caller(("admin",), lambda: self._control_plane.admin_kubeconfig)

    @property
    def env_controller(self) -> Api:
        return self.service_account(SYSTEM, "env-controller")

    def service_account(self, where: str, name: str) -> Api:
        return self._caller((where, name), lambda: self._control_plane.kubeconfig_for(where, name))

    def person(self, *groups: str) -> Api:
        """A signed-in person of these groups."""
        return self._caller(("", *groups), lambda: self._control_plane.kubeconfig_as("catalyst:ada", list(groups)))

    def role(self, name: str) -> Api:
        return self.person(group(name))

    def _caller(self, key: tuple[str, ...], kubeconfig: Callable[[], Path]) -> Api:
        if key not in self._callers:
            self._callers[key] = Api(kubeconfig())
        return self._callers[key]

    def close(self) -> None:
        """Takes its namespaces along; they are gone some seconds later."""
        for where in NAMESPACES:
            self.admin.request("DELETE", path("", "", "namespaces", where), dry_run=False)
        for api in self._callers.values():
            api.close()

    def _wait_until_gone(self, within: float = 60) -> None:
        """What an earlier module closed."""
        ends = time.monotonic() + within
        for where in NAMESPACES:
            while "deletionTimestamp" in self.admin.request("GET", path("", "", "namespaces", where)).body.get(
                "metadata", {}
            ):
                assert time.monotonic() < ends, f"namespace {where} is still terminating after {within} s"
                time.sleep(0.1)

    def create(self) -> "Tenancy":
        self._wait_until_gone()
        self._as_admin(namespace(TEAM, {}))
        for manifest in env_controller_manifests():
            self._applied(self.env_controller, manifest)
        self._as_admin(namespace(BARE, {**IDENTITY, "catalyst.dev/environment-uid": "uid-bare"}))
        for name, kind in (("pr-1", "Development"), ("staging", "Deployment")):
            self._as_admin(environment(name, type=kind))
        self._wait_for_policies()
        for role, where in (("owner", DEVELOPMENT), ("admin", DEPLOYMENT)):
            self.role(role).wait_until_may("create", "", "pods", where)
        self.role("owner").wait_until_may("patch", "catalyst.dev", "environments", PROJECT, "pr-1")
        for where in (DEVELOPMENT, DEPLOYMENT):
            self.role("observer").wait_until_may("list", "", "pods", where)
        self.role("observer").wait_until_may("list", "catalyst.dev", "environments", PROJECT)
        return self

    def _as_admin(self, manifest: Manifest) -> None:
        self._applied(self.admin, manifest)

    def _applied(self, api: Api, manifest: Manifest) -> None:
        answer = api.apply(object_path(manifest), manifest)
        assert answer.status in (200, 201), f"{manifest['kind']} {manifest['metadata']['name']}: {answer}"

    def _wait_for_policies(self, within: float = 15) -> None:
        """The API server reads new policies about once a second."""
        ends = time.monotonic() + within
        refused = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "probe"},
            "spec": {"type": "NodePort", "ports": [{"port": 80}]},
        }
        while self.admin.request("POST", path("", BARE, "services"), refused).status != 403:
            assert time.monotonic() < ends, f"the policies are not enforced after {within} s"
            time.sleep(0.1)


def env_controller_manifests() -> list[Manifest]:
    """What env-controller writes for a project and its environments, in its order."""
    project = {**IDENTITY, "catalyst.dev/project-uid": "uid-shop"}
    return [
        namespace(PROJECT, project),
        role_binding(
            PROJECT,
            "catalyst-environment-readers",
            "catalyst-environment-reader",
            *(group(role) for role in ("observer", "admin", "owner")),
        ),
        role_binding(PROJECT, "catalyst-environment-owners", "catalyst-environment-owner", group("owner")),
        *_environment_manifests("pr-1", DEVELOPMENT, "baseline", "owner"),
        *_environment_manifests("staging", DEPLOYMENT, "restricted", "admin"),
        *_environment_manifests("pr-9", FOREIGN, "baseline", "owner", project="blog"),
    ]


def _environment_manifests(
    name: str, where: str, pod_security: str, role: str, *, project: str = "shop"
) -> list[Manifest]:
    identity = {"catalyst.dev/team": TEAM, "catalyst.dev/project": project, "catalyst.dev/environment": name}
    labels = {**identity, "catalyst.dev/environment-uid": f"uid-{project}-{name}"}

    def child(api_version: str, kind: str, name: str, **fields: Any) -> Manifest:
        metadata = {"name": name, "namespace": where, "labels": labels}
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}

    return [
        namespace(where, labels, pod_security),
        child("v1", "ResourceQuota", "environment", spec={"hard": {"services": "10", "services.nodeports": "0"}}),
        child("v1", "LimitRange", "environment", spec={"limits": [{"type": "Container", "max": {"cpu": "2"}}]}),
        child(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            "default-deny",
            spec={"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
        ),
        child("v1", "ServiceAccount", "default", automountServiceAccountToken=False),
        child("v1", "ServiceAccount", "workload", automountServiceAccountToken=False),
        *(
            role_binding(where, f"catalyst-{each}", f"catalyst-{each}", group(each, project))
            for each in ("observer", role)
        ),
    ]
