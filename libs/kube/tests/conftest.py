"""A real API server for this room's tests: its own, because they restart and freeze it."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from catalyst.kube.client import Kube
from catalyst.kube.settings import KubeSettings
from catalyst.local.control_plane import ControlPlane

Until = Callable[[Callable[[], bool], float], Awaitable[None]]


@pytest.fixture(scope="session")
def plane(binaries: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("plane"), binaries) as plane:
        yield plane


@pytest.fixture(scope="session")
def kubectl(binaries: dict[str, Path]) -> Path:
    return binaries["kubectl"]


@pytest.fixture
def settings(plane: ControlPlane) -> KubeSettings:
    return KubeSettings(plane.admin_kubeconfig)


@pytest.fixture
async def kube(settings: KubeSettings) -> AsyncIterator[Kube]:
    async with await Kube.connect(settings, field_manager="catalyst-test") as kube:
        yield kube


@pytest.fixture
async def namespace(kube: Kube) -> str:
    """A fresh one; it goes with the server."""
    name = f"t-{uuid.uuid4().hex[:12]}"
    await kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


@pytest.fixture
def until() -> Until:
    async def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
        async with asyncio.timeout(seconds):
            while not holds():
                await asyncio.sleep(0.01)

    return until


@contextlib.asynccontextmanager
async def running(*coroutines: Awaitable[object]) -> AsyncIterator[list[asyncio.Task[object]]]:
    """Tasks that run while the block does; an error of theirs fails the test."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        errors = [r for r in results if isinstance(r, Exception)]
        if errors:
            raise errors[0]


@pytest.fixture(name="running")
def _running() -> object:
    return running
