"""kubectl on the node's cluster, for tests that look at what pods see."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4


class Kubectl:
    """As the cluster's admin, in one namespace."""

    def __init__(self, binary: Path, kubeconfig: Path, namespace: str = "default") -> None:
        self._command = [str(binary), "--kubeconfig", str(kubeconfig)]
        self.namespace = namespace

    def run(self, *words: str, content: str | None = None, within: float = 120) -> str:
        """Standard output. Raises AssertionError with what kubectl said."""
        command = [*self._command, "--namespace", self.namespace, *words]
        done = subprocess.run(command, input=content, capture_output=True, text=True, timeout=within, check=False)
        assert done.returncode == 0, f"kubectl {' '.join(words)}:\n{done.stderr}"
        return done.stdout

    def get(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("get", *words, "--output", "json"))
        return found

    def apply(self, *manifests: Mapping[str, Any]) -> None:
        listed = {"apiVersion": "v1", "kind": "List", "items": manifests}
        self.run("apply", "--server-side", "--filename", "-", content=json.dumps(listed))

    def wait(self, what: str, condition: str, within: float = 90) -> None:
        """For a condition of an object; its description is in the error."""
        try:
            self.run("wait", what, f"--for={condition}", f"--timeout={within:g}s", within=within + 10)
        except AssertionError as error:
            logs = subprocess.run(
                [*self._command, "--namespace", self.namespace, "logs", "--all-containers", "--tail=30", what],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            raise AssertionError(f"{error}\n{self.run('describe', what)}\n{logs.stdout}{logs.stderr}") from None

    def finished(self, pod: str, within: float = 120) -> str:
        """The log of a pod that ended well."""
        self.wait(f"pod/{pod}", "jsonpath={.status.phase}=Succeeded", within)
        return self.run("logs", pod)

    def execute(self, pod: str, *command: str) -> str:
        return self.run("exec", pod, "--", *command)

    def within(self, namespace: str) -> Kubectl:
        """The same admin in another namespace."""
        return Kubectl(Path(self._command[0]), Path(self._command[2]), namespace)

    @contextmanager
    def new_namespace(self, security: str = "baseline") -> Iterator[Kubectl]:
        """Removed afterwards, with everything in it."""
        name = f"test-{uuid4().hex[:8]}"
        labels = {"pod-security.kubernetes.io/enforce": security}
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        self.apply(namespace)
        there = self.within(name)
        account_until = time.monotonic() + 20
        while subprocess.run([*self._command, "--namespace", name, "get", "serviceaccount", "default"],
                             capture_output=True, check=False).returncode:  # fmt: skip
            assert time.monotonic() < account_until, "no ServiceAccount `default`"
            time.sleep(0.1)
        try:
            yield there
        finally:
            self.run("delete", "namespace", name, "--wait=false")


def pod(
    name: str,
    image: str,
    *command: str,
    labels: Mapping[str, str] | None = None,
    container: Mapping[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """A pod of one container that is not restarted, ends at once when deleted, and runs in a user namespace."""
    main = {"name": "main", "image": image, **({"command": list(command)} if command else {}), **(container or {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name, **(labels or {})}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "hostUsers": False,
            "containers": [main],
            **spec,
        },
    }


def service(name: str, port: int, **spec: Any) -> dict[str, Any]:
    """Of the pods labelled `app: <name>`."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": port}], **spec},
    }
