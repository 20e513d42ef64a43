"""What the benchmarks run on: real servers, and our services as the processes they are in production."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from bench.results import ROOT
from catalyst.local import components
from catalyst.local.control_plane import ControlPlane
from catalyst.local.installation import Installation, install
from catalyst.local.nats import Nats
from catalyst.local.process import Part, PartFailed, free_ports


class ToolFailed(RuntimeError):
    """A limit or a load generator ended with an error; the text is its own."""


def tool(module: str, *, patience: float = 300, **arguments: Any) -> dict[str, Any]:
    """Run `python -m bench.<module>` to its end; the JSON object on its last line. Raises ToolFailed."""
    done = subprocess.run(command(module, arguments), cwd=ROOT, capture_output=True, text=True, timeout=patience)
    if done.returncode != 0:
        raise ToolFailed(f"bench.{module} ended with {done.returncode}:\n{done.stderr.strip()[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def command(module: str, arguments: Mapping[str, Any]) -> list[str]:
    return [sys.executable, "-m", f"bench.{module}", json.dumps(arguments, default=str)]


class Service:
    """One of our services as a process. `metrics` are its own, read at its door for operators."""

    def __init__(self, name: str, folder: Path, settings: Mapping[str, str]) -> None:
        self.name = name
        (ops,) = free_ports(1)
        self._ops = f"http://127.0.0.1:{ops}"
        environment = {"CATALYST_OPS_HOST": "127.0.0.1", "CATALYST_OPS_PORT": str(ops), **settings}
        module = f"catalyst.{name.replace('-', '_')}"
        self._part = Part(name, [sys.executable, "-m", module], folder / f"{name}.log", environment, stop_within=30)

    def start(self) -> None:
        self._part.start()

    def wait_ready(self) -> None:
        self._part.wait_until(self.is_ready, within=30)

    def stop(self) -> None:
        self._part.stop()

    def is_ready(self) -> bool:
        """What its door for operators says."""
        try:
            return httpx.get(f"{self._ops}/readyz", timeout=2, trust_env=False).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def metric(self, name: str, **labels: str) -> float:
        """The sum of this sample over all label sets that contain `labels`; 0 when it is not there (yet)."""
        try:
            text = httpx.get(f"{self._ops}/metrics", timeout=5, trust_env=False).text
        except httpx.TransportError:
            return 0.0
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def peak_memory(self) -> float:
        """The highest resident set since its start, in MB (10^6 bytes)."""
        for line in Path(f"/proc/{self._running()}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
        return self.resident_memory()

    def resident_memory(self) -> float:
        """Now, in MB."""
        return float(psutil.Process(self._running()).memory_info().rss) / 1e6

    def _running(self) -> int:
        pid = self._part.pid
        if pid is None:
            raise PartFailed(self.name, "does not run", self._part.log)
        return pid

    def processor_seconds(self) -> float:
        """User and system time so far."""
        times = psutil.Process(self._part.pid).cpu_times()
        return float(times.user + times.system)


@contextmanager
def service(name: str, folder: Path, settings: Mapping[str, str]) -> Iterator[Service]:
    """Ready at entry, stopped at exit."""
    found = Service(name, folder, settings)
    found.start()
    try:
        found.wait_ready()
        yield found
    finally:
        found.stop()


@contextmanager
def nats(folder: Path, *, fsync: bool) -> Iterator[Nats]:
    """A NATS server with the topology applied."""
    with Nats(folder / "nats", fsync=fsync) as running:
        running.apply_topology()
        yield running


@contextmanager
def installation(folder: Path, *, audit_bodies: bool = False) -> Iterator[Installation]:
    """A fresh control plane and NATS server, everything applied. `audit_bodies`: the audit log holds what was sent."""
    extra = {}
    if audit_bodies:
        policy = folder / "audit-bodies.json"
        policy.write_text(json.dumps(_WITH_BODIES))
        extra = {"kube-apiserver": [f"--audit-policy-file={policy}"]}
    binaries = components.binaries()
    with ControlPlane(folder / "control-plane", binaries, extra_flags=extra) as plane, nats(folder, fsync=True) as bus:
        install(plane)
        yield Installation(plane, bus)


_WITH_BODIES = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}]},
        {"level": "None", "verbs": ["get", "list", "watch"]},
        {"level": "Metadata", "resources": [{"group": "", "resources": ["secrets", "serviceaccounts/token"]}]},
        {"level": "Request"},
    ],
}


def until(holds: Any, what: str, *, within: float, every: float = 0.02) -> float:
    """Poll until it holds; the seconds it took. Raises TimeoutError."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > within:
            raise TimeoutError(f"{what}: not within {within:g} s")
        time.sleep(every)
    return time.monotonic() - began


def settle() -> None:
    """Let what the last measurement left (dirty pages above all) not be part of the next."""
    os.sync()
    time.sleep(0.5)
