"""The binaries of the local cluster, built once from Go modules into a cache folder, or found where
KUBEBUILDER_ASSETS points.

Each component is a small Go module under deploy/local/components: its go.mod and go.sum pin every source, so the key
of a build is their hash and the recipe's. A build goes to a temporary folder and is renamed when complete; a file
lock keeps two builders apart.

    ${CATALYST_CACHE:-${XDG_CACHE_HOME:-~/.cache}/catalyst}/bin/<component>/<key>/<binary>

Standard library only: `tools/setup` runs this file before any package is installed (`python3 -P components.py`).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO

MODULES: Final = Path(__file__).resolve().parents[3] / "components"
KUBERNETES: Final = "v1.36.3"
KANIKO: Final = "v1.24.0"


class ComponentError(RuntimeError):
    """A binary can neither be found nor built. The text says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Component:
    """Binaries of one Go module: name of the file → package. Two components may share a module (and its versions)."""

    name: str
    binaries: Mapping[str, str]
    ldflags: tuple[str, ...] = ("-s", "-w")
    tags: str = ""
    first_build: str = ""
    env: Mapping[str, str] = field(default_factory=lambda: {"CGO_ENABLED": "0"})
    module_name: str = ""

    @property
    def module(self) -> Path:
        return MODULES / (self.module_name or self.name)

    def commands(self, output: Path) -> list[list[str]]:
        """One `go build` a binary: a package's own name is not always the binary's (etcd's is `server`)."""
        # -buildvcs=false: the version is the module's, and a checkout of another owner would make git refuse the build.
        flags = ["-trimpath", "-buildvcs=false", "-ldflags", " ".join(self.ldflags)]
        if self.tags:
            flags += ["-tags", self.tags]
        return [["go", "build", *flags, "-o", str(output / name), package] for name, package in self.binaries.items()]

    def key(self) -> str:
        """16 hex digits over everything that decides what comes out."""
        digest = hashlib.sha256()
        recipe = repr((self.commands(Path()), sorted(self.env.items()), sys.platform, os.uname().machine))
        pinned = [self.module / "go.mod", self.module / "go.sum", *sorted(self.module.glob("*.go"))]
        for content in (*(path.read_bytes() for path in pinned), recipe.encode()):
            digest.update(len(content).to_bytes(8, "big"))
            digest.update(content)
        return digest.hexdigest()[:16]


def _kubernetes_version(version: str) -> tuple[str, ...]:
    major, minor, _ = version.removeprefix("v").split(".")
    package = "k8s.io/component-base/version"
    pairs = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    return tuple(word for key, value in pairs.items() for word in ("-X", f"{package}.{key}={value}"))


ETCD = Component("etcd", {"etcd": "go.etcd.io/etcd/server/v3"}, first_build="half a minute on 2 cores")
CONTROL_PLANE = Component(
    "kubernetes",
    {name: f"k8s.io/kubernetes/cmd/{name}" for name in ("kube-apiserver", "kube-controller-manager", "kubectl")},
    ldflags=("-s", "-w", *_kubernetes_version(KUBERNETES)),
    first_build="5 to 6 minutes on 2 cores",
)
COMPONENTS: Final = (ETCD, CONTROL_PLANE)
"""What the tests and `make dev` need: a control plane without a node."""

NATS_CLI: Final = Component(
    "natscli", {"nats": "github.com/nats-io/natscli/nats"}, first_build="half a minute on 2 cores"
)
"""`nats`, with which teams read their events: for the tests of docs/subscriptions.md, and whoever wants it."""

NODE: Final = (
    Component(
        "kubernetes-node",
        {name: f"k8s.io/kubernetes/cmd/{name}" for name in ("kube-scheduler", "kubelet", "kube-proxy")},
        ldflags=CONTROL_PLANE.ldflags,
        first_build="2 minutes on 2 cores",
        module_name="kubernetes",
    ),
    Component(
        "runc",
        {"runc": "github.com/opencontainers/runc"},
        tags="seccomp",
        env={"CGO_ENABLED": "1"},  # it enters namespaces before Go's threads start, and links libseccomp
        first_build="15 seconds on 2 cores",
    ),
    Component(
        "containerd",
        {
            name: f"github.com/containerd/containerd/v2/cmd/{name}"
            for name in ("containerd", "containerd-shim-runc-v2", "ctr")
        },
        first_build="a minute on 2 cores",
    ),
    Component("pause", {"pause": "."}),
    Component("crane", {"crane": "github.com/google/go-containerregistry/cmd/crane"}, first_build="5 seconds"),
    Component(
        "registry",
        {"registry": "github.com/distribution/distribution/v3/cmd/registry"},
        first_build="70 seconds on 2 cores",
    ),
    Component("coredns", {"coredns": "."}, first_build="a minute on 2 cores"),
    Component(
        "kube-router",
        {"kube-router": "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"},
        first_build="3 minutes on 2 cores",
    ),
    Component(
        "local-path",
        {"local-path-provisioner": "github.com/rancher/local-path-provisioner"},
        first_build="half a minute on 2 cores",
    ),
    Component(
        "kaniko",
        {"executor": "github.com/GoogleContainerTools/kaniko/cmd/executor"},
        ldflags=("-s", "-w", "-X", f"github.com/GoogleContainerTools/kaniko/pkg/version.version={KANIKO}"),
        first_build="2 minutes on 2 cores",
    ),
)
"""What a node adds: it runs pods, joins them to a network, builds and keeps their images."""

AUTOSCALING: Final = (
    Component(
        "keda",
        {
            "keda-operator": "github.com/kedacore/keda/v2/cmd/operator",
            "keda-adapter": "github.com/kedacore/keda/v2/cmd/adapter",
        },
        first_build="8 minutes on 2 cores",
    ),
    Component(
        "metrics-server",
        {"metrics-server": "sigs.k8s.io/metrics-server/cmd/metrics-server"},
        first_build="2 minutes on 2 cores",
    ),
)
"""What scales services on a node: only `make scale` builds it."""

PROMTOOL: Final = Component(
    "promtool", {"promtool": "github.com/prometheus/prometheus/cmd/promtool"}, first_build="3 minutes on 2 cores"
)
"""Prometheus' own checker of alert rules, for their tests."""


def cache_folder(env: Mapping[str, str] = os.environ) -> Path:
    """Of everything Catalyst keeps between runs on this machine."""
    if chosen := env.get("CATALYST_CACHE"):
        return Path(chosen).expanduser().absolute()
    return Path(env.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "catalyst"


def binaries(
    env: Mapping[str, str] = os.environ,
    *,
    progress: TextIO | None = None,
    components: tuple[Component, ...] = COMPONENTS,
) -> dict[str, Path]:
    """Name → path of every binary; builds what is not in the cache, telling `progress` (default: standard error) how
    far it is.

    Raises ComponentError: a binary is missing in KUBEBUILDER_ASSETS, Go is missing, or a build failed.
    """
    out = progress or sys.stderr
    found: dict[str, Path] = {}
    for component in components:
        folder = _assets(env, component) or _built(component, env, out)
        found.update({name: folder / name for name in component.binaries})
    return found


def nats_cli(env: Mapping[str, str] = os.environ, *, progress: TextIO | None = None) -> Path:
    """The program `nats`. No part of a cluster, so KUBEBUILDER_ASSETS has no say. Raises ComponentError."""
    return _built(NATS_CLI, env, progress or sys.stderr) / "nats"


def _assets(env: Mapping[str, str], component: Component) -> Path | None:
    if not (chosen := env.get("KUBEBUILDER_ASSETS")):
        return None
    folder = Path(chosen).expanduser().absolute()
    missing = [name for name in component.binaries if not os.access(folder / name, os.X_OK)]
    if missing:
        raise ComponentError(
            f"KUBEBUILDER_ASSETS={folder} lacks {', '.join(missing)}: expected executable files of these names there. "
            "Add them, or unset KUBEBUILDER_ASSETS to have them built with Go."
        )
    return folder


def _built(component: Component, env: Mapping[str, str], out: TextIO) -> Path:
    home = cache_folder(env) / "bin" / component.name
    wanted = home / component.key()
    if wanted.is_dir():
        return wanted
    go = shutil.which("go", path=env.get("PATH"))
    if go is None:
        raise ComponentError(
            f"{component.name} must be built, but there is no `go` in PATH. Install Go 1.26 or newer, or set "
            f"KUBEBUILDER_ASSETS to a folder with {_all_names()}. `make dev` can also use a cluster you have: "
            "set CATALYST_KUBECONFIG to its kubeconfig."
        )
    home.mkdir(parents=True, exist_ok=True)
    with _locked(home / f"{wanted.name}.lock", component.name, out):
        if not wanted.is_dir():  # another process may have built it while we waited
            _build(component, go, env, wanted, out)
    return wanted


def _build(component: Component, go: str, env: Mapping[str, str], wanted: Path, out: TextIO) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=f".{wanted.name}-", dir=wanted.parent))
    begun = time.monotonic()
    try:
        with (scratch / "build.log").open("w+") as log:
            for command in component.commands(scratch):
                what = f"building {component.name}: {Path(command[-2]).name}"
                if component.first_build:
                    what += f" (the whole component takes {component.first_build} the first time)"
                process = subprocess.Popen(
                    [go, *command[1:]], cwd=component.module, env={**env, **component.env}, stdout=log, stderr=log
                )
                try:
                    _report_until_done(process, what, begun, out)
                finally:
                    process.kill()
                    process.wait()
                if process.returncode != 0:
                    log.seek(0)
                    raise ComponentError(_build_failed(component, command, log.read()))
        (scratch / "build.log").unlink()
        scratch.chmod(0o755)
        scratch.rename(wanted)
        print(f"built {component.name} in {_clock(time.monotonic() - begun)}", file=out, flush=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _report_until_done(process: subprocess.Popen[bytes], what: str, begun: float, out: TextIO) -> None:
    """A terminal sees the time run; a log gets a line every 20 s."""
    terminal = out.isatty()
    pause = 1.0 if terminal else 20.0
    print(f"{what} …", end="" if terminal else "\n", file=out, flush=True)
    while True:
        try:
            process.wait(pause)
        except subprocess.TimeoutExpired:
            line = f"{what} … {_clock(time.monotonic() - begun)}"
            print(f"\r{line}" if terminal else line, end="" if terminal else "\n", file=out, flush=True)
        else:
            if terminal:
                print("\r\033[K", end="", file=out, flush=True)
            return


def _build_failed(component: Component, command: list[str], output: str) -> str:
    end = "\n".join(f"  | {line}" for line in output.splitlines()[-20:]) or "  | (the compiler said nothing)"
    return (
        f"building {component.name} failed:\n{end}\n"
        f"To see it again: cd {component.module} && CGO_ENABLED=0 go build {command[-1]}\n"
        "A download failed? Check GOPROXY and the network, then run the same command again; what is built stays.\n"
        f"Instead of building: set KUBEBUILDER_ASSETS to a folder with {_all_names()}."
    )


def _all_names() -> str:
    return ", ".join(name for component in COMPONENTS for name in component.binaries)


@contextmanager
def _locked(path: Path, name: str, out: TextIO) -> Iterator[None]:
    """Held by this process; released by the kernel however it ends."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another process is building {name}; waiting for it …", file=out, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a half-made build and its compiler go, too
    try:
        found = {**binaries(), "nats": nats_cli()}
    except ComponentError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"cluster binaries: {', '.join(sorted(found))}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
