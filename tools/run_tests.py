"""`make test` and `make test-full`: pytest in parts, each with its time; every part runs even when an earlier one
failed.

    python tools/run_tests.py [--full] [--lanes 2] [part …]

Two parts run at a time (most tests wait for something), so each line says whose it is. The node's parts share the
machine's one cluster and run one after another; they begin at once, since on a fresh machine they build most, and
beside them `contract`, which builds promtool.
`--full` runs whole matrices instead of samples, and continues after the last part that passed for exactly this source
(state under .run/). `scaling` runs only when it is named: KEDA takes minutes to build. A part without tests is an
error, and so is a file of tests that no part runs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".run" / "test-full.json"
PARTS: dict[str, list[str]] = {
    "node": [
        "tests/e2e/test_cluster.py",
        "tests/e2e/test_platform.py",
        "tests/e2e/test_cluster_life.py",
        "tests/e2e/test_chaos.py",
    ],
    "builds": ["tests/e2e/test_builder.py", "tests/e2e/test_deploying.py"],
    "story": ["tests/e2e/test_story.py"],
    "walls": ["tests/e2e/test_walls.py", "tests/e2e/test_hostile.py"],
    "product": [
        "tests/e2e/test_failures.py",
        "tests/e2e/test_incidents.py",
        "tests/e2e/test_disturbances.py",
        "tests/e2e/test_kills.py",
    ],
    "contract": ["tests/contract"],
    "unit": ["libs", "services", "cli"],
    "faults": ["tests/faults"],
    "integration": ["tests/integration"],
    "stories": ["tests/stories"],
    "local": ["deploy"],
    "scaling": ["tests/e2e/test_scaling.py"],
}
ON_THE_NODE = ("node", "builds", "story", "walls", "product", "scaling")
ONLY_NAMED = ("scaling",)
NO_TESTS_COLLECTED = 5
NAMES_A_FAILURE = ("FAILED ", "ERROR ")
"""How pytest's summary names one. All are said again at the very end: one sees that first, and of a log that was cut
often nothing else."""
MOST_NAMED, WIDEST = 20, 240


def main() -> int:
    options = _options()
    if forgotten := _forgotten():
        print(f"no part runs {', '.join(forgotten)}: name it in PARTS of tools/run_tests.py", file=sys.stderr)
        return 1
    run = Run(full=options.full)
    begun = time.monotonic()
    parts = options.parts or [part for part in PARTS if part not in ONLY_NAMED]
    on_the_node = [part for part in parts if part in ON_THE_NODE]
    work = [on_the_node] if on_the_node else []
    work += [[part] for part in parts if part not in ON_THE_NODE]
    with ThreadPoolExecutor(options.lanes) as lanes:
        try:
            list(lanes.map(run.one_after_another, work))
        except KeyboardInterrupt:
            run.interrupted = True
            raise
    took = _clock(time.monotonic() - begun)
    for line in run.failures[-MOST_NAMED:]:
        print(line)
    failed = f"FAILED: {', '.join(run.failed)} (after {took})"
    print(failed if run.failed else f"all tests passed in {took}", flush=True)
    return int(bool(run.failed))


class Run:
    """What passed and failed so far, from two threads."""

    def __init__(self, *, full: bool) -> None:
        self.full = full
        self.source = _source() if full else ""
        self.passed = _passed(self.source) if full else []
        self.failed: list[str] = []
        self.failures: list[str] = []
        self.interrupted = False
        self._lock = threading.Lock()

    def one_after_another(self, parts: list[str]) -> None:
        for part in parts:
            if self.interrupted:
                return
            if part in self.passed:
                self._say(part, f"passed before for this source ({STATE.relative_to(ROOT)} remembers)")
                continue
            passed = self._run(part)
            with self._lock:
                (self.passed if passed else self.failed).append(part)
                if self.full and passed:
                    STATE.parent.mkdir(exist_ok=True)
                    STATE.write_text(json.dumps({"source": self.source, "passed": self.passed}))

    def _run(self, part: str) -> bool:
        self._say(part, "begins")
        begun = time.monotonic()
        folders = [folder for folder in PARTS[part] if (ROOT / folder).exists()]
        command = [sys.executable, "-m", "pytest", "-q", *(["--full"] if self.full else []), *folders]
        code = self._pytest(part, command) if folders else NO_TESTS_COLLECTED
        if code == NO_TESTS_COLLECTED:
            self._say(part, f"no tests in {', '.join(PARTS[part])}; a part that tests nothing would prove nothing")
        self._say(part, f"{'passed' if code == 0 else 'FAILED'} in {_clock(time.monotonic() - begun)}")
        return code == 0

    def _pytest(self, part: str, command: list[str]) -> int:
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        with process:
            assert process.stdout
            for line in process.stdout:
                with self._lock:
                    print(f"{part:11} │ {line}", end="", flush=True)
                    if line.startswith(NAMES_A_FAILURE):
                        self.failures.append(f"{part:11} │ {line.rstrip()[:WIDEST]}")
        return process.returncode

    def _say(self, part: str, text: str) -> None:
        with self._lock:
            print(f"── {part}: {text}", flush=True)


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
    parser.add_argument("--lanes", type=int, default=2, help="parts at a time; 1 for a machine with one core")
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    options = parser.parse_args()
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"no part {unknown[0]!r}: expected {', '.join(PARTS)}")
    return options


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"


if __name__ == "__main__":
    sys.exit(main())
