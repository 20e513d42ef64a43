"""Every name, address, port and folder of the node. deploy/local/manifests repeats some of them; a test compares.

One node a machine: its addresses, its bridges and its entry in the hosts file exist once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

NODE: Final = "catalyst"
ADDRESS: Final = "172.30.0.1"
"""Of the node: API server, kubelet, registry and mirror listen here and nowhere else."""
BRIDGE: Final = "catalyst0"
"""Carries ADDRESS: a bridge without members, since not every kernel has dummy interfaces."""

PODS: Final = "10.244.0.0/16"
PODS_BRIDGE: Final = "catalyst-pods"
SERVICES: Final = "10.96.0.0/16"
DNS: Final = "10.96.0.10"
REALM: Final = "10.96.0.20"
"""The ClusterIP that builder's Service must have here: containerd asks it for tokens, by a name in the hosts file."""

INTERNET_NAMESPACE: Final = "catalyst-internet"
INTERNET: Final = "198.18.0.2"
INTERNET_GATEWAY: Final = "198.18.0.1"
INTERNET_LINK: Final = "catalyst-inet"
INTERNET_RANGE: Final = "198.18.0.0/15"
"""RFC 2544's range for benchmarks: outside everything private, and nobody's on the real internet."""
METADATA: Final = "169.254.169.254"
LINK_LOCAL: Final = "169.254.0.0/16"
ROUTING_TABLE: Final = 16918

API_PORT: Final = 6443
KUBELET_PORT: Final = 10250
REGISTRY_PORT: Final = 5000
MIRROR_PORT: Final = 5001

REGISTRY: Final = f"registry.catalyst.test:{REGISTRY_PORT}"
MIRROR: Final = f"mirror.catalyst.test:{MIRROR_PORT}"
REALM_URL: Final = "http://realm.catalyst.test:8080/token"
REALM_ISSUER: Final = "catalyst-builder"

NAMES: Final = {
    NODE: ADDRESS,
    "registry.catalyst.test": ADDRESS,
    "mirror.catalyst.test": ADDRESS,
    "github.catalyst.test": ADDRESS,
    "realm.catalyst.test": REALM,
}
"""For the machine's hosts file: it dials the node for exec and logs, and containerd dials the others."""

PAUSE_IMAGE: Final = "docker.io/catalyst/pause:1"


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders of one cluster.

    `state`: of the checkout, for people: logs, kubeconfig, the control plane's data.
    `data` and `run`: the machine's. Pods with user namespaces must be able to walk down to their files as somebody
    who is not root, which a home folder may forbid.
    """

    state: Path
    data: Path = Path("/var/lib/catalyst-local")
    run: Path = Path("/run/catalyst-local")

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def configuration(self) -> Path:
        return self.state / "configuration"

    @property
    def kubeconfig(self) -> Path:
        return self.state / "admin.kubeconfig"

    @property
    def realm(self) -> Path:
        """`key.pem` (ES256, 0600) for builder, `jwks.json` for the registry."""
        return self.state / "realm"

    @property
    def containerd_socket(self) -> Path:
        return self.run / "containerd" / "containerd.sock"

    @property
    def before(self) -> Path:
        """What the machine was like before: see leftovers.py. There while a cluster runs or left something behind."""
        return self.run / "before.json"

    @property
    def lock(self) -> Path:
        """Held by the supervisor as long as it lives; names its state folder."""
        return self.run / "lock"

    def make(self) -> None:
        """All folders; 0711 on the way to containerd's, so that user namespaces can pass."""
        self.state.mkdir(parents=True, exist_ok=True)
        for folder in (
            self.run,
            self.run / "containerd",
            self.data,
            *(self.data / name for name in ("containerd", "kubelet", "volumes", "pod-logs", "cni", "registry")),
        ):
            folder.mkdir(mode=0o711, parents=True, exist_ok=True)
            folder.chmod(0o711)
        for folder in (self.logs, self.configuration, self.realm):
            folder.mkdir(exist_ok=True)
