"""Runs in every service of a chaos run, before the service: whoever is outside may hold it at a named point, and may
plant a bug. /chaos/hand is a folder that the node's administrator and the pod share:

    hold       names a point (fnmatch); who reaches it makes `held` and waits until `hold` is gone
    $PLANT     a bug of plants.py, which breaks one guarantee

Without a file and a variable nothing happens but that each point looks for the file.
"""

import asyncio
import os
import sys
from fnmatch import fnmatchcase
from pathlib import Path

HAND = Path("/chaos/hand")


async def points(_name: str) -> None:
    """Instead of catalyst.model.points.no_points."""
    try:
        wanted = (HAND / "hold").read_text()
    except OSError:
        return
    if fnmatchcase(_name, wanted):
        (HAND / "held").write_text(_name)
        while (HAND / "hold").exists():  # noqa: ASYNC110 -- whoever lets go is no coroutine
            await asyncio.sleep(0.01)


def begin() -> None:
    if "catalyst." not in " ".join(sys.orig_argv):
        return  # of the interpreter's other uses none has points
    import catalyst.model.points as named

    named.no_points = points
    if plant := os.environ.get("PLANT", ""):
        import plants

        plants.plant(plant)


begin()
