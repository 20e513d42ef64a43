"""Writes the configuration an edge starts with: `python -m catalyst.dns_proxy.edge_config > caddy.json`.

Runs as the init container of the edge's pods, which have dns-proxy's certificate (not its key) and the signing key.
"""

import json
import sys
from pathlib import Path

from pydantic import Field

from catalyst.dns_proxy.authority import public_key
from catalyst.dns_proxy.core.edge import Setup, starting_config
from catalyst.service.settings import BadSettings, ServiceSettings, load


class EdgeSettings(ServiceSettings):
    """The same names as dns-proxy's where they mean the same."""

    zone: str = Field(default="catalyst.localhost", description="DNS zone under which environments get their hosts")
    alias_zones: str = Field(default="", description="further zones, separated by commas")
    edge_client_certificate_file: Path = Field(description="certificate (PEM) of dns-proxy, who may program this edge")
    edge_authority: Path = Field(description="folder with root.crt, tls.crt and tls.key of the signing authority")
    edge_http_port: int = Field(default=8080, ge=1, le=65535, description="port for http")
    edge_https_port: int = Field(default=8443, ge=0, le=65535, description="port for https; 0: TLS ends at Cloudflare")
    edge_admin_port: int = Field(default=2021, ge=1, le=65535, description="port of the admin endpoint")
    edge_storage: str = Field(default="/data", description="folder where Caddy keeps the certificates it made")
    pages_address: str = Field(
        default="dns-proxy.catalyst-system.svc.cluster.local:8080", description="host:port of the friendly pages"
    )

    @property
    def setup(self) -> Setup:
        """Raises OSError, ValueError when the certificate cannot be read."""
        aliases = tuple(zone.strip() for zone in self.alias_zones.split(",") if zone.strip())
        return Setup(
            zones=(self.zone, *aliases),
            client_key=public_key(self.edge_client_certificate_file),
            root=str(self.edge_authority / "root.crt"),
            intermediate=str(self.edge_authority / "tls.crt"),
            intermediate_key=str(self.edge_authority / "tls.key"),
            pages=self.pages_address,
            http_port=self.edge_http_port,
            https_port=self.edge_https_port or None,
            admin_port=self.edge_admin_port,
            storage=self.edge_storage,
        )


def main() -> int:
    try:
        config = starting_config(load(EdgeSettings).setup)
    except (BadSettings, OSError, ValueError) as exc:
        sys.stderr.write(f"edge_config: {exc}\n")
        return 2
    sys.stdout.write(json.dumps(config, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
