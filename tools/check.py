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
FOLDERS = ("libs", "cli", "deploy", "tests", "tools", "bench", "chaos")


def checks() -> dict[str, list[list[str]]]:
    """Name → commands. Every service has a `test_handlers.py`, and a folder with a hyphen is no package that could tell
    them apart: the tests of each are a run of mypy's own, with one cache.
    """
    mypy, services = [str(BIN / "mypy"), "--strict"], sorted(ROOT.glob("services/*/"))
    return {
        "ruff check": [[str(BIN / "ruff"), "check"]],
        "ruff format": [[str(BIN / "ruff"), "format", "--check"]],
        "mypy --strict": [
            [*mypy, *FOLDERS, *(str(service / "src") for service in services)],
            *([*mypy, str(service / "tests")] for service in services),
        ],
        "import-linter": [[str(BIN / "lint-imports")]],
        "generated files": [[sys.executable, str(ROOT / "tools" / "generate.py"), "--check"]],
    }


def main() -> int:
    failed = []
    for name, commands in checks().items():
        begun = time.monotonic()
        ends = [subprocess.run(each, cwd=ROOT, capture_output=True, text=True, check=False) for each in commands]
        good = all(done.returncode == 0 for done in ends)
        print(f"{'ok    ' if good else 'FAILED'}  {name}  ({time.monotonic() - begun:.1f} s)", flush=True)
        if not good:
            failed.append(name)
            print("".join(done.stdout + done.stderr for done in ends if done.returncode), flush=True)
    print(f"FAILED: {', '.join(failed)}" if failed else "all checks passed", flush=True)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
