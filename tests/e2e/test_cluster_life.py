"""The node's own life: any part may be killed, the supervisor, too; what fails is named; nothing is left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from kubectl import Kubectl, pod

from catalyst.local import cluster
from catalyst.local.node import layout, leftovers, network
from catalyst.local.node.layout import Layout
from catalyst.local.process import tail

PARTS = (
    "internet", "registry", "mirror", "containerd", "etcd", "kube-apiserver", "kube-controller-manager",
    "kube-scheduler", "kube-proxy", "kube-router", "kubelet", "local-path-provisioner",
)  # fmt: skip
SLEEPS = pod("sleeps", "debian:bookworm-slim", "sleep", "3600")


@pytest.fixture(autouse=True)
def ours(began_here: bool) -> None:
    if not began_here:
        pytest.skip("a cluster of this checkout runs already; these tests would end it (make cluster-down)")


def command(*words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "catalyst.local", "cluster", *words]
    return subprocess.run(line, capture_output=True, text=True, timeout=280, check=False)


def incarnation(kubectl: Kubectl) -> tuple[str, str]:
    """Of the pod `sleeps`: the same pair means the same process."""
    found = kubectl.get("pod", "sleeps")
    return found["metadata"]["uid"], found["status"]["containerStatuses"][0]["containerID"]


def test_every_part_is_there(node: cluster.ClusterState, kubectl: Kubectl) -> None:
    assert {part.name for part in node.parts} == set(PARTS)
    kubectl.apply(SLEEPS)
    kubectl.wait("pod/sleeps", "condition=Ready")


@pytest.mark.parametrize("name", PARTS)
def test_a_killed_part_is_started_again_and_pods_do_not_notice(
    node: cluster.ClusterState, kubectl: Kubectl, name: str
) -> None:
    before = incarnation(kubectl)
    state = cluster.running()
    assert state is not None
    victim = next(part for part in state.parts if part.name == name)
    os.kill(victim.pid, signal.SIGKILL)
    until = time.monotonic() + 30
    while not ((now := cluster.running()) and _restarted(now, name, victim.pid)):
        assert time.monotonic() < until, tail(Path(node.kubeconfig).parent / "supervisor.log")
        time.sleep(0.1)
    a_shell_answers(kubectl)
    assert incarnation(kubectl) == before
    assert cluster.resolves("kubernetes.default.svc.cluster.local", layout.DNS)
    said = (Path(node.kubeconfig).parent / "supervisor.log").read_text()
    assert f"{name} ended with exit code -9; starting it again" in said


def a_shell_answers(kubectl: Kubectl, within: float = 30) -> None:
    """Through API server, kubelet and containerd; each may have begun a moment ago."""
    until = time.monotonic() + within
    while True:
        try:
            assert kubectl.execute("sleeps", "echo", "here") == "here\n"
        except AssertionError:
            assert time.monotonic() < until
            time.sleep(0.3)
        else:
            return


def _restarted(state: cluster.ClusterState, name: str, old: int) -> bool:
    return any(part.name == name and part.pid != old and part.runs for part in state.parts)


def test_a_removed_bridge_and_name_come_back(node: cluster.ClusterState) -> None:
    network.write_hosts({})
    subprocess.run(["ip", "link", "delete", layout.INTERNET_LINK], check=True)
    until = time.monotonic() + 30
    while "catalyst-local" not in network.HOSTS.read_text() or layout.INTERNET_LINK not in psutil.net_if_addrs():
        assert time.monotonic() < until
        time.sleep(0.2)


def test_after_kill_9_of_the_supervisor_up_goes_on_with_the_same_pods(kubectl: Kubectl) -> None:
    before = incarnation(kubectl)
    state = cluster.running()
    assert state is not None
    os.kill(state.supervisor.pid, signal.SIGKILL)
    until = time.monotonic() + 20
    while any(part.runs for part in state.parts):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert leftovers.shims(Layout(cluster.FOLDER)), "the containers should have outlived it"
    looked = command("status")
    assert (looked.returncode, "left behind" in looked.stdout) == (1, True)

    again = command("up")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "resuming the cluster that was here" in again.stdout
    kubectl.wait("pod/sleeps", "condition=Ready")
    assert incarnation(kubectl) == before
    a_shell_answers(kubectl)
    assert command("status").returncode == 0


def test_another_checkout_is_told_who_runs(node: cluster.ClusterState, tmp_path: Path) -> None:
    refused = command("up", "--folder", str(tmp_path / "cluster"))
    assert refused.returncode == 1
    assert f"a cluster of {cluster.FOLDER} runs on this machine" in refused.stderr
    assert cluster.running() is not None


def test_down_after_kill_9_leaves_nothing(node: cluster.ClusterState) -> None:
    state = cluster.running()
    assert state is not None
    os.kill(state.supervisor.pid, signal.SIGKILL)
    _down_leaves_nothing()


def test_up_and_down_leave_the_machine_as_it_was() -> None:
    before = machine()
    begun = time.monotonic()
    assert command("up").returncode == 0
    assert time.monotonic() - begun < 60  # seconds; what is built already takes no time
    assert command("up").returncode == 0  # already up: nothing happens
    _down_leaves_nothing()
    assert machine() == before


def test_a_part_that_cannot_start_is_named_with_the_end_of_its_log() -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("0.0.0.0", layout.MIRROR_PORT))
        taken.listen()
        failed = command("up")
    assert failed.returncode == 1
    assert "mirror ended with exit code" in failed.stderr
    assert "address already in use" in failed.stderr
    assert cluster.running() is None
    _down_leaves_nothing()


def _down_leaves_nothing() -> None:
    done = command("down")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing of the cluster is left" in done.stdout
    assert leftovers.found(Layout(cluster.FOLDER)) == []
    ours = [p.info for p in psutil.process_iter(["cmdline"]) if "catalyst-local" in " ".join(p.info["cmdline"] or ())]
    assert ours == []


def machine() -> dict[str, object]:
    """What a cluster could change: devices, routes, rules, mounts, kernel settings, names, firewall, control groups."""

    def said(*words: str) -> list[str]:
        text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        return sorted(line for line in text.splitlines() if not line.startswith(("#", ":", "*", "COMMIT")))

    return {
        "devices": sorted(psutil.net_if_addrs()),
        "routes": said("ip", "route", "show", "table", "all"),
        "rules": said("ip", "rule"),
        "namespaces": said("ip", "netns"),
        "mounts": sorted(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()),
        "settings": network.settings(),
        "hosts": network.HOSTS.read_text(),
        "firewall": said("iptables-save") + said("ip6tables-save"),
        "sets": said("ipset", "list", "-n"),
        "control groups": sorted(str(path) for path in Path("/sys/fs/cgroup").glob("*/k8s.io")),
        "folders": {path: Path(path).exists() for path in leftovers.FOLDERS},
    }
