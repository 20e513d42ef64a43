"""Real Kaniko builds of real git repositories on the node: builder as its own process with its own account, the
registry asking builder's realm, GitHub's double serving git to the pods.
"""

import asyncio
import base64
import hashlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from building import Project, until
from doubles.github import GitHubDouble
from kubectl import Kubectl, pod

from catalyst.builder.core.job import BUILD_LABEL
from catalyst.events.bus import Bus, BusSettings
from catalyst.events.catalogue import Repository
from catalyst.events.users import inbox_prefix
from catalyst.local import cluster, components
from catalyst.local.existing import ExistingCluster
from catalyst.local.installation import install
from catalyst.local.nats import Nats
from catalyst.local.node import layout
from catalyst.local.process import Part, free_ports
from catalyst.model.clock import utc_now
from catalyst.model.environment import Phase

FORGE_PORT = 8931
FORGE = f"http://github.catalyst.test:{FORGE_PORT}"
BUILD = 180.0
"""Seconds that a cold build may take here."""
SERVER = "from http.server import *; HTTPServer(('', 8080), SimpleHTTPRequestHandler).serve_forever()"
DOCKERFILE = f"""\
FROM python:3-slim
WORKDIR /app
RUN echo "expensive" && sleep 2 && seq 1 100000 > /opt/layer
COPY . .
EXPOSE 8080
USER 1000
CMD ["python3", "-c", "{SERVER}"]
"""
PORTS = {"realm": 8080, "registry": layout.REGISTRY_PORT, "mirror": layout.MIRROR_PORT, "forge": FORGE_PORT}


@dataclass
class World:
    """Everything that stands around the builds."""

    admin: httpx.Client
    nats: Nats
    github: GitHubDouble
    kubectl: Kubectl
    log: Path


@pytest.fixture(scope="module")
def world(node: cluster.ClusterState, kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("builder")
    binary = components.binaries(components=(components.CONTROL_PLANE,))["kubectl"]
    os.environ["PATH"] = f"{binary.parent}{os.pathsep}{os.environ['PATH']}"
    github = GitHubDouble(folder / "github", host=layout.ADDRESS, port=FORGE_PORT, public_url=FORGE)
    with ExistingCluster(folder / "cluster", Path(node.kubeconfig)) as found, Nats(folder / "nats") as nats, github:
        nats.apply_topology()
        install(found)
        _realm_leads_here(kubectl)
        key = folder / "app.pem"
        key.write_text(github.private_key)
        github.repository("acme/shop", private=True, files={"Dockerfile": DOCKERFILE, "index.html": "one"})
        github.install("acme")
        part = Part(
            "builder",
            [sys.executable, "-m", "catalyst.builder"],
            folder / "builder.log",
            _settings(found, nats, key, node),
        )
        part.start()
        try:
            _ready(part)
            yield World(found.admin, nats, github, kubectl, part.log)
        finally:
            part.stop()
            _remove_builds(found.admin)


def _settings(found: ExistingCluster, nats: Nats, key: Path, node: cluster.ClusterState) -> dict[str, str]:
    realm = Path(node.kubeconfig).parent / "realm" / "key.pem"
    values = {
        "NATS_URL": nats.url,
        "NATS_SEED_FILE": str(nats.seed("builder")),
        "KUBECONFIG": str(found.kubeconfig_for("catalyst-system", "builder")),
        "REGISTRY": layout.REGISTRY,
        "REGISTRY_INSECURE": "true",
        "REGISTRY_MIRRORS": layout.MIRROR,
        "REALM_KEY_FILE": str(realm),
        "REALM_HOST": layout.ADDRESS,
        "REALM_PORT": str(PORTS["realm"]),
        "GIT_URL": FORGE,
        "GIT_INSECURE": "true",
        "GITHUB_URL": f"{FORGE}/api/v3",
        "GITHUB_APP_ID": "4711",
        "GITHUB_PRIVATE_KEY_FILE": str(key),
        "FETCH_IMAGE": "catalyst/git:bookworm",
        "KANIKO_IMAGE": "kaniko-project/executor:latest",
        "CRANE_IMAGE": "go-containerregistry/crane:v0.22.1",
        "BUILD_EGRESS": ",".join(f"{layout.ADDRESS}/32:{port}" for port in PORTS.values()),
        "PROTECTED_NETWORKS": f"{layout.PODS},{layout.SERVICES}",
        "OPS_PORT": str(free_ports(1)[0]),
        "OPS_HOST": "127.0.0.1",
    }
    return {f"CATALYST_{name}": value for name, value in values.items()}


def _realm_leads_here(kubectl: Kubectl) -> None:
    """The Service has the address that the registry's realm has on this node; behind it is this test's builder."""
    port = {"name": "realm", "port": 8080, "protocol": "TCP"}
    metadata = {"name": "builder", "namespace": "catalyst-system"}
    kubectl.within("catalyst-system").apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"clusterIP": layout.REALM, "ports": [port]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**metadata, "labels": {"kubernetes.io/service-name": "builder"}},
            "addressType": "IPv4",
            "ports": [port],
            "endpoints": [{"addresses": [layout.ADDRESS]}],
        },
    )


def _ready(part: Part) -> None:
    url = f"http://127.0.0.1:{part.env['CATALYST_OPS_PORT']}/readyz"
    ends = time.monotonic() + 30
    while True:
        try:
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        assert part.pid is not None, part.log.read_text()[-3000:]
        assert time.monotonic() < ends, part.log.read_text()[-3000:]
        time.sleep(0.1)


def _remove_builds(admin: httpx.Client) -> None:
    for found in admin.get("/api/v1/namespaces", params={"labelSelector": "catalyst.dev/trust"}).json()["items"]:
        admin.delete(f"/api/v1/namespaces/{found['metadata']['name']}")


@pytest.fixture
async def project(world: World) -> AsyncIterator[Project]:
    buses = []
    for user in ("env-controller", "operator"):
        settings = BusSettings(world.nats.url, world.nats.seed(user), inbox_prefix(user))
        buses.append(await Bus.connect(settings, name=user, clock=utc_now))
    controller, operator = buses
    yield Project(controller, operator, world.admin, None, f"team-{time.monotonic_ns() % 10**9}")
    for bus in buses:
        await bus.drain()


Ask = Callable[..., Any]


@pytest.fixture
def build(world: World, project: Project) -> Ask:
    """`await build(commit, component=…)` → the answer and how long it took."""
    keys = iter(range(1, 1000))

    async def asked(commit: str, component: str = "web", **fields: Any) -> tuple[dict[str, Any], float]:
        key = f"k{next(keys)}"
        trusted = fields.get("trusted", True)
        repository = Repository(
            forge="github",
            id=1,
            full_name="acme/shop",
            default_branch="main",
            clone_url=world.github.clone_url("acme/shop"),
            private=True,
            fork=False,
        )
        await project.tell(project.snapshot({component: (key, 1)}, fork=not trusted, **fields.pop("told", {})))
        begun = time.monotonic()
        before = len(await project.answers())
        await project.ask(project.request(component, key, commit=commit, repository=repository, **fields))

        async def there() -> bool:
            return any(answer["key"] == key for answer in await project.answers())

        try:
            await until(there, "an answer", BUILD)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{await asyncio.to_thread(_state_of_builds, world)}") from None
        took = time.monotonic() - begun
        answer = next(each for each in (await project.answers())[before:] if each["key"] == key)
        return answer, took

    return asked


def _state_of_builds(world: World) -> str:
    """What Kubernetes says of every build that has not ended well, with the logs."""
    said = []
    for found in world.kubectl.get("pods", "--all-namespaces", "--selector", BUILD_LABEL)["items"]:
        if found["status"].get("phase") == "Succeeded":
            continue
        there, name = world.kubectl.within(found["metadata"]["namespace"]), f"pod/{found['metadata']['name']}"
        said += [there.run("describe", name), there.run("logs", name, "--all-containers", "--ignore-errors")]
    return "\n".join(said) or "no pod of a build is under way"


async def test_a_private_repository_becomes_an_image_that_runs(world: World, project: Project, build: Ask) -> None:
    commit = world.github.commit("acme/shop", "main", {"index.html": "first"})
    answer, cold = await build(commit)
    assert answer["outcome"] == "succeeded", answer
    assert (answer["ports"], answer["user"]) == ([8080], "1000")

    # One source file changed: the expensive layer comes from the cache.
    commit = world.github.commit("acme/shop", "main", {"index.html": "second"})
    answer, cached = await build(commit)
    assert answer["outcome"] == "succeeded", answer
    # Nothing of the context changed: no Kaniko at all.
    again = world.github.commit("acme/shop", "main", {"index.html": "second"}, message="The same again")
    unchanged, took = await build(again)
    assert unchanged["digest"] == answer["digest"]
    assert cached <= 30, f"cold {cold:.1f} s, one file changed {cached:.1f} s, nothing changed {took:.1f} s"

    # A pod pulls it with the environment's password, and without one it does not.
    password = "p" * 40
    digest = hashlib.sha256(password.encode()).hexdigest()
    await project.tell(
        project.snapshot({}, phase=Phase.READY, digests={"web": answer["digest"]}, password_sha256=digest)
    )
    image = f"{answer['image']}@{answer['digest']}"
    auth = base64.b64encode(f"env:uid-{project.team}-pr-1:{password}".encode()).decode()
    config = json.dumps({"auths": {layout.REGISTRY: {"auth": auth}}})
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "catalyst-pull"},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": config},
    }

    def runs() -> None:
        with world.kubectl.new_namespace() as there:
            there.apply(secret, pod("bare", image))
            there.wait("pod/bare", "jsonpath={.status.containerStatuses[0].state.waiting.reason}=ImagePullBackOff", 60)
            there.apply(pod("with-secret", image, imagePullSecrets=[{"name": "catalyst-pull"}]))
            there.wait("pod/with-secret", "condition=Ready")
            assert there.execute("with-secret", "cat", "index.html") == "second"

    await asyncio.to_thread(runs)


HOSTILE = """\
FROM python:3-slim
COPY probe.py /probe.py
RUN python3 /probe.py; false
"""
PROBE = f"""\
import os, socket
def knock(host, port):
    try:
        socket.create_connection((host, port), timeout=3).close()
        return "open"
    except OSError as error:
        return type(error).__name__
for place in (("internet.test", 80), ("{layout.ADDRESS}", 6443), ("10.96.0.1", 443), ("{layout.ADDRESS}", 10250),
              ("{layout.METADATA}", 80), ("registry.catalyst.test", 5000)):
    print("KNOCK", *place, knock(*place))
for folder in ("/kaniko/.docker", "/credentials", "/var/run/secrets", "/out", "/workspace"):
    for where, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(where, name)
            print("FILE", path)
            if not path.startswith("/workspace/source"):
                print(open(path, "rb").read()[:2000])
print("ENV", {{name: value for name, value in os.environ.items()}})
"""


async def test_an_approved_fork_finds_nothing(world: World, project: Project, build: Ask) -> None:
    commit = world.github.commit("acme/shop", "fork", {"Dockerfile": HOSTILE, "probe.py": PROBE})
    answer, _ = await build(commit, trusted=False)
    assert (answer["outcome"], answer["reason"]) == ("failed", "BuildFailed"), answer
    log = answer["logTail"]
    assert "KNOCK internet.test 80 open" in log
    assert "KNOCK registry.catalyst.test 5000 open" in log
    for refused in (f"{layout.ADDRESS} 6443", "10.96.0.1 443", f"{layout.ADDRESS} 10250", f"{layout.METADATA} 80"):
        assert f"KNOCK {refused} " in log
        assert f"KNOCK {refused} open" not in log
    for place in ("/kaniko/.docker/config.json", "/credentials/", "/var/run/secrets/"):
        assert f"FILE {place}" not in log
    assert "eyJ" not in log
    assert "ghs_" not in log


async def test_what_a_trusted_dockerfile_prints_is_worth_nothing_afterwards(
    world: World, project: Project, build: Ask
) -> None:
    files = {
        "Dockerfile": "FROM python:3-slim\nRUN cd /kaniko/.docker; cat config.json; base64 -w0 config.json; false\n"
    }
    answer, _ = await build(world.github.commit("acme/shop", "dump", files))
    text = json.dumps(answer)
    assert answer["outcome"] == "failed"
    assert "[redacted]" in text
    assert "eyJ" not in text
    assert base64.b64encode(b'{"auths"').decode()[:8] not in text


async def test_a_fork_that_builds_is_pushed_to_its_own_place(world: World, project: Project, build: Ask) -> None:
    commit = world.github.commit("acme/shop", "good-fork", {"Dockerfile": "FROM python:3-slim\nEXPOSE 9000\n"})
    answer, _ = await build(commit, trusted=False)
    assert answer["outcome"] == "succeeded", answer
    assert answer["image"] == f"{layout.REGISTRY}/{project.team}/shop/forks/web"


@pytest.mark.parametrize(
    ("files", "fields", "reason"),
    [
        ({"Dockerfile": None}, {}, "DockerfileNotFound"),
        ({"Dockerfile": "FRM scratch\n"}, {}, "DockerfileInvalid"),
        ({"Dockerfile": "FROM no-such-image:1\n"}, {}, "BaseImageNotFound"),
        ({"Dockerfile": "FROM python:3-slim\nRUN exit 7\n"}, {}, "BuildFailed"),
        ({}, {"inputs": {"context": "nowhere"}}, "ContextNotFound"),
        ({}, {"commit": "0" * 40}, "CommitNotFound"),
    ],
)
async def test_failures_say_why(
    world: World, project: Project, build: Ask, files: Any, fields: Any, reason: str
) -> None:
    branch = f"broken-{reason.lower()}"
    commit = world.github.commit("acme/shop", branch, {"x": reason, **files})
    answer, _ = await build(fields.pop("commit", commit), **fields)
    assert (answer["outcome"], answer["reason"]) == ("failed", reason), answer
