"""kill -9 after every effect, before and after every acknowledgement, around the lease's renewal.

The points are those of an undisturbed life, and `points.txt` lists them, so a new effect is noticed and gets its test.
A case in which the process was not killed has tested nothing, and fails.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from catalyst.local.installation import Installation
from faulted import Rule
from guarantees import Picture, Scene, leader, life, nothing_acknowledged_is_lost, quick, restarting, scene
from processes import process

LIST = Path(__file__).with_name("points.txt")
CASES = [tuple(line.split()) for line in LIST.read_text().splitlines() if line and not line.startswith("#")]
_undisturbed: dict[str, Picture] = {}


async def undisturbed(installation: Installation, folder: Path) -> tuple[Picture, set[tuple[str, str, str]]]:
    """The picture of a life without faults, and the points it passed."""
    async with scene(installation, process("webhook-ingest", installation, folder), quick(installation, folder)) as on:
        seen = await life(on)
        await stopped(on)
        points = {(s.part.command[-1], *point.split()) for s in on.services for point in on.effects_of(s)}
    return seen, points


async def stopped(on: Scene) -> None:
    raise NotImplementedError
