"""Signed tokens: those the registry accepts, and the credentials of builds, which are exchanged for them.

Both are ES256 by the realm's key. A credential is no token: its audience is the realm itself, and it counts only while
its Job is alive, so what a Dockerfile prints is worth nothing once the build has ended.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from catalyst.builder.core.access import Access

LIFETIME: Final = timedelta(minutes=5)
SKEW: Final = timedelta(seconds=30)
"""How far the registry's clock may lag behind ours."""
CREDENTIAL_AUDIENCE: Final = "catalyst-realm"
ALGORITHM: Final = "ES256"


class BadKey(ValueError):
    """The realm's key is no P-256 private key."""


class BadCredential(Exception):
    """A build's credential that does not count. The text says why, for the log; the asker is told nothing."""


@dataclass(frozen=True, slots=True)
class Signer:
    """`issuer` and `service` as the registry's configuration has them."""

    key: ECKey
    issuer: str
    service: str

    def token(self, subject: str, access: Sequence[Access], now: datetime, token_id: str) -> str:
        """What the registry accepts, for `LIFETIME`."""
        claims = {
            "iss": self.issuer,
            "aud": self.service,
            "sub": subject,
            "iat": _seconds(now),
            "nbf": _seconds(now - SKEW),
            "exp": _seconds(now + LIFETIME),
            "jti": token_id,
            "access": [entry.claim() for entry in access],
        }
        return self._signed(claims)

    def credential(self, credential: "Credential", now: datetime) -> str:
        """A build's password at the realm."""
        claims = {
            "iss": self.issuer,
            "aud": CREDENTIAL_AUDIENCE,
            "sub": f"build:{credential.namespace}/{credential.job}",
            "uid": credential.uid,
            "iat": _seconds(now),
            "exp": _seconds(credential.expires_at),
            "rights": {name: list(actions) for name, actions in credential.rights.items()},
        }
        return self._signed(claims)

    def read_credential(self, text: str, now: datetime) -> "Credential":
        """Raises BadCredential."""
        try:
            claims = jwt.decode(text, self.key, algorithms=[ALGORITHM]).claims
            rules = jwt.JWTClaimsRegistry(
                now=_seconds(now),
                iss={"essential": True, "value": self.issuer},
                aud={"essential": True, "value": CREDENTIAL_AUDIENCE},
                sub={"essential": True},
                exp={"essential": True},
            )
            rules.validate(claims)
        except (JoseError, ValueError) as exc:
            raise BadCredential(f"{type(exc).__name__}: {exc}") from exc
        namespace, _, job = str(claims["sub"]).removeprefix("build:").partition("/")
        rights = {str(name): tuple(map(str, actions)) for name, actions in claims.get("rights", {}).items()}
        expires_at = datetime.fromtimestamp(claims["exp"], now.tzinfo)
        return Credential(namespace, job, str(claims.get("uid", "")), rights, expires_at)

    def _signed(self, claims: dict[str, object]) -> str:
        return jwt.encode({"alg": ALGORITHM, "kid": self.key.thumbprint()}, claims, self.key)


@dataclass(frozen=True, slots=True)
class Credential:
    """What one build may do, while the Job of that uid is alive."""

    namespace: str
    job: str
    uid: str
    rights: Mapping[str, tuple[str, ...]]
    expires_at: datetime


def private_key(pem: str) -> ECKey:
    """Raises BadKey."""
    try:
        key = ECKey.import_key(pem)
    except (JoseError, ValueError) as exc:
        raise BadKey(f"expected a P-256 private key in PEM: {exc}") from exc
    if key.curve_name != "P-256" or not key.is_private:
        raise BadKey("expected a P-256 private key in PEM")
    return key


def key_set(key: ECKey) -> dict[str, object]:
    """The JWKS that the registry verifies with: the public half, with its thumbprint as `kid`."""
    return {"keys": [{**key.as_dict(private=False), "kid": key.thumbprint(), "alg": ALGORITHM, "use": "sig"}]}


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
