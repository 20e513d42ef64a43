"""dns-proxy's settings: one frozen value, read once."""

import re
import socket
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import NoDecode

from catalyst.dns_proxy.core.caddy import Layout
from catalyst.dns_proxy.core.cloudflare import MAX_OWNER, Tunnel
from catalyst.dns_proxy.effects.edge import EdgeAccess
from catalyst.service.settings import ServiceSettings, secrets_in

_LISTS = ("alias_zones", "edge_hosts")
_ZONE = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*\Z")


class Settings(ServiceSettings):
    """Everything dns-proxy can be told from outside."""

    nats_url: str = Field(min_length=1, description="address of NATS, such as nats://nats.catalyst-system:4222")
    nats_seed_file: Path = Field(description="file with the nkey seed of the NATS user dns-proxy")
    zone: str = Field(default="catalyst.localhost", description="DNS zone under which environments get their hosts")
    alias_zones: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="further zones, separated by commas, under which every host answers, too"
    )
    service_address: str = Field(
        default="{service}.{namespace}.svc.cluster.local",
        description="how the edges address a Service: its whole DNS name, with {service} and {namespace}",
    )
    edge_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        min_length=1,
        description="names or addresses of the edges, separated by commas, such as edge-admin.catalyst-edge.svc; "
        "every address of a name is an edge",
    )
    edge_authority_file: Path = Field(description="root certificate (PEM) by which the edges are known")
    edge_certificate_file: Path = Field(description="certificate (PEM) by which the edges know dns-proxy")
    edge_key_file: Path = Field(description="key (PEM) of that certificate")
    edge_admin_port: int = Field(default=2021, ge=1, le=65535, description="port of the edges' admin endpoint")
    edge_http_port: int = Field(default=8080, ge=1, le=65535, description="port on which the edges serve http")
    edge_https_port: int = Field(
        default=8443, ge=0, le=65535, description="port on which they serve https; 0: TLS ends at Cloudflare"
    )
    pages_address: str = Field(
        default="dns-proxy.catalyst-system.svc.cluster.local:8080",
        description="host:port under which the edges reach the friendly pages of this service",
    )
    http_host: str = Field(
        default="0.0.0.0",  # noqa: S104 - the edges come from other pods
        description="address on which friendly pages are served",
    )
    http_port: int = Field(default=8080, ge=0, le=65535, description="port of the friendly pages; 0 takes a free one")
    look_seconds: float = Field(default=1.0, gt=0, description="the edges and STATE are looked at this often")
    resync_seconds: float = Field(default=60.0, gt=0, description="everything is compared whole this often")
    lease_seconds: float = Field(default=6.0, gt=0, description="after this long without renewal another replica leads")
    identity: str = Field(
        default_factory=socket.gethostname, description="this replica's name in the lock; the pod's name"
    )
    owner: str = Field(
        default="catalyst",
        max_length=MAX_OWNER,
        pattern="^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
        description="name of this installation in the marks on DNS records and in the tunnel's name",
    )
    cloudflare_token_file: Path | None = Field(
        default=None, description="file with a Cloudflare API token; without it Cloudflare is not used"
    )
    cloudflare_account: str | None = Field(default=None, description="id of the Cloudflare account")
    cloudflare_zone: str | None = Field(default=None, description="id of the DNS zone at Cloudflare")
    cloudflare_tunnel: str | None = Field(default=None, description="name of the tunnel; default: catalyst-<owner>")
    cloudflare_service: str = Field(
        default="http://edge.catalyst-edge.svc.cluster.local:8080", description="where cloudflared finds the edge"
    )
    cloudflare_records: Literal["wildcard", "hosts"] = Field(
        default="wildcard", description="one proxied wildcard record, or a record for every host"
    )
    cloudflare_url: str = Field(
        default="https://api.cloudflare.com/client/v4", description="base of Cloudflare's API; for tests"
    )

    @model_validator(mode="before")
    @classmethod
    def _split(cls, values: dict[str, object]) -> dict[str, object]:
        lists = {name: str(values[name]).split(",") for name in _LISTS if isinstance(values.get(name), str)}
        return {**values, **{name: tuple(filter(None, map(str.strip, parts))) for name, parts in lists.items()}}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for zone in (self.zone, *self.alias_zones):
            if not _ZONE.match(zone):
                raise ValueError(
                    f"CATALYST_ZONE, CATALYST_ALIAS_ZONES: {zone!r}: expected a lower-case DNS name such as "
                    "preview.example.org"
                )
        try:
            self.service_address.format(service="web", namespace="acme--shop--pr-1")
        except (LookupError, ValueError) as exc:
            raise ValueError(
                f"CATALYST_SERVICE_ADDRESS: expected only {{service}} and {{namespace}} in braces ({exc!r})"
            ) from exc
        if self.cloudflare_token_file is not None:
            for name in ("cloudflare_account", "cloudflare_zone"):
                if not getattr(self, name):
                    raise ValueError(
                        f"CATALYST_{name.upper()} is missing; with CATALYST_CLOUDFLARE_TOKEN_FILE it is required"
                    )
            self.cloudflare_token()
        return self

    def cloudflare_token(self) -> SecretStr | None:
        """The API token; None when Cloudflare is not used."""
        if self.cloudflare_token_file is None:
            return None
        try:
            return secrets_in(self.cloudflare_token_file)[0]
        except ValueError as exc:
            raise ValueError(f"CATALYST_CLOUDFLARE_TOKEN_FILE: {exc}") from exc

    @property
    def layout(self) -> Layout:
        """What the edges' tables are built with."""
        return Layout(self.zone, self.alias_zones, self.service_address, self.pages_address)

    @property
    def edges(self) -> EdgeAccess:
        """Where the edges are."""
        return EdgeAccess(
            hosts=self.edge_hosts,
            authority=self.edge_authority_file,
            certificate=self.edge_certificate_file,
            key=self.edge_key_file,
            admin_port=self.edge_admin_port,
            http_port=self.edge_http_port,
            https_port=self.edge_https_port or None,
        )

    @property
    def tunnel(self) -> Tunnel:
        """What Cloudflare is to be."""
        return Tunnel(
            account=self.cloudflare_account or "",
            zone_id=self.cloudflare_zone or "",
            name=self.cloudflare_tunnel or f"catalyst-{self.owner}",
            zone=self.zone,
            service=self.cloudflare_service,
            owner=self.owner,
            wildcard=self.cloudflare_records == "wildcard",
        )
