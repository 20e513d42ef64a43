"""Services on the node as processes of this machine, to be killed with -9 at a moment of a pull request's life.

A kill counts only when it hit: the process that was there is gone by signal 9, and the kubelet started its container
again. A container that was killed before is started again ever later, so who is to be killed gets a new pod first.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
from product import Product, until

LOOK: Final = 0.01
"""Seconds between two looks for the moment."""
BACK: Final = 60.0
"""Seconds until a killed service is ready again."""


@dataclass(frozen=True)
class Victim:
    """The one pod of a service, and the process that is its container's first. Take a new one for each kill."""

    product: Product
    service: str
    pod: str
    process: psutil.Process

    def dies_when(
        self, look: Callable[[], bool], what: str, within: float, missed: Callable[[], bool] = lambda: False
    ) -> bool:
        """Killed as soon as `look` says so; False, and alive, when `missed` says first that it will not any more.

        Raises AssertionError when neither says so, or the process lived on.
        """
        seen = False

        def over() -> bool:
            nonlocal seen
            seen = look()
            return seen or missed()

        until(over, what, within, every=LOOK)
        if not seen:
            return False
        self.process.send_signal(signal.SIGKILL)  # psutil refuses when the pid is somebody else's by now
        until(lambda: not self.process.is_running(), f"{self.service} is dead", 5, every=LOOK)
        return True

    def has_come_back(self) -> None:
        """It did die of that, once, and its container runs again in the same pod, ready."""

        def there() -> dict[str, Any] | None:
            status = _container(self.product, self.service, self.pod)
            return status if status["restartCount"] and status["ready"] else None

        status = until(there, f"{self.service} is back", BACK, lambda: self.product.sight.log_end(self.service))
        assert status is not None
        ended = status.get("lastState", {}).get("terminated", {})
        assert (status["restartCount"], ended.get("exitCode")) == (1, 128 + signal.SIGKILL), status


def victim(product: Product, service: str) -> Victim:
    """Of a service that was not killed yet in its present pod; one that was gets a new pod."""
    product.available(service)
    if _container(product, service, product.pod_of(service))["restartCount"]:
        product.system.run("delete", "pod", product.pod_of(service))
        product.available(service)
    pod = product.pod_of(service)
    container = _container(product, service, pod)["containerID"].removeprefix("containerd://")
    return Victim(product, service, pod, first_process(container))


def _container(product: Product, service: str, pod: str) -> dict[str, Any]:
    statuses = product.system.get("pod", pod)["status"]["containerStatuses"]
    found: dict[str, Any] = next(status for status in statuses if status["name"] == service)
    return found


def first_process(container: str) -> psutil.Process:
    """Of a container, by its id. The node's pods are processes of this machine: the cgroup names the container, NSpid
    who is its first.
    """
    ends = time.monotonic() + 5
    while not (found := [pid for pid in _pids_in(container) if _is_first(pid)]):
        assert time.monotonic() < ends, f"no process of container {container}"
        time.sleep(0.1)
    (pid,) = found
    return psutil.Process(pid)


def _pids_in(container: str) -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if container in (folder / "cgroup").read_text():
                yield int(folder.name)
        except (FileNotFoundError, ProcessLookupError):  # it ended while we looked
            continue


def _is_first(pid: int) -> bool:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return any(line.split()[-1] == "1" for line in lines if line.startswith("NSpid:"))
