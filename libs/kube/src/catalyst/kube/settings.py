"""How to reach an API server, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class KubeSettings:
    """A kubeconfig file (with an optional context), or, when it is None, the pod's own service account.

    Inside a pod the address comes from KUBERNETES_SERVICE_HOST and _PORT, which the kubelet sets, and the token file is
    read again every minute, because the kubelet rotates it.
    """

    kubeconfig: Path | None = None
    context: str | None = None
    token_file: Path = _ACCOUNT / "token"
    ca_file: Path = _ACCOUNT / "ca.crt"
    in_flight: int = 32
    """Requests (watches apart) that may be under way at once; more wait their turn."""
