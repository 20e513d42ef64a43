"""`make check`: everything a machine can say about the source without running it. All checks run; the last line sums
up.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
FOLDERS = ("libs", "services", "deploy", "tests", "tools", "bench")


def checks() -> dict[str, list[str]]:
    """Name → command. Tests of different members may share a file name: each member is its own run of mypy's, but for
    one cache.
    """
    return {
        "ruff check": [str(BIN / "ruff"), "check"],
        "ruff format": [str(BIN / "ruff"), "format", "--check"],
        "mypy --strict": [str(BIN / "mypy"), "--strict", *_python_folders()],
        "import-linter": [str(BIN / "lint-imports")],
        "generated files": [sys.executable, str(ROOT / "tools" / "generate.py"), "--check"],
    }


def _python_folders() -> list[str]:
    return [name for name in FOLDERS if any((ROOT / name).rglob("*.py"))]


def main() -> int:
    failed = []
    for name, command in checks().items():
        begun = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        good = done.returncode == 0
        print(f"{'ok    ' if good else 'FAILED'}  {name}  ({time.monotonic() - begun:.1f} s)", flush=True)
        if not good:
            failed.append(name)
            print(done.stdout + done.stderr, flush=True)
    print(f"FAILED: {', '.join(failed)}" if failed else "all checks passed", flush=True)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
