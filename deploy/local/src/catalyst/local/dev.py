"""`make dev`: a whole installation, the services as their own users, and one example pull request that becomes an
environment.

Everything lies in .run/dev and starts afresh each time. With CATALYST_KUBECONFIG the cluster there is used instead of
one of our own; NATS and the services still run here.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console
from rich.table import Table

from catalyst.local import certs, components, example
from catalyst.local.control_plane import ControlPlane
from catalyst.local.existing import ExistingCluster
from catalyst.local.installation import Cluster, Installed, install
from catalyst.local.nats import Nats
from catalyst.local.process import Part, PartFailed, free_ports, tail
from catalyst.local.supervisor import ROOT, follow

FOLDER: Final = ROOT / ".run" / "dev"
TEAM: Final = "acme"
PATIENCE: Final = 30.0

_console = Console(highlight=False)


class Dev:
    """One running `make dev`; every method is a step of it."""

    def __init__(self, installed: Installed, folder: Path) -> None:
        self.installed = installed
        self.folder = folder
        self.payload = example.published()
        self.number: int = self.payload["number"]
        self.repository: str = self.payload["repository"]["full_name"].lower()
        self.project = self.repository.rpartition("/")[2]
        self.namespace = f"{TEAM}--{self.project}"
        self.secret_file = certs.write(folder / "webhook-secret", secrets.token_hex(32).encode() + b"\n")
        self.http_port, self.ingest_ops, self.controller_ops = free_ports(3)
        self.ingest = self._service("webhook-ingest", self.ingest_ops)
        self.controller = self._service("env-controller", self.controller_ops)

    @property
    def webhook_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/webhooks/github"

    @property
    def services(self) -> tuple[Part, ...]:
        return (self.ingest, self.controller)

    def start_services(self) -> None:
        for part, port in ((self.ingest, self.ingest_ops), (self.controller, self.controller_ops)):
            part.start()
            part.wait_until(_ready(port), within=PATIENCE)

    def make_project(self) -> None:
        """Team and Project, as the platform's people and a team would by kubectl; returns when the Project is ready."""
        self.installed.team(TEAM, f"github/{self.repository.split('/')[0]}/*")
        project = {
            "apiVersion": "catalyst.dev/v1alpha1",
            "kind": "Project",
            "metadata": {"namespace": TEAM, "name": self.project},
            "spec": {"source": {"forge": "github", "repository": self.repository}},
        }
        self.installed.apply(project)
        self._until(self._project_ready, "the Project is ready")

    def deliver(self, action: example.Action) -> float:
        """Send what GitHub would; returns the seconds until the answer."""
        begun = time.monotonic()
        deliver(self.webhook_url, self.secret_file, action, self.payload, self.number)
        return time.monotonic() - begun

    def watch_it_appear(self) -> Table:
        """What came into being, and when after the webhook was sent."""
        pull_request = f"{self.repository}#{self.number}"
        table = Table("after", "what", title=f"Pull request {pull_request} → {self.namespace}/pr-{self.number}")
        begun = time.monotonic()
        answered = self.deliver("opened")
        table.add_row(f"{answered * 1000:.0f} ms", "202: the event is stored")
        workload = f"{self.namespace}--pr-{self.number}"
        for what, holds in (
            ("Environment", lambda: self._environment() is not None),
            (f"Namespace {workload}", lambda: self._get(f"/api/v1/namespaces/{workload}") is not None),
            ("its baseline is complete (phase Provisioned)", lambda: self._phase() == "Provisioned"),
        ):
            self._until(holds, what)
            table.add_row(f"{(time.monotonic() - begun) * 1000:.0f} ms", what)
        return table

    def watch_it_go(self) -> float:
        """Close the pull request; returns the seconds until Environment and namespace are gone."""
        begun = time.monotonic()
        self.deliver("closed")
        workload = f"/api/v1/namespaces/{self.namespace}--pr-{self.number}"
        self._until(lambda: self._environment() is None and self._get(workload) is None, "everything is gone again")
        return time.monotonic() - begun

    def tell_how_to_go_on(self) -> None:
        kubeconfig = self.installed.cluster.admin_kubeconfig
        python = Path(sys.executable)
        shown = python.relative_to(ROOT) if python.is_relative_to(ROOT) else python
        command = f"{shown} -m catalyst.local"
        _console.print(f"\nWebhooks    {self.webhook_url}")
        _console.print(f"Secret      {self.secret_file}")
        _console.print(f"NATS        {self.installed.nats.url}")
        _console.print(f"\nexport KUBECONFIG={kubeconfig}", soft_wrap=True)
        _console.print("kubectl get environments --all-namespaces --watch")
        _console.print(f"{command} pull-request push     [dim]# a new commit[/]", soft_wrap=True)
        _console.print(f"{command} pull-request close    [dim]# everything goes[/]", soft_wrap=True)
        _console.print("\n[dim]Logs follow; ctrl-C ends everything.[/]")

    def save(self) -> None:
        """For `pull-request`, which runs in another terminal."""
        state = {"url": self.webhook_url, "secret_file": str(self.secret_file), "number": self.number}
        (self.folder / "dev.json").write_text(json.dumps(state))

    def _service(self, name: str, ops_port: int) -> Part:
        env = {
            **self.installed.settings(name),
            "CATALYST_WEBHOOK_SECRETS_FILE": str(self.secret_file),
            "CATALYST_HTTP_HOST": "127.0.0.1",
            "CATALYST_HTTP_PORT": str(self.http_port),
            "CATALYST_OPS_HOST": "127.0.0.1",
            "CATALYST_OPS_PORT": str(ops_port),
        }
        command = [sys.executable, "-m", f"catalyst.{name.replace('-', '_')}"]
        return Part(name, command, self.folder / f"{name}.log", env=env, cwd=self.folder, stop_within=20)

    def _project_ready(self) -> bool:
        found = self._get(f"/apis/catalyst.dev/v1alpha1/namespaces/{TEAM}/projects/{self.project}") or {}
        return any(
            c["type"] == "Ready" and c["status"] == "True" for c in found.get("status", {}).get("conditions", [])
        )

    def _environment(self) -> dict[str, Any] | None:
        return self._get(f"/apis/catalyst.dev/v1alpha1/namespaces/{self.namespace}/environments/pr-{self.number}")

    def _phase(self) -> str | None:
        found = self._environment() or {}
        phase: str | None = found.get("status", {}).get("phase")
        return phase

    def _get(self, path: str) -> dict[str, Any] | None:
        answer = self.installed.admin.get(path)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            for part in self.services:
                if part.pid is None:
                    raise PartFailed(part.name, f"ended with exit code {part.exit_code}", part.log)
            if time.monotonic() > deadline:
                ends = "\n".join(f"{part.name}:\n{tail(part.log, 8)}" for part in self.services)
                raise TimeoutError(f"{what}: not within {PATIENCE:g} s. The services' logs end with:\n{ends}")
            time.sleep(0.01)


def run(*, once: bool, folder: Path = FOLDER) -> int:
    """Returns the exit code; with `once` after the example environment came and went."""
    if (folder / "dev.json").exists() and _listens(folder):
        _console.print(f"make dev runs already ({folder}); end it first")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    begun = time.monotonic()
    with ExitStack() as stack:
        cluster, parts = _cluster(stack, folder)
        _step("control plane", begun)
        nats = stack.enter_context(Nats(folder / "nats"))
        nats.apply_topology()
        install(cluster)
        _step("NATS, resource types, policies, roles", begun)
        dev = Dev(Installed(cluster, nats), folder)
        for part in dev.services:
            stack.callback(part.stop)
        dev.start_services()
        _step("webhook-ingest and env-controller", begun)
        dev.make_project()
        _step(f"team {TEAM}, Project {dev.project}", begun)
        _console.print(dev.watch_it_appear())
        if once:
            _console.print(f"closed: everything is gone after {dev.watch_it_go():.1f} s")
            return 0
        dev.save()
        dev.tell_how_to_go_on()
        return _follow(dev, (*parts, nats.part, *dev.services))


def deliver(url: str, secret_file: Path, action: example.Action, base: dict[str, Any], number: int) -> None:
    """Send an example to a running webhook-ingest; a push brings a commit of its own. Raises httpx.HTTPStatusError."""
    commit = secrets.token_hex(20) if action == "synchronize" else base["pull_request"]["head"]["sha"]
    payload = example.pull_request(base, number, action, commit, datetime.now(UTC))
    example.send(url, secret_file.read_text().strip(), payload)


def deliver_to_running(action: example.Action, number: int | None, folder: Path = FOLDER) -> int:
    """`pull-request push` and the like. Returns the exit code."""
    if not (folder / "dev.json").exists() or not _listens(folder):
        _console.print("make dev does not run; start it in another terminal")
        return 1
    state = json.loads((folder / "dev.json").read_text())
    base = example.published()
    deliver(state["url"], Path(state["secret_file"]), action, base, number or state["number"])
    _console.print(f"202: {action} of pull request {number or state['number']} is stored")
    return 0


def _cluster(stack: ExitStack, folder: Path) -> tuple[Cluster, tuple[Part, ...]]:
    if given := os.environ.get("CATALYST_KUBECONFIG"):
        existing = stack.enter_context(ExistingCluster(folder / "cluster", Path(given).expanduser()))
        return existing, (existing.proxy,)
    control_plane = stack.enter_context(ControlPlane(folder / "control-plane", components.binaries()))
    return control_plane, control_plane.parts


def _follow(dev: Dev, parts: tuple[Part, ...]) -> int:
    """The services' logs, until ctrl-C or until a part ends unasked."""
    for name, line in follow({part.name: part.log for part in dev.services}, between=lambda: _all_run(parts)):
        _console.print(f"[cyan]{name:>15}[/] ", end="")
        _console.print(line, markup=False, soft_wrap=True)
    return 0


def _all_run(parts: tuple[Part, ...]) -> None:
    for part in parts:
        if part.pid is None:
            raise PartFailed(part.name, f"ended with exit code {part.exit_code}, so everything stops", part.log)


def _listens(folder: Path) -> bool:
    state = json.loads((folder / "dev.json").read_text())
    try:
        httpx.get(state["url"], timeout=2, trust_env=False)
    except httpx.TransportError:
        return False
    return True


def _ready(port: int) -> Callable[[], bool]:
    def ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2, trust_env=False).is_success
        except httpx.TransportError:
            return False

    return ready


def _step(what: str, begun: float) -> None:
    _console.print(f"[green]✓[/] {what}  [dim]{time.monotonic() - begun:.1f} s[/]")
