"""How a service signs in at its forge: fields that every such service's settings share.

    class Settings(ForgeSettings, ServiceSettings): ...

An App (id and private key) is the way for an installation; a bare token is for trying things out: it cannot be
narrowed to one repository, cannot report checks, and is not told of failed webhooks.
"""

from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, Field, SecretStr, model_validator

GITHUB: Final = "https://api.github.com"
_ONE_SIGN_IN: Final = (
    "expected CATALYST_GITHUB_APP_ID with CATALYST_GITHUB_PRIVATE_KEY_FILE (a GitHub App), "
    "or CATALYST_GITHUB_TOKEN_FILE (a bare token)"
)


class ForgeSettings(BaseModel):
    """Where the forge's API is and who we are there."""

    github_url: str = Field(
        default=GITHUB,
        pattern=r"^https?://[^\s?#]+$",
        description="address of GitHub's API; of an Enterprise Server: https://host/api/v3",
    )
    github_app_id: int | None = Field(default=None, ge=1, description="number of the GitHub App we sign in as")
    github_private_key_file: Path | None = Field(
        default=None, description="file with the App's private key, PEM as GitHub gives it"
    )
    github_token_file: Path | None = Field(
        default=None, description="file with a token, for when there is no App; it cannot be narrowed to a repository"
    )

    @model_validator(mode="after")
    def _one_sign_in_at_most(self) -> Self:
        app = (self.github_app_id is not None, self.github_private_key_file is not None)
        if any(app) and not all(app):
            missing = "CATALYST_GITHUB_PRIVATE_KEY_FILE" if app[0] else "CATALYST_GITHUB_APP_ID"
            raise ValueError(f"{missing} is missing; {_ONE_SIGN_IN}")
        if any(app) and self.github_token_file is not None:
            raise ValueError(f"both an App and CATALYST_GITHUB_TOKEN_FILE are set; {_ONE_SIGN_IN}")
        if all(app):  # a file that is not there ends the boot, before anything is connected to
            self.github_private_key()
        elif self.github_token_file is not None:
            self.github_token()
        return self

    @property
    def has_forge(self) -> bool:
        """Whether any sign-in is configured."""
        return self.github_app_id is not None or self.github_token_file is not None

    def require_forge(self) -> None:
        """For services that are nothing without a forge. Raises `ValueError` naming the variables."""
        if not self.has_forge:
            raise ValueError(f"CATALYST_GITHUB_APP_ID is missing; {_ONE_SIGN_IN}")

    def github_private_key(self) -> SecretStr:
        """The App's key as PEM text. Raises `ValueError` naming the variable."""
        return _text(self.github_private_key_file, "CATALYST_GITHUB_PRIVATE_KEY_FILE")

    def github_token(self) -> SecretStr:
        """The bare token. Raises `ValueError` naming the variable."""
        return _text(self.github_token_file, "CATALYST_GITHUB_TOKEN_FILE")


def _text(path: Path | None, variable: str) -> SecretStr:
    if path is None:
        raise ValueError(f"{variable} is missing; {_ONE_SIGN_IN}")
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ValueError(f"{variable}: the file {path} cannot be read: {exc.__class__.__name__}") from exc
    if not text:
        raise ValueError(f"{variable}: the file {path} is empty")
    return SecretStr(text)
