"""The images of our own services, in the mirror as `catalyst/<service>:dev`, each built again when its source changed.

A service's Dockerfile is the same one that `docker build` takes. What it copies is its context, and nothing else of the
checkout: so the key covers exactly what can end up in the image. The packages of others are downloaded here, by the
hashes of deploy/images/*.lock, and installed without any network:

    <cache>/wheels/<key>/     of one lock file, for the node's Python and processor
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from catalyst.local.components import cache_folder
from catalyst.local.node.images import Image, SeedingFailed, digest, seed
from catalyst.local.supervisor import ROOT

SERVICES: Final = ("webhook-ingest", "env-controller", "builder", "dns-proxy", "notifier")
PYTHON: Final = "3.11"
"""Of the image `python:3.11-slim`, Debian bookworm's."""
GLIBC: Final = (36, 35, 34, 31, 28, 27, 26, 24, 17, 12, 5)
"""Minor versions of glibc 2 that wheels are made for and bookworm's 2.36 runs."""
_NOT_COPIED: Final = shutil.ignore_patterns("tests", "__pycache__", "wheels", "*.egg-info", "README.md")


@dataclass(frozen=True, slots=True)
class ServiceImage:
    """`file`: its Dockerfile, from the root of the checkout. `locks`: of the packages it installs. `parent`: key of
    the image it stands on.
    """

    tags: tuple[str, ...]
    file: str
    locks: tuple[Path, ...]
    parent: str
    root: Path = ROOT
    packages: bool = False

    @property
    def sources(self) -> tuple[str, ...]:
        """What the Dockerfile copies from the context."""
        found = re.findall(r"^COPY (?!--from)(\S+) \S+$", (self.root / self.file).read_text(), re.MULTILINE)
        return (self.file, *found)

    @property
    def arguments(self) -> Mapping[str, str]:
        """The commit, which is not part of the key: an image whose sources another commit left alone stays, and names
        the commit that it was built from.
        """
        return {"COMMIT": commit(self.root, self.sources)}

    def key(self) -> str:
        digested = hashlib.sha256(f"{self.parent} {_platform()}\n".encode())
        for name, path in self._files():
            digested.update(f"{name} {path.stat().st_mode & 0o111:o} {path.stat().st_size}\n".encode())
            digested.update(path.read_bytes())
        return digested.hexdigest()[:16]

    def fill(self, context: Path, out: TextIO) -> None:
        """Raises SeedingFailed when a package cannot be downloaded."""
        for name, path in self._files():
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, context / name)
        for lock in self.locks:
            shutil.copytree(wheels(lock, out), context / "deploy" / "images" / "wheels", dirs_exist_ok=True)

    def _files(self) -> Iterator[tuple[str, Path]]:
        for source in sorted(self.sources):
            place = self.root / source
            if place.is_file():
                yield source, place
                continue
            for folder, folders, names in os.walk(place):
                ignored = _NOT_COPIED(folder, [*folders, *names])
                folders[:] = sorted(set(folders) - ignored)
                for name in sorted(set(names) - ignored):
                    path = Path(folder) / name
                    yield str(path.relative_to(self.root)), path


def wanted(root: Path = ROOT) -> tuple[ServiceImage, ...]:
    """The base, then every service."""
    folder = root / "deploy" / "images"
    tools, packages = (folder / "build.lock",), folder / "requirements.lock"
    python = Image("python", ()).key()
    base = ServiceImage(("catalyst/base:dev",), "deploy/images/base.Dockerfile", (*tools, packages), python, root)
    key = base.key()
    services = (
        ServiceImage((f"catalyst/{name}:dev",), f"services/{name}/Dockerfile", tools, key, root) for name in SERVICES
    )
    return (base, *services)


def commit(root: Path, sources: Sequence[str]) -> str:
    """What git says of these files: the commit, with `-dirty` when they are others now. Empty without a repository."""
    try:
        head = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--", *sources)
    except (OSError, subprocess.SubprocessError):
        return ""
    return f"{head}-dirty" if changed else head


def _git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()


def build(binaries: Mapping[str, Path], out: TextIO) -> dict[str, str]:
    """Build what changed; instant when nothing did. Returns repository → digest in the mirror. Raises SeedingFailed."""
    seed(binaries, out, images=wanted())
    return {f"catalyst/{name}": digest(f"catalyst/{name}:dev") for name in SERVICES}


def wheels(lock: Path, out: TextIO, env: Mapping[str, str] = os.environ) -> Path:
    """A folder with the wheels of a lock file, downloaded once as pip is configured. Raises SeedingFailed."""
    key = hashlib.sha256(f"{_platform()}\n".encode() + lock.read_bytes()).hexdigest()[:16]
    place = cache_folder(env) / "wheels" / key
    if place.exists():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    print(f"downloading the packages of {lock.name} …", file=out, flush=True)
    with tempfile.TemporaryDirectory(prefix="download-", dir=place.parent) as scratch:
        platforms = [f"--platform={name}" for name in _platforms()]
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        what = ["--require-hashes", "--no-deps", f"--requirement={lock}", f"--dest={scratch}"]
        target = [f"--python-version={PYTHON}", "--implementation=cp", *platforms]
        done = subprocess.run([*pip, *what, *target], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SeedingFailed(f"the packages of {lock} could not be downloaded:\n{done.stderr.strip()[-3000:]}")
        shutil.copytree(scratch, place.with_suffix(".new"))
        place.with_suffix(".new").rename(place)
    return place


def _platform() -> str:
    return f"cp{PYTHON} {platform.machine()}"


def _platforms() -> list[str]:
    machine = platform.machine()
    return [*(f"manylinux_2_{minor}_{machine}" for minor in GLIBC), f"manylinux2014_{machine}", f"linux_{machine}"]
