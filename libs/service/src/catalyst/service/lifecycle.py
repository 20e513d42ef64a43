"""A process's life as a value that its parts share: is it ready, is it stopping, has a part crashed?

booting ──ready()──▶ serving ──stop()──▶ stopping ──main returns──▶ exit 0
   └──────────────── a task crashes ───────────┴──────────────────▶ exit 1
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

Check = Callable[[], str | None]
"""None when well, else the reason in words. It must answer at once: it is called on the event loop."""

log = structlog.get_logger()


class Lifecycle:
    """Handed to `main`. Everything here belongs to the event loop it was made on."""

    def __init__(self, *, on_ready: Callable[[], object] = lambda: None) -> None:
        self._on_ready = on_ready
        self.stopping = asyncio.Event()
        self.crashed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.crashed.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._checks: dict[str, Check] = {}
        self._booted = False
        self._tasks: set[asyncio.Task[Any]] = set()

    def add_check(self, name: str, check: Check) -> None:
        """`/readyz` asks this from now on."""
        if name in self._checks:
            raise ValueError(f"there already is a readiness check named {name!r}")
        self._checks[name] = check

    def ready(self) -> None:
        """Boot is over: from now on `/readyz` depends on the checks alone."""
        self._booted = True
        self._on_ready()
        log.info("ready")

    def stop(self) -> None:
        """Ask for an orderly end; harmless when repeated."""
        if not self.stopping.is_set():
            log.info("stopping")
            self.stopping.set()

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` beside `main`. If it raises, the process ends with status 1; when `main` ends it is cancelled."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def crash(self, error: BaseException) -> None:
        """End the process with status 1 because of `error`; the first one wins."""
        if not self.crashed.done():
            self.crashed.set_exception(error)

    def readiness(self) -> dict[str, str | None]:
        """Every check with its reason, None where all is well."""
        phase = "stopping" if self.stopping.is_set() else None if self._booted else "still booting"
        return {"process": phase, **{name: _ask(check) for name, check in self._checks.items()}}

    async def cancel_tasks(self) -> None:
        """Cancel what `start` began and wait for its end."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("task crashed", task=task.get_name(), exc_info=error)
            self.crash(error)


def _ask(check: Check) -> str | None:
    try:
        return check()
    except Exception as exc:  # noqa: BLE001 - a check that breaks is a reason not to be ready, and it is told
        return f"the check itself failed: {exc!r}"
