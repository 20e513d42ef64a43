"""Who asks: a GitHub App by its JWT, an installation by its token, a person by theirs, or nobody.

| Credential | may |
|---|---|
| JWT, RS256 by the App's key, at most 10 minutes long | ask about the App, mint tokens |
| installation token | act on the repositories and with the permissions it was minted for, until it expires |
| a person's token | what that person may do |
| none | read what is public |
"""

import base64
import binascii
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from doubles.github.problem import Problem, not_found
from doubles.github.state import Installation, Repository, State, User
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

LONGEST_JWT: Final = timedelta(minutes=10)
CLOCK_SKEW: Final = timedelta(seconds=60)
LEVELS: Final = ("read", "write", "admin")
_BEARER: Final = re.compile(r"(?i)(bearer|token) +(\S+)")


@dataclass(frozen=True)
class Anonymous:
    """Nobody signed in."""

    key: str = "anonymous"


@dataclass(frozen=True)
class AsApp:
    """The App itself."""

    key: str = "app"


@dataclass(frozen=True)
class AsInstallation:
    """An installation, narrowed to `repositories` (ids; None: all of the installation's) and `permissions`."""

    token: str
    installation: Installation
    repositories: frozenset[int] | None
    permissions: Mapping[str, str]
    expires_at: datetime

    @property
    def key(self) -> str:
        """GitHub counts an installation's requests together, whichever of its tokens is used."""
        return f"installation {self.installation.id}"


@dataclass(frozen=True)
class AsUser:
    """A person."""

    user: User

    @property
    def key(self) -> str:
        return f"user {self.user.id}"


SignIn = Anonymous | AsApp | AsInstallation | AsUser


class SignIns:
    """Knows every credential."""

    def __init__(self, state: State, app_id: int, app_key: RSAKey, token_life: timedelta) -> None:
        self._state = state
        self._app_id = app_id
        self._app_key = app_key
        self._tokens: dict[str, AsInstallation] = {}
        self.token_life = token_life

    @property
    def minted(self) -> list[AsInstallation]:
        """Every token there was, so that a test can look for them where they must not be."""
        return list(self._tokens.values())

    def of(self, authorization: str | None, now: datetime) -> SignIn:
        """Who an `Authorization` header is. Raises `Problem` 401."""
        if not authorization:
            return Anonymous()
        token = _token(authorization)
        if token.count(".") == 2:
            return self._app(token, now)
        if token in self._tokens:
            found = self._tokens[token]
            if now >= found.expires_at:
                raise Problem(401, "Bad credentials")
            return found
        for user in self._state.users.values():
            if secrets.compare_digest(user.token, token):
                return AsUser(user)
        raise Problem(401, "Bad credentials")

    def mint(
        self,
        installation: Installation,
        repositories: Iterable[Repository] | None,
        permissions: Mapping[str, str] | None,
        now: datetime,
    ) -> AsInstallation:
        """A token; what it asks for must have been given to the installation. Raises `Problem` 422."""
        asked = dict(installation.permissions if permissions is None else permissions)
        if any(not _reaches(installation.permissions.get(name), level) for name, level in asked.items()):
            raise Problem(422, "The permissions requested are not granted to this installation.")
        asked.setdefault("metadata", "read")
        token = AsInstallation(
            token=f"ghs_{secrets.token_hex(18)}",
            installation=installation,
            repositories=None if repositories is None else frozenset(each.id for each in repositories),
            permissions=asked,
            expires_at=now.replace(microsecond=0) + self.token_life,
        )
        self._tokens[token.token] = token
        return token

    def revoke(self, token: AsInstallation) -> None:
        """It is no credential any more."""
        del self._tokens[token.token]

    def _app(self, token: str, now: datetime) -> AsApp:
        try:
            claims = jwt.decode(token, self._app_key, algorithms=["RS256"]).claims
        except (JoseError, ValueError) as exc:
            raise Problem(401, "A JSON web token could not be decoded") from exc
        issued, expires = claims.get("iat"), claims.get("exp")
        if str(claims.get("iss")) != str(self._app_id):
            raise Problem(401, "'Issuer' claim ('iss') must be an Integer")
        if not isinstance(issued, int) or issued > (now + CLOCK_SKEW).timestamp():
            raise Problem(
                401, "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued"
            )
        if not isinstance(expires, int) or expires <= now.timestamp():
            raise Problem(
                401,
                "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the "
                "assertion expires",
            )
        if expires > (now + LONGEST_JWT + CLOCK_SKEW).timestamp():
            raise Problem(401, "'Expiration time' claim ('exp') is too far in the future")
        return AsApp()


def sees(signin: SignIn, repository: Repository) -> bool:
    """Whether whoever asks may know that this repository is there."""
    match signin:
        case AsInstallation(installation=installation, repositories=ids):
            given = installation.account is repository.owner and (
                installation.repositories is None or repository.id in installation.repositories
            )
            return given and (ids is None or repository.id in ids)
        case AsUser(user=user):
            return repository.role(user) != "none"
        case _:
            return not repository.private


def require(signin: SignIn, repository: Repository, any_of: Mapping[str, str], *, apps_only: bool = False) -> None:
    """Refuse unless one of the permissions is there. Raises `Problem` 404 for a repository that may not be seen, 403
    otherwise.
    """
    if not sees(signin, repository):
        raise not_found()
    match signin:
        case AsInstallation(permissions=permissions):
            if not any(_reaches(permissions.get(name), level) for name, level in any_of.items()):
                accepted = "; ".join(f"{name}={level}" for name, level in any_of.items())
                headers = {"x-accepted-github-permissions": accepted}
                raise Problem(403, "Resource not accessible by integration", headers=headers)
        case AsUser(user=user):
            if apps_only:
                raise Problem(403, "You must authenticate via a GitHub App.")
            wants_more = "write" in any_of.values() and "issues" not in any_of and "pull_requests" not in any_of
            if wants_more and repository.role(user) not in ("admin", "maintain", "write"):
                raise Problem(403, "Must have push access to the repository")
        case Anonymous() | AsApp():
            if "write" in any_of.values() or isinstance(signin, AsApp):
                raise Problem(401, "Requires authentication")


def _reaches(level: str | None, wanted: str) -> bool:
    return level is not None and LEVELS.index(level) >= LEVELS.index(wanted)


def _token(authorization: str) -> str:
    """From `Bearer x`, `token x`, or the password of Basic, as git sends it."""
    if found := _BEARER.fullmatch(authorization.strip()):
        return found[2]
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(given, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            pass
    raise Problem(401, "Bad credentials")
