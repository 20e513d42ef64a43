"""Two electors through a thousand bad days: latencies, lost requests, lost answers, frozen replicas. Never two leaders.

The lease's own record is an object in memory with a version, compared on every write, as the API server does;
everything else is the real code. What counts is asked at the moment of writing: whether the other may write, too.
"""

import asyncio
import random
from copy import deepcopy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from catalyst.kube.errors import AlreadyExists, Conflict, NotFound, Unavailable
from catalyst.kube.lease import Elector
from catalyst.local.virtual_time import VirtualLoop, virtual_loop
from catalyst.model.manifest import Manifest, Ref

REQUEST_TIMEOUT = 5.0


class Record:
    """The one Lease on the server."""

    def __init__(self) -> None:
        self.stored: Manifest | None = None
        self._version = 0

    def store(self, manifest: Manifest) -> Manifest:
        self._version += 1
        metadata = {**manifest["metadata"], "uid": "u", "resourceVersion": str(self._version)}
        self.stored = {**deepcopy(manifest), "metadata": metadata}
        return deepcopy(self.stored)


class Distant:
    """The server as one replica sees it: late, sometimes not at all. Stands in for Kube where an Elector uses it."""

    request_timeout = REQUEST_TIMEOUT

    def __init__(self, record: Record, chance: random.Random, trouble: float) -> None:
        self._record, self._chance, self._trouble = record, chance, trouble

    def apart(self) -> "Distant":
        return self

    async def get(self, _: Ref) -> Manifest:
        await self._way()
        if self._record.stored is None:
            raise NotFound(404, "NotFound", "none")
        found = deepcopy(self._record.stored)
        await self._way()
        return found

    async def create(self, manifest: Manifest) -> Manifest:
        await self._way()
        if self._record.stored is not None:
            raise AlreadyExists(409, "AlreadyExists", "there")
        stored = self._record.store(manifest)
        await self._way()
        return stored

    async def replace(self, manifest: Manifest) -> Manifest:
        await self._way()
        current = self._record.stored
        if current is None or current["metadata"]["resourceVersion"] != manifest["metadata"]["resourceVersion"]:
            raise Conflict(409, "Conflict", "stale")
        stored = self._record.store(manifest)
        await self._way()
        return stored

    async def _way(self) -> None:
        """There or back: quick, slow, or lost, which the request timeout turns into Unavailable."""
        if self._chance.random() < self._trouble:
            await asyncio.sleep(REQUEST_TIMEOUT)
            raise Unavailable(0, "TimeoutError", "lost")
        await asyncio.sleep(self._chance.random() ** 4 * REQUEST_TIMEOUT / 2)


class Skewed:
    """A clock that starts anywhere and runs up to 2 % fast or slow; frozen time is seen by nobody else."""

    def __init__(self, loop: VirtualLoop, chance: random.Random) -> None:
        self._loop, self._start, self._rate = loop, chance.uniform(-1e6, 1e6), chance.uniform(0.98, 1.02)

    def __call__(self) -> float:
        return self._start + self._loop.time() * self._rate


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), trouble=st.sampled_from([0.0, 0.05, 0.2, 0.5]))
def test_never_two_leaders_and_always_one_again(seed: int, trouble: float) -> None:
    async def story() -> None:
        loop: Any = asyncio.get_running_loop()
        chance, record = random.Random(seed), Record()
        worlds = [Distant(record, chance, trouble) for _ in range(3)]
        electors: list[Elector] = []
        leading: set[str] = set()
        writes = 0

        def electorate(kube: Any, name: str) -> Elector:
            return Elector(kube, "n", "l", name, clock=Skewed(loop, chance), now=loop.utc_now, spread=chance.random)

        async def lead(elector: Elector) -> None:
            nonlocal writes
            assert not leading, "two leading tasks"
            leading.add(elector.identity)
            try:
                while True:
                    if elector.valid():
                        begun = loop.time()
                        assert not any(other.valid() for other in electors if other is not elector)
                        await asyncio.sleep(chance.random() * REQUEST_TIMEOUT)  # a write under way
                        assert loop.time() - begun <= REQUEST_TIMEOUT
                        writes += 1
                    else:
                        await asyncio.sleep(0.5)
            finally:
                leading.discard(elector.identity)

        electors += [electorate(world, f"replica-{number}") for number, world in enumerate(worlds)]
        tasks = [asyncio.create_task(e.run(lambda e=e: lead(e))) for e in electors]  # type: ignore[misc]
        for _ in range(10):
            cut_off = chance.choice(worlds)
            cut_off._trouble = 1.0
            await asyncio.sleep(chance.uniform(1, 60))
            cut_off._trouble = trouble
            await asyncio.sleep(chance.uniform(0, 20))
            stopped = chance.randrange(len(tasks))
            tasks[stopped].cancel()
            await asyncio.wait({tasks[stopped]})
            elector = electors[stopped] = electorate(worlds[stopped], f"replica-{chance.random()}")
            tasks[stopped] = asyncio.create_task(elector.run(lambda e=elector: lead(e)))  # type: ignore[misc]
        for world in worlds:
            world._trouble = 0.0
        before = writes
        await asyncio.sleep(40)
        assert writes > before
        for task in tasks:
            assert not task.done(), task.exception()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    with virtual_loop() as runner:
        runner.run(story())
