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
    """

    zone: str = "catalyst.localhost"
    system_namespace: str = "catalyst-system"
    user_namespaces: bool = True
    pod_security_version: str = "v1.36"
    protected_networks: tuple[str, ...] = ()

    def pod_security(self, environment_type: str) -> Literal["baseline", "restricted"]:
        return "baseline" if environment_type == "Development" and self.user_namespaces else "restricted"
