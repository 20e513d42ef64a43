"""Who may do what at the registry. The realm's whole policy, as values.

| Who | Proves it by | May |
|---|---|---|
| anybody | – | pull what the platform made public (`library/*`) |
| a build | a credential signed by builder, while its Job is alive | push and pull its image; a trusted one its cache |
| an environment | the password whose digest its snapshot holds, while it lives | pull its project's images |

A scope that is not granted is left out of the token: that is how the protocol says no.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from catalyst.builder.core.build import Build
from catalyst.builder.core.registry_names import is_repository
from catalyst.model.names import is_name
from catalyst.model.snapshot import Snapshot

BUILD_USER: Final = "build"
ENVIRONMENT_USER: Final = "env"
MAX_SCOPES: Final = 32
ACTIONS: Final = ("delete", "pull", "push")
_SCOPE = re.compile(r"([a-z0-9]+(?:\([a-z0-9]+\))?):(.+):([a-z*]+(?:,[a-z*]+)*)\Z")


@dataclass(frozen=True, slots=True)
class Access:
    """One entry of a token: these actions on this repository."""

    name: str
    actions: tuple[str, ...]
    type: str = "repository"

    def claim(self) -> dict[str, object]:
        return {"type": self.type, "name": self.name, "actions": list(self.actions)}


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who proved who they are. `subject` is for logs and the token's `sub`; `rights` by exact repository;
    `project`: (team, project, fork) whose images may be pulled.
    """

    subject: str
    rights: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    project: tuple[str, str, bool] | None = None

    def allows(self, repository: str) -> set[str]:
        allowed = set(self.rights.get(repository, ()))
        if self.project is not None and _is_image_of(repository, *self.project):
            allowed.add("pull")
        return allowed


ANYBODY: Final = Principal("")


def scopes(asked: Iterable[str]) -> list[Access]:
    """`repository:acme/shop/web:pull,push`, several in one text or several texts. What is no scope is left out."""
    words = [word for text in asked for word in text.split(" ") if word]
    found = []
    for word in words[:MAX_SCOPES]:
        match = _SCOPE.match(word)
        if match and match[1] == "repository" and is_repository(match[2]):
            found.append(Access(match[2], tuple(sorted(set(match[3].split(","))))))
    return found


def granted(principal: Principal, asked: Iterable[Access], public: Iterable[str]) -> list[Access]:
    """What of the asked the token gets; each repository once."""
    wanted: dict[str, set[str]] = {}
    for access in asked:
        wanted.setdefault(access.name, set()).update(access.actions)
    found = []
    for name, actions in wanted.items():
        allowed = principal.allows(name) | ({"pull"} if is_public(name, public) else set())
        given = allowed if "*" in actions else actions & allowed
        if given:
            found.append(Access(name, tuple(sorted(given))))
    return found


def is_public(repository: str, patterns: Iterable[str]) -> bool:
    """Patterns are globs per part: `library/*` is `library/debian` and not `library/a/b`."""
    parts = repository.split("/")
    return any(
        len(parts) == len(globs) and all(map(fnmatchcase, parts, globs))
        for globs in (pattern.split("/") for pattern in patterns)
    )


def rights_of(build: Build) -> dict[str, tuple[str, ...]]:
    """What a build's credential is good for."""
    rights: dict[str, tuple[str, ...]] = {build.repository: ("pull", "push")}
    if build.cache is not None:
        rights[build.cache] = ("pull", "push")
    return rights


def of_environment(snapshot: Snapshot) -> Principal:
    """A fork's environment pulls what forks built, and nothing that trusted code became."""
    pull_request = snapshot.source.pull_request
    fork = pull_request is not None and pull_request.fork
    return Principal(f"env:{snapshot.uid}", project=(snapshot.identity.team, snapshot.identity.project, fork))


def _is_image_of(repository: str, team: str, project: str, fork: bool) -> bool:
    """A component's image; neither the layer cache nor another project's."""
    parts = repository.split("/")
    if parts[:2] != [team, project] or not all(is_name(part) for part in parts[2:]):
        return False
    is_forks = len(parts) == 4 and parts[2] == "forks"
    return is_forks or (len(parts) == 3 and not fork)
