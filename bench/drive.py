"""Creates Environments and sees when their baselines are complete: the clock of the environment benchmarks.

Everything goes over the raw connections of limits/kubernetes.py, so that the measuring costs both sides the same.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from bench import payload
from bench.limits.kubernetes import Connection, Server
from bench.stats import percentile
from bench.world import MAIN, SIDE, TEAM, environment, environments

PATIENCE = 300.0
_COMPLETE = b'"type":"BaselineReady"'


class Completed:
    """When each Environment of one project was first seen with a complete baseline (CLOCK_MONOTONIC)."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}
        self._news = asyncio.Event()

    def heard(self, line: bytes) -> None:
        if _COMPLETE not in line or b'"phase":"Provisioned"' not in line:
            return
        name = json.loads(line)["object"]["metadata"]["name"]
        if name not in self.at:
            self.at[name] = time.monotonic()
            self._news.set()

    async def until(self, holds: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Raises TimeoutError."""
        async with asyncio.timeout(patience):
            while not holds():
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def watching(server: Server, project: str, team: str = TEAM) -> AsyncIterator[Completed]:
    completed = Completed()
    connection = await Connection.open(server, completed.heard)
    watch = asyncio.create_task(
        connection.request("GET", f"{environments(project, team)}?watch=true&timeoutSeconds=1800")
    )
    await asyncio.sleep(0.3)
    try:
        yield completed
    finally:
        connection.close()
        await asyncio.gather(watch, return_exceptions=True)


async def one_at_a_time(kubeconfig: Path, names: Iterable[str], project: str = MAIN, team: str = TEAM) -> list[float]:
    """Seconds from each POST until its baseline is complete."""
    server = Server(kubeconfig)
    connection = await Connection.open(server)
    seconds = []
    async with watching(server, project, team) as completed:
        for name in names:
            began = time.monotonic()
            await _create(connection, project, name, team)
            await completed.until(lambda name=name: name in completed.at)  # type: ignore[misc]
            seconds.append(completed.at[name] - began)
            await asyncio.sleep(0.05)  # its last status and snapshot are not the next one's
    connection.close()
    return seconds


async def all_at_once(kubeconfig: Path, names: list[str], webhooks: str, every: float) -> tuple[float, list[float]]:
    """Seconds from the first POST until all are complete; and the seconds each pull request of another project took
    meanwhile, from its webhook until its baseline was complete.
    """
    server = Server(kubeconfig)
    waiting, wanted = list(names), set(names)

    async def create() -> None:
        connection = await Connection.open(server)
        while waiting:
            await _create(connection, MAIN, waiting.pop(0))
        connection.close()

    async with watching(server, MAIN) as completed, watching(server, SIDE) as beside:
        began = time.monotonic()
        interactive = asyncio.create_task(_pull_requests(webhooks, beside, every))
        await asyncio.gather(*(create() for _ in range(16)))
        await completed.until(lambda: completed.at.keys() >= wanted)  # others may be there from before
        seconds = max(completed.at[name] for name in wanted) - began
        interactive.cancel()
        latencies = (await asyncio.gather(interactive, return_exceptions=True))[0]
        if isinstance(latencies, BaseException):
            raise latencies
    return seconds, latencies


async def _pull_requests(webhooks: str, beside: Completed, every: float) -> list[float]:
    """One after the other until cancelled."""
    latencies: list[float] = []
    try:
        async with httpx.AsyncClient(trust_env=False) as client:
            for number in range(1, 1_000_000):
                await asyncio.sleep(every)
                body = payload.opened(f"{TEAM}/{SIDE}", number)
                headers = payload.headers(body) | {"x-github-delivery": f"bench-{number:05}"}
                began = time.monotonic()
                answer = await client.post(webhooks, content=body, headers=headers)
                answer.raise_for_status()
                await beside.until(lambda number=number: f"pr-{number}" in beside.at, 60)  # type: ignore[misc]
                latencies.append(beside.at[f"pr-{number}"] - began)
    except asyncio.CancelledError:
        pass
    return latencies


async def _create(connection: Connection, project: str, name: str, team: str = TEAM) -> None:
    status, text = await connection.request("POST", environments(project, team), environment(project, name, team))
    if status != 201:
        raise RuntimeError(f"creating {name}: {status} {text[:500]!r}")


def p50(seconds: list[float]) -> float:
    return percentile(seconds, 50)
