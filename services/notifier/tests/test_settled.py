"""Up to when all is told and reported, and what the next one that leads makes of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from snapshots import NOW, snapshot

from catalyst.events.binding import encode
from catalyst.events.errors import Unpublished
from catalyst.events.event import environment_changed
from catalyst.events.stored import Stored
from catalyst.forge.errors import ForgeUnavailable
from catalyst.model.snapshot import Snapshot
from catalyst.notifier.core.comment import Style
from catalyst.notifier.effects import Desk
from catalyst.notifier.reconcile import MARGIN, Notifier
from catalyst.notifier.settled import SUBJECT, settle, settled


class Kept:
    """STATE and LOCKS. `away`: nothing is stored."""

    def __init__(self, *snapshots: tuple[Snapshot, datetime]) -> None:
        self.snapshots, self.record, self.away = snapshots, b"", False

    async def states(self) -> AsyncIterator[Stored]:
        for each, at in self.snapshots:
            event = environment_changed(each, time=at)
            body, headers = encode(event)
            yield Stored("STATE", event.subject, 1, body, headers, int(at.timestamp()) * 10**9)

    async def last(self, stream: str, subject: str) -> Stored | None:
        return Stored(stream, subject, 1, self.record, {}, 0) if self.record else None

    async def keep(self, subject: str, body: bytes, headers: dict[str, str]) -> None:
        if self.away:
            raise Unpublished("no connection")
        self.record = body


class AwayFor:
    """A desk that is away for the pull requests with these numbers, and has nothing to do for the others."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers

    async def comments(self, key: Any) -> list[Any]:
        if key.number in self.numbers:
            raise ForgeUnavailable("GET /comments", "it is away")
        return []

    async def login(self) -> str:
        return "catalyst"

    def __getattr__(self, name: str) -> Any:
        async def nothing(*_: Any, **__: Any) -> Any:
            class Made:
                id = 1

            return Made() if name.startswith("create") else ([] if name.startswith("living") else None)

        return nothing


async def led(notifier: Notifier, seconds: float = 1.0) -> None:
    """Leads for so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await notifier.lead(workers=2, resync_seconds=3600)


def notifier_of(kept: Kept, *away: int) -> Notifier:
    desks = {"github": cast("Desk", AwayFor(*away))}
    return Notifier(desks, kept, style=Style(), now=lambda: NOW)


async def test_all_that_was_told_is_settled_but_for_a_margin() -> None:
    later = NOW + timedelta(minutes=10)
    notifier = notifier_of(Kept((snapshot(number=1), NOW), (snapshot(number=2), later)))
    assert notifier._settled_until() is None
    await led(notifier)
    assert notifier._settled_until() == later - MARGIN


async def test_what_could_not_be_told_holds_it_back() -> None:
    later = NOW + timedelta(minutes=10)
    notifier = notifier_of(Kept((snapshot(number=1), NOW), (snapshot(number=2), later)), 1)
    await led(notifier)
    assert notifier._settled_until() == NOW - MARGIN


async def test_news_that_came_while_it_leads_and_could_not_be_told_hold_it_back() -> None:
    later = NOW + timedelta(minutes=10)
    notifier = notifier_of(Kept((snapshot(number=2), later)), 1)
    leading = asyncio.create_task(led(notifier))
    await asyncio.wait_for(notifier.begun.wait(), 1)
    notifier.news(snapshot(number=1), later + timedelta(minutes=1))
    notifier.news(snapshot(version=2, number=2), later + timedelta(minutes=2))
    await leading
    assert [key.number for key in notifier._open] == [1]
    assert notifier._settled_until() == later + timedelta(minutes=1) - MARGIN


async def test_what_a_former_lead_had_not_settled_is_open_from_the_first_moment() -> None:
    """Also when it dies at once: nothing that it did not do is called settled."""
    kept = Kept((snapshot(number=1), NOW), (snapshot(number=2), NOW + timedelta(minutes=10)))
    await settle(kept, NOW + timedelta(minutes=1))
    notifier = notifier_of(kept, 1, 2)
    await led(notifier, 0.3)
    assert [key.number for key in notifier._open] == [2]
    assert notifier._settled_until() == NOW + timedelta(minutes=10) - MARGIN


async def test_it_is_kept_and_read() -> None:
    kept = Kept()
    assert await settled(kept) is None
    assert await settle(kept, NOW)
    assert await settled(kept) == NOW
    kept.away = True
    assert not await settle(kept, NOW + timedelta(hours=1))
    assert await settled(kept) == NOW


@pytest.mark.parametrize("record", [b"[]", b"{}", b"x", b'{"until": 7}', b'{"until": "soon"}'])
async def test_what_cannot_be_read_settles_nothing(record: bytes) -> None:
    kept = Kept()
    kept.record = record
    assert await settled(kept) is None
    assert SUBJECT == "settled.notifier"
