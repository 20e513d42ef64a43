"""builder on real servers: kube-apiserver, nats-server, a distribution registry that asks builder's own realm for
tokens, and crane (the library that Kaniko pushes with). There is no kubelet: a test plays what a build's pod ends with.
"""

import asyncio
import base64
import itertools
import json
import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from catalyst.builder import __main__ as builder
from catalyst.builder.config import Settings
from catalyst.builder.core.access import Access
from catalyst.builder.core.tokens import Signer, private_key
from catalyst.builder.effects.registry import MANIFESTS
from catalyst.builder.keys import write_keys
from catalyst.events.bus import Bus, BusSettings
from catalyst.events.catalogue import BuildRequested, EnvironmentName, Repository
from catalyst.events.event import Event, build_requested, environment_changed
from catalyst.events.subjects import environment_subject
from catalyst.events.users import inbox_prefix
from catalyst.local import components
from catalyst.local.installation import Installation
from catalyst.local.process import Part, free_ports
from catalyst.model.clock import utc_now
from catalyst.model.environment import BuildQuestion, ComponentStatus, Phase, Pull
from catalyst.model.names import Identity, build_namespace
from catalyst.model.snapshot import Snapshot, SnapshotIdentity, SnapshotPullRequest, SnapshotSource
from catalyst.service.lifecycle import Lifecycle

Manifest = dict[str, Any]
PATIENCE = 20.0
_numbers = itertools.count(1)


@dataclass
class RegistryServer:
    """A running registry with `auth: token`, and crane beside it."""

    host: str
    realm_port: int
    private_key: Path
    crane: Path
    folder: Path

    def push(self, config: str, repository: str, *, exposed: str = "8080/tcp", user: str = "app") -> str:
        """As Kaniko would: sign in with this docker config, push an image. Returns its digest; raises on a refusal."""
        home = self.folder / f"docker-{next(_numbers)}"
        home.mkdir()
        (home / "config.json").write_text(config)
        layer = home / "layer.tar"
        content = home / "file"
        content.write_text(str(home))
        with tarfile.open(layer, "w") as tar:
            tar.add(content, "file")
        image = f"{self.host}/{repository}:{home.name}"
        self.run(home, "append", "--oci-empty-base", "-f", layer, "-t", image)
        changes = ["--exposed-ports", exposed, "--user", user] if exposed else ["--user", user]
        return self.run(home, "mutate", *changes, "-t", image, image).rpartition("@")[2]

    def status(self, repository: str, digest: str) -> int:
        """What the registry answers to whoever may pull there and asks for this manifest."""
        signer = Signer(private_key(self.private_key.read_text()), "catalyst-builder", self.host)
        token = signer.token("test", [Access(repository, ("pull",))], utc_now(), "test")
        headers = {"accept": ", ".join(MANIFESTS), "authorization": f"Bearer {token}"}
        with httpx.Client(trust_env=False, headers=headers) as client:
            return client.get(f"http://{self.host}/v2/{repository}/manifests/{digest}").status_code

    def run(self, home: Path, *words: str | Path) -> str:
        command = [str(word) for word in (self.crane, *words, "--insecure")]
        done = subprocess.run(
            command, env={"DOCKER_CONFIG": str(home), "HOME": str(home)}, capture_output=True, text=True, timeout=30
        )
        if done.returncode != 0:
            raise PermissionError(done.stderr)
        return done.stdout.strip()


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    wanted = tuple(each for each in components.NODE if each.name in ("registry", "crane"))
    found = components.binaries(components=wanted)
    folder = tmp_path_factory.mktemp("registry")
    port, realm_port = free_ports(2)
    key, jwks = folder / "realm.pem", folder / "jwks.json"
    write_keys(key, jwks)
    config = {
        "version": 0.1,
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}"},
        "auth": {
            "token": {
                "realm": f"http://localhost:{realm_port}/token",
                "service": f"localhost:{port}",
                "issuer": "catalyst-builder",
                "jwks": str(jwks),
            }
        },
    }
    path = folder / "config.yml"
    path.write_text(yaml.safe_dump(config))
    part = Part("registry", [found["registry"], "serve", path], folder / "registry.log")
    part.start()
    try:
        _wait_for(port)
        yield RegistryServer(f"localhost:{port}", realm_port, key, found["crane"], folder)
    finally:
        part.stop()


def _wait_for(port: int) -> None:
    with httpx.Client(trust_env=False) as client:
        for _ in range(200):
            try:
                client.get(f"http://127.0.0.1:{port}/v2/")
            except httpx.HTTPError:
                import time

                time.sleep(0.05)
            else:
                return
    raise TimeoutError("the registry does not answer")


@dataclass
class Project:
    """One project of its own, and env-controller's voice about it."""

    bus: Bus
    operator: Bus
    admin: httpx.Client
    server: RegistryServer | None
    team: str
    name: str = "shop"
    _versions: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def registry(self) -> RegistryServer:
        """Where a test plays Kaniko; on the node there is a real one."""
        assert self.server is not None
        return self.server

    def identity(self, environment: str = "pr-1") -> Identity:
        return Identity(self.team, self.name, environment)

    def snapshot(
        self,
        builds: dict[str, tuple[str, int]],
        *,
        environment: str = "pr-1",
        uid: str | None = None,
        phase: Phase = Phase.BUILDING,
        digests: dict[str, str] | None = None,
        fork: bool = False,
        password_sha256: str | None = None,
        kind: Any = "Development",
    ) -> Snapshot:
        return Snapshot(
            uid=uid or f"uid-{self.team}-{environment}",
            resource_version=str(next(self._versions)),
            identity=SnapshotIdentity(team=self.team, project=self.name, environment=environment),
            type=kind,
            phase=phase,
            source=SnapshotSource(
                forge="github",
                repository="acme/shop",
                pull_request=SnapshotPullRequest(number=1, fork=fork),
            ),
            builds={name: BuildQuestion(key=key, attempt=attempt) for name, (key, attempt) in builds.items()},
            components=tuple(ComponentStatus(name=name, digest=digest) for name, digest in (digests or {}).items()),
            pull=Pull(sha256=password_sha256) if password_sha256 else None,
        )

    async def tell(self, snapshot: Snapshot, *, earlier: float = 0.0) -> Event:
        event = environment_changed(snapshot, time=utc_now() - timedelta(seconds=earlier))
        await self.bus.publish(event)
        return event

    def request(
        self, component: str = "web", key: str = "k1", attempt: int = 1, *, environment: str = "pr-1", **fields: Any
    ) -> BuildRequested:
        data: dict[str, Any] = {
            "environment": EnvironmentName.of(self.identity(environment), f"uid-{self.team}-{environment}"),
            "component": component,
            "key": key,
            "attempt": attempt,
            "commit": "a" * 40,
            "repository": Repository(
                forge="github",
                id=7,
                full_name="acme/shop",
                default_branch="main",
                clone_url="https://github.com/acme/shop.git",
                private=False,
                fork=False,
            ),
            "trusted": True,
            "inputs": {},
        }
        return BuildRequested(**(data | fields))

    async def ask(self, request: BuildRequested, *, again: int = 0, earlier: float = 0.0) -> None:
        await self.bus.publish(build_requested(request, time=utc_now() - timedelta(seconds=earlier), again=again))

    async def answers(self, environment: str = "pr-1", verb: str = "finished") -> list[dict[str, Any]]:
        subject = environment_subject(self.identity(environment), "build", verb)
        return [json.loads(stored.data)["data"] async for stored in self.operator.replay("EVENTS", subject)]

    async def answer(self, count: int = 1, environment: str = "pr-1", verb: str = "finished") -> dict[str, Any]:
        async def there() -> bool:
            return len(await self.answers(environment, verb)) >= count

        await until(there, f"{count} build.{verb}")
        return (await self.answers(environment, verb))[count - 1]

    # The cluster, as admin

    def namespace(self, *, trusted: bool = True) -> str:
        return build_namespace(self.team, self.name, trusted=trusted)

    def get(self, path: str) -> Manifest:
        answer = self.admin.get(path)
        answer.raise_for_status()
        found: Manifest = answer.json()
        return found

    def jobs(self, *, trusted: bool = True) -> list[Manifest]:
        return list(self.get(f"/apis/batch/v1/namespaces/{self.namespace(trusted=trusted)}/jobs")["items"] or ())

    def secret(self, name: str, *, trusted: bool = True) -> dict[str, str] | None:
        answer = self.admin.get(f"/api/v1/namespaces/{self.namespace(trusted=trusted)}/secrets/{name}")
        if answer.status_code == 404:
            return None
        return {key: base64.b64decode(text).decode() for key, text in answer.json()["data"].items()}

    async def job(
        self, component: str = "web", key: str = "k1", *, trusted: bool = True, started: bool = True
    ) -> Manifest:
        def found() -> list[Manifest]:
            return [
                each
                for each in self.jobs(trusted=trusted)
                if each["metadata"]["labels"]["catalyst.dev/component"] == component
                and json.loads(each["metadata"]["annotations"]["catalyst.dev/build-request"])["request"]["key"] == key
                and (not started or not each["spec"].get("suspend"))
                and "deletionTimestamp" not in each["metadata"]
            ]

        async def there() -> bool:
            return bool(found())

        await until(there, f"the Job of {component}/{key} is {'started' if started else 'there'}")
        return found()[0]

    async def pod(self, job: Manifest) -> Manifest:
        where = job["metadata"]["namespace"]
        selector = {"labelSelector": f"catalyst.dev/build={job['metadata']['name']}"}

        def found() -> list[Manifest]:
            return list(self.admin.get(f"/api/v1/namespaces/{where}/pods", params=selector).json()["items"] or ())

        async def there() -> bool:
            return bool(found())

        await until(there, f"the pod of {job['metadata']['name']}")
        return found()[0]

    async def ends(self, job: Manifest, phase: str, states: dict[str, tuple[int, str]], **status: Any) -> None:
        """Play the kubelet: the pod ended, each container with (exit code, termination message)."""
        pod = await self.pod(job)
        now = f"{utc_now():%Y-%m-%dT%H:%M:%SZ}"

        def ended(container: Manifest) -> Manifest:
            code, message = states[container["name"]]
            state = {"exitCode": code, "message": message, "startedAt": now, "finishedAt": now}
            return {
                "name": container["name"],
                "image": "image",
                "imageID": "",
                "ready": False,
                "restartCount": 0,
                "state": {"terminated": {**state, "reason": "Completed" if code == 0 else "Error"}},
            }

        spec = pod["spec"]
        body = {
            "status": {
                "phase": phase,
                "startTime": now,
                "initContainerStatuses": [ended(c) for c in spec["initContainers"] if c["name"] in states],
                "containerStatuses": [ended(c) for c in spec["containers"] if c["name"] in states],
                **status,
            }
        }
        metadata = pod["metadata"]
        answer = self.admin.patch(
            f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status",
            json=body,
            headers={"content-type": "application/merge-patch+json"},
        )
        assert answer.status_code == 200, answer.text

    async def succeeds(self, job: Manifest, *, fingerprint: str = "f1", trusted: bool = True) -> str:
        """Push with the build's own credential, and end as Kaniko (or crane) would. Returns the digest."""
        secret = self.secret(f"{job['metadata']['name']}-push", trusted=trusted)
        assert secret is not None
        component = job["metadata"]["labels"]["catalyst.dev/component"]
        place = f"{self.team}/{self.name}/{component if trusted else f'forks/{component}'}"
        digest = await asyncio.to_thread(self.registry.push, secret["config.json"], place)
        if trusted:
            states = {"fetch": (0, f"source {fingerprint}"), "kaniko": (0, digest)}
        else:
            said = f"{self.registry.host}/{place}@{digest}\n"
            states = {"fetch": (0, f"source {fingerprint}"), "kaniko": (0, ""), "push": (0, said)}
        await self.ends(job, "Succeeded", states)
        return digest


async def until(holds: Callable[[], Any], what: str, within: float = PATIENCE) -> None:
    ends = asyncio.get_running_loop().time() + within
    while not await holds():
        assert asyncio.get_running_loop().time() < ends, f"not within {within:g} s: {what}"
        await asyncio.sleep(0.05)


SettingsOf = Callable[..., Settings]


@pytest.fixture
def settings_of(installation: Installation, registry: RegistryServer, monkeypatch: pytest.MonkeyPatch) -> SettingsOf:
    def made(**changes: str) -> Settings:
        values = {
            **installation.settings("builder"),
            "CATALYST_REGISTRY": registry.host,
            "CATALYST_REGISTRY_INSECURE": "true",
            "CATALYST_REALM_KEY_FILE": str(registry.private_key),
            "CATALYST_REALM_PORT": str(registry.realm_port),
            "CATALYST_FETCH_IMAGE": "library/git",
            "CATALYST_KANIKO_IMAGE": "library/kaniko",
            "CATALYST_CRANE_IMAGE": "library/crane",
            "CATALYST_LEASE_SECONDS": "3",
            **{f"CATALYST_{name.upper()}": value for name, value in changes.items()},
        }
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        return Settings()

    return made


@pytest.fixture
async def serve(settings_of: SettingsOf) -> AsyncIterator[Callable[..., Any]]:
    """`await serve()`: builder runs, with changed settings if given, until the test ends."""
    async with AsyncExitStack() as stack:

        async def served(**changes: str) -> Lifecycle:
            life = Lifecycle()
            task = asyncio.create_task(builder.main(settings_of(**changes), life))

            async def stop() -> None:
                life.stop()
                await asyncio.wait_for(task, 15)

            stack.push_async_callback(stop)

            async def ready() -> bool:
                if task.done():
                    task.result()
                return not any(life.readiness().values())

            await until(ready, "builder is ready")
            return life

        yield served


@pytest.fixture
async def buses(installation: Installation) -> AsyncIterator[tuple[Bus, Bus]]:
    """env-controller's, and the operator's."""
    async with AsyncExitStack() as stack:

        async def of(user: str) -> Bus:
            settings = BusSettings(installation.nats.url, installation.nats.seed(user), inbox_prefix(user))
            bus = await Bus.connect(settings, name=user, clock=utc_now)
            stack.push_async_callback(bus.drain)
            return bus

        yield await of("env-controller"), await of("operator")


@pytest.fixture
def project(installation: Installation, registry: RegistryServer, buses: tuple[Bus, Bus]) -> Iterator[Project]:
    """A project that no other test has. Whatever builds are left go afterwards: they would take others' places."""
    yield Project(*buses, installation.admin, registry, f"team-{next(_numbers)}")
    jobs = installation.admin.get("/apis/batch/v1/jobs", params={"labelSelector": "catalyst.dev/build"}).json()["items"]
    for where in {each["metadata"]["namespace"] for each in jobs or ()}:
        installation.admin.delete(
            f"/apis/batch/v1/namespaces/{where}/jobs", params={"propagationPolicy": "Background"}
        ).raise_for_status()
