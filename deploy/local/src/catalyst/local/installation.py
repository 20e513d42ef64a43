"""A whole installation: control plane, NATS, and what deploy/k8s puts into the cluster. Used by the tests and by
`make dev`.

Every service has its own ServiceAccount (`kubeconfig`) and its own NATS user (`nats.seed`); nothing here hands out
the admin's.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import httpx

from catalyst.local.control_plane import AuditLog, ControlPlane
from catalyst.local.nats import Nats
from catalyst.model import labels

MANIFESTS: Final = Path(__file__).resolve().parents[4] / "k8s" / "base"
"""Types, rights and policies, without anything that runs: enough for services that are processes of this machine."""
SYSTEM_NAMESPACE: Final = "catalyst-system"
FIELD_MANAGER: Final = "catalyst-local"

# What every cluster keeps changing by itself; everything else counts as left behind.
_ALWAYS_CHANGING: Final = frozenset({"events", "events.events.k8s.io", "leases.coordination.k8s.io"})


class InstallFailed(RuntimeError):
    """The cluster refused what deploy/k8s holds. The text is kubectl's."""


@dataclass(frozen=True, slots=True, order=True)
class Found:
    """One object in the cluster. `resource` is `<plural>` or `<plural>.<group>`."""

    resource: str
    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.resource}/{self.namespace}/{self.name}" if self.namespace else f"{self.resource}/{self.name}"


class Cluster(Protocol):
    """What an installation needs of a cluster: the control plane of this package, or one that somebody has."""

    @property
    def admin(self) -> httpx.Client: ...
    @property
    def kubectl(self) -> Path: ...
    @property
    def admin_kubeconfig(self) -> Path: ...
    def kubeconfig_for(self, namespace: str, service_account: str) -> Path: ...


class Installed:
    """A cluster and a NATS server that run and have everything applied."""

    def __init__(self, cluster: Cluster, nats: Nats) -> None:
        self.cluster = cluster
        self.nats = nats

    @property
    def admin(self) -> httpx.Client:
        """For arranging and inspecting; what is under test never gets it."""
        return self.cluster.admin

    def kubeconfig(self, service: str) -> Path:
        """Of the service's own ServiceAccount in `catalyst-system`."""
        return self.cluster.kubeconfig_for(SYSTEM_NAMESPACE, service)

    def settings(self, service: str) -> dict[str, str]:
        """The environment variables with which this service reaches this installation as itself."""
        return {
            "CATALYST_NATS_URL": self.nats.url,
            "CATALYST_NATS_SEED_FILE": str(self.nats.seed(service)),
            "CATALYST_KUBECONFIG": str(self.kubeconfig(service)),
        }

    def apply(self, *manifests: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Server-side apply as admin. Raises httpx.HTTPStatusError whose notes hold the API server's message."""
        return [self._apply(manifest) for manifest in manifests]

    def team(self, name: str, *repositories: str) -> dict[str, Any]:
        """The team's namespace as the platform's people make it, with the repositories it may use (`github/acme/*`)."""
        metadata = {
            "name": name,
            "labels": {labels.TEAM: name},
            "annotations": {labels.REPOSITORIES: " ".join(repositories)},
        }
        return self._apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})

    def _apply(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        answer = self.admin.patch(
            object_path(self.admin, manifest),
            params={"fieldManager": FIELD_MANAGER, "force": "true"},
            headers={"content-type": "application/apply-patch+yaml"},
            content=json.dumps(manifest),
        )
        result: dict[str, Any] = checked(answer).json()
        return result


class Installation(Installed):
    """The same on a control plane of our own, whose audit log can be read."""

    def __init__(self, control_plane: ControlPlane, nats: Nats) -> None:
        super().__init__(control_plane, nats)
        self.control_plane = control_plane
        self.audit = AuditLog(control_plane.audit_log)

    def everything(self, *, excluding: Iterable[str] = _ALWAYS_CHANGING) -> frozenset[Found]:
        """Every object of every resource that can be listed, by discovery. `excluding`: `<plural>` or
        `<plural>.<group>`.

        `after - before` is what was left behind; equal sets mean nothing was, and nothing was replaced (uids are
        compared).
        """
        return everything(self.admin, excluding=excluding)


def install(cluster: Cluster) -> None:
    """Apply deploy/k8s to a running cluster; returns when the resources are served and the policies are enforced.

    Raises InstallFailed.
    """
    kubectl: list[str | Path] = [cluster.kubectl, "--kubeconfig", cluster.admin_kubeconfig]
    command = [*kubectl, "apply", "--server-side", "--force-conflicts"]
    command += ["--field-manager", FIELD_MANAGER, "-k", MANIFESTS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InstallFailed(f"kubectl apply -k {MANIFESTS} failed:\n{done.stderr.strip()}")
    wait_for_crds(cluster.admin)
    _wait_for_policies(cluster.admin)


def everything(client: httpx.Client, *, excluding: Iterable[str] = ()) -> frozenset[Found]:
    """See `Installation.everything`."""
    excluded = frozenset(excluding)
    return frozenset(
        found
        for path, resource in _listable(client)
        if resource not in excluded
        for found in _objects(client, path, resource)
    )


def object_path(client: httpx.Client, manifest: Mapping[str, Any]) -> str:
    """Where the API server keeps this object. Raises LookupError when it serves no such kind."""
    version, kind, metadata = manifest["apiVersion"], manifest["kind"], manifest["metadata"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    resources = checked(client.get(root)).json()["resources"]
    for entry in resources:
        if entry["kind"] == kind and "/" not in entry["name"]:
            middle = f"/namespaces/{metadata['namespace']}" if entry["namespaced"] else ""
            return f"{root}{middle}/{entry['name']}/{metadata['name']}"
    raise LookupError(f"the API server serves no {kind} in {version}")


def checked(answer: httpx.Response) -> httpx.Response:
    """The answer, or HTTPStatusError with the API server's own words as a note."""
    try:
        return answer.raise_for_status()
    except httpx.HTTPStatusError as error:
        error.add_note(answer.text)
        raise


def _listable(client: httpx.Client) -> list[tuple[str, str]]:
    groups = checked(client.get("/apis")).json()["groups"]
    roots = [("/api/v1", "")] + [(f"/apis/{g['preferredVersion']['groupVersion']}", g["name"]) for g in groups]
    return [
        (f"{root}/{entry['name']}", f"{entry['name']}.{group}" if group else entry["name"])
        for root, group in roots
        for entry in checked(client.get(root)).json()["resources"]
        if "list" in entry["verbs"]
    ]


def _objects(client: httpx.Client, path: str, resource: str) -> list[Found]:
    only_metadata = {"accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
    answer = client.get(path, headers=only_metadata)
    if answer.status_code in (httpx.codes.METHOD_NOT_ALLOWED, httpx.codes.NOT_ACCEPTABLE):
        answer = client.get(path)  # componentstatuses and the like know no metadata-only form
    return [
        Found(
            resource, item["metadata"].get("namespace", ""), item["metadata"]["name"], item["metadata"].get("uid", "")
        )
        for item in checked(answer).json()["items"] or ()  # an empty list may come as null
    ]


def wait_for_crds(client: httpx.Client) -> None:
    """Until every custom resource can be listed: after `Established` the API server still answers 429 for a moment."""

    def served() -> bool:
        items = checked(client.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")).json()["items"]
        paths = [
            f"/apis/{item['spec']['group']}/{version['name']}/{item['spec']['names']['plural']}"
            for item in items
            for version in item["spec"]["versions"]
            if version["served"]
        ]
        return all(client.get(path, params={"limit": "1"}).status_code == httpx.codes.OK for path in paths)

    _until(served, within=20, what="the custom resources are served")


def _wait_for_policies(client: httpx.Client) -> None:
    """Apply one more policy, last, and wait until it refuses: the API server takes policies up in order, within a
    second or so.
    """
    name = "catalyst-local-sentinel"
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "resources": ["configmaps"],
        "operations": ["CREATE"],
        "resourceNames": [name],
    }
    group = "/apis/admissionregistration.k8s.io/v1"
    policy = {
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": "false", "message": "the policies are enforced"}],
        },
    }
    binding = {"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}}
    for plural, made in (("validatingadmissionpolicies", policy), ("validatingadmissionpolicybindings", binding)):
        answer = client.post(f"{group}/{plural}", json=made)
        if answer.status_code != httpx.codes.CONFLICT:  # left by an installation that was interrupted
            checked(answer)

    def refused() -> bool:
        probe = {"metadata": {"name": name}}
        answer = client.post("/api/v1/namespaces/default/configmaps", params={"dryRun": "All"}, json=probe)
        return answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY

    _until(refused, within=30, what="the admission policies are enforced")
    checked(client.delete(f"{group}/validatingadmissionpolicybindings/{name}"))
    checked(client.delete(f"{group}/validatingadmissionpolicies/{name}"))


def _until(holds: Any, *, within: float, what: str) -> None:
    deadline = time.monotonic() + within
    while not holds():
        if time.monotonic() > deadline:
            raise InstallFailed(f"{what}: not within {within:g} s")
        time.sleep(0.05)
