"""Services as processes of this machine, with what their Deployments in a cluster say: settings and mounted files.

For clusters without nodes. What says where a pod finds others is replaced, nothing else.
"""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from catalyst.local.installation import SYSTEM_NAMESPACE
from catalyst.local.process import Part

CORE: Final = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}"
APPS: Final = f"/apis/apps/v1/namespaces/{SYSTEM_NAMESPACE}/deployments"


@dataclass(frozen=True)
class Deployed:
    """A Deployment. `variables`: of its container; what it mounts lies in `files`."""

    service: str
    variables: Mapping[str, str]
    files: Path

    @classmethod
    def of(cls, admin: httpx.Client, service: str, folder: Path) -> Deployed:
        """As it is in the cluster. Raises AssertionError when it mounts what is not there."""
        pod = _get(admin, f"{APPS}/{service}")["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        volumes = {each["name"]: each for each in pod["volumes"]}
        places = {}
        for mount in container["volumeMounts"]:
            places[mount["mountPath"]] = folder / mount["mountPath"].strip("/")
            if source := volumes[mount["name"]].get("secret"):
                _mount(admin, source, places[mount["mountPath"]])
        variables: dict[str, str] = {}
        for each in container.get("envFrom", ()):
            variables |= _get(admin, f"{CORE}/configmaps/{each['configMapRef']['name']}")["data"]
        variables |= {each["name"]: each.get("value", service) for each in container.get("env", ())}
        return cls(service, {name: _placed(value, places) for name, value in variables.items()}, folder)

    def part(self, log: Path, here: Mapping[str, str], *, without: str = "") -> Part:
        """The process. `here`: what is elsewhere on this machine; `without`: a variable that is left out."""
        variables = {**self.variables, **here, "CATALYST_OPS_PORT": "0", "CATALYST_OPS_HOST": "127.0.0.1"}
        variables.pop(without, None)
        # A Part inherits what this process has: an empty environment first.
        plain = [f"{name}={value}" for name, value in variables.items()]
        module = f"catalyst.{self.service.replace('-', '_')}"
        command = ["/usr/bin/env", "-i", f"PATH={os.environ['PATH']}", *plain, sys.executable, "-m", module]
        return Part(f"{self.service} {without}".strip(), command, log)


def _mount(admin: httpx.Client, source: Mapping[str, Any], place: Path) -> None:
    answer = admin.get(f"{CORE}/secrets/{source['secretName']}")
    if answer.status_code == httpx.codes.NOT_FOUND and source.get("optional"):
        return
    assert answer.is_success, f"Secret {source['secretName']} is not there: {answer.text}"
    place.mkdir(parents=True, exist_ok=True)
    for key, value in answer.json()["data"].items():
        (place / key).write_bytes(base64.b64decode(value))


def _placed(value: str, places: Mapping[str, Path]) -> str:
    for path, place in places.items():
        if value.startswith(f"{path}/"):
            return str(place / value.removeprefix(f"{path}/"))
    return value


def _get(admin: httpx.Client, path: str) -> dict[str, Any]:
    found: dict[str, Any] = admin.get(path).raise_for_status().json()
    return found
