"""The whole product on the machine's own node, for the benchmarks that need pods: what `tests/support/product.py` gives
the tests end to end. GitHub's double runs in this process, so its clock is ours.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import httpx

from bench.results import ROOT
from bench.run import Run

sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "tests")]

from product import EXAMPLES, Files, Product, Pull, Site  # noqa: E402
from product import product as installed  # noqa: E402

from catalyst.local import cluster, components, platform  # noqa: E402
from catalyst.local.demo.sight import GROUP  # noqa: E402
from catalyst.local.demo.visitor import Visitor  # noqa: E402
from catalyst.local.installation import SYSTEM_NAMESPACE  # noqa: E402
from catalyst.local.node.layout import NODE, Layout  # noqa: E402
from catalyst.local.node.packages import NotThisMachine, check_machine  # noqa: E402
from catalyst.model.names import project_namespace  # noqa: E402

__all__ = ["Files", "Product", "Pull", "Site"]

LOOK: Final = 0.1
"""Seconds between two looks, as the limits look."""
PATIENCE: Final = 300.0


def why_not_here() -> str | None:
    """Why there can be no node on this machine; None where there can."""
    try:
        check_machine()
    except NotThisMachine as error:
        return str(error)
    return None


@contextmanager
def on_node(run: Run) -> Iterator[Callable[[], Product]]:
    """A function that gives the product, installed at its first call. A cluster that ran before goes on running.

    Raises what cluster.up and platform.install raise.
    """
    with ExitStack() as stack:

        @cache
        def product() -> Product:
            before = cluster.running()
            state = cluster.up(out=sys.stderr)
            if before is None:
                stack.callback(cluster.down)
            return stack.enter_context(installed(state, stack.enter_context(run.folder())))

        yield product


# The repositories of the benchmarks

DEPENDENCIES: Final = {
    "python:3-slim": "RUN python3 -m venv /opt/dependencies",
    "node:18-slim": "RUN cp -r /usr/share/nodejs /opt/dependencies",
}
"""Base image → a step that takes its time and makes a layer, as the installation of dependencies does."""
SERVER: Final = """\
const given = process.env
const page = () => `${"%s"} ${given.CATALYST_COMMIT}\\n`
const server = require('http').createServer((_, answer) => answer.end(page())).listen(given.PORT || 8080)
process.on('SIGTERM', () => server.close())
"""


def python_app(greeting: str, folder: str = "") -> Files:
    """The example `hello`, which says the commit, behind a step that makes a layer. Pods on python are nothing new to
    the node: our own services are.
    """
    program = (EXAMPLES / "hello" / "app.py").read_text().replace('GREETING = "Hello"', f'GREETING = "{greeting}"')
    return {
        f"{folder}Dockerfile": _dockerfile("python:3-slim", "app.py", '["python3", "app.py"]'),
        f"{folder}app.py": program,
    }


def node_app(greeting: str) -> Files:
    """The same on a base that nothing else on the node stands on."""
    dockerfile = _dockerfile("node:18-slim", "server.js", '["node", "server.js"]')
    return {"Dockerfile": dockerfile, "server.js": SERVER % greeting}


def _dockerfile(base: str, program: str, command: str) -> str:
    lines = (
        f"FROM {base}",
        DEPENDENCIES[base],
        "WORKDIR /app",
        f"COPY {program} .",
        "EXPOSE 8080",
        "USER 1000",
        f"CMD {command}",
    )
    return "\n".join(lines) + "\n"


def new_site(product: Product, files: Files, spec: dict[str, Any] | None = None) -> Site:
    """A repository and a Project of a team of its own, so that nothing of another is in its registry, cache or limits
    at the forge. Returns when the Project is ready.
    """
    site = product.team().site("app", files, spec)
    until(lambda: _project_is_ready(site), f"Project {site.team}/{site.name} is ready")
    return site


def _project_is_ready(site: Site) -> bool:
    found = site.product.sight.get(f"{GROUP}/namespaces/{site.team}/projects/{site.name}") or {}
    return any(c["type"] == "Ready" and c["status"] == "True" for c in found.get("status", {}).get("conditions", ()))


# What is looked at


def until(holds: Callable[[], bool], what: str, within: float = PATIENCE, every: float = LOOK) -> float:
    """When it held first (CLOCK_MONOTONIC, seconds). Raises TimeoutError."""
    ends = time.monotonic() + within
    while not holds():
        if time.monotonic() > ends:
            raise TimeoutError(f"{what}: not within {within:g} s")
        time.sleep(every)
    return time.monotonic()


def status(pull: Pull) -> dict[str, Any]:
    """Of its Environment, as the API server has it; empty while there is none."""
    found = pull.site.product.sight.get(f"{_place(pull)}/{pull.identity.environment}") or {}
    told: dict[str, Any] = found.get("status", {})
    return told


def all_ready(pulls: Sequence[Pull]) -> list[Pull]:
    """Those that are ready at their own head."""
    found = {
        (each["metadata"]["namespace"], each["metadata"]["name"]): each.get("status", {})
        for place in {_place(pull) for pull in pulls}
        for each in (pulls[0].site.product.sight.get(place) or {"items": []})["items"]
    }
    return [pull for pull in pulls if _is_ready(found.get(_named(pull), {}), pull)]


def is_ready(pull: Pull) -> bool:
    """At the pull request's own head."""
    return _is_ready(status(pull), pull)


def _is_ready(found: dict[str, Any], pull: Pull) -> bool:
    return (found.get("phase"), found.get("commit")) == ("Ready", pull.head)


def _named(pull: Pull) -> tuple[str, str]:
    return project_namespace(pull.site.team, pull.site.name), pull.identity.environment


def _place(pull: Pull) -> str:
    return f"{GROUP}/namespaces/{_named(pull)[0]}/environments"


def arrival(pull: Pull) -> Callable[[], bool]:
    """Whether it is ready and its URL answers with its head. The URL is not asked before pods of that commit may be
    there: until then looking costs the build next to nothing.
    """
    seen = list[Visitor]()

    def arrived() -> bool:
        found = status(pull)
        if found.get("commit") != pull.head or found.get("phase") not in ("Deploying", "Ready") or "url" not in found:
            return False
        if not seen:
            seen.append(pull.visitor())
        code, text = seen[0].looks()
        return found["phase"] == "Ready" and code == httpx.codes.OK and pull.head in text

    return arrived


@contextmanager
def webhooks_held(product: Product) -> Iterator[Callable[[], float]]:
    """What is done at the forge in this block is told by the function, which says when (CLOCK_MONOTONIC)."""
    product.github.drained()
    product.github.hold_webhooks()

    def tell() -> float:
        began = time.monotonic()
        product.github.release_webhooks("as told")
        return began

    try:
        yield tell
    finally:
        if product.github.webhooks.held is not None:
            product.github.release_webhooks("as told")


# The node's images


def forget_images(*wanted: str) -> None:
    """Whatever of the node's images has one of these words in its name goes, with all its other names and with what
    ended containers still hold of it: as if it had never been pulled. What runs keeps its image.
    """
    alive = {line.split()[0] for line in _ctr("tasks", "list")}
    containers = [line.split()[:2] for line in _ctr("containers", "list")]
    images = [(name, digest) for name, _, digest, *_ in map(str.split, _ctr("images", "list"))]
    in_use = {image for container, image in containers if container in alive}
    kept = {digest for name, digest in images if name in in_use}
    going = {digest for name, digest in images if _names(name, wanted)} - kept
    names = [name for name, digest in images if digest in going]
    for container, image in containers:
        if _names(image, wanted) and container not in alive:
            _forget_container(container)
    if names:
        _ctr("images", "remove", "--sync", *names)


def forget_pages() -> None:
    """Nothing of a disk is in memory any more: else one side now and then finds what the other has just read."""
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def _forget_container(container: str) -> None:
    try:
        _ctr("containers", "delete", container)
    except subprocess.CalledProcessError as error:
        if "not found" not in error.stderr:  # else the kubelet was faster
            raise


def _names(image: str, wanted: Sequence[str]) -> bool:
    return any(word in image for word in wanted)


def _ctr(*words: str) -> list[str]:
    """The lines of its answer, without the one that heads a table."""
    containerd = next(each for each in components.NODE if each.name == "containerd")
    ctr = components.binaries(components=(containerd,))["ctr"]
    socket = Layout(Path()).containerd_socket
    command = [str(ctr), "--address", str(socket), "--namespace", "k8s.io", *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout.splitlines()[1:]


# Memory


@dataclass
class Memory:
    """The most memory that each of our pods had, in MB, while the block ran: its working set, as the kubelet counts."""

    product: Product
    most: dict[str, float] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def _look(self) -> None:
        while True:
            for name, size in self._sizes():
                self.most[name] = max(size, self.most.get(name, 0.0))
            if self._stop.wait(3):
                return

    def _sizes(self) -> Iterator[tuple[str, float]]:
        summary = self.product.sight.get(f"/api/v1/nodes/{NODE}/proxy/stats/summary") or {"pods": []}
        for pod in summary["pods"]:
            if pod["podRef"]["namespace"] in (SYSTEM_NAMESPACE, platform.EDGE_NAMESPACE):
                bytes_ = sum(each.get("memory", {}).get("workingSetBytes", 0) for each in pod.get("containers", ()))
                yield pod["podRef"]["name"], bytes_ / 1e6

    def __enter__(self) -> "Memory":
        self._thread = threading.Thread(target=self._look, name="memory")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
