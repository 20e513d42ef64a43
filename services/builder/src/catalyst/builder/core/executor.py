"""How a build runs, as an interface. An executor says what the pod of a build is made of, and reads a pod that ended.

Everything around it (the Job, its name, deadline, credentials and network, whose turn it is, what is recorded and
published) is the same for every executor. Kaniko is the first; BuildKit without root would be another.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from catalyst.builder.core.build import Build
from catalyst.builder.core.platform import Platform
from catalyst.model.manifest import Manifest

READ_SECRET = "read"  # noqa: S105 - the name of a volume, not a secret
PUSH_SECRET = "push"  # noqa: S105
TOKEN_KEY = "token"  # noqa: S105 - a key in the Secret that the fetching container mounts
CONFIG_KEY = "config.json"


@dataclass(frozen=True, slots=True)
class Built:
    """An image was pushed. `fingerprint`: what of the source decided it."""

    digest: str
    fingerprint: str | None


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Nothing was built: what decides the image is the same as of a recorded one."""

    fingerprint: str


@dataclass(frozen=True, slots=True)
class Broken:
    """It failed. `reason` in one word; `message` says what to do; `container`: whose log tells more."""

    reason: str
    message: str
    container: str | None = None


Outcome = Built | Unchanged | Broken


class Executor(Protocol):
    """Pure, as everything in core."""

    def pod(self, build: Build, platform: Platform, known: tuple[str, ...]) -> dict[str, Any]:
        """The pod's `spec` parts: initContainers, containers, volumes. Volumes named `read` and `push` are Secrets
        that builder fills: with a repository's read token (`token`), and with a docker `config.json`.

        `known`: fingerprints for which an image is recorded: the pod may end early, `Unchanged`.
        """

    def outcome(self, pod: Manifest) -> Outcome:
        """What became of a pod that ended."""

    def explained(self, broken: Broken, log: str) -> Broken:
        """What the end of the log adds to a failure: the one word that a person can act on."""
