"""What somebody at the realm's door presents, told apart. Pure; whether it is true is asked elsewhere.

```
build : <signed credential>
env   : <uid> : <password>        user name `env:<uid>`; Basic splits at the first colon, a form does not
```
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Final

from catalyst.builder.core.access import BUILD_USER, ENVIRONMENT_USER

MAX_LOGIN: Final = 8192


class BadLogin(Exception):
    """It is no login that this realm knows. Nothing of it is repeated."""


@dataclass(frozen=True, slots=True)
class BuildLogin:
    credential: str


@dataclass(frozen=True, slots=True)
class EnvironmentLogin:
    uid: str
    password: str


Login = BuildLogin | EnvironmentLogin


def basic(header: str) -> Login:
    """Of an Authorization header. Raises BadLogin."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic" or len(encoded) > MAX_LOGIN * 2:
        raise BadLogin("expected Basic")
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError) as exc:
        raise BadLogin("expected Basic with base64 of username:password") from exc
    return login(text)


def login(text: str) -> Login:
    """`username:password`, whichever way they were sent. Raises BadLogin."""
    kind, _, rest = text.partition(":")
    if len(text) > MAX_LOGIN or not text.isprintable() or not rest:
        raise BadLogin("expected username:password")
    if kind == BUILD_USER:
        return BuildLogin(rest)
    uid, _, password = rest.partition(":")
    if kind == ENVIRONMENT_USER and uid and password:
        return EnvironmentLogin(uid, password)
    raise BadLogin("unknown user")
