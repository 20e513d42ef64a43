"""The demo's own processes, which outlive its commands: GitHub's double, and the way to the edge.

When one of them ends unasked, the other is ended, too: the double knows its pull requests only as long as it lives.
The next `make demo` begins anew.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from catalyst.local import supervisor
from catalyst.local.demo import places
from catalyst.local.demo.places import FORGE_PORT, HTTP_PORT, HTTPS_PORT, LOOPBACK, Places
from catalyst.local.node import layout
from catalyst.local.process import Part
from catalyst.local.supervisor import ROOT, PartState, Stopped, part_state, stop_on_signals

DOUBLE: Final = "github"
WAY: Final = "way"
LISTENS: Final = (f"{LOOPBACK}:{HTTPS_PORT}", f"{LOOPBACK}:{HTTP_PORT}", f"{LOOPBACK}:{FORGE_PORT}")
PATIENCE: Final = 30.0


@dataclass(frozen=True, slots=True)
class Parts:
    """The supervisor and its processes, by name."""

    supervisor: PartState
    parts: dict[str, PartState]

    @classmethod
    def running(cls, folder: Path) -> Parts | None:
        """None when they do not run."""
        try:
            content = json.loads((folder / "supervisor.json").read_text())
        except FileNotFoundError:
            return None
        found = cls(
            PartState(**content["supervisor"]), {name: PartState(**part) for name, part in content["parts"].items()}
        )
        return found if found.supervisor.runs else None


@dataclass(frozen=True, slots=True)
class Hook:
    """Where webhooks go, and the file with what they are signed with."""

    url: str
    secret: Path


def up(at: Places) -> bool:
    """Start what does not run; False when it ran already. Raises RuntimeError with the end of the log."""
    if Parts.running(at.folder):
        return False
    at.make()
    at.forget()
    places.write(at.way, json.dumps({f"{LOOPBACK}:{FORGE_PORT}": f"{layout.ADDRESS}:{FORGE_PORT}"}))
    words: list[str | Path] = ["demo", "supervise", "--folder", at.folder]
    supervisor.background("the demo's processes", words, at.folder, Parts.running, PATIENCE)
    return True


def down(at: Places) -> bool:
    """End them; False when nothing ran."""
    found = Parts.running(at.folder)
    if found is not None:
        supervisor.end(found.supervisor, found.parts.values())
    return found is not None


def set_up(at: Places, repositories: dict[str, dict[str, Any]], hook: Hook | None = None) -> None:
    """What the double is to have: repositories, and where webhooks go. Running, it makes what is new."""
    setup: dict[str, Any] = {"repositories": repositories, "installations": [places.OWNER]}
    if hook is not None:
        setup["hook"] = {"url": hook.url, "secretFile": str(hook.secret)}
    places.write(at.setup, json.dumps(setup, indent=2))
    if found := Parts.running(at.folder):
        os.kill(found.parts[DOUBLE].pid, signal.SIGHUP)


def lead_to_edge(at: Places, address: str) -> None:
    """From now on the way ends at this address of the edge's Service."""
    way = json.loads(at.way.read_text())
    way |= {f"{LOOPBACK}:{HTTPS_PORT}": f"{address}:443", f"{LOOPBACK}:{HTTP_PORT}": f"{address}:80"}
    places.write(at.way, json.dumps(way))


def supervise(folder: Path) -> int:
    """What `up` runs in the background, until SIGTERM. Returns the exit code."""
    at = Places(folder)
    stop_on_signals()
    shutil.rmtree(at.github, ignore_errors=True)
    parts = {DOUBLE: _double(at), WAY: _way(at)}
    try:
        for part in parts.values():
            part.start()
        parts[DOUBLE].wait_until(lambda: at.people.exists() and _answers(), within=PATIENCE)
        time.sleep(0.1)
        parts[WAY].wait_until(lambda: parts[WAY].pid is not None, within=1)
        known = Parts(
            part_state("supervisor", os.getpid(), folder / "supervisor.log"),
            {name: part_state(name, part.pid, part.log) for name, part in parts.items() if part.pid is not None},
        )
        places.write(folder / "supervisor.json", json.dumps(asdict(known), indent=2))
        supervisor.watch(parts.values())
    except Stopped:
        return 0
    except (RuntimeError, OSError) as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    finally:
        (folder / "supervisor.json").unlink(missing_ok=True)
        for part in parts.values():
            part.stop()
    return 0


def _double(at: Places) -> Part:
    command: list[str | Path] = [sys.executable, "-m", "doubles.github", "--folder", at.github, "--setup", at.setup]
    command += ["--host", layout.ADDRESS, "--port", str(FORGE_PORT), "--public-url", places.FORGE]
    command += ["--app-key", at.app_key]
    return Part(DOUBLE, command, at.folder / "github.log", env={"PYTHONPATH": str(ROOT / "tests")})


def _way(at: Places) -> Part:
    command: list[str | Path] = [sys.executable, "-m", "catalyst.local.demo.forward", at.way, *LISTENS]
    return Part(WAY, command, at.folder / "way.log")


def _answers() -> bool:
    try:
        return httpx.get(f"http://{layout.ADDRESS}:{FORGE_PORT}/", trust_env=False, timeout=2).is_success
    except httpx.TransportError:
        return False
