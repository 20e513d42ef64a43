"""The pytest plugin: real servers for tests. Activated once, in the root conftest.py.

| Fixture | Scope | Gives |
|---|---|---|
| `binaries` | session | name → path of etcd, kube-apiserver, kube-controller-manager, kubectl |
| `control_plane` | session | `ControlPlane`, running, with nothing of ours in it |
| `own_control_plane` | function | another one, for tests that break it |
| `nats` | function | `Nats`, running, fresh store, users known, no streams |
| `installation` | session | `Installation` on `control_plane` with its own NATS: deploy/k8s and the topology applied |

They are synchronous: servers are processes, and each test keeps its own event loop. What the servers log lies in
pytest's temporary folder; a test that fails shows the end of each part's log that grew during it, of those that it
stopped, too.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from catalyst.events.topology import SERVICES
from catalyst.local import components
from catalyst.local.control_plane import ControlPlane
from catalyst.local.installation import Installation, install
from catalyst.local.nats import Nats
from catalyst.local.process import TAIL_LINES, running, stopped


@pytest.fixture(scope="session")
def binaries(pytestconfig: pytest.Config) -> dict[str, Path]:
    try:
        return components.binaries()
    except components.ComponentError as error:
        pytest.exit(str(error), returncode=3)


@pytest.fixture(scope="session")
def control_plane(binaries: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("control-plane"), binaries) as running:
        yield running


@pytest.fixture
def own_control_plane(binaries: dict[str, Path], tmp_path: Path) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path / "control-plane", binaries) as running:
        yield running


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[Nats]:
    with Nats(tmp_path / "nats") as running:
        yield running


@pytest.fixture(scope="session")
def installation(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Nats(tmp_path_factory.mktemp("nats"), services=SERVICES) as nats:
        nats.apply_topology()
        install(control_plane)
        yield Installation(control_plane, nats)


_LOG_SIZES: pytest.StashKey[dict[Path, int]] = pytest.StashKey()


def pytest_runtest_setup(item: pytest.Item) -> None:
    stopped()
    item.stash[_LOG_SIZES] = {part.log: part.log.stat().st_size for part in running() if part.log.exists()}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        before = item.stash.get(_LOG_SIZES, {})
        for part in [*running(), *stopped()]:
            said = _since(part.log, before.get(part.log, 0))
            if said:
                report.sections.append((f"{part.name} said during this test ({part.log})", said))
    return report


def _since(log: Path, size: int) -> str:
    """The last lines of what was logged after `size` bytes."""
    with log.open("rb") as file:
        file.seek(size)
        return "\n".join(file.read().decode(errors="replace").splitlines()[-TAIL_LINES:])
