"""Turns at the API server: so many requests at once, the urgent ones first.

Hundreds of requests may wait while a thousand environments are made; one that a person waits for must not stand behind
them. Whose work it is goes along in a context variable, so that nothing between the queue and the wire has to pass it
on.
"""

from __future__ import annotations

import asyncio
import heapq
from contextvars import ContextVar
from types import TracebackType

urgency: ContextVar[int] = ContextVar("catalyst.kube.urgency", default=0)
"""The priority of the work under way, as the queue's: the lower number goes first. The queue sets it."""


class Turns:
    """An async context manager that lets `count` in at once; the lowest `urgency` first, then who has waited longest.

    For one event loop, on virtual time too.
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"count {count}: expected at least 1")
        self._free = count
        self._sequence = 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    async def __aenter__(self) -> None:
        if self._free > 0:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sequence += 1
        heapq.heappush(self._waiting, (urgency.get(), self._sequence, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()  # it was our turn already: somebody else's now
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
