"""notifier's settings: one frozen value, read once."""

import socket
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from catalyst.forge.settings import ForgeSettings
from catalyst.service.settings import ServiceSettings


class Settings(ForgeSettings, ServiceSettings):
    """Everything notifier can be told from outside. Without a sign-in at the forge it does not start."""

    nats_url: str = Field(min_length=1, description="address of NATS, such as nats://nats.catalyst-system:4222")
    nats_seed_file: Path | None = Field(
        default=None, description="file with the nkey seed of the NATS user notifier; none: a server without users"
    )
    runbooks_url: str | None = Field(
        default=None,
        pattern=r"^https?://[A-Za-z0-9.:-]+(/[A-Za-z0-9._~/-]*)?$",
        description="where the folder docs/runbooks is published: comments link there; none: no links",
    )
    identity: str = Field(
        default_factory=socket.gethostname, description="this replica's name in the lock; the pod's name"
    )
    lock_seconds: float = Field(
        default=9.0, ge=3, description="after this long without a sign of life another replica leads"
    )
    workers: int = Field(default=8, ge=1, le=64, description="pull requests told at once")
    resync_seconds: float = Field(
        default=300.0, gt=0, description="every pull request is looked at again this often, its comment too"
    )

    @model_validator(mode="after")
    def _sign_in(self) -> Self:
        self.require_forge()
        return self
