"""Real Caddys for a test."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from edges import close_all

from catalyst.local.edge import LocalEdge


@pytest.fixture
def edge_of(tmp_path: Path) -> Iterator[Callable[..., LocalEdge]]:
    """`edge_of(addresses=…)`: running edges, stopped at the end."""
    running: list[LocalEdge] = []

    def made(**options: Any) -> LocalEdge:
        edge = LocalEdge(tmp_path / f"edge{len(running)}", **{"pages": "127.0.0.1:1", **options})
        running.append(edge)
        return edge.__enter__()

    yield made
    for edge in running:
        edge.stop()


@pytest.fixture(autouse=True)
async def _closed() -> AsyncIterator[None]:
    yield
    await close_all()
