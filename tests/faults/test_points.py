"""kill -9 after every effect, before and after every acknowledgement, around the lease's renewal.

The points are those of an undisturbed life, and `points.txt` lists them, so a new effect is noticed and gets its test.
A case in which the process was not killed has tested nothing, and fails.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from faulted import Rule
from guarantees import (
    Picture,
    Scene,
    effect,
    leader,
    life,
    nothing_acknowledged_is_lost,
    quick,
    restarting,
    scene,
)
from processes import process

from catalyst.local.installation import Installation

LIST = Path(__file__).with_name("points.txt")
SOMETIMES = {"env-controller opened kube.after:apply:ServiceAccount"}
"""Reached when Kubernetes has made the ServiceAccount `default` before us; when we were first, it was created."""


def _listed() -> list[tuple[str, str, str, int]]:
    """Service, phase, point, times."""
    words = [line.split() for line in LIST.read_text().splitlines() if not line.startswith("#")]
    return [(service, phase, point, int(times[0]) if times else 1) for service, phase, point, *times in words]


CASES = [
    pytest.param(service, Rule(point, "kill", phase, nth), id=f"{service} {phase} {point} {nth}")
    for service, phase, point, times in _listed()
    for nth in range(1, times + 1)
]


_undisturbed: list[Picture] = []


async def ending(on: Scene) -> None:
    """Both are told to stop, and do."""
    on.phase("stopped")
    for service in on.services:
        await asyncio.to_thread(service.part.stop)


async def undisturbed(installation: Installation, folder: Path) -> set[str]:
    """A life without faults: keeps its picture, and gives the points it passed."""
    ingest, controller = process("webhook-ingest", installation, folder), quick(installation, folder)
    async with scene(installation, ingest, controller) as on:
        _undisturbed[:] = [await life(on)]
        await nothing_acknowledged_is_lost(on)
        await ending(on)
    services = {"webhook-ingest": ingest, "env-controller": controller}
    return {f"{name} {point}" for name, one in services.items() for point in map(effect, one.reached()) if point}


async def test_the_points_of_a_life_are_known(installation: Installation, tmp_path: Path) -> None:
    found = await undisturbed(installation, tmp_path)
    known = [f"{service} {phase} {point}" for service, phase, point, _ in _listed()]
    assert sorted(found - SOMETIMES) == sorted(known), "another life than points.txt knows: update it"


@pytest.mark.full
@pytest.mark.parametrize(("service", "rule"), CASES)
async def test_killed_at(service: str, rule: Rule, installation: Installation, tmp_path: Path) -> None:
    if not _undisturbed:
        (tmp_path / "undisturbed").mkdir()
        await undisturbed(installation, tmp_path / "undisturbed")
    ingest = process("webhook-ingest", installation, tmp_path, *([rule] if service == "webhook-ingest" else []))
    controller = quick(installation, tmp_path, *([rule] if service == "env-controller" else []))
    async with scene(installation, ingest, controller) as on:
        async with restarting(on):
            seen = await life(on)
            await nothing_acknowledged_is_lost(on)
        await ending(on)
        if rule.phase == "stopped":
            controller.again()
            await on.until(lambda: leader(installation) == "env-controller", "the next one leads", within=20)
    hit = ingest.faults() + controller.faults()
    assert hit == [f"kill {rule.point}"], "the process was not killed: the case has tested nothing"
    assert seen == _undisturbed[0]
