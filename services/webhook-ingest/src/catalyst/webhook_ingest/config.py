"""The settings of webhook-ingest, read once and frozen."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from catalyst.forge import ForgeSettings
from catalyst.service import ServiceSettings, secrets_in

_EXPECTED = "expected the webhook's secrets, one a line (several while one is rotated)"


class Settings(ForgeSettings, ServiceSettings):
    """Secrets come from a file or from a variable, not from both; without one the service does not start.

    Without a sign-in at the forge it only receives: nobody's commands are obeyed, and no lost webhook is found.
    """

    nats_url: str = Field(min_length=1, description="address of the NATS servers, such as nats://nats:4222")
    nats_seed_file: Path | None = Field(
        default=None, description="file with this service's nkey seed; without it the server must do without users"
    )
    webhook_secrets_file: Path | None = Field(
        default=None, description="file with the webhook's secrets, one a line, several while one is rotated"
    )
    webhook_secrets: SecretStr | None = Field(
        default=None, description="the same as text, where there is no file; one of the two is required"
    )
    http_host: str = Field(
        default="0.0.0.0",  # noqa: S104 - the forge comes from outside the pod
        description="address on which webhooks are received",
    )
    http_port: int = Field(default=8080, ge=0, le=65535, description="port of /webhooks/github; 0 takes a free one")

    sweep_seconds: float = Field(
        default=120.0, gt=0, description="seconds between two rounds of asking the forge for lost webhooks"
    )
    sweep_repositories: tuple[Annotated[str, Field(pattern=r"^[^/\s]+/[^/\s]+$")], ...] = Field(
        default=(),
        description="the repositories to ask about, a JSON list of owner/name; without: all that the App was given",
    )

    @model_validator(mode="after")
    def _some_secret(self) -> Self:
        if self.webhook_secrets_file is not None and self.webhook_secrets is not None:
            raise ValueError("CATALYST_WEBHOOK_SECRETS_FILE and CATALYST_WEBHOOK_SECRETS are both set; expected one")
        if self.webhook_secrets_file is None and self.webhook_secrets is None:
            raise ValueError(f"CATALYST_WEBHOOK_SECRETS_FILE (or CATALYST_WEBHOOK_SECRETS) is missing; {_EXPECTED}")
        if not self.secrets():
            raise ValueError(f"CATALYST_WEBHOOK_SECRETS is empty; {_EXPECTED}")
        return self

    def secrets(self) -> tuple[bytes, ...]:
        """The secrets that a webhook may be signed with."""
        if self.webhook_secrets_file is not None:
            try:
                return tuple(secret.get_secret_value().encode() for secret in secrets_in(self.webhook_secrets_file))
            except ValueError as exc:
                raise ValueError(f"CATALYST_WEBHOOK_SECRETS_FILE: {exc}") from exc
        text = self.webhook_secrets.get_secret_value() if self.webhook_secrets else ""
        return tuple(line.strip().encode() for line in text.splitlines() if line.strip())
