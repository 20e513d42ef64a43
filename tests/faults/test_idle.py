"""Nothing to do, nothing written: by looking at everything again, and by starting anew."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
from guarantees import PROCESS_BOOT, is_ready, present, scene, with_project
from processes import Faulted, process

from catalyst.local.installation import Installation

ENVIRONMENTS = 20


async def test_unchanged_and_restarted_it_writes_nothing(installation: Installation, tmp_path: Path) -> None:
    ingest = process("webhook-ingest", installation, tmp_path)
    controller = process("env-controller", installation, tmp_path, resync_seconds=2)
    async with scene(installation, ingest, controller) as on:
        stage = on.stage
        await with_project(on)
        for number in range(1, ENVIRONMENTS + 1):
            await on.sender.deliver(stage.pull_request(number))
        await on.until(lambda: list(present(stage).values()) == ["a" * 40] * ENVIRONMENTS, "all are provisioned")
        await on.quiet()

        mark, done = stage.installation.audit.marker(), await reconciles(controller)
        await stage.until_async(lambda: _reach(controller, done + 2 * ENVIRONMENTS), "all looked at twice", within=30)
        assert stage.writes(mark) == []

        controller.again()
        await stage.until_async(lambda: is_ready(controller), "it is back", within=PROCESS_BOOT)
        await stage.until_async(lambda: _reach(controller, 2 * ENVIRONMENTS), "all looked at twice", within=30)
        assert stage.writes(mark) == []


async def _reach(service: Faulted, count: float) -> bool:
    return await reconciles(service) >= count


async def reconciles(service: Faulted) -> float:
    """How many Environments were reconciled since it started, by its own metrics."""
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"{service.ops}/metrics")).text
    found = re.findall(r"^catalyst_reconciles_total\{[^}]*EnvironmentKey[^}]*\} ([0-9.e+]+)$", text, re.MULTILINE)
    return sum(map(float, found))
