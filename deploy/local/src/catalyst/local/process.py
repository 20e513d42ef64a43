"""One server process of the installation: started, watched, frozen, ended. Knows nothing about what it runs.

Every part dies with the supervisor, even when that is killed with -9: the kernel sends SIGKILL to the part when the
*thread* that started it ends (PR_SET_PDEATHSIG). Hence one thread that lives as long as the process starts all parts,
so that a caller may start them from any thread. Where prctl is missing (macOS) an exit handler ends the parts; `kill
-9` then leaves them behind.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

TAIL_LINES: Final = 25

# Runs in the child before exec: asks for SIGKILL at the parent's end, then makes sure the parent did not end before
# it asked.
_LAUNCH: Final = """
import ctypes, os, signal, sys
parent = int(sys.argv[1])
if sys.platform == "linux":
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the supervisor ended before this part began")
os.execv(sys.argv[2], sys.argv[2:])
"""

_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="catalyst-local-starter")


class PartFailed(RuntimeError):
    """A part ended or never became ready. The text names it, what happened, its log file and the log's last lines."""

    def __init__(self, name: str, what: str, log: Path) -> None:
        self.part = name
        self.log = log
        super().__init__(f"{name} {what}\n  log: {log}\n{_indent(tail(log))}")


@dataclass(slots=True)
class Part:
    """A server process with a fixed command, environment and log. `start` may be called again after it ended: same
    command, same log.
    """

    name: str
    command: Sequence[str | Path]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_within: float = 5.0
    _process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the running process; None when it was never started or has ended."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def exit_code(self) -> int | None:
        """Of the last run: None while it runs or before the first start; negative: the signal that ended it."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        if self.pid is not None:
            raise RuntimeError(f"{self.name} runs already (pid {self.pid})")
        self._process = _starter.submit(self._spawn).result()
        _running.append(self)

    def _spawn(self) -> subprocess.Popen[bytes]:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = [str(word) for word in self.command]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.env},
                cwd=self.cwd,
                start_new_session=True,  # a ctrl-C in the terminal is the supervisor's to handle, in its order
            )

    def wait_until(self, ready: Callable[[], bool], *, within: float, what: str = "ready") -> None:
        """Poll `ready` (every 30 ms) until it holds. Raises PartFailed when the process ends first or `within`
        seconds pass.
        """
        deadline = time.monotonic() + within
        while not ready():
            if self.pid is None:
                raise PartFailed(self.name, f"ended with exit code {self.exit_code} before it was {what}", self.log)
            if time.monotonic() > deadline:
                raise PartFailed(self.name, f"was not {what} within {within:g} s", self.log)
            time.sleep(0.03)

    def send(self, number: signal.Signals) -> subprocess.Popen[bytes]:
        """Raises RuntimeError when the part does not run: a fault that hits nothing would make a test prove nothing."""
        if self._process is None or self.pid is None:
            raise RuntimeError(f"{self.name} does not run, so {number.name} would hit nothing")
        self._process.send_signal(number)
        return self._process

    def freeze(self) -> None:
        """SIGSTOP, and wait until every thread has stopped: until then the process may still answer."""
        pid = self.send(signal.SIGSTOP).pid
        deadline = time.monotonic() + 5
        while os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT | os.WNOHANG) is None:
            if time.monotonic() > deadline:
                raise PartFailed(self.name, "did not stop within 5 s of SIGSTOP", self.log)
            time.sleep(0.001)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self._reap(self.send(signal.SIGKILL), 5)

    def stop(self) -> None:
        """Orderly; SIGKILL after `stop_within` seconds. Harmless when it does not run."""
        if self._process is None or self.pid is None:
            self._forget()
            return
        self._process.send_signal(signal.SIGCONT)  # a frozen process would never see the next one
        self._process.send_signal(self.stop_signal)
        if not self._reap(self._process, self.stop_within):
            self._process.kill()
            self._reap(self._process, 5)

    def _reap(self, process: subprocess.Popen[bytes], within: float) -> bool:
        try:
            process.wait(within)
        except subprocess.TimeoutExpired:
            return False
        self._forget()
        return True

    def _forget(self) -> None:
        with contextlib.suppress(ValueError):
            _running.remove(self)
            _stopped[self.log] = self


_running: list[Part] = []
_stopped: dict[Path, Part] = {}


def running() -> list[Part]:
    """The parts of this process that were started and not stopped, in the order of their start."""
    return _running.copy()


def stopped() -> list[Part]:
    """Those that were stopped since this was asked last."""
    found = [part for part in _stopped.values() if part not in _running]
    _stopped.clear()
    return found


@atexit.register
def _end_what_is_left() -> None:
    for part in reversed(_running.copy()):
        part.stop_within = 0.5
        part.stop()


def tail(path: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log; says so when there is none."""
    try:
        text = path.read_bytes()[-64_000:].decode(errors="replace")
    except FileNotFoundError:
        return "(no log was written)"
    return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"


def free_ports(count: int) -> list[int]:
    """Distinct ports on 127.0.0.1 that nobody listens on.

    They lie below the kernel's range for outgoing connections: a client that reconnects while its server restarts
    could else be given the server's own port as its source, connect to itself, and keep the server from binding it
    again.
    """
    chooser = random.SystemRandom()
    found: list[int] = []
    for port in chooser.sample(range(20_000, 32_000), 2_000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free ports between 20000 and 32000 on 127.0.0.1")


def _indent(text: str) -> str:
    return "\n".join(f"  | {line}" for line in text.splitlines())
