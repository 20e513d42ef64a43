"""Services as processes: started by a test, told which fault to suffer (faulted.py), and looked at from outside."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import faulted
from faulted import Rule
from stage import SECRET

from catalyst.local.installation import Installation
from catalyst.local.process import Part, free_ports


@dataclass(slots=True)
class Faulted:
    """A service of an installation as a process of its own, as its own ServiceAccount and NATS user.

    `part` starts and ends it. A fault happens once: after a kill, `again` starts the same service without any.
    """

    part: Part
    log: Path
    ops_port: int
    webhook_port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.webhook_port}/webhooks/github"

    @property
    def ops(self) -> str:
        return f"http://127.0.0.1:{self.ops_port}"

    def phase(self, name: str) -> None:
        """From now on this part of the story is told."""
        faulted.phase_file(self.log).write_text(name)

    def reached(self) -> list[str]:
        """`<phase> <point>` for all points so far, over all runs of the process."""
        return [line for line in self._lines() if not line.startswith("! ")]

    def faults(self) -> list[str]:
        """`<action> <point>` for all faults that have begun."""
        return [line.removeprefix("! ") for line in self._lines() if line.startswith("! ")]

    def release(self) -> None:
        """Let a held one go on."""
        faulted.release_file(self.log).touch()

    def again(self) -> None:
        """Start anew, without faults and without bugs."""
        self.part.stop()
        self.part.env = {**self.part.env, "FAULTS": "[]", "PLANT": ""}
        self.part.start()

    def said(self, text: str) -> bool:
        """Whether its own log holds this text."""
        return self.part.log.exists() and text in self.part.log.read_text()

    def _lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


def process(
    service: Literal["webhook-ingest", "env-controller"],
    installation: Installation,
    folder: Path,
    *rules: Rule,
    plant: str = "",
    name: str = "",
    **settings: object,
) -> Faulted:
    """Not started yet. `settings`: more CATALYST_ variables, such as `lease_seconds=3`."""
    name = name or service
    ops_port, webhook_port = free_ports(2)
    log = folder / f"{name}.points"
    variables = {**installation.settings(service), "CATALYST_OPS_HOST": "127.0.0.1", "CATALYST_OPS_PORT": str(ops_port)}
    if service == "webhook-ingest":
        variables |= {"CATALYST_HTTP_HOST": "127.0.0.1", "CATALYST_HTTP_PORT": str(webhook_port)}
        variables |= {"CATALYST_WEBHOOK_SECRETS": SECRET}
        del variables["CATALYST_KUBECONFIG"]
    else:
        variables |= {"CATALYST_IDENTITY": name}
    variables |= {f"CATALYST_{key.upper()}": str(value) for key, value in settings.items()}
    variables |= {"FAULTS": json.dumps([asdict(rule) for rule in rules]), "FAULTS_LOG": str(log), "PLANT": plant}
    faulted.phase_file(log).write_text(faulted.BOOT)
    command: list[str | Path] = [sys.executable, Path(faulted.__file__), service]
    part = Part(name, command, folder / f"{name}.log", env=variables, stop_within=10)
    return Faulted(part, log, ops_port, webhook_port)
