"""Owns the servers of one installation that outlives a command: `up` starts it, `down` ends it, `status` and `logs`
look at it.

    .run/local/
      state.json       the supervisor's pid and every part: name, pid, log; there only while it runs
      supervisor.log   what it says, and why it ended
      control-plane/   see control_plane.py; kept over `down` and `up`
      nats/            see nats.py; kept

When one part ends unasked, the supervisor says which with the end of its log, stops the others and ends with exit
code 1.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final, TypeVar

import psutil

from catalyst.local import components
from catalyst.local.control_plane import ControlPlane
from catalyst.local.installation import install
from catalyst.local.nats import Nats
from catalyst.local.process import Part, PartFailed, tail

ROOT: Final = Path(__file__).resolve().parents[5]
FOLDER: Final = ROOT / ".run" / "local"
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class PartState:
    """`pid` with `started` (seconds since the epoch) is one process for certain: a pid alone may be reused."""

    name: str
    pid: int
    started: float
    log: str

    @property
    def runs(self) -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.started) < 1 and process.status() != psutil.STATUS_ZOMBIE
        return False


@dataclass(frozen=True, slots=True)
class State:
    supervisor: PartState
    parts: tuple[PartState, ...]
    url: str
    kubeconfig: str
    nats_url: str
    nats_seeds: str

    @classmethod
    def read(cls, folder: Path) -> State | None:
        """None when nothing runs: no file, or the supervisor it names is gone."""
        try:
            content = json.loads((folder / "state.json").read_text())
        except FileNotFoundError:
            return None
        state = cls(
            PartState(**content.pop("supervisor")), tuple(PartState(**p) for p in content.pop("parts")), **content
        )
        return state if state.supervisor.runs else None

    def write(self, folder: Path) -> None:
        """Whole or not at all."""
        scratch = folder / "state.json.new"
        scratch.write_text(json.dumps(asdict(self), indent=2))
        scratch.rename(folder / "state.json")


class Stopped(Exception):
    """SIGTERM or SIGINT arrived: an orderly end."""


def supervise(folder: Path = FOLDER) -> int:
    """Start everything, watch it, and stop it on SIGTERM. Returns the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    stop_on_signals()
    try:
        with ControlPlane(folder / "control-plane", components.binaries()) as cluster, Nats(folder / "nats") as nats:
            nats.apply_topology()
            install(cluster)
            parts = (*cluster.parts, nats.part)
            State(
                supervisor=part_state("supervisor", os.getpid(), folder / "supervisor.log"),
                parts=tuple(part_state(part.name, part.pid, part.log) for part in parts if part.pid is not None),
                url=cluster.url,
                kubeconfig=str(cluster.admin_kubeconfig),
                nats_url=nats.url,
                nats_seeds=str(nats.folder / "nkeys"),
            ).write(folder)
            watch(parts)
    except Stopped:
        return 0
    except (RuntimeError, OSError) as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    finally:
        (folder / "state.json").unlink(missing_ok=True)
    return 0


def watch(parts: Iterable[Part]) -> None:
    """Return never; raises PartFailed for the first part that ends unasked."""
    parts = list(parts)
    while True:
        for part in parts:
            if part.pid is None:
                raise PartFailed(part.name, f"ended with exit code {part.exit_code}, so everything stops", part.log)
        time.sleep(0.2)


def up(folder: Path = FOLDER, *, within: float = 120) -> State:
    """Start a supervisor in the background; the running one's state when there is one. Raises RuntimeError with its
    log's end.
    """
    if running := State.read(folder):
        return running
    components.binaries()  # here, where its progress is seen
    return background("the installation", ["supervise", "--folder", folder], folder, State.read, within)


def background(
    what: str, command: Sequence[str | Path], folder: Path, read: Callable[[Path], Found | None], within: float
) -> Found:
    """`python -m catalyst.local <command>`, meant to outlive us; returns when `read(folder)` finds its state. Raises
    RuntimeError with the end of its log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "supervisor.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "catalyst.local", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + within
    while not (state := read(folder)):
        if process.poll() is not None:
            raise RuntimeError(f"{what} did not start; {log} ends with:\n{tail(log, 40)}")
        if time.monotonic() > deadline:
            process.terminate()
            raise RuntimeError(f"{what} was not ready within {within:g} s; {log} ends with:\n{tail(log, 40)}")
        time.sleep(0.1)
    process.returncode = 0  # no warning that it still runs
    return state


def down(folder: Path = FOLDER, *, within: float = 30) -> bool:
    """End the supervisor and with it every part; False when nothing ran. Raises TimeoutError when it would not end."""
    state = State.read(folder)
    if state is None:
        return False
    end(state.supervisor, state.parts, within)
    return True


def end(owner: PartState, parts: Iterable[PartState] = (), within: float = 30) -> None:
    """SIGTERM to a supervisor; returns when it and its parts are gone. Raises TimeoutError when it would not end."""
    os.kill(owner.pid, signal.SIGTERM)
    deadline = time.monotonic() + within
    while owner.runs or any(part.runs for part in parts):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the supervisor (pid {owner.pid}) did not end within {within:g} s")
        time.sleep(0.05)


def follow(logs: dict[str, Path], *, between: Callable[[], None] = lambda: None) -> Iterator[tuple[str, str]]:
    """(part, line) of what is added to the logs, for ever; `between` is called ten times a second and may raise to
    end it.
    """
    with contextlib.ExitStack() as stack:
        files: dict[str, Any] = {}
        while True:
            for name, path in logs.items():
                if name not in files and path.exists():
                    files[name] = stack.enter_context(path.open(errors="replace"))
                    files[name].seek(0, os.SEEK_END)
            for name, file in files.items():
                while line := file.readline():
                    yield name, line.rstrip("\n")
            between()
            time.sleep(0.1)


def part_state(name: str, pid: int, log: Path) -> PartState:
    return PartState(name, pid, psutil.Process(pid).create_time(), str(log))


def stop_on_signals() -> None:
    """SIGTERM and SIGINT raise Stopped in the main thread, once."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise Stopped

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
