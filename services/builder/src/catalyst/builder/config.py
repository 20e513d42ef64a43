"""builder's settings: one frozen value, read once. A wrong or missing one stops the boot and names itself."""

import socket
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_settings import NoDecode

from catalyst.builder.core.platform import Images, Limits, Opening, Platform
from catalyst.builder.core.tokens import BadKey, Signer, private_key
from catalyst.builder.effects.registry import given_credential
from catalyst.forge.settings import ForgeSettings
from catalyst.model.fields import Cidr, Quantity
from catalyst.service import ServiceSettings

_LISTS = ("registry_mirrors", "public_repositories", "build_egress", "protected_networks")
_HOST = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?$"


class Settings(ForgeSettings, ServiceSettings):
    """Everything builder can be told from outside."""

    nats_url: str = Field(min_length=1, description="address of NATS, such as nats://nats.catalyst-system:4222")
    nats_seed_file: Path = Field(description="file with the nkey seed of the NATS user builder")
    kubeconfig: Path | None = Field(
        default=None, description="kubeconfig file; without it, the pod's own service account"
    )
    system_namespace: str = Field(
        default="catalyst-system", description="namespace of Catalyst, its registry and its leader lease"
    )

    registry: str = Field(pattern=_HOST, description="the registry's host and port, such as registry.example.org")
    registry_insecure: bool = Field(default=False, description="the registry speaks plain http")
    registry_mirrors: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="hosts asked before Docker Hub for its images, separated by commas"
    )
    registry_credentials_file: Path | None = Field(
        default=None, description="docker config.json with the login of an external registry; instead of the realm"
    )
    realm_key_file: Path | None = Field(
        default=None, description="file with the realm's P-256 private key, when builder is the registry's token realm"
    )
    realm_issuer: str = Field(
        default="catalyst-builder", description="auth.token.issuer of the registry's configuration"
    )
    realm_service: str | None = Field(
        default=None, description="auth.token.service of the registry's configuration; without it, CATALYST_REGISTRY"
    )
    realm_host: str = Field(
        default="0.0.0.0",  # noqa: S104 - the registry's clients come from outside the pod
        description="address on which /token is served",
    )
    realm_port: int = Field(default=8080, ge=0, le=65535, description="port of /token; 0 takes a free one")
    public_repositories: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("library/*",), description="repositories that anybody may pull, as globs per part"
    )

    git_url: str = Field(
        default="https://github.com",
        pattern=r"^https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9._-]+)*$",
        description="where repositories are fetched from, without a slash at the end",
    )
    git_insecure: bool = Field(default=False, description="CATALYST_GIT_URL may be http: for a forge on this machine")

    fetch_image: str = Field(min_length=1, description="image with sh, git and CA certificates")
    kaniko_image: str = Field(min_length=1, description="image of Kaniko's executor, such as the maintained fork's")
    crane_image: str = Field(min_length=1, description="image with crane in its PATH: it pushes what forks built")
    build_egress: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="private addresses that builds may reach, as cidr:port separated by commas: registry, realm, forge",
    )
    protected_networks: Annotated[tuple[Cidr, ...], NoDecode] = Field(
        default=(), description="CIDRs of the cluster's own nodes, pods and Services, separated by commas: never opened"
    )
    pod_security_version: str = Field(default="v1.36", description="pinned version of the Pod Security Standards")

    builds_at_once: int = Field(default=4, ge=1, le=1000, description="builds that run in the whole installation")
    builds_per_project: int = Field(default=2, ge=1, le=100, description="builds of one project that run at once")
    build_seconds: int = Field(default=1800, ge=30, le=86400, description="time that one build may take")
    build_kept_seconds: int = Field(default=3600, ge=60, description="how long a finished Job stays to be looked at")
    build_cpu: Quantity = Field(default="2", description="most CPU of one build")
    build_memory: Quantity = Field(default="4Gi", description="most memory of one build")
    build_disk: Quantity = Field(default="10Gi", description="most disk of one build")

    identity: str = Field(
        default_factory=socket.gethostname, description="this replica's name in the lease; the pod's name"
    )
    lease_seconds: float = Field(
        default=10.0, gt=0, description="after this long without renewal another replica leads"
    )
    workers: int = Field(default=4, ge=1, le=64, description="keys reconciled at once")
    in_flight: int = Field(default=16, ge=1, le=512, description="requests to the API server at once")
    resync_seconds: float = Field(default=600.0, gt=0, description="everything is looked at again this often")

    @model_validator(mode="before")
    @classmethod
    def _split(cls, values: dict[str, object]) -> dict[str, object]:
        split = {
            name: tuple(part.strip() for part in given.split(",") if part.strip())
            for name in _LISTS
            if isinstance(given := values.get(name), str)
        }
        return {**values, **split}

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if (self.realm_key_file is None) == (self.registry_credentials_file is None):
            raise ValueError(
                "CATALYST_REALM_KEY_FILE (builder is the registry's token realm) or CATALYST_REGISTRY_CREDENTIALS_FILE "
                "(an external registry): expected exactly one of the two"
            )
        if self.git_url.startswith("http:") and not self.git_insecure:
            raise ValueError(
                "CATALYST_GIT_URL is http: expected https, or CATALYST_GIT_INSECURE=true for a forge on this machine"
            )
        if any(network.endswith("/0") for network in self.protected_networks):
            raise ValueError("CATALYST_PROTECTED_NETWORKS: a /0 would close the public web; expected smaller networks")
        for text in self.build_egress:
            _opening(text)
        if self.realm_key_file is not None:
            self.signer()
        else:
            self.given_credential()
        return self

    def signer(self) -> Signer:
        """What signs the realm's tokens. Raises ValueError naming the variable."""
        if self.realm_key_file is None:
            raise ValueError("CATALYST_REALM_KEY_FILE is missing; expected a file with a P-256 private key")
        try:
            key = private_key(self.realm_key_file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as exc:
            raise ValueError(f"CATALYST_REALM_KEY_FILE: the file cannot be read: {exc.__class__.__name__}") from exc
        except BadKey as exc:
            raise ValueError(f"CATALYST_REALM_KEY_FILE: {exc}") from exc
        return Signer(key, self.realm_issuer, self.realm_service or self.registry)

    def given_credential(self) -> tuple[str, str]:
        """Username and password of the external registry. Raises ValueError naming the variable."""
        if self.registry_credentials_file is None:
            raise ValueError("CATALYST_REGISTRY_CREDENTIALS_FILE is missing; expected a docker config.json")
        try:
            return given_credential(self.registry_credentials_file, self.registry)
        except ValueError as exc:
            raise ValueError(f"CATALYST_REGISTRY_CREDENTIALS_FILE: {exc}") from exc

    @property
    def registry_url(self) -> str:
        return f"{'http' if self.registry_insecure else 'https'}://{self.registry}"

    @property
    def platform(self) -> Platform:
        return Platform(
            registry=self.registry,
            images=Images(self.fetch_image, self.kaniko_image, self.crane_image),
            insecure=self.registry_insecure,
            mirrors=self.registry_mirrors,
            push="realm" if self.realm_key_file is not None else "given",
            git_url=self.git_url,
            system_namespace=self.system_namespace,
            pod_security_version=self.pod_security_version,
            openings=tuple(map(_opening, self.build_egress)),
            private_networks=self.protected_networks,
            limits=Limits(
                at_once=self.builds_at_once,
                per_project=self.builds_per_project,
                deadline=self.build_seconds,
                kept=self.build_kept_seconds,
                cpu=str(self.build_cpu),
                memory=str(self.build_memory),
                disk=str(self.build_disk),
            ),
        )


def _opening(text: str) -> Opening:
    """`172.30.0.1/32:5000`. Raises ValueError naming the variable."""
    cidr, colon, port = text.rpartition(":")
    try:
        network = ip_network(cidr)
        number = int(port)
    except ValueError as exc:
        raise ValueError(f"CATALYST_BUILD_EGRESS {text!r}: expected cidr:port such as 172.30.0.1/32:5000") from exc
    if not colon or "/" not in cidr or not 1 <= number <= 65535 or network.prefixlen == 0 or network.is_link_local:
        raise ValueError(
            f"CATALYST_BUILD_EGRESS {text!r}: expected cidr:port such as 172.30.0.1/32:5000, neither everything nor "
            "link-local"
        )
    return Opening(cidr, (number,))
