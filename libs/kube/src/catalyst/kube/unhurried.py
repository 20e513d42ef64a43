"""Work on many things that lets others have their turn: however many there are, the loop is never held up for long."""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Final, TypeVar

T = TypeVar("T")

BREATH: Final = 0.005
"""Seconds of work before other tasks get a turn."""


async def unhurried(items: Iterable[T] | AsyncIterable[T], breath: float = BREATH) -> AsyncIterator[T]:
    """The same items. What the caller does with each counts as work."""
    began = time.monotonic()
    async for item in _each(items):
        yield item
        if time.monotonic() - began > breath:
            await asyncio.sleep(0)
            began = time.monotonic()


async def _each(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
