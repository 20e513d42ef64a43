"""What the cluster says while a pull request is on its way. The demo only looks: what happens is asked for by git and
the forge alone.
"""

from __future__ import annotations

import base64
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import yaml

from catalyst.local.demo.places import SYSTEM, TEAM, Story
from catalyst.model import labels
from catalyst.model.environment import Environment
from catalyst.model.names import Identity, build_namespace, project_namespace, workload_namespace

GROUP: Final = "/apis/catalyst.dev/v1alpha1"
_BUILD_OBJECTS: Final = {"Job": "/apis/batch/v1", "Pod": "/api/v1", "Secret": "/api/v1"}


class Sight:
    """The cluster's API as its admin."""

    def __init__(self, kubeconfig: Path) -> None:
        self._http = _client(kubeconfig)

    def environment(self, story: Story) -> Environment | None:
        """None when there is none, or none any more."""
        found = self.get(f"{GROUP}/namespaces/{story.namespace}/environments/{story.environment}")
        return None if found is None else Environment.model_validate(found)

    def project_ready(self, name: str) -> tuple[bool, str]:
        """Whether it is; else what it says of itself."""
        found = self.get(f"{GROUP}/namespaces/{TEAM}/projects/{name}") or {}
        conditions = found.get("status", {}).get("conditions", [])
        said = "; ".join(
            f"{each['type']}={each['status']}: {each.get('message', '')}"
            for each in conditions
            if each["status"] != "True"
        )
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions), said

    def get(self, path: str, **query: str) -> dict[str, Any] | None:
        """None for 404."""
        answer = self._http.get(path, params=query)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        found: dict[str, Any] = _checked(answer).json()
        return found

    def left_of(self, story: Story) -> Iterator[str]:
        """Whatever there still is of a pull request's environment, in words."""
        yield from self.left_of_environment(Identity(TEAM, story.project, story.environment))

    def left_of_environment(self, identity: Identity) -> Iterator[str]:
        """The same of any team's."""
        project = project_namespace(identity.team, identity.project)
        if self.get(f"{GROUP}/namespaces/{project}/environments/{identity.environment}") is not None:
            yield "the Environment"
        workload = workload_namespace(identity)
        if self.get(f"/api/v1/namespaces/{workload}") is not None:
            yield f"namespace {workload}"
        yield from self._build_objects(identity)

    def _build_objects(self, identity: Identity) -> Iterator[str]:
        own = f"{labels.ENVIRONMENT}={identity.environment}"
        for trusted in (True, False):
            namespace = build_namespace(identity.team, identity.project, trusted=trusted)
            for kind, root in _BUILD_OBJECTS.items():
                path = f"{root}/namespaces/{namespace}/{kind.lower()}s"
                selector = own if kind != "Secret" else f"{labels.GROUP}/build"  # theirs name the Job alone
                if found := (self.get(path, labelSelector=selector) or {}).get("items"):
                    yield f"{len(found)} {kind}(s) of builds"

    def log_end(self, service: str, lines: int = 15) -> str:
        """Of one of our services; whatever can be had."""
        selector = f"app.kubernetes.io/name={service}"
        found = self.get(f"/api/v1/namespaces/{SYSTEM}/pods", labelSelector=selector) or {"items": []}
        ends = []
        for pod in found["items"]:
            name = pod["metadata"]["name"]
            answer = self._http.get(
                f"/api/v1/namespaces/{SYSTEM}/pods/{name}/log", params={"tailLines": str(lines), "container": service}
            )
            ends.append(f"{name} ({pod['status'].get('phase')}):\n{answer.text.rstrip()}")
        return "\n".join(ends) or f"{service}: no pod"

    def close(self) -> None:
        self._http.close()


def _client(kubeconfig: Path) -> httpx.Client:
    """By the certificate in a kubeconfig of ours: one cluster, one user."""
    content = yaml.safe_load(kubeconfig.read_text())
    cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    with tempfile.NamedTemporaryFile(suffix=".pem") as pair:  # 0600; ssl reads certificates from files only
        pair.write(base64.b64decode(user["client-certificate-data"]))
        pair.write(base64.b64decode(user["client-key-data"]))
        pair.flush()
        context.load_cert_chain(pair.name)
    url = urlsplit(cluster["server"])
    return httpx.Client(base_url=f"https://{url.netloc}", verify=context, timeout=30, trust_env=False)


def _checked(answer: httpx.Response) -> httpx.Response:
    try:
        return answer.raise_for_status()
    except httpx.HTTPStatusError as error:
        error.add_note(answer.text[:1000])
        raise
