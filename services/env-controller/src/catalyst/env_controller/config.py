"""env-controller's settings: one frozen value, read once."""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource

from catalyst.env_controller.core.platform import Platform
from catalyst.model.fields import Cidr
from catalyst.model.names import Identity, InvalidName, hostname
from catalyst.service.settings import ServiceSettings, secrets_in


class Settings(ServiceSettings):
    """Everything env-controller can be told from outside."""

    nats_url: str = Field(description="address of NATS, such as nats://nats.catalyst-system:4222")
    nats_seed_file: Path = Field(description="file with the nkey seed of the NATS user env-controller")
    kubeconfig: Path | None = Field(
        default=None, description="kubeconfig file; without it, the pod's own service account"
    )
    zone: str = Field(default="catalyst.localhost", description="DNS zone under which environments get their hosts")
    system_namespace: str = Field(
        default="catalyst-system", description="namespace of Catalyst and of its leader lease"
    )
    user_namespaces: bool = Field(
        default=True, description="nodes can run pods with hostUsers: false; if not, every environment is restricted"
    )
    pod_security_version: str = Field(default="v1.36", description="pinned version of the Pod Security Standards")
    protected_networks: Annotated[tuple[Cidr, ...], NoDecode] = Field(
        default=(), description="CIDRs of the cluster's own nodes, pods and Services, separated by commas: never opened"
    )
    registry: str | None = Field(
        default=None, description="the registry's host and port as nodes pull from it; without it, nothing is built"
    )
    git_url: str = Field(
        default="https://github.com",
        description="where repositories are fetched from, for environments that no forge told of",
    )
    public_port: int = Field(default=443, ge=1, le=65535, description="port of the edge in the URLs people get")
    edge_namespace: str = Field(default="catalyst-edge", description="namespace of the edge's pods")
    audit_token_file: Path | None = Field(
        default=None,
        description="file with the tokens, one a line, of the API server's audit webhook; without it, nobody listens",
    )
    audit_host: str = Field(
        default="0.0.0.0",  # noqa: S104 - the API server comes from outside the pod
        description="address on which the audit webhook is served",
    )
    audit_port: int = Field(default=9443, ge=1, le=65535, description="port of the audit webhook")
    audit_certificate_file: Path | None = Field(
        default=None, description="certificate of the audit webhook, PEM; without it, it speaks plain HTTP"
    )
    audit_key_file: Path | None = Field(default=None, description="private key of that certificate, PEM")
    identity: str = Field(
        default_factory=socket.gethostname, description="this replica's name in the lease; the pod's name"
    )
    lease_seconds: float = Field(
        default=10.0, gt=0, description="after this long without renewal another replica leads"
    )
    workers: int = Field(default=16, ge=1, le=64, description="keys reconciled at once")
    in_flight: int = Field(default=64, ge=1, le=512, description="requests to the API server at once")
    record_decisions: bool = Field(default=True, description="keep what is decided, and from what, in stream DECISIONS")
    resync_seconds: float = Field(default=600.0, gt=0, description="every key is looked at again this often")

    @model_validator(mode="before")
    @classmethod
    def _split(cls, values: dict[str, object]) -> dict[str, object]:
        given = values.get("protected_networks")
        if isinstance(given, str):
            networks = tuple(part.strip() for part in given.split(",") if part.strip())
            return {**values, "protected_networks": networks}
        return values

    @model_validator(mode="after")
    def _not_everything(self) -> Self:
        if any(network.endswith("/0") for network in self.protected_networks):
            raise ValueError("CATALYST_PROTECTED_NETWORKS: a /0 would close the public web; expected smaller networks")
        return self

    @model_validator(mode="after")
    def _the_api_server_is_known(self) -> Self:
        if (self.audit_certificate_file is None) != (self.audit_key_file is None):
            raise ValueError("CATALYST_AUDIT_CERTIFICATE_FILE, CATALYST_AUDIT_KEY_FILE: expected both or neither")
        try:
            self.audit_tokens  # noqa: B018 - read now: a missing one stops the boot
        except ValueError as error:
            raise ValueError(f"CATALYST_AUDIT_TOKEN_FILE: {error}") from error
        return self

    @property
    def audit_tokens(self) -> tuple[SecretStr, ...]:
        """The tokens that let the API server in. Raises ValueError."""
        return secrets_in(self.audit_token_file) if self.audit_token_file else ()

    @model_validator(mode="after")
    def _room_for_hosts(self) -> Self:
        try:
            hostname(Identity("team", "project", "environment"), self.zone)
        except InvalidName as error:
            raise ValueError(f"CATALYST_ZONE: {error}, at most 189 characters long") from error
        return self

    @property
    def platform(self) -> Platform:
        return Platform(
            zone=self.zone,
            system_namespace=self.system_namespace,
            user_namespaces=self.user_namespaces,
            pod_security_version=self.pod_security_version,
            protected_networks=self.protected_networks,
            registry=self.registry,
            public_port=self.public_port,
            edge_namespace=self.edge_namespace,
            git_url=self.git_url.rstrip("/"),
        )


def platform_told(variables: Mapping[str, str]) -> Platform:
    """The platform as a process that is given these variables (`CATALYST_…`) would have it, whatever this one is given.

    Raises pydantic's ValidationError for variables with which it would not boot.
    """
    prefix = Settings.model_config.get("env_prefix", "")
    given = {name.removeprefix(prefix).lower(): text for name, text in variables.items() if name.startswith(prefix)}
    return _Told.model_validate({"nats_url": "", "nats_seed_file": "", **given}).platform


class _Told(Settings):
    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)
