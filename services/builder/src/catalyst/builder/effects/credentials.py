"""What a build signs in with at the registry: a credential of its own, or the one that the platform was given."""

from datetime import timedelta
from typing import Protocol

from catalyst.builder.core.access import BUILD_USER, rights_of
from catalyst.builder.core.build import Build
from catalyst.builder.core.job import FALLBACK
from catalyst.builder.core.platform import Platform
from catalyst.builder.core.tokens import Credential, Signer
from catalyst.builder.effects.registry import docker_config
from catalyst.model.clock import Clock


class PushCredentials(Protocol):
    def config(self, build: Build, job_uid: str) -> str:
        """A docker `config.json` for the container of this build that pushes."""


class RealmCredentials:
    """Signed, for this Job and its repositories only, and exchanged at the realm for tokens of minutes."""

    def __init__(self, signer: Signer, platform: Platform, clock: Clock) -> None:
        self._signer = signer
        self._platform = platform
        self._clock = clock

    def config(self, build: Build, job_uid: str) -> str:
        now = self._clock()
        credential = Credential(
            namespace=build.namespace,
            job=build.job,
            uid=job_uid,
            rights=rights_of(build),
            expires_at=now + timedelta(seconds=self._platform.limits.deadline + FALLBACK),
        )
        return docker_config(self._platform.registry, BUILD_USER, self._signer.credential(credential, now))


class GivenCredentials:
    """The long-lived one of an external registry. Only ever mounted where no Dockerfile runs."""

    def __init__(self, platform: Platform, username: str, password: str) -> None:
        self._config = docker_config(platform.registry, username, password)

    def config(self, build: Build, job_uid: str) -> str:
        return self._config
