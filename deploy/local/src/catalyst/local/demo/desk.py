"""`make demo-shell`: where somebody on call sits, as docs/runbooks expects it: kubectl and `catalyst`, a kubeconfig,
the keys of the installation in `keys/`, and NATS forwarded for as long as the shell lives.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from catalyst.local import cluster, components
from catalyst.local.demo.places import SYSTEM, DemoFailed, Places
from catalyst.local.process import free_ports

HINT: Final = """\
catalyst status                  is all well?
catalyst env list                what there is
docs/incidents.md                what is typed when something is not; exit or ctrl-D ends this shell"""
PATIENCE: Final = 20.0


@dataclass(frozen=True, slots=True)
class Desk:
    """A folder with `keys`, and the variables that are set there."""

    folder: Path
    environ: dict[str, str]


@contextmanager
def desk(state: cluster.ClusterState, folder: Path) -> Iterator[Desk]:
    """Raises DemoFailed when Catalyst is not installed, or NATS cannot be reached."""
    platform = Path(state.kubeconfig).parent / "platform"
    if not (platform / "nkeys").is_dir():
        raise DemoFailed("Catalyst is not installed here; `make demo` does that")
    folder.mkdir(parents=True, exist_ok=True)
    keys = folder / "keys"
    keys.unlink(missing_ok=True)
    keys.symlink_to(platform)
    kubectl = components.binaries(components=(components.CONTROL_PLANE,))["kubectl"]
    client, monitor = free_ports(2)
    environ = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), str(kubectl.parent), os.environ.get("PATH", "")]),
        "KUBECONFIG": state.kubeconfig,
        "CATALYST_NATS_URL": f"nats://127.0.0.1:{client}",
        "CATALYST_NATS_SEED_FILE": "keys/nkeys/oncall.seed",
        "MONITOR": f"http://127.0.0.1:{monitor}",
    }
    words: list[str | Path] = [kubectl, "--kubeconfig", state.kubeconfig, "--namespace", SYSTEM, "port-forward"]
    with _forwarded([*words, "pod/nats-0", f"{client}:4222", f"{monitor}:8222"]):
        yield Desk(folder, environ)


def shell(command: Sequence[str], at: Places | None = None) -> int:
    """One command, or a shell to type in; its exit code."""
    state = cluster.running()
    if state is None:
        raise DemoFailed("no cluster runs; `make demo` starts it")
    with desk(state, (at or Places()).folder / "desk") as here:
        if not command:
            print(HINT, flush=True)
        words = list(command) or [os.environ.get("SHELL", "/bin/bash")]
        return subprocess.run(words, cwd=here.folder, env={**os.environ, **here.environ}, check=False).returncode


@contextmanager
def _forwarded(command: Sequence[str | Path]) -> Iterator[None]:
    """Again and again: a port that is forwarded ends with its pod."""
    first, over = threading.Event(), threading.Event()
    running: list[subprocess.Popen[str]] = []

    def forward() -> None:
        while not over.is_set():
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            running[:] = [process]
            with process:
                for line in process.stdout or ():
                    if "Forwarding from" in line:
                        first.set()
            over.wait(0.5)

    work = threading.Thread(target=forward, daemon=True)
    work.start()
    try:
        if not first.wait(PATIENCE):
            raise DemoFailed(f"NATS cannot be reached: no way to pod nats-0 within {PATIENCE:g} s")
        yield
    finally:
        over.set()
        while work.is_alive():
            for process in running:
                process.terminate()
            work.join(0.2)
