"""Names: from an identity to namespaces and hostnames. Total over valid identities, stable for ever, without collision.

```
acme / shop / pr-42      team namespace       acme                    made by the platform's people
                         project namespace    acme--shop              holds Environments
                         workload namespace   acme--shop--pr-42       holds what runs
                         hostname             pr-42--shop--acme.<zone>
                         of a component       web--pr-42--shop--acme.<zone>
                         build namespaces     catalyst-builds-trusted-<39 hex>, catalyst-builds-fork-<42 hex>
```

A part never contains `--`, so joining by `--` can be read back in one way only. What would be longer than a DNS label,
and a host whose third and fourth characters would be `--` (reserved for `xn--` and its like), gets the hashed form: the
parts joined by a single `-`, cut, and 8 hex digits over the length-prefixed parts. The hashed form contains no `--`, so
it never equals an unhashed one; cut at 54 it has 62 or 63 characters, so it never equals a team's namespace, which has
at most `MAX_NAME`.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final, Self

MAX_LABEL: Final = 63
"""Characters in a DNS label, and so in a namespace's name."""
MAX_NAME: Final = 60
"""Characters in one part of an identity; fewer than any cut namespace, see above."""
MAX_HOSTNAME: Final = 253
NAME_PATTERN: Final = "^[a-z0-9]+(-[a-z0-9]+)*$"
"""A part of an identity: `[a-z0-9]([a-z0-9-]*[a-z0-9])?` without `--`."""

_NAME = re.compile(NAME_PATTERN[:-1] + r"\Z")
_HASH_LENGTH = 8
_CUT = MAX_LABEL - _HASH_LENGTH - 1
_PULL_REQUEST = re.compile(r"pr-[0-9]+\Z")
_ENDS_LIKE_A_HASH = re.compile(r"(?:.*-)?[0-9a-f]{8}\Z")
_ZONE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\Z")


class InvalidName(ValueError):
    """A text that cannot be a name; the message says which, why, and what is expected."""


def is_name(text: str) -> bool:
    """Whether `text` may be a team, project, environment or component."""
    return len(text) <= MAX_NAME and _NAME.match(text) is not None


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """Which environment: three names. Raises `InvalidName` when one of them is not."""

    team: str
    project: str
    environment: str

    def __post_init__(self) -> None:
        _require(team=self.team, project=self.project, environment=self.environment)

    def __str__(self) -> str:
        return f"{self.team}/{self.project}/{self.environment}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """`acme/shop/pr-42` → Identity. Raises `InvalidName`."""
        parts = text.split("/")
        if len(parts) != 3:
            raise InvalidName(f"{text[:200]!r} is not an identity: expected team/project/environment")
        return cls(*parts)


def project_namespace(team: str, project: str) -> str:
    """The namespace that holds a project's Environments. Raises `InvalidName`."""
    _require(team=team, project=project)
    return _joined(team, project)


def workload_namespace(identity: Identity) -> str:
    """The namespace in which an environment runs."""
    return _joined(identity.team, identity.project, identity.environment)


def build_namespace(team: str, project: str, *, trusted: bool) -> str:
    """The namespace in which a project's images are built: one for code the team wrote, one for forks'.

    Always 63 characters without `--`, with a hash from early on: no team's, project's or workload's namespace equals
    it. Raises `InvalidName`.
    """
    _require(team=team, project=project)
    prefix = f"catalyst-builds-{'trusted' if trusted else 'fork'}-"
    return f"{prefix}{_digest(team, project)[: MAX_LABEL - len(prefix)]}"


def hostname(identity: Identity, zone: str, component: str | None = None) -> str:
    """The public name of an environment, or of one further component of it, under `zone` (`preview.example.org`).

    Raises:
        InvalidName: the component is no name, or the zone no lower-case DNS name that leaves room for a label.
    """
    if not _ZONE.match(zone) or len(zone) > MAX_HOSTNAME - MAX_LABEL - 1:
        raise InvalidName(f"zone {zone[:200]!r}: expected a lower-case DNS name such as preview.example.org")
    parts: tuple[str, ...] = (identity.environment, identity.project, identity.team)
    if component is not None:
        _require(component=component)
        parts = (component, *parts)
    return f"{_joined(*parts, host=True)}.{zone}"


def pull_request_environment(number: int) -> str:
    """The environment's name for a pull request: `pr-42`. Raises `InvalidName` below 1 or beyond 18 digits."""
    if not 1 <= number < 10**18:
        raise InvalidName(f"pull request number {number}: expected a positive number of at most 18 digits")
    return f"pr-{number}"


def branch_environment(branch: str) -> str:
    """The environment's name for a branch: the branch itself if it is a name, else a slug with a hash of the branch.

    Also hashed: what looks like a pull request's (`pr-42`) or ends like a hashed name, so that none of the three meet.

    Raises:
        InvalidName: the branch is empty.
    """
    if not branch:
        raise InvalidName("branch '': expected a branch's name")
    if is_name(branch) and not _PULL_REQUEST.match(branch) and not _ENDS_LIKE_A_HASH.match(branch):
        return branch
    slug = re.sub(r"[^a-z0-9]+", "-", branch.lower()).strip("-")
    if slug in ("", "pr"):  # `pr-` and eight digits would be a pull request's name
        slug = "branch"
    return f"{slug[: MAX_NAME - _HASH_LENGTH - 1].strip('-')}-{_hash(branch)}"


def _joined(*parts: str, host: bool = False) -> str:
    plain = "--".join(parts)
    if len(plain) <= MAX_LABEL and not (host and plain[2:4] == "--"):
        return plain
    return f"{'-'.join(parts)[:_CUT].rstrip('-')}-{_hash(*parts)}"


def _hash(*parts: str) -> str:
    return _digest(*parts)[:_HASH_LENGTH]


def _digest(*parts: str) -> str:
    # Length-prefixed: ("a-b", "c") and ("a", "b-c") differ. `surrogatepass`: a branch may be any text.
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:%b" % (len(encoded), encoded))
    return digest.hexdigest()


def _require(**names: str) -> None:
    for field, text in names.items():
        if not is_name(text):
            raise InvalidName(
                f"{field} {text[:200]!r}: expected at most {MAX_NAME} of a-z, 0-9 and single '-' between them"
            )
