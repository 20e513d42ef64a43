"""What was decided during a story, kept as a file: tests/data/decisions is made of these (`make corpus`)."""

import os
import zlib
from pathlib import Path

from catalyst.env_controller.core.recorded import records
from catalyst.env_controller.replay import file
from catalyst.events.bus import Bus
from catalyst.events.topology import DECISIONS

FOLDER = "CATALYST_CORPUS"
"""The variable that names the folder to keep them in; without it nothing is kept."""


async def keep_decisions(bus: Bus, team: str, node: str) -> None:
    """All that was decided about this team, as `<module>.<test>.jsonl.gz`. `bus`: the operator's. `node`: pytest's name
    of the test.
    """
    folder = os.environ.get(FOLDER)
    if folder is None:
        return
    kept = [zlib.decompress(stored.data) async for stored in bus.replay(DECISIONS, f"decision.{team}.>")]
    module, _, test = node.rpartition("/")[2].partition("::")
    name = "".join(letter if letter.isalnum() or letter == "_" else "-" for letter in test)
    path = Path(folder) / f"{module.removesuffix('.py')}.{name}.jsonl.gz"
    file.write(path, [record for text in kept for record in records(text)])
