"""What all tests share: the real servers, and the sampling of long matrices.

A test marked `full` belongs to a long matrix. `make test` runs six of each module's, drawn from the commit's hash:
another six at the next commit, the same six when a failure is looked into. `--full` (`make test-full`) runs all.
`full(sample=2)`: two of them, where each takes long.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["catalyst.local.testing", "runbooks"]
settings.register_profile("catalyst", settings.default, deadline=None)  # a busy machine is not a counterexample
settings.load_profile("catalyst")

SAMPLE = 6


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run every test marked `full` instead of a sample")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full") or any("::" in argument for argument in config.args):
        return
    matrices: dict[Path, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("full"):
            matrices[item.path].append(item)
    seed = _commit()
    drawn = {
        item
        for matrix in matrices.values()
        for item in sorted(matrix, key=lambda item: hashlib.sha256(f"{seed} {item.nodeid}".encode()).digest())[
            : _sample(matrix)
        ]
    }
    left_out = [item for matrix in matrices.values() for item in matrix if item not in drawn]
    config.hook.pytest_deselected(items=left_out)
    gone = set(left_out)
    items[:] = [item for item in items if item not in gone]


def _sample(matrix: list[pytest.Item]) -> int:
    """How many of a module's are run."""
    marks = (item.get_closest_marker("full") for item in matrix)
    return min(int(mark.kwargs.get("sample", SAMPLE)) for mark in marks if mark)


def _commit() -> str:
    """The commit's hash; outside a checkout (a tarball) a constant, so that the sample is the same every time."""
    here = Path(__file__).parent
    command = ["git", "rev-parse", "HEAD"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)  # noqa: S603 -- fixed words
    return done.stdout.strip() or "no commit"
