"""Real Caddys for a test."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from edges import close_all
from scene import Scene, playing

from catalyst.local.edge import LocalEdge
from catalyst.local.nats import Nats
from catalyst.local.process import free_ports


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


@pytest.fixture
async def scene(nats: Nats, edge_of: Callable[..., LocalEdge]) -> AsyncIterator[Scene]:
    """With two edges; nothing of ours runs yet."""
    nats.apply_topology()
    (port,) = free_ports(1)
    edge = edge_of(addresses=("127.0.0.2", "127.0.0.3"), pages=f"127.0.0.1:{port}")
    async with playing(nats, edge, port) as made:
        yield made
