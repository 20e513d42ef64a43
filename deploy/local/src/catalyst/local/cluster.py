"""`make cluster-up | cluster-down | cluster-status`: a whole Kubernetes on this machine, pods included.

    .run/cluster/
      admin.kubeconfig   for people and tests
      state.json         supervisor and parts; there only while it runs
      supervisor.log     what it says, and why it ended
      logs/<part>.log    one each
      configuration/     what each part was told
      control-plane/     pki, etcd, audit log
      platform/          the installation's keys and kustomization (platform.py), if there is one
      realm/             key.pem: builder signs registry tokens with it; jwks.json: the registry checks them

The supervisor owns every part. A part that ends unasked is started again, at most five times a minute; then the
supervisor says which and shows its log's end, and everything stops. Containers outlive parts and supervisor: after
kill -9 of anything, `up` goes on with the same pods, and `down` removes them. `down` removes the data, too; the
binaries and the base images stay in the cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

import httpx
import psutil

from catalyst.local import components
from catalyst.local.node import images, layout, leftovers, network, packages, parts
from catalyst.local.node.layout import Layout
from catalyst.local.process import Part, PartFailed, tail
from catalyst.local.supervisor import ROOT, PartState, Stopped, part_state, stop_on_signals

FOLDER: Final = ROOT / ".run" / "cluster"
MANIFESTS: Final = Path(__file__).resolve().parents[3] / "manifests"
RESTARTS: Final = 5
WINDOW: Final = 60.0
"""Seconds in which a part may be restarted RESTARTS times."""


class ClusterFailed(RuntimeError):
    """The cluster did not come up, go down, or stay. The text says what and what to do."""


@dataclass(frozen=True, slots=True)
class ClusterState:
    """`restarts`: part → how often it ended unasked. `ready`: everything answered once since the supervisor began."""

    supervisor: PartState
    parts: tuple[PartState, ...]
    restarts: dict[str, int]
    ready: bool
    kubeconfig: str

    @classmethod
    def read(cls, folder: Path = FOLDER) -> ClusterState | None:
        """As it was last written; None without a file. `runs` of its parts tells what is still true."""
        try:
            content = json.loads((folder / "state.json").read_text())
        except FileNotFoundError:
            return None
        supervisor = PartState(**content.pop("supervisor"))
        return cls(supervisor, tuple(PartState(**part) for part in content.pop("parts")), **content)

    def write(self, folder: Path) -> None:
        """Whole or not at all."""
        scratch = folder / "state.json.new"
        scratch.write_text(json.dumps(asdict(self), indent=2))
        scratch.rename(folder / "state.json")


def running(folder: Path = FOLDER) -> ClusterState | None:
    """The cluster's state if its supervisor lives."""
    state = ClusterState.read(folder)
    return state if state is not None and state.supervisor.runs else None


# Commands


def up(folder: Path = FOLDER, *, out: TextIO | None = None, within: float = 240) -> ClusterState:
    """Everything that is missing is installed, built and started, each with what it is and how long it took.

    Raises NotThisMachine, ComponentError, SeedingFailed, NetworkTaken, ClusterFailed.
    """
    if running(folder):
        return _when_ready(folder, within)
    out = out or sys.stdout
    packages.check_machine()
    packages.install(out)
    binaries = components.binaries(components=components.COMPONENTS + components.NODE, progress=out)
    images.seed(binaries, out)
    folder.mkdir(parents=True, exist_ok=True)
    with _owned(Layout(folder.absolute())):  # refuses here, where it is read; the supervisor takes it a moment later
        pass
    log = folder / "supervisor.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "catalyst.local", "cluster", "supervise", "--folder", folder],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + within
    with log.open() as said:
        while not ((state := running(folder)) and state.ready):
            if process.poll() is not None:
                raise ClusterFailed(f"the cluster did not start; {log} ends with:\n{tail(log, 40)}")
            out.write(said.read())
            out.flush()
            if time.monotonic() > deadline:
                process.terminate()
                raise ClusterFailed(f"the cluster was not ready within {within:g} s; {log} ends with:\n{tail(log, 40)}")
            time.sleep(0.1)
        out.write(said.read())
    process.returncode = 0  # it is meant to outlive us: no warning that it still runs
    return state


def _when_ready(folder: Path, within: float) -> ClusterState:
    """Of a supervisor that another command started."""
    deadline = time.monotonic() + within
    while (state := running(folder)) and not state.ready:
        if time.monotonic() > deadline:
            raise ClusterFailed(f"the cluster was not ready within {within:g} s; see {folder / 'supervisor.log'}")
        time.sleep(0.2)
    if state is None:
        raise ClusterFailed(f"the cluster ended; {folder / 'supervisor.log'}:\n{tail(folder / 'supervisor.log', 30)}")
    return state


def down(folder: Path = FOLDER, *, within: float = 90) -> list[str]:
    """End the cluster and remove everything it made, also after a kill -9 of the supervisor.

    Returns what is left nevertheless, in words; empty is the rule. Raises ClusterFailed when the supervisor does not
    end or another checkout's cluster runs.
    """
    at = Layout(folder)
    state, before = ClusterState.read(folder), leftovers.known(at)
    if state is not None and state.supervisor.runs:
        os.kill(state.supervisor.pid, signal.SIGTERM)
        deadline = time.monotonic() + within
        while state.supervisor.runs:
            if time.monotonic() > deadline:
                raise ClusterFailed(f"the supervisor (pid {state.supervisor.pid}) did not end within {within:g} s")
            time.sleep(0.05)
    with _owned(at):
        _end_orphans(state)
        before = leftovers.known(at) or before
        if at.before.exists() or at.data.exists() or leftovers.shims(at):
            _clean(at, print)
    return leftovers.found(at, before)


def supervise(folder: Path = FOLDER) -> int:
    """What `up` runs in the background, until SIGTERM. Returns the exit code."""
    at = Layout(folder.absolute())
    stop_on_signals()
    try:
        packages.check_machine()
        with _owned(at):
            _Supervisor(at).run()
    except Stopped:
        return 0
    except (RuntimeError, OSError, httpx.HTTPError) as error:
        print("\n".join([str(error), *getattr(error, "__notes__", [])]), file=sys.stderr, flush=True)
        return 1
    return 0


# The supervisor


class _Supervisor:
    def __init__(self, at: Layout) -> None:
        self._at = at
        self._begun = time.monotonic()
        self._restarts: dict[str, deque[float]] = {}
        self._counts: dict[str, int] = {}
        self._ready = False
        _end_orphans(ClusterState.read(at.state))
        self._resumes = self._prepare()
        binaries = components.binaries(components=components.COMPONENTS + components.NODE)
        self._plane = parts.control_plane(at, binaries, at.state / "control-plane")
        self._node = parts.Parts(at, binaries, self._plane, images.storage())
        self._parts = self._in_order()

    def _prepare(self) -> bool:
        """Folders, network, and whether a cluster of this folder is continued."""
        owner = self._at.data / "owner"
        known = owner.read_text() if owner.exists() else ""
        if known and known != str(self._at.state):
            self._say(f"removing what the cluster of {known} left")
            _clean(Layout(Path(known)), self._say)
        elif not known and (self._at.state / "control-plane").exists():
            shutil.rmtree(self._at.state / "control-plane")  # of a cluster whose data is gone
        network.check()
        self._at.make()
        owner.write_text(str(self._at.state))
        leftovers.remember(self._at)
        network.make()
        if not leftovers.shims(self._at):  # after a restart of the machine the old addresses are nobody's
            shutil.rmtree(self._at.data / "cni")
            (self._at.data / "cni").mkdir(mode=0o711)
        return bool(known)

    def _in_order(self) -> tuple[Part, ...]:
        node, plane = self._node, self._plane
        return (
            node.internet, node.registry, node.mirror, node.containerd, *plane.parts, node.scheduler, node.proxy,
            node.router, node.kubelet, node.storage,
        )  # fmt: skip

    def run(self) -> None:
        """Start, watch, and on the way out stop everything and remove what it made, unless a part failed: then its
        data stays to be looked at and continued.
        """
        try:
            self._start()
            self._watch()
        except Stopped:
            self._stop()
            _clean(self._at, self._say)
            raise
        except BaseException:
            self._stop()
            raise

    def _start(self) -> None:
        node, plane = self._node, self._plane
        self._write()  # a second `up` waits for this one
        self._say("resuming the cluster that was here" if self._resumes else "starting a new cluster")
        for part in (node.internet, node.registry, node.mirror, node.containerd):
            part.start()
        plane.start()
        self._at.kubeconfig.touch(mode=0o600)
        self._at.kubeconfig.write_bytes(plane.admin_kubeconfig.read_bytes())
        self._passed("control plane")
        self._apply()
        for part in (node.scheduler, node.proxy):
            part.start()
        node.containerd.wait_until(self._at.containerd_socket.is_socket, within=20)
        began = datetime.now(UTC)
        node.kubelet.start()
        node.storage.start()
        self._write()
        for part, answers in self._answers():
            part.wait_until(answers, within=60)
        self._passed("registry, mirror, kube-proxy, scheduler, kubelet")
        node.kubelet.wait_until(lambda: self._node_is_ready(began), within=60, what="reporting a ready node")
        self._passed("node")
        node.router.start()  # it ends at once when the node is not known yet
        node.router.wait_until(leftovers.firewall_stands, within=60, what="enforcing network policies")
        network.guard()
        self._passed("firewall")
        self._wait_for_dns()
        self._passed("DNS and Services")
        self._ready = True
        self._write()

    def _answers(self) -> Sequence[tuple[Part, Callable[[], bool]]]:
        node = self._node
        return (
            (node.internet, lambda: _http(f"http://{layout.INTERNET}/", 200)),
            (node.registry, lambda: _http(f"http://{layout.ADDRESS}:{layout.REGISTRY_PORT}/v2/", 401)),
            (node.mirror, lambda: _http(f"http://{layout.ADDRESS}:{layout.MIRROR_PORT}/v2/", 200)),
            (node.scheduler, lambda: _http(f"https://127.0.0.1:{node.scheduler_port}/healthz", 200)),
            (node.proxy, lambda: _http(f"http://127.0.0.1:{node.proxy_health}/healthz", 200)),
            (node.kubelet, lambda: _http(f"http://127.0.0.1:{node.kubelet_health}/healthz", 200)),
        )

    def _apply(self) -> None:
        command = [*self._kubectl(), "apply", "--server-side", "--force-conflicts", "--filename", str(MANIFESTS)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ClusterFailed(f"kubectl apply of {MANIFESTS} failed:\n{done.stderr.strip()}")

    def _kubectl(self) -> list[str]:
        return [str(self._plane.kubectl), "--kubeconfig", str(self._plane.admin_kubeconfig)]

    def _node_is_ready(self, since: datetime) -> bool:
        """By the kubelet of now: after a resume the node's old condition still says Ready."""
        lease = self._plane.admin.get(f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{layout.NODE}")
        node = self._plane.admin.get(f"/api/v1/nodes/{layout.NODE}")
        if lease.status_code != httpx.codes.OK or node.status_code != httpx.codes.OK:
            return False
        renewed = datetime.fromisoformat(lease.json()["spec"]["renewTime"])
        conditions = {entry["type"]: entry["status"] for entry in node.json()["status"]["conditions"]}
        return renewed > since and conditions.get("Ready") == "True"

    def _wait_for_dns(self, within: float = 90) -> None:
        deadline = time.monotonic() + within
        while not resolves("kubernetes.default.svc.cluster.local", layout.DNS):
            if time.monotonic() > deadline:
                command = [*self._kubectl(), "--namespace=kube-system", "describe", "pods"]
                told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
                raise ClusterFailed(f"DNS did not answer within {within:g} s; kube-system's pods:\n{told[-3000:]}")
            self._restart_ended()
            time.sleep(0.1)

    def _watch(self) -> None:
        """Return never."""
        checked = time.monotonic()
        while True:
            self._restart_ended()
            if time.monotonic() - checked > 10:
                network.make()
                network.guard()
                checked = time.monotonic()
            time.sleep(0.2)

    def _restart_ended(self) -> None:
        for part in self._parts:
            if part.exit_code is None:
                continue
            ended = self._restarts.setdefault(part.name, deque(maxlen=RESTARTS))
            what = f"ended with exit code {part.exit_code}"
            if len(ended) == RESTARTS and time.monotonic() - ended[0] < WINDOW:
                raise PartFailed(part.name, f"{what}, for the {RESTARTS + 1}th time within a minute", part.log)
            pause = 0.0 if not ended or time.monotonic() - ended[-1] > WINDOW else 1.0
            ended.append(time.monotonic())
            self._counts[part.name] = self._counts.get(part.name, 0) + 1
            self._say(f"{PartFailed(part.name, f'{what}; starting it again', part.log)}")
            time.sleep(pause)
            part.stop()
            part.start()
            self._write()

    def _stop(self) -> None:
        """Containers after the kubelet and before containerd; the control plane last."""
        node, plane = self._node, self._plane
        for part in (node.storage, node.kubelet, node.router, node.proxy, node.scheduler):
            part.stop()
        leftovers.end_containers(self._at)
        for part in (node.containerd, node.mirror, node.registry, node.internet):
            part.stop()
        plane.stop()
        self._say("stopped")

    def _write(self) -> None:
        ClusterState(
            supervisor=part_state("supervisor", os.getpid(), self._at.state / "supervisor.log"),
            parts=tuple(part_state(part.name, part.pid, part.log) for part in self._parts if part.pid is not None),
            restarts=dict(self._counts),
            ready=self._ready,
            kubeconfig=str(self._at.kubeconfig),
        ).write(self._at.state)

    def _passed(self, what: str) -> None:
        self._say(f"{time.monotonic() - self._begun:5.1f} s  {what}")

    def _say(self, text: str) -> None:
        print(text, flush=True)


# What both sides need


@contextmanager
def _owned(at: Layout) -> Iterator[None]:
    """One cluster a machine. Raises ClusterFailed naming the other's folder."""
    at.run.mkdir(mode=0o711, parents=True, exist_ok=True)
    with at.lock.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise ClusterFailed(
                f"a cluster of {lock.read().strip() or 'another checkout'} runs on this machine, and there is room for "
                "one: its addresses and bridges exist once. End it there with `make cluster-down`, or use it: set "
                "CATALYST_KUBECONFIG to its admin.kubeconfig."
            ) from error
        lock.truncate(0)
        lock.write(str(at.state))
        lock.flush()
        yield


def _end_orphans(state: ClusterState | None) -> None:
    """Parts of a supervisor that was killed: the kernel kills them, too, a moment later."""
    for part in state.parts if state is not None else ():
        if part.runs:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(part.pid)
                process.kill()
                process.wait(10)


def _clean(at: Layout, say: Callable[[str], None]) -> None:
    leftovers.clean(at, say)
    for folder in ("control-plane", "configuration", "realm", "platform"):
        shutil.rmtree(at.state / folder, ignore_errors=True)
    for name in ("state.json", "admin.kubeconfig"):
        (at.state / name).unlink(missing_ok=True)


def _http(url: str, status: int) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url, verify=False, trust_env=False, timeout=2).status_code == status  # noqa: S501 -- loopback
    return False


def resolves(name: str, server: str, within: float = 1.0) -> bool:
    """Whether a DNS server has an IPv4 address for a name."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
    query = struct.pack(">6H", 1, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection, contextlib.suppress(OSError):
        connection.settimeout(within)
        connection.sendto(query, (server, 53))
        flags, _, answers = struct.unpack(">3H", connection.recv(4096)[2:8])
        return bool(flags & 0xF == 0 and answers > 0)
    return False


def pods(state: ClusterState) -> list[dict[str, Any]]:
    """Every pod, for `status`; empty while the API server does not answer."""
    kubectl = components.binaries(components=(components.CONTROL_PLANE,))["kubectl"]
    command = [
        str(kubectl),
        "--kubeconfig",
        state.kubeconfig,
        "get",
        "pods",
        "-A",
        "-o",
        "json",
        "--request-timeout=5s",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found: list[dict[str, Any]] = json.loads(done.stdout)["items"] if done.returncode == 0 else []
    return found
