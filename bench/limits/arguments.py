"""How a limit is told what to do, and how it answers."""

import json
import sys
from pathlib import Path
from typing import Any


def given() -> dict[str, Any]:
    """The JSON object in the process's only argument."""
    arguments: dict[str, Any] = json.loads(sys.argv[1])
    return arguments


def contents(path: str) -> bytes:
    """Of a file, before anything is measured."""
    return Path(path).read_bytes()


def answer(**result: Any) -> None:
    """One line; the last one counts."""
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
