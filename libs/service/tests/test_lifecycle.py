"""A process's life, without a process: readiness, stopping, draining, crashing."""

import asyncio

import pytest

from catalyst.service import Lifecycle
from catalyst.service.run import supervise


async def test_ready_when_booted_and_every_check_is_well() -> None:
    life, reasons = Lifecycle(), {"bus": "no connection"}
    life.add_check("bus", lambda: reasons.get("bus"))
    assert life.readiness() == {"process": "still booting", "bus": "no connection"}
    life.ready()
    assert life.readiness() == {"process": None, "bus": "no connection"}
    reasons.clear()
    assert life.readiness() == {"process": None, "bus": None}
    life.stop()
    assert life.readiness() == {"process": "stopping", "bus": None}


async def test_a_check_that_breaks_is_a_reason() -> None:
    life = Lifecycle()
    life.add_check("bus", lambda: str(1 // 0))
    assert "ZeroDivisionError" in (life.readiness()["bus"] or "")
    with pytest.raises(ValueError, match="already is a readiness check named 'bus'"):
        life.add_check("bus", lambda: None)


async def test_main_drains_after_the_stop_and_tasks_are_cancelled() -> None:
    life, told = Lifecycle(), list[str]()

    async def beside() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            told.append("cancelled")

    async def main() -> None:
        life.start("beside", beside())
        await life.stopping.wait()
        await asyncio.sleep(0.05)
        told.append("drained")

    asyncio.get_running_loop().call_later(0.05, life.stop)
    await supervise(life, main(), drain_seconds=5)
    assert told == ["drained", "cancelled"]


async def test_draining_has_a_deadline() -> None:
    life = Lifecycle()
    life.stop()
    with pytest.raises(TimeoutError, match=r"main did not finish within 0\.05 s after the stop signal"):
        await supervise(life, asyncio.sleep(3600), drain_seconds=0.05)


async def test_a_crash_of_main_or_of_a_task_ends_the_process() -> None:
    async def broken() -> None:
        raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        await supervise(Lifecycle(), broken(), drain_seconds=1)

    life = Lifecycle()

    async def main() -> None:
        life.start("beside", broken())
        await asyncio.sleep(3600)

    with pytest.raises(LookupError, match="broken"):
        await supervise(life, main(), drain_seconds=1)
