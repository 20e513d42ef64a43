"""`up` to `down` as a person types it: in the background, one part's end ends all and says so, the data stays."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from catalyst.local.supervisor import PartState, State, down


def local(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "catalyst.local", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def folder(binaries: dict[str, Path], tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    down(tmp_path)


def test_up_status_logs_and_down(folder: Path) -> None:
    assert local("status", "--folder", folder).returncode == 1

    started = local("up", "--folder", folder)
    assert started.returncode == 0, started.stderr
    state = State.read(folder)
    assert state is not None
    assert {part.name for part in state.parts} == {"etcd", "kube-apiserver", "kube-controller-manager", "nats-server"}
    assert f"export KUBECONFIG={state.kubeconfig}" in started.stdout
    assert local("up", "--folder", folder).stdout == started.stdout  # already up: nothing happens

    assert "kube-apiserver" in local("logs", "kube-apiserver", "--folder", folder, "-n", "1").stdout
    unknown = local("logs", "kubelet", "--folder", folder)
    assert (unknown.returncode, "no log of 'kubelet'; there are" in unknown.stderr) == (1, True)

    assert local("down", "--folder", folder).stdout == "stopped\n"
    assert not any(part.runs for part in state.parts)
    assert local("down", "--folder", folder).stdout == "nothing runs\n"


def test_one_part_ends_and_all_end_and_it_is_said(folder: Path) -> None:
    assert local("up", "--folder", folder).returncode == 0
    state = State.read(folder)
    assert state is not None
    victim = next(part for part in state.parts if part.name == "kube-controller-manager")
    os.kill(victim.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(part.runs for part in (state.supervisor, *state.parts)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    said = (folder / "supervisor.log").read_text()
    assert "kube-controller-manager ended with exit code -9, so everything stops" in said
    assert victim.log in said
    assert State.read(folder) is None


def test_a_reused_pid_is_another_process() -> None:
    me = psutil.Process()
    assert PartState("me", me.pid, me.create_time(), "").runs
    assert not PartState("another", me.pid, me.create_time() - 60, "").runs


@pytest.mark.skipif("CATALYST_KUBECONFIG" in os.environ, reason="dev would use that cluster")
def test_dev_shows_an_environment_come_and_go(binaries: dict[str, Path]) -> None:
    done = local("dev", "--once")
    assert done.returncode == 0, done.stdout + done.stderr
    for said in ("202: the event is stored", "Environment", "its baseline is complete", "everything is gone after"):
        assert said in done.stdout


def test_an_unusable_kubeconfig_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "kubectl"
    tool.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CATALYST_KUBECONFIG", str(tmp_path / "nowhere.yaml"))
    refused = local("dev", "--once")
    assert refused.returncode == 1
    assert "CATALYST_KUBECONFIG=" in refused.stderr
    assert "expected a kubeconfig file" in refused.stderr


def test_a_webhook_needs_a_running_dev() -> None:
    refused = local("pull-request", "push")
    assert (refused.returncode, refused.stdout) == (1, "make dev does not run; start it in another terminal\n")
