"""Any stream, as it is and as it comes: what was said last, one message whole, and history in order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Final

from catalyst.cli.core.history import Moment, causal, moment
from catalyst.cli.core.selection import Selection
from catalyst.cli.operations import NotThere
from catalyst.cli.operations.environments import LOOKS, SETTLES
from catalyst.events.bus import Bus
from catalyst.events.stored import Stored
from catalyst.events.topology import DEAD, streams

FIRST_LOOK: Final = 8
"""Messages looked at for each one wanted, before looking further back."""


async def tail(bus: Bus, selection: Selection, count: int) -> list[Moment]:
    """The last `count` events of a selection, in causal order."""
    found = await asyncio.gather(
        *(_last(bus, stream, filter_, selection, count) for stream, filter_ in selection.filters())
    )
    newest = sorted((one for each in found for one in each), key=lambda one: one.stored.nanoseconds)[-count:]
    return causal(newest) if count else []


async def follow(bus: Bus, selection: Selection, count: int) -> AsyncIterator[list[Moment]]:
    """The last ones, then the next as they come, until cancelled."""
    places = dict(selection.filters())
    async with AsyncExitStack() as stack:
        heard = [_live(stream, filter_) for stream, filter_ in places.items()]
        news = await stack.enter_async_context(bus.news(heard))
        next_ = {stream: await _end(bus, stream) + 1 for stream in places}
        yield [one for one in await tail(bus, selection, count) if one.stored.sequence < next_[one.stored.stream]]
        while True:
            news.clear()
            found: list[Moment] = []
            for stream, filter_ in places.items():
                async for stored in bus.messages(stream, filter_, start=next_[stream]):
                    next_[stream] = stored.sequence + 1
                    found.append(moment(stored))
            if wanted := [one for one in causal(found) if selection.has(one)]:
                yield wanted
            try:
                async with asyncio.timeout(LOOKS):
                    await news.wait()
                await asyncio.sleep(SETTLES)
            except TimeoutError:
                continue


async def show(bus: Bus, stream: str, sequence: int) -> Moment:
    """One message. Raises `NotThere`, which says which numbers there are."""
    known = [config.name or "" for config in streams()]
    if stream not in known:
        raise NotThere(f"no stream {stream}: there are {', '.join(known)}")
    stored = await bus.message(stream, sequence) if sequence > 0 else None
    if stored is None:
        info = await bus.stream_info(stream)
        state = info["state"] if info else {"first_seq": 0, "last_seq": 0}
        raise NotThere(
            f"{stream}/{sequence} is not there: {stream} holds {state['first_seq']} to {state['last_seq']}, those "
            "still kept"
        )
    return moment(stored)


async def replay(bus: Bus, selection: Selection) -> AsyncIterator[Moment]:
    """History from the selection's beginning to its end, the streams merged by the bus's time."""
    readers = [bus.messages(stream, filter_, since=selection.since) for stream, filter_ in selection.filters()]
    heads: dict[int, Stored] = {}
    for number, reader in enumerate(readers):
        if (first := await anext(reader, None)) is not None:
            heads[number] = first
    while heads:
        number = min(heads, key=lambda each: (heads[each].nanoseconds, each))
        one = moment(heads[number])
        if selection.until is not None and one.at > selection.until:
            return
        if selection.has(one):
            yield one
        following = await anext(readers[number], None)
        if following is None:
            del heads[number]
        else:
            heads[number] = following


async def _last(bus: Bus, stream: str, filter_: str, selection: Selection, count: int) -> list[Moment]:
    """The newest ones of one stream: from a little before its end, then from ever further back."""
    if selection.since is not None:
        found = [moment(stored) async for stored in bus.messages(stream, filter_, since=selection.since)]
        return [one for one in found if selection.has(one)][-count:]
    end, look = await _end(bus, stream), FIRST_LOOK * count
    while True:
        start = max(1, end - look + 1)
        found = [moment(stored) async for stored in bus.messages(stream, filter_, start=start)]
        wanted = [one for one in found if selection.has(one)]
        if len(wanted) >= count or start == 1:
            return wanted[-count:]
        look *= FIRST_LOOK


async def _end(bus: Bus, stream: str) -> int:
    info = await bus.stream_info(stream)
    return int(info["state"]["last_seq"]) if info else 0


def _live(stream: str, filter_: str) -> str:
    """Where the news of a stream are heard. The server's advisories are not everybody's: a look finds them."""
    return "dead.>" if stream == DEAD else filter_
