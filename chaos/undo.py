"""What a run changed in the machine, and how it goes back: also when the run is killed.

Every change is written down before it is made, as a line in a journal. A guardian, a process of its own, holds the
other end of a pipe: when the run ends, whichever way, it reads the journal and undoes what is still done.

    thaw <pid> <start time>      SIGCONT
    rule <table> <words…>        an iptables rule is deleted
    file <path>                  a file is removed
    mount <path>                 is unmounted
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

_ENV: Final = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}


class Undo:
    """The journal. Each block below is undone at its end; what was left of a killed run is undone by the guardian."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._lock = threading.Lock()
        journal.write_text("")

    @contextmanager
    def frozen(self, process: psutil.Process) -> Iterator[None]:
        """SIGSTOP while the block runs."""
        line = ["thaw", str(process.pid), str(process.create_time())]
        self._note(line)
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            _undo(line)

    @contextmanager
    def ruled(self, table: str, chain: str, *rule: str) -> Iterator[None]:
        """An iptables rule at the head of a chain while the block runs."""
        line = ["rule", table, chain, *rule]
        self._note(line)
        _iptables(table, "-I", chain, "1", *rule)
        try:
            yield
        finally:
            _undo(line)

    def file(self, path: Path) -> None:
        """Is removed in the end, if it is there."""
        self._note(["file", str(path)])

    def mounted(self, path: Path) -> None:
        """Is unmounted in the end, if it is mounted."""
        self._note(["mount", str(path)])

    def everything(self) -> None:
        """All that was ever noted, the newest first; what is undone already is left alone."""
        undo_all(self._journal)

    def _note(self, line: Sequence[str]) -> None:
        with self._lock, self._journal.open("a") as journal:
            journal.write(json.dumps(line) + "\n")


@contextmanager
def guarded(journal: Path) -> Iterator[Undo]:
    """A journal, and its guardian beside this process."""
    undo = Undo(journal)
    guardian = subprocess.Popen(
        [sys.executable, "-m", "chaos.undo", journal],
        stdin=subprocess.PIPE,
        start_new_session=True,
        cwd=Path(__file__).resolve().parents[1],
    )
    try:
        yield undo
    finally:
        undo.everything()
        assert guardian.stdin is not None
        guardian.stdin.close()
        guardian.wait(60)


def undo_all(journal: Path) -> None:
    lines = [json.loads(text) for text in journal.read_text().splitlines()]
    for line in reversed(lines):
        try:
            _undo(line)
        except Exception as error:  # noqa: BLE001 -- one that cannot be undone must not keep the others from it
            sys.stderr.write(f"not undone: {' '.join(line)}: {error}\n")


def _undo(line: Sequence[str]) -> None:
    what, *words = line
    match what:
        case "thaw":
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(int(words[0]))
                if process.create_time() == float(words[1]):
                    process.send_signal(signal.SIGCONT)
        case "rule":
            table, chain, *rule = words
            while _iptables(table, "-C", chain, *rule, may_fail=True):
                _iptables(table, "-D", chain, *rule)
        case "file":
            Path(words[0]).unlink(missing_ok=True)
        case "mount":
            while Path(words[0]).is_mount():
                subprocess.run(["umount", "--lazy", words[0]], check=True, env=_ENV)


def packets(table: str, chain: str, *rule: str) -> int:
    """How many a rule has caught."""
    done = subprocess.run(
        ["iptables", "--wait", "-t", table, "-nvxL", chain], capture_output=True, text=True, check=True, env=_ENV
    )
    mark = rule[rule.index("--comment") + 1]
    return sum(int(line.split()[0]) for line in done.stdout.splitlines() if f"/* {mark} */" in line)


def _iptables(table: str, *words: str, may_fail: bool = False) -> bool:
    done = subprocess.run(
        ["iptables", "--wait", "-t", table, *words], capture_output=True, text=True, check=False, env=_ENV
    )
    if done.returncode and not may_fail:
        raise RuntimeError(f"iptables -t {table} {' '.join(words)}: {done.stderr.strip()}")
    return done.returncode == 0


def main() -> None:
    """The guardian: waits for the end of its input, then undoes."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()
    undo_all(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
