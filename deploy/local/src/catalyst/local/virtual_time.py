"""An event loop whose clock jumps: when nothing is ready to run, time is set to the next timer instead of waiting for
it.

So a day of retries takes milliseconds, in the same order every run. Only for code that waits by `asyncio.sleep`,
`loop.call_later` and timeouts: on real sockets it would fire timeouts before any answer could arrive, and so it
refuses to open them.

    with virtual_loop() as runner:
        runner.run(simulate())
"""

from __future__ import annotations

import asyncio
import selectors
from datetime import UTC, datetime, timedelta
from typing import Any, Final

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Deadlock(RuntimeError):
    """Nothing is ready and no timer is set: in real time the program would hang for ever."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` starts at 0 seconds and moves only by timers."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self._now

    def utc_now(self) -> datetime:
        """The same clock as aware UTC; hand this bound method over where a `Clock` is wanted."""
        return EPOCH + timedelta(seconds=self._now)

    def advance(self, seconds: float) -> None:
        self._now += seconds

    async def create_connection(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError(
            "a virtual-time loop opens no connection: its timeouts would fire before any answer; use the doubles"
        )

    async def create_server(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("a virtual-time loop serves no connection; use the doubles")


class _Jumping(selectors.DefaultSelector):
    """Instead of sleeping until the next timer, tells the loop that it is then. Looks at the loop's own wake-up pipe
    only.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            # Only another thread (an executor's answer) could still wake this loop: give it a little real time.
            ready = super().select(2)
            if not ready:
                raise Deadlock("nothing is ready and no timer is set: the program would wait for ever")
            return ready
        self._loop.advance(timeout)
        return ready


def virtual_loop() -> asyncio.Runner:
    """A runner over a fresh VirtualLoop; `runner.get_loop()` is the loop."""
    return asyncio.Runner(loop_factory=VirtualLoop)
