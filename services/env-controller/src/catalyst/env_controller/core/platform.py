"""What the people who installed Catalyst decided. Read once from the settings, passed to every decision."""

from dataclasses import dataclass
from typing import Literal

PRIVATE_NETWORKS_V4 = (
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "100.64.0.0/10",
    "127.0.0.0/8",
)
PRIVATE_NETWORKS_V6 = ("fc00::/7", "fe80::/10")


@dataclass(frozen=True, slots=True)
class Platform:
    """`protected_networks`: CIDRs no Project may open (the cluster's own pods, Services and nodes; link-local and
    loopback always count).

    `user_namespaces`: the nodes can run pods with `hostUsers: false`; without it development environments are
    `restricted`, too.

    `registry`: host and port of the registry as nodes pull from it, None: nothing can be built. `public_port`: where
    the edge answers. `edge_namespace`: where its pods are. `git_url`: the forge's repositories, for an environment that
    no fact of a forge is known of.
    """

    zone: str = "catalyst.localhost"
    system_namespace: str = "catalyst-system"
    user_namespaces: bool = True
    pod_security_version: str = "v1.36"
    protected_networks: tuple[str, ...] = ()
    registry: str | None = None
    public_port: int = 443
    edge_namespace: str = "catalyst-edge"
    git_url: str = "https://github.com"

    def pod_security(self, environment_type: str) -> Literal["baseline", "restricted"]:
        return "baseline" if environment_type == "Development" and self.user_namespaces else "restricted"
