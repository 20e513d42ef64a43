"""A cluster that somebody has (kind, k3d, a cloud's), reached by its kubeconfig: for `make dev` and the installer.

Requests go through `kubectl proxy` on a unix socket in a folder of mode 0700: so every way to sign in that the
kubeconfig may name works, and nobody else on this machine gets a door to the cluster.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml

from catalyst.local import certs
from catalyst.local.control_plane import kubeconfig
from catalyst.local.process import Part, tail


class ClusterUnusable(RuntimeError):
    """The kubeconfig leads nowhere; the text says why and what is expected."""


class ExistingCluster:
    """A context manager: the proxy runs between entry and exit. Whoever's kubeconfig it is must be cluster admin."""

    def __init__(self, folder: Path, admin_kubeconfig: Path, kubectl: Path | None = None) -> None:
        found = kubectl or shutil.which("kubectl")
        if found is None:
            raise ClusterUnusable("CATALYST_KUBECONFIG is set, which needs kubectl: expected it in PATH")
        if not admin_kubeconfig.is_file():
            raise ClusterUnusable(f"CATALYST_KUBECONFIG={admin_kubeconfig}: expected a kubeconfig file")
        self.kubectl = Path(found)
        self.admin_kubeconfig = admin_kubeconfig.absolute()
        self.folder = folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self._socket = self.folder / "proxy.sock"
        self._socket.unlink(missing_ok=True)
        command: list[str | Path] = [
            self.kubectl,
            "--kubeconfig",
            self.admin_kubeconfig,
            "proxy",
            f"--unix-socket={self._socket}",
        ]
        self.proxy = Part("kubectl-proxy", command, self.folder / "kubectl-proxy.log")

    @cached_property
    def admin(self) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=str(self._socket))
        return httpx.Client(base_url="http://localhost", transport=transport, timeout=30, trust_env=False)

    def kubeconfig_for(self, namespace: str, service_account: str) -> Path:
        """Of a ServiceAccount that exists. Raises httpx.HTTPStatusError."""
        answer = self.admin.post(
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token",
            json={
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"expirationSeconds": 86_400},
            },
        )
        answer.raise_for_status()
        cluster = self._cluster
        if "certificate-authority-data" not in cluster:
            raise ClusterUnusable(f"{self.admin_kubeconfig}: expected certificate-authority-data for the API server")
        config = kubeconfig(
            cluster["server"],
            base64.b64decode(cluster["certificate-authority-data"]),
            service_account,
            {"token": answer.json()["status"]["token"]},
        )
        return certs.write(self.folder / f"{service_account}.yaml", yaml.safe_dump(config).encode())

    @cached_property
    def _cluster(self) -> dict[str, Any]:
        command: list[str | Path] = [self.kubectl, "--kubeconfig", self.admin_kubeconfig]
        command += ["config", "view", "--raw", "--minify", "--flatten", "--output", "json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ClusterUnusable(f"{self.admin_kubeconfig}: {done.stderr.strip()}")
        cluster: dict[str, Any] = json.loads(done.stdout)["clusters"][0]["cluster"]
        return cluster

    def _answers(self) -> bool:
        if "Starting to serve" not in tail(self.proxy.log):
            return False
        with contextlib.suppress(httpx.TransportError):
            return self.admin.get("/readyz").status_code == httpx.codes.OK
        return False

    def __enter__(self) -> Self:
        self.proxy.log.unlink(missing_ok=True)  # of an earlier proxy, which says that it serves
        self.proxy.start()
        try:
            self.proxy.wait_until(self._answers, within=20, what="through to the cluster")
        except BaseException:
            self.proxy.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.admin.close()
        self.proxy.stop()
