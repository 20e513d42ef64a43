"""Which code this process runs: for what it records, and for `catalyst status`."""

import hashlib
import importlib.util
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Final

DIRTY: Final = "-dirty"
"""Behind a commit: sources were changed since."""


def code_version(service: str, built_from: str | None = None) -> str:
    """The commit that `service`'s code was built from: what an image was told (`built_from`), else what git says of the
    checkout it lies in, with `-dirty` when sources were changed since; else the release and a digest of the service's
    sources.
    """
    if built_from:
        return built_from
    home = _home(service)
    try:
        _git(home, "ls-files", "--error-unmatch", "config.py")  # not merely installed inside another's checkout
        head = _git(home, "rev-parse", "HEAD")
        changed = _git(home, "status", "--porcelain", "--", ":/libs", ":/services")
    except (OSError, subprocess.SubprocessError):
        return f"{version(f'catalyst-{service}')}+{_digest(home)}"
    return f"{head}{DIRTY}" if changed else head


def _home(service: str) -> Path:
    spec = importlib.util.find_spec(f"catalyst.{service.replace('-', '_')}")
    if spec is None or spec.origin is None:
        raise LookupError(f"no package of the service {service}")
    return Path(spec.origin).parent


def _git(home: Path, *words: str) -> str:
    command = ["git", "-C", str(home), *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=5)  # noqa: S603 - fixed words
    return done.stdout.strip()


def _digest(home: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(home.rglob("*.py")):
        digest.update(f"{path.relative_to(home)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]
