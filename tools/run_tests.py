"""`make test` and `make test-full`: pytest in parts, each with its time; every part runs even when an earlier one
failed.

    python tools/run_tests.py [--full] [part …]

`--full` runs whole matrices instead of samples, and continues after the last part that passed for exactly this source
(state under .run/). A part without tests is an error, and so is a file of tests that no part runs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".run" / "test-full.json"
PARTS: dict[str, list[str]] = {
    "unit": ["libs", "services"],
    "local": ["deploy"],
    "contract": ["tests/contract"],
    "integration": ["tests/integration"],
    "stories": ["tests/stories"],
    "faults": ["tests/faults"],
    "node": ["tests/e2e/test_cluster.py", "tests/e2e/test_platform.py", "tests/e2e/test_cluster_life.py"],
    "builds": ["tests/e2e/test_builder.py", "tests/e2e/test_deploying.py"],
    "story": ["tests/e2e/test_story.py"],
}
NO_TESTS_COLLECTED = 5


def main() -> int:
    options = _options()
    if forgotten := _forgotten():
        print(f"no part runs {', '.join(forgotten)}: name it in PARTS of tools/run_tests.py", file=sys.stderr)
        return 1
    source = _source() if options.full else ""
    passed = _passed(source) if options.full else []
    begun, failed = time.monotonic(), []
    for part in options.parts or PARTS:
        if part in passed:
            print(f"── {part}: passed before for this source ({STATE.relative_to(ROOT)} remembers)", flush=True)
            continue
        if _run(part, full=options.full):
            passed.append(part)
            if options.full:
                STATE.parent.mkdir(exist_ok=True)
                STATE.write_text(json.dumps({"source": source, "passed": passed}))
        else:
            failed.append(part)
    took = _clock(time.monotonic() - begun)
    print(f"FAILED: {', '.join(failed)} (after {took})" if failed else f"all tests passed in {took}", flush=True)
    return int(bool(failed))


def _run(part: str, *, full: bool) -> bool:
    print(f"── {part}", flush=True)
    begun = time.monotonic()
    folders = [folder for folder in PARTS[part] if (ROOT / folder).exists()]
    command = [sys.executable, "-m", "pytest", "-q", *(["--full"] if full else []), *folders]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode if folders else NO_TESTS_COLLECTED
    if code == NO_TESTS_COLLECTED:
        print(
            f"{part}: no tests in {', '.join(PARTS[part])}; a part that tests nothing would prove nothing", flush=True
        )
    print(f"── {part}: {'passed' if code == 0 else 'FAILED'} in {_clock(time.monotonic() - begun)}", flush=True)
    return code == 0


def _forgotten() -> list[str]:
    files = {str(path.relative_to(ROOT)) for path in ROOT.glob("tests/**/test_*.py")}
    known = [place for part in PARTS.values() for place in part]
    return sorted(f for f in files if not any(f == k or f.startswith(f"{k}/") for k in known))


def _passed(source: str) -> list[str]:
    if not STATE.exists():
        return []
    state = json.loads(STATE.read_text())
    return list(state["passed"]) if state["source"] == source else []


def _source() -> str:
    """A hash over the commit and everything changed since: what passed once need not run again for the same bytes."""
    digest = hashlib.sha256()
    for command in (["rev-parse", "HEAD"], ["diff", "HEAD"]):
        digest.update(subprocess.run(["git", *command], cwd=ROOT, capture_output=True, check=True).stdout)
    new = ["git", "ls-files", "--others", "--exclude-standard", "-z"]
    for name in subprocess.run(new, cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0"):
        if name:
            digest.update(name + (ROOT / name.decode()).read_bytes())
    return digest.hexdigest()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"no part {unknown[0]!r}: expected {', '.join(PARTS)}")
    return options


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"


if __name__ == "__main__":
    sys.exit(main())
