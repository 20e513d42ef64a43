"""What the people who installed Catalyst decided. Read once from the settings, passed to every decision."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Opening:
    """One address range that builds may reach although it is not public: the registry, the forge, the realm."""

    cidr: str
    ports: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Images:
    """The images a build's pod is made of."""

    fetch: str
    """Has `/bin/sh`, `git` and the usual CA certificates."""
    kaniko: str
    crane: str


@dataclass(frozen=True, slots=True)
class Limits:
    """`at_once`: builds that run in the whole installation; `per_project`: of one project. Times in seconds.

    `kept`: how long a finished Job stays for people to look at.
    """

    at_once: int = 4
    per_project: int = 2
    deadline: int = 1800
    kept: int = 3600
    cpu: str = "2"
    memory: str = "4Gi"
    disk: str = "10Gi"


@dataclass(frozen=True, slots=True)
class Platform:
    """`push`: `realm` when builder is the registry's token realm, `given` when there is one long-lived credential.

    `mirrors`: registries asked first for the images of Docker Hub. `git_url`: where repositories are fetched from,
    without a slash at the end; `private_networks`: cut out of the public web, besides those that always are.
    """

    registry: str
    images: Images
    insecure: bool = False
    mirrors: tuple[str, ...] = ()
    push: Literal["realm", "given"] = "realm"
    git_url: str = "https://github.com"
    system_namespace: str = "catalyst-system"
    pod_security_version: str = "v1.36"
    openings: tuple[Opening, ...] = ()
    private_networks: tuple[str, ...] = ()
    limits: Limits = Limits()
