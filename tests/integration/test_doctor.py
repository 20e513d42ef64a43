"""`catalyst doctor` against a real API server, nats-server, TLS server and the double of GitHub. The control plane has
no nodes: a probe ends at its deadline, and says why.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from desk import CATALYST, Ran, run
from doubles.github import GitHubDouble

from catalyst.cli.core.doctor.cluster import NetworkProbe, UserNamespaceProbe
from catalyst.cli.operations import probing
from catalyst.events.topology import SERVICES
from catalyst.forge.client import needed_permissions
from catalyst.kube.client import Kube
from catalyst.kube.settings import KubeSettings
from catalyst.local import certs
from catalyst.local.installation import Installation
from catalyst.local.nats import Nats
from catalyst.local.process import free_ports

SYSTEM = "doctor-system"
"""A namespace of these tests, set up as Catalyst's own."""
ZONE = "catalyst.localhost"
PATIENCE = 30.0


@pytest.fixture(scope="module")
def system(installation: Installation) -> Iterator[str]:
    """Settings, the services of one version, a claim; what pods would do, nobody does."""
    settings = {"CATALYST_ZONE": ZONE, "CATALYST_PUBLIC_PORT": "8443", "CATALYST_GITHUB_APP_ID": "4711"}
    installation.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _named("settings"), "data": settings},
        *map(_deployment, SERVICES),
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": _named("data-nats-0"),
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        },
    )
    yield SYSTEM
    installation.admin.delete(f"/api/v1/namespaces/{SYSTEM}").raise_for_status()


def _named(name: str) -> dict[str, str]:
    return {"name": name, "namespace": SYSTEM}


def _deployment(name: str) -> dict[str, Any]:
    container = {"name": name, "image": f"catalyst/{name}:0.1.0", "envFrom": [{"configMapRef": {"name": "settings"}}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _named(name),
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}},
        },
    }


@contextmanager
def _edge(folder: Path) -> Iterator[tuple[str, Path]]:
    """A TLS server with a certificate for the zone: its address, and its authority's file."""
    authority = certs.Authority.new()
    certificate, key = authority.server("edge", dns=[f"*.{ZONE}"], ips=[]).write(folder, "edge")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    loop, ready, found = asyncio.new_event_loop(), threading.Event(), []

    async def serve() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
        found.append(server.sockets[0].getsockname()[1])
        ready.set()
        async with server:
            await stopped.wait()

    stopped = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield f"127.0.0.1:{found[0]}", certs.write(folder / "authority.crt", authority.certificate)
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join(10)
        loop.close()


def _environ(installation: Installation, **more: str) -> dict[str, str]:
    return {
        "KUBECONFIG": str(installation.cluster.admin_kubeconfig),
        "CATALYST_NATS_URL": installation.nats.url,
        "CATALYST_NATS_SEED_FILE": str(installation.nats.seed("oncall")),
        **more,
    }


def _told(ran: Ran) -> dict[str, Mapping[str, str]]:
    assert ran.err == ""
    return {each["check"]: each for each in json.loads(ran.out)["findings"]}


def _statuses(ran: Ran) -> dict[str, str]:
    return {name: each["status"] for name, each in _told(ran).items()}


def test_what_is_found_of_an_installation(installation: Installation, system: str, tmp_path: Path) -> None:
    environ = _environ(installation)
    with GitHubDouble(tmp_path / "github") as github, _edge(tmp_path) as (edge, authority):
        github.app.permissions = needed_permissions()
        github.install("acme", permissions=needed_permissions())
        key = tmp_path / "app.pem"
        key.write_text(github.private_key)
        monitoring = f"http://127.0.0.1:{installation.nats.ports[1]}"
        outside = ["--github-key", str(key), "--github-url", github.url, "--monitoring", monitoring]
        asked = ["doctor", "--system-namespace", system, "--edge", edge, *outside]
        ran = run(tmp_path, [*asked, "--edge-ca", str(authority), "-o", "json"], environ)
        told = _told(ran)
        assert {name: each["status"] for name, each in told.items()} == {
            "crds": "ok",
            "services": "failed",
            "versions": "ok",
            "storage-class": "failed",
            "claims": "failed",
            "user-namespaces": "unknown",
            "network-policy": "unknown",
            "dns": "ok",
            "tls": "warning",
            "app-permissions": "ok",
            "app-events": "ok",
            "bus": "ok",
            "bus-sync": "ok",
            "streams": "ok",
            "consumers": "ok",
            "bus-copies": "unknown",
        }
        assert ran.code == 1
        assert "ends in" in told["tls"]["found"]  # our own authority's certificates last for days
        assert "builder 0 of 1" in told["services"]["found"]
        assert "data-nats-0 (Pending)" in told["claims"]["found"]
        assert told["network-policy"]["remedy"].startswith("run it with --probe")
        # The same, where each of these is wrong.
        github.app.permissions = {**needed_permissions(), "checks": "read"}
        github.app.events = ["push", "pull_request"]
        with Nats(tmp_path / "nats", fsync=False) as nats:
            environ |= {"CATALYST_NATS_URL": nats.url, "CATALYST_NATS_SEED_FILE": str(nats.seed("oncall"))}
            outside[-1] = f"http://127.0.0.1:{nats.ports[1]}"
            wrong = run(
                tmp_path, ["doctor", "--system-namespace", system, "--edge", edge, *outside, "-o", "yaml"], environ
            )
        assert wrong.err == ""
        told = {each["check"]: each for each in yaml.safe_load(wrong.out)["findings"]}
        failed = {name for name, each in told.items() if each["status"] == "failed"}
        assert failed >= {"tls", "app-permissions", "app-events", "bus", "bus-sync", "streams", "consumers"} - {
            "consumers"
        }
        assert "checks: write" in told["app-permissions"]["found"]
        assert "issue_comment" in told["app-events"]["found"]
        assert "self-signed" in told["tls"]["found"] or "unable to get local issuer" in told["tls"]["found"]
        assert "no stream of ours" in told["bus"]["found"]


async def test_a_consumer_that_is_gone_or_changed(installation: Installation, tmp_path: Path) -> None:
    with Nats(tmp_path / "nats") as nats:
        await asyncio.to_thread(nats.apply_topology)
        environ = {"CATALYST_NATS_URL": nats.url, "CATALYST_NATS_SEED_FILE": str(nats.seed("oncall"))}
        arguments = ["doctor", "-o", "json", "--zone", ZONE]
        well = _statuses(await asyncio.to_thread(run, tmp_path, arguments, environ))
        assert (well["streams"], well["consumers"]) == ("ok", "ok")
        await _as_operator(nats, "CONSUMER.DELETE.EVENTS.builder", {})
        ill = _told(await asyncio.to_thread(run, tmp_path, arguments, environ))
        assert ill["consumers"]["status"] == "failed"
        assert "EVENTS/builder" in ill["consumers"]["found"]
        # Without a cluster the rest is unknown, and says so.
        assert ill["crds"]["status"] == ill["claims"]["status"] == "unknown"
        assert "no cluster" in ill["crds"]["found"]


async def _as_operator(nats: Nats, request: str, body: dict[str, Any]) -> None:
    import nats as nats_py

    client = await nats_py.connect(nats.url, nkeys_seed=str(nats.seed("operator")), inbox_prefix=b"_INBOX_operator")
    try:
        answer = await client.request(f"$JS.API.{request}", json.dumps(body).encode(), timeout=5)
        assert "error" not in json.loads(answer.data), answer.data
    finally:
        await client.close()


def test_without_rights_everything_is_unknown_and_nothing_breaks(
    installation: Installation, system: str, tmp_path: Path
) -> None:
    environ = _environ(
        installation,
        KUBECONFIG=str(installation.kubeconfig("notifier")),
        CATALYST_NATS_SEED_FILE=str(installation.nats.seed("builder")),
    )
    ran = run(
        tmp_path, ["doctor", "--system-namespace", system, "--probe", "--probe-image", "x:1", "-o", "json"], environ
    )
    told = _told(ran)
    assert {each["status"] for each in told.values()} == {"unknown"}
    assert ran.code == 0
    assert 'cannot get resource "customresourcedefinitions"' in told["crds"]["found"]
    assert 'cannot create resource "namespaces"' in told["network-policy"]["found"]
    assert "may create and delete namespaces" in told["network-policy"]["remedy"]
    assert "no right to" in told["bus"]["found"]
    assert all(each["remedy"] for each in told.values())
    table = run(tmp_path, ["doctor", "--system-namespace", system], environ)
    assert table.out.endswith("16 unknown\n")


def test_who_may_make_and_not_remove_is_told_what_is_left(
    installation: Installation, system: str, tmp_path: Path
) -> None:
    rule = {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["create"]}
    rbac = "rbac.authorization.k8s.io"
    half = {"kind": "ServiceAccount", "name": "half", "namespace": system}
    installation.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _named("half")},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": "doctor-half"}, "rules": [rule]},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "doctor-half"},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "doctor-half"},
            "subjects": [half],
        },
    )
    environ = _environ(installation, KUBECONFIG=str(installation.cluster.kubeconfig_for(system, "half")))
    try:
        ran = run(tmp_path, ["doctor", "--probe", "--probe-image", "x:1", "--zone", ZONE], environ)
        (left,) = _probing(installation)
        assert "kubectl delete namespace " + left in ran.err
        assert 'cannot create resource "pods"' in ran.out
    finally:
        for kind in ("clusterroles", "clusterrolebindings"):
            installation.admin.delete(f"/apis/{rbac}/v1/{kind}/doctor-half").raise_for_status()
        for left in _probing(installation):
            installation.admin.delete(f"/api/v1/namespaces/{left}").raise_for_status()
    _until(lambda: not _probing(installation), "it is gone")


def test_where_nothing_answers_it_says_so(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    cluster = {"name": "away", "cluster": {"server": "http://127.0.0.1:9"}}
    context = {"name": "away", "context": {"cluster": "away", "user": "nobody"}}
    config = {
        "clusters": [cluster],
        "contexts": [context],
        "current-context": "away",
        "users": [{"name": "nobody", "user": {}}],
    }
    kubeconfig.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **config}))
    environ = {"KUBECONFIG": str(kubeconfig), "CATALYST_NATS_URL": "nats://127.0.0.1:9"}
    ran = run(tmp_path, ["doctor", "--monitoring", "http://127.0.0.1:9", "-o", "json"], environ)
    told = _told(ran)
    assert {each["status"] for each in told.values()} == {"unknown"}
    assert "the API server" in told["crds"]["found"]
    assert "no connection to nats://127.0.0.1:9" in told["bus"]["found"]
    assert "does not answer" in told["bus-sync"]["found"]


@pytest.mark.full(sample=2)
@pytest.mark.parametrize("interrupted", [False, True])
def test_a_probe_leaves_nothing_behind(
    installation: Installation, system: str, tmp_path: Path, interrupted: bool
) -> None:
    """No node takes its pods: it ends at its deadline, or when somebody has waited enough."""
    before, deadline = _probing(installation), "60" if interrupted else "2"
    arguments = ["doctor", "--system-namespace", system, "--probe", "--probe-deadline", deadline, "-o", "json"]
    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], **_environ(installation)}
    with subprocess.Popen(
        [CATALYST, *arguments], env=environ, stdout=-1, stderr=-1, text=True, preexec_fn=_heeds_interrupts
    ) as process:
        try:
            _until(lambda: len(_probing(installation) - before) == 1, "the probe has its namespace")
            (namespace,) = _probing(installation) - before
            if interrupted:
                _until(lambda: _pods(installation, namespace), "it has a pod")
                process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert err == ""
    if interrupted:
        assert (process.returncode, out) == (130, "")
    else:
        told = {each["check"]: each for each in json.loads(out)["findings"]}
        for check in ("network-policy", "user-namespaces"):
            assert told[check]["status"] == "unknown"
            assert told[check]["found"].startswith("no answer within 2 s: pod ") or check == "user-namespaces"
            assert told[check]["remedy"]
    _until(lambda: namespace not in _probing(installation), "its namespace is gone")


def _heeds_interrupts() -> None:
    """As in a terminal, also when these tests run in the background of a shell, which has them ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Node:
    """What a node would do with the probe's pods, by processes of this machine. `enforces`: network policies."""

    def __init__(self, installation: Installation, folder: Path, *, enforces: bool) -> None:
        self._admin, self._folder, self._enforces = installation.admin, folder, enforces
        self._installation = installation
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Node:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join(20)
        for process in self._running.values():
            process.kill()
            process.wait()

    def _run(self) -> None:
        while not self._ends.wait(0.1):
            for namespace in _probing(self._installation):
                for pod in _pods(self._installation, namespace):
                    if "deletionTimestamp" not in pod["metadata"]:  # of the probe before
                        self._step(pod)

    def _step(self, pod: dict[str, Any]) -> None:
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        key, log = f"{namespace}/{name}", self._folder / f"{namespace}-{name}"
        if key not in self._running:
            if name == "after" and self._enforces and self._policies(pod):  # as late as a plugin may be
                threading.Timer(1, self._running[f"{namespace}/server"].kill).start()
            _, *arguments = pod["spec"]["containers"][0]["command"]
            told = [each.replace("/dev/termination-log", str(log)) for each in arguments]
            where = ["--bind", "127.0.0.1"] if name == "server" else []
            self._running[key] = subprocess.Popen([sys.executable, *told, *where], stderr=-3)
            self._patch(pod, {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]})
        code = self._running[key].poll()
        if code is not None and name != "server":
            ended = {"terminated": {"exitCode": code, "message": log.read_text() if log.exists() else ""}}
            container = {
                "name": "probe",
                "image": "x",
                "imageID": "",
                "ready": False,
                "restartCount": 0,
                "state": ended,
            }
            self._patch(pod, {"phase": "Succeeded", "containerStatuses": [container]})

    def _policies(self, pod: dict[str, Any]) -> list[Any]:
        path = f"/apis/networking.k8s.io/v1/namespaces/{pod['metadata']['namespace']}/networkpolicies"
        return list(self._admin.get(path).json()["items"])

    def _patch(self, pod: dict[str, Any], status: dict[str, Any]) -> None:
        metadata = pod["metadata"]
        self._admin.patch(
            f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status",
            content=json.dumps({"status": status}),
            headers={"content-type": "application/merge-patch+json"},
        )


@pytest.mark.full(sample=2)
@pytest.mark.parametrize("enforces", [True, False])
async def test_what_a_probe_finds(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enforces: bool
) -> None:
    """Its pods as they are, run by this machine instead of a node."""
    (port,) = free_ports(1)
    monkeypatch.setattr(probing, "PORT", port)
    monkeypatch.setattr(probing, "WATCHED", 4.0)
    monkeypatch.setattr(probing, "LAST", 2.0)
    settings = KubeSettings(installation.cluster.admin_kubeconfig)
    with Node(installation, tmp_path, enforces=enforces):
        async with await Kube.connect(settings, field_manager="test") as kube:
            found = await probing.probe(kube, "catalyst/env-controller:0.1.0", 60)
    assert found.network == NetworkProbe(before=True, under_policy=not enforces)
    assert found.users == UserNamespaceProbe(Path("/proc/self/uid_map").read_text())
    _until(lambda: not _probing(installation), "its namespace is gone")


def _probing(installation: Installation) -> set[str]:
    """The probes' namespaces."""
    found = installation.admin.get("/api/v1/namespaces").raise_for_status().json()["items"]
    return {each["metadata"]["name"] for each in found if each["metadata"]["name"].startswith("catalyst-doctor-")}


def _pods(installation: Installation, namespace: str) -> list[Any]:
    return list(installation.admin.get(f"/api/v1/namespaces/{namespace}/pods").raise_for_status().json()["items"])


def _until(holds: Any, what: str) -> None:
    ends = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < ends, f"not within {PATIENCE:g} s: {what}"
        time.sleep(0.05)


def test_bad_input_gets_a_sentence(tmp_path: Path) -> None:
    for arguments, sentence in (
        (["--edge", "edge:https"], "--edge 'edge:https': expected HOST or HOST:PORT"),
        (["--probe-deadline", "0"], "greater than or equal to 1"),
        (["-o", "xml"], "table"),
    ):
        ran = run(tmp_path, ["doctor", *arguments], {})
        assert (ran.code, ran.out) == (2, "")
        assert sentence in " ".join(ran.err.split())
