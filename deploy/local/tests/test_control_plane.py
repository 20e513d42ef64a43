"""The three parts as one: real enforcement, faults that hit, failures that explain themselves, nothing left behind."""

import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from catalyst.local.control_plane import APISERVER, ETCD, AuditLog, ControlPlane
from catalyst.local.installation import checked
from catalyst.local.process import PartFailed


def eventually(holds: Callable[[], bool], *, within: float = 20) -> None:
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, f"not within {within} s"
        time.sleep(0.05)


def namespace(plane: ControlPlane, name: str) -> str:
    checked(plane.admin.post("/api/v1/namespaces", json={"metadata": {"name": name}}))
    return f"/api/v1/namespaces/{name}"


def test_quota_is_enforced_and_its_refusal_named(control_plane: ControlPlane) -> None:
    path, admin = namespace(control_plane, "quota"), control_plane.admin
    quota = {"metadata": {"name": "q"}, "spec": {"hard": {"count/secrets": "1"}}}
    checked(admin.post(f"{path}/resourcequotas", json=quota))
    eventually(lambda: bool(admin.get(f"{path}/resourcequotas/q").json().get("status", {}).get("used")))
    allowed = admin.post(f"{path}/secrets", json={"metadata": {"name": "first"}})
    refused = admin.post(f"{path}/secrets", json={"metadata": {"name": "second"}})
    assert (allowed.status_code, refused.status_code, refused.json()["reason"]) == (201, 403, "Forbidden")
    assert "exceeded quota: q" in refused.json()["message"]


def test_a_namespace_can_be_deleted(control_plane: ControlPlane) -> None:
    path = namespace(control_plane, "short-lived")
    checked(control_plane.admin.delete(path))
    eventually(lambda: control_plane.admin.get(path).status_code == 404)


def test_nobody_is_nobody(control_plane: ControlPlane) -> None:
    tls = ssl.create_default_context(cafile=str(control_plane.ca))
    with httpx.Client(base_url=control_plane.url, verify=tls, trust_env=False) as stranger:
        assert stranger.get("/api/v1/namespaces").status_code == 401
    assert control_plane.admin.get("/api/v1/namespaces").status_code == 200


def test_a_service_account_is_only_itself(control_plane: ControlPlane) -> None:
    config = control_plane.kubeconfig_for("default", "default")
    command: list[str | Path] = [control_plane.kubectl, "--kubeconfig", config, "get", "namespaces"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert 'User "system:serviceaccount:default:default" cannot list resource "namespaces"' in refused.stderr
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        control_plane.kubeconfig_for("default", "nobody")


def test_writes_are_seen_and_leases_are_not(control_plane: ControlPlane) -> None:
    audit = AuditLog(control_plane.audit_log)
    namespace(control_plane, "audited")
    marker = audit.marker()
    leases = "/apis/coordination.k8s.io/v1/namespaces/audited/leases"
    checked(control_plane.admin.post(leases, json={"metadata": {"name": "lease"}}))
    control_plane.admin.post("/api/v1/namespaces/nowhere/configmaps", json={"metadata": {"name": "refused"}})
    checked(control_plane.admin.post("/api/v1/namespaces/audited/configmaps", json={"metadata": {"name": "made"}}))
    user = "catalyst-local-admin"
    assert [write.name for write in audit.writes_since(marker, user=user)] == ["made"]
    tried = audit.writes_since(marker, user=user, refused=True)
    assert [(write.resource, write.code) for write in tried] == [("configmaps", 404), ("configmaps", 201)]


def test_faults_hit_and_data_stays(own_control_plane: ControlPlane) -> None:
    plane = own_control_plane
    path = namespace(plane, "kept")
    url = plane.url

    plane.apiserver.kill()
    with pytest.raises(httpx.ConnectError):
        plane.admin.get(path)
    failed = plane.failed()
    assert failed is not None
    assert failed.part == APISERVER
    with pytest.raises(RuntimeError, match="kube-apiserver does not run, so SIGSTOP would hit nothing"):
        plane.apiserver.freeze()
    plane.restart_apiserver()
    assert plane.url == url
    assert plane.admin.get(path).status_code == 200

    plane.apiserver.freeze()
    with pytest.raises(httpx.ReadTimeout):
        plane.admin.get(path, timeout=0.5)
    plane.apiserver.thaw()
    assert plane.admin.get(path).status_code == 200

    plane.etcd.kill()
    plane.etcd.start()
    eventually(lambda: plane.admin.get(path).status_code == 200)
    assert plane.failed() is None


def test_all_parts_restart_on_the_same_folder(binaries: dict[str, Path], tmp_path: Path) -> None:
    with ControlPlane(tmp_path, binaries) as plane:
        path = namespace(plane, "kept")
        config = plane.kubeconfig_for("default", "default").read_text()
    with ControlPlane(tmp_path, binaries) as again:
        assert again.admin.get(path).status_code == 200
        token = config.split("token: ")[1].split()[0]
        mine = again.admin.post(
            "/apis/authentication.k8s.io/v1/tokenreviews",
            json={"spec": {"token": token}},
        )
        assert mine.json()["status"]["authenticated"] is True


def test_a_part_that_cannot_start_shows_the_end_of_its_log(binaries: dict[str, Path], tmp_path: Path) -> None:
    broken = ControlPlane(tmp_path, binaries, extra_flags={ETCD: ["--no-such-flag"]})
    with pytest.raises(PartFailed) as failure:
        broken.start()
    assert failure.value.part == ETCD
    assert "etcd ended with exit code" in str(failure.value)
    assert str(tmp_path / "etcd.log") in str(failure.value)
    assert "no-such-flag" in str(failure.value)
    assert all(part.pid is None for part in broken.parts)


def test_nothing_is_left_after_stop(binaries: dict[str, Path], tmp_path: Path) -> None:
    with ControlPlane(tmp_path, binaries) as plane:
        pids = [part.pid for part in plane.parts]
        assert all(pid is not None for pid in pids)
    assert [pid for pid in pids if pid is not None and psutil.pid_exists(pid)] == []


SUPERVISED = """
import sys, threading, time
from pathlib import Path
from catalyst.local import components
from catalyst.local.control_plane import ControlPlane

plane = ControlPlane(Path(sys.argv[1]), components.binaries())
starter = threading.Thread(target=plane.start)  # the parts must outlive the thread that asked for them
starter.start()
starter.join()
time.sleep(0.3)
print(*(part.pid for part in plane.parts), flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_nothing_is_left_when_the_supervisor_is_killed(binaries: dict[str, Path], tmp_path: Path) -> None:
    command = [sys.executable, "-c", SUPERVISED, str(tmp_path)]
    supervisor = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert supervisor.stdout is not None
        pids = [int(word) for word in supervisor.stdout.readline().split()]
        assert len(pids) == 3
        assert all(psutil.pid_exists(pid) for pid in pids)
    finally:
        os.kill(supervisor.pid, signal.SIGKILL)
        supervisor.communicate()
    eventually(lambda: not any(psutil.pid_exists(pid) for pid in pids), within=5)
