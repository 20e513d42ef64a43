"""One environment found among a million events: its timeline, and its state at a moment."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg

from bench import payload
from bench.limits.arguments import answer
from bench.limits.follow import connected
from bench.results import Row
from bench.run import Run
from bench.servers import nats, tool
from bench.stats import Runs
from catalyst.cli.operations import environments
from catalyst.events.bus import Bus, BusSettings
from catalyst.events.event import Event
from catalyst.events.examples import changed, examples, pull_request, snapshot
from catalyst.events.topology import EVENTS, SCM
from catalyst.events.users import ONCALL, inbox_prefix
from catalyst.local.nats import Nats
from catalyst.model.clock import utc_now
from catalyst.model.names import Identity

TOTAL: Final = 1_000_000
"""Events in EVENTS."""
OTHERS: Final = 10_000
"""Environments that they are about."""
PUSHES: Final = 8
"""Bursts of events about the one that is looked for, spread over all of history: somebody pushes now and then."""
BURST: Final = 8
"""Events that follow from a push: snapshots, builds, routes."""
BETWEEN: Final = 25
"""Events of others between two of a burst."""
LIFE: Final = PUSHES * BURST
GOAL: Final = 200.0
"""ms, for each of the two."""
WINDOW: Final = 1024
"""Messages in flight while the stream is filled."""
SOUGHT: Final = Identity("acme", "shop", "pr-42")


def timeline(run: Run) -> Sequence[Row]:
    """The timeline, and the state at a moment, of one environment among a million events."""
    total = TOTAL // 20 if run.quick else TOTAL
    found: dict[str, list[float]] = {"timeline": [], "show-at": [], "limit": [], "limit-at": []}
    with run.folder() as folder, nats(folder, fsync=False) as bus:
        run.say(f"storing {total:,} events of {OTHERS:,} environments")
        middle = uvloop.run(_filled(bus, total))
        user = {"seed": str(bus.seed(ONCALL)), "inbox": inbox_prefix(ONCALL)}
        subject = "env.acme.shop.pr-42"
        reading: dict[str, Any] = {"url": bus.url, "user": user, "stream": EVENTS, "subjects": [f"{subject}.>"]}
        at = middle.astimezone(UTC).isoformat().replace("+00:00", "Z")
        for number in range(run.runs):
            ours = tool("history", url=bus.url, user=user, at=middle.isoformat())
            bare = tool("limits.direct_get", **reading, last=f"{subject}.environment.changed", at=at)
            if (ours["lines"], bare["messages"]) != (LIFE + 1, LIFE):
                raise RuntimeError(f"expected {LIFE} events and a fact, found {ours} and {bare}")
            found["timeline"].append(ours["timeline_ms"])
            found["show-at"].append(ours["show_ms"])
            found["limit"].append(bare["batch_ms"])
            found["limit-at"].append(bare["last_ms"])
            run.say(
                f"{number + 1}/{run.runs}: timeline {ours['timeline_ms']:.1f} ms, bare {bare['batch_ms']:.1f} ms; "
                f"show --at {ours['show_ms']:.1f} ms, bare {bare['last_ms']:.1f} ms"
            )
    of = f"{LIFE} events of one environment, in {PUSHES} bursts, among {total:,} of {OTHERS:,}"
    return [
        Row(
            "timeline", "timeline", "ms", Runs(tuple(found["timeline"])), GOAL, "ours<=", Runs(tuple(found["limit"])),
            note=f"{of}, decoded and in causal order, over a connection that stands; limit: a bare batched direct get",
        ),
        Row(
            "show-at", "timeline", "ms", Runs(tuple(found["show-at"])), GOAL, "ours<=", Runs(tuple(found["limit-at"])),
            note=f"the state in the middle of {of}; limit: one bare direct get of the last message at that time",
        ),
    ]  # fmt: skip


async def _filled(bus: Nats, total: int) -> datetime:
    """Stores everything, the one that is sought spread among the others; the time in the middle."""
    user = {"seed": str(bus.seed("env-controller")), "inbox": inbox_prefix("env-controller")}
    ingest = {"seed": str(bus.seed("webhook-ingest")), "inbox": inbox_prefix("webhook-ingest")}
    client, facts = await connected(bus.url, user), await connected(bus.url, ingest)
    text, headers = payload.encoded(examples()["dev.catalyst.build.requested.v1"])
    fact = pull_request()
    body, names = payload.encoded(fact)
    await facts.jetstream().publish(fact.subject, body, headers=names)
    own = [_own(number, fact) for number in range(LIFE)]
    middle = utc_now()
    window = _Window(client)
    await window.listen()
    places = {_place(number, total): event for number, event in enumerate(own)}
    for number in range(total):
        if (event := places.get(number)) is not None:
            body, names = payload.encoded(event)
            await window.publish(event.subject, body, names)
        kind = ("environment.changed", "build.requested")[number & 1]
        await window.publish(f"env.bench.main.e-{number % OTHERS}.{kind}", text, headers)
        if number == total // 2:
            middle = utc_now()
    await window.empty()
    await client.close()
    await facts.close()
    return middle + timedelta(milliseconds=1)


def _place(number: int, total: int) -> int:
    """After how many others the sought one's event comes."""
    push, step = divmod(number, BURST)
    return push * (total // PUSHES) + total // (2 * PUSHES) + step * BETWEEN


def _own(number: int, fact: Event) -> Event:
    event = changed(number + 1)
    state = snapshot(number + 1).model_dump(by_alias=True)
    state["source"] |= {"pullRequest": {"number": 42}}
    data = event.data.model_validate({"snapshot": state})
    return Event(id=f"u-1/{number + 1}", source="env-controller", time=utc_now(), data=data,
                 causation_id=fact.message_id)  # fmt: skip


class _Window:
    """Publishes with so many acknowledgements outstanding."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = client.new_inbox()
        self._sent = self._heard = 0
        self._news = asyncio.Event()

    async def listen(self) -> None:
        await self._client.subscribe(self._inbox, cb=self._arrived)

    async def publish(self, subject: str, body: bytes, headers: dict[str, str]) -> None:
        await self._below(WINDOW)
        self._sent += 1
        await self._client.publish(subject, body, reply=self._inbox, headers=headers)

    async def empty(self) -> None:
        await self._below(1)

    async def _below(self, count: int) -> None:
        while self._sent - self._heard >= count:
            self._news.clear()
            async with asyncio.timeout(60):
                await self._news.wait()

    async def _arrived(self, message: Msg) -> None:
        if b'"error"' in message.data:
            raise RuntimeError(message.data.decode())
        self._heard += 1
        self._news.set()


async def _measured(arguments: dict[str, Any]) -> None:
    """In a process of its own: what `catalyst env timeline` and `catalyst env show --at` ask."""
    settings = BusSettings(arguments["url"], Path(arguments["user"]["seed"]), arguments["user"]["inbox"])
    bus = await Bus.connect(settings, name="catalyst", clock=utc_now, spans=False)
    await bus.stream_info(SCM)
    began = time.perf_counter()
    lines = await environments.timeline(bus, SOUGHT)
    middle = time.perf_counter()
    await environments.show(bus, SOUGHT, datetime.fromisoformat(arguments["at"]))
    ended = time.perf_counter()
    answer(timeline_ms=(middle - began) * 1e3, show_ms=(ended - middle) * 1e3, lines=len(lines))
    await bus.drain()


if __name__ == "__main__":
    from bench.limits.arguments import given

    asyncio.run(_measured(given()))
