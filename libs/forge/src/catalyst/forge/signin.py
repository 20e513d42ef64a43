"""How we sign in at GitHub: as an App, whose tokens are minted for one repository and a few permissions, or with a bare
token, which is what it is.

```
private key ─▶ JWT (9 minutes) ─▶ installation of the repository ─▶ token: one repository, few permissions, an hour
```
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from pydantic import AwareDatetime, SecretStr

from catalyst.forge.api import Credential, GitHubApi
from catalyst.forge.errors import NotThere
from catalyst.forge.github_answers import Answer, understood
from catalyst.forge.protocol import Token
from catalyst.model.clock import Clock

JWT_LIFE: Final = timedelta(minutes=9)
"""GitHub takes ten minutes at the most."""
JWT_BACKDATED: Final = timedelta(seconds=60)
"""For a GitHub whose clock is behind ours."""
TOKEN_LEFT: Final = timedelta(minutes=10)
"""A token with less than this left is minted anew."""
INSTALLATION_KEPT: Final = timedelta(minutes=30)

Permissions = Mapping[str, str]


class SignIn(Protocol):
    """Credentials for what is asked."""

    @property
    def app_id(self) -> int | None:
        """The App that we are; None: a bare token's owner."""

    async def app(self) -> Credential:
        """For questions about the App itself. Raises `ForgeError`."""

    async def repository(self, repository: str, permissions: Permissions) -> Credential:
        """For one repository, `owner/name`. Raises `ForgeError`."""

    async def token(self, repository: str, permissions: Permissions) -> Token:
        """The same to be handed on. Raises `ForgeError`."""

    def forget(self, repository: str) -> None:
        """A credential of that repository was not accepted: get new ones."""


class BadPrivateKey(ValueError):
    """The App's key cannot be used."""


@dataclass(frozen=True, slots=True)
class BareToken:
    """One token for everything."""

    value: SecretStr

    @property
    def app_id(self) -> int | None:
        return None

    async def app(self) -> Credential:
        return Credential(self.value, "token")

    async def repository(self, repository: str, permissions: Permissions) -> Credential:
        del repository, permissions
        return Credential(self.value, "token")

    async def token(self, repository: str, permissions: Permissions) -> Token:
        del repository, permissions
        return Token(self.value, None)

    def forget(self, repository: str) -> None:
        """There is no other."""


class _Installation(Answer):
    id: int


class _Minted(Answer):
    token: SecretStr
    expires_at: AwareDatetime


class App:
    """A GitHub App. What it was given is remembered: the installation of a repository, and tokens until they end."""

    def __init__(self, api: GitHubApi, app_id: int, private_key: SecretStr, *, clock: Clock) -> None:
        """Raises `BadPrivateKey` saying what was expected."""
        try:
            self._key = RSAKey.import_key(private_key.get_secret_value())
        except (JoseError, ValueError, TypeError) as exc:
            raise BadPrivateKey("expected an RSA private key in PEM, as GitHub gives it") from exc
        if not self._key.is_private:
            raise BadPrivateKey("expected an RSA private key in PEM, found a public one")
        self._api = api
        self.app_id = app_id
        self._clock = clock
        self._jwt: tuple[SecretStr, datetime] | None = None
        self._installations: dict[str, tuple[int, datetime]] = {}
        self._tokens: dict[tuple[str, frozenset[tuple[str, str]]], tuple[Token, int]] = {}
        self._minting: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def app(self) -> Credential:
        now = self._clock()
        if self._jwt is None or self._jwt[1] - now < TOKEN_LEFT / 10:
            issued, expires = now - JWT_BACKDATED, now + JWT_LIFE
            claims = {"iss": str(self.app_id), "iat": int(issued.timestamp()), "exp": int(expires.timestamp())}
            self._jwt = (SecretStr(jwt.encode({"alg": "RS256"}, claims, self._key)), expires)
        return Credential(self._jwt[0], "app")

    async def repository(self, repository: str, permissions: Permissions) -> Credential:
        token, installation = await self._token(repository, permissions)
        return Credential(token.value, f"installation {installation}")

    async def token(self, repository: str, permissions: Permissions) -> Token:
        token, _ = await self._token(repository, permissions)
        return token

    async def whole_installation(self, installation: int, permissions: Permissions) -> Credential:
        """For questions about all its repositories. Raises `ForgeError`."""
        minted = await self._mint(installation, {"permissions": dict(permissions)})
        return Credential(minted.value, f"installation {installation}")

    def forget(self, repository: str) -> None:
        self._installations.pop(repository.lower(), None)
        for key in [key for key in self._tokens if key[0] == repository.lower()]:
            del self._tokens[key]

    async def _token(self, repository: str, permissions: Permissions) -> tuple[Token, int]:
        key = (repository.lower(), frozenset(permissions.items()))
        async with self._minting[repository.lower()]:
            known = self._tokens.get(key)
            if known is not None and self._is_fresh(known[0]):
                return known
            self._drop_expired()
            installation = await self._installation(repository)
            wanted = {"repositories": [repository.partition("/")[2]], "permissions": dict(permissions)}
            try:
                minted = await self._mint(installation, wanted)
            except NotThere:
                self.forget(repository)  # installed anew, under another number
                raise
            self._tokens[key] = (minted, installation)
            return self._tokens[key]

    async def _mint(self, installation: int, wanted: dict[str, Any]) -> Token:
        path = f"/app/installations/{installation}/access_tokens"
        minted = understood(_Minted, await self._api.write("POST", path, await self.app(), wanted), f"POST {path}")
        return Token(minted.token, minted.expires_at)

    async def _installation(self, repository: str) -> int:
        known = self._installations.get(repository.lower())
        if known is not None and self._clock() - known[1] < INSTALLATION_KEPT:
            return known[0]
        path = f"/repos/{repository}/installation"
        found = understood(_Installation, await self._api.get(path, await self.app()), f"GET {path}")
        self._installations[repository.lower()] = (found.id, self._clock())
        return found.id

    def _is_fresh(self, token: Token) -> bool:
        return token.expires_at is None or token.expires_at - self._clock() > TOKEN_LEFT

    def _drop_expired(self) -> None:
        for key in [key for key, (token, _) in self._tokens.items() if not self._is_fresh(token)]:
            del self._tokens[key]
