"""A service as a process of its own that dies, freezes, waits or errs at named points: `python faulted.py <service>`.

It is the service's real `main` with its real settings; only `points` is given. What the process is told by variables:

    FAULTS        JSON, a list of rules: {"point": fnmatch pattern, "action": …, "phase": "", "nth": 1, "seconds": 0}
    FAULTS_LOG    file, one line for each point reached (`<phase> <point>`), `! <action> <point>` where a fault began
    FAULTS_PHASE  file with one word that the test writes: the part of the story. A rule with a phase counts only there
    PLANT         name of a bug from `plants.py` to be planted first

    kill    SIGKILL to itself, `seconds` after the point was reached
    freeze  SIGSTOP to itself; goes on after SIGCONT
    delay   `seconds`
    hold    until the test makes the file `<FAULTS_LOG>.release`
    error   what the point's client raises when its server does not answer
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import plants

from catalyst.env_controller import __main__ as env_controller
from catalyst.env_controller.config import Settings as ControllerSettings
from catalyst.events.errors import Unpublished
from catalyst.kube.errors import Unavailable
from catalyst.notifier import __main__ as notifier
from catalyst.notifier.config import Settings as NotifierSettings
from catalyst.service.run import run
from catalyst.webhook_ingest import __main__ as webhook_ingest
from catalyst.webhook_ingest.config import Settings as IngestSettings

BOOT: Final = "-"
"""The phase before the first."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One fault: at the `nth` time that a point fitting `point` is reached (in `phase`, if named). `any` phase: once
    the story has begun, and not while the services start.
    """

    point: str
    action: Literal["kill", "freeze", "delay", "hold", "error"]
    phase: str = ""
    nth: int = 1
    seconds: float = 0.0


class Points:
    """The `points` of a process under test."""

    def __init__(self, rules: Sequence[Rule], log: Path) -> None:
        self._rules = rules
        self._log = log
        self._reached: Counter[Rule] = Counter()
        self._file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def __call__(self, point: str) -> None:
        phase = phase_file(self._log).read_text()
        self._write(f"{phase} {point}")
        for rule in self._rules:
            begun = rule.phase == "any" and phase != BOOT
            if fnmatchcase(point, rule.point) and (begun or rule.phase in ("", phase)):
                self._reached[rule] += 1
                if self._reached[rule] == rule.nth:
                    await self._begin(rule, point)

    async def _begin(self, rule: Rule, point: str) -> None:
        if rule.action in ("kill", "delay"):
            await asyncio.sleep(rule.seconds)
        self._write(f"! {rule.action} {point}")
        match rule.action:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "freeze":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "hold":
                while not release_file(self._log).exists():
                    await asyncio.sleep(0.01)
            case "error" if point.startswith("bus."):
                raise Unpublished(f"{point}: the bus does not answer")
            case "error":
                raise Unavailable(0, "Fault", f"{point}: the API server does not answer")

    def _write(self, line: str) -> None:
        os.write(self._file, f"{line}\n".encode())


def phase_file(log: Path) -> Path:
    return log.with_suffix(".phase")


def release_file(log: Path) -> Path:
    return log.with_suffix(".release")


SERVICES: Mapping[str, tuple[Any, Any]] = {
    "webhook-ingest": (IngestSettings, webhook_ingest.main),
    "env-controller": (ControllerSettings, env_controller.main),
    "notifier": (NotifierSettings, notifier.main),
}


def main(service: str) -> None:
    settings, real_main = SERVICES[service]
    plants.plant(os.environ["PLANT"])
    points = Points([Rule(**rule) for rule in json.loads(os.environ["FAULTS"])], Path(os.environ["FAULTS_LOG"]))
    run(service, settings, partial(real_main, points=points), argv=[])


if __name__ == "__main__":
    main(sys.argv[1])
