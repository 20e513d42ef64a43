"""The bus: how soon a handler hears, how soon after a restart, and how fast history is read."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench import payload
from bench.results import ROOT, Floor, Row
from bench.run import Run
from bench.servers import command, nats, settle, tool, until
from bench.stats import Runs, percentile
from catalyst.events.examples import examples
from catalyst.events.topology import ENV_CONTROLLER_SCM, EVENTS
from catalyst.events.users import OPERATOR, inbox_prefix
from catalyst.local.nats import Nats

RATE: Final = 100
EVENTS_REPLAYED: Final = 100_000
EXPECTED_P99: Final = 3.1
"""ms from publish to consumed at 100/s with fsync (events.md)."""
EXPECTED_REPLAY: Final = 111_000.0
"""Events/s of an ordered consumer with a callback (events.md)."""


class Follower:
    """A process that publishes to itself, and the times it prints."""

    def __init__(self, module: str, arguments: dict[str, Any]) -> None:
        self.times: list[tuple[float, float]] = []
        self._process = subprocess.Popen(
            command(module, arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=sys.stderr, text=True
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            sent, handled = map(float, line.split())
            self.times.append((sent, handled))

    def handled(self, count: int) -> bool:
        """Raises RuntimeError when the process has ended."""
        if self._process.poll() is not None:
            raise RuntimeError(f"the follower ended with {self._process.returncode}")
        return len(self.times) >= count

    def end(self) -> None:
        self._process.kill()
        self._process.wait(10)


@contextmanager
def _follower(bus: Nats, folder: Path, *, ours: bool) -> Iterator[Follower]:
    event = payload.event(payload.body())
    text, headers = payload.encoded(event)
    file = folder / "event"
    file.write_bytes(text)
    arguments = {
        "url": bus.url,
        "publisher": _user(bus, "webhook-ingest"),
        "consumer": _user(bus, "env-controller"),
        "stream": ENV_CONTROLLER_SCM.stream,
        "durable": ENV_CONTROLLER_SCM.name,
        "subject": event.subject,
        "body": file,
        "headers": headers,
        "rate": RATE,
        **({"work": "follow"} if ours else {}),
    }
    follower = Follower("worker" if ours else "limits.follow", arguments)
    try:
        until(lambda: follower.handled(RATE), "the first messages are handled", within=30)
        yield follower
    finally:
        follower.end()


def _user(bus: Nats, name: str) -> dict[str, Any]:
    return {"seed": str(bus.seed(name)), "inbox": inbox_prefix(name)}


def publish_to_handler(run: Run) -> Sequence[Row]:
    """Latency at a hundred events a second, fsync always."""
    found: dict[bool, list[float]] = {True: [], False: []}
    medians: dict[bool, list[float]] = {True: [], False: []}
    for number in range(run.runs):
        for ours in (True, False):
            with run.folder() as folder, nats(folder, fsync=True) as bus:
                settle()
                with _follower(bus, folder, ours=ours) as follower:
                    before = len(follower.times)
                    time.sleep(3 if run.quick else 15)
                    times = [(handled - sent) * 1e3 for sent, handled in follower.times[before:]]
            found[ours].append(percentile(times, 99))
            medians[ours].append(percentile(times, 50))
        run.say(
            f"{number + 1}/{run.runs}: p99 ours {found[True][-1]:.2f} ms, limit {found[False][-1]:.2f} ms; "
            f"p50 {medians[True][-1]:.2f} and {medians[False][-1]:.2f} ms"
        )
    floors = [Floor("p99 of a bare standing pull, ms", EXPECTED_P99, min(found[False]), "lower")]
    return [
        Row(
            "publish-to-handler", "publish-to-handler", "ms", Runs(tuple(found[True])), 2, "ratio<=",
            Runs(tuple(found[False])), floors=floors,
            note=f"p99 at {RATE}/s, fsync always, events of 26 KB; limit: a bare standing pull",
            details={"p50_ms": medians[True], "limit_p50_ms": medians[False]},
        )
    ]  # fmt: skip


def resume(run: Run) -> Sequence[Row]:
    """An orderly restart of NATS while events flow."""
    found: dict[bool, list[float]] = {True: [], False: []}
    for number in range(run.runs):
        for ours in (True, False):
            with (
                run.folder() as folder,
                nats(folder, fsync=True) as bus,
                _follower(bus, folder, ours=ours) as follower,
            ):
                found[ours].append(_resumed(bus, follower))
        run.say(f"{number + 1}/{run.runs}: ours {found[True][-1]:.3f} s, bare {found[False][-1]:.3f} s")
    return [
        Row(
            "resume", "resume", "s", Runs(tuple(found[True])), 0.5, "ours<=", Runs(tuple(found[False])),
            note="from the restarted server being ready to the first message handled; beside it a bare standing pull "
            "re-armed on reconnect",
        )
    ]  # fmt: skip


def _resumed(bus: Nats, follower: Follower) -> float:
    """Seconds; 0 when the first message was handled before the server itself said that it is ready."""
    bus.stop()
    down = time.monotonic()
    bus.start()
    ready = time.monotonic()
    until(lambda: follower.times[-1][1] > down, "a message is handled after the restart", within=30)
    return max(0.0, next(handled for _, handled in follower.times if handled > down) - ready)


def replay(run: Run) -> Sequence[Row]:
    """A hundred thousand events from the beginning."""
    count = EVENTS_REPLAYED
    event = next(found for kind, found in examples().items() if ".build.requested." in kind)
    text, headers = payload.encoded(event)
    rates: dict[bool, list[float]] = {True: [], False: []}
    with run.folder() as folder, nats(folder, fsync=False) as bus:
        run.say(f"storing {count:,} events of {len(text)} bytes")
        reading = _stored(folder, bus, event.subject, text, headers)
        for number in range(run.runs):
            for ours in (True, False):
                done = tool("worker", work="replay", **reading) if ours else tool("limits.replay", **reading)
                rates[ours].append(count / done["seconds"])
            run.say(f"{number + 1}/{run.runs}: ours {rates[True][-1]:,.0f}/s, limit {rates[False][-1]:,.0f}/s")
    plain = max(_plain(run) for _ in range(2))
    floors = [Floor("ordered consumer, 0.5 KB without headers, events/s", EXPECTED_REPLAY, plain, "higher")]
    return [
        Row(
            "replay", "replay", "events/s", Runs(tuple(rates[True])), 0.5, "ratio>=", Runs(tuple(rates[False])),
            floors=floors, note=f"{count:,} events of {len(text)} bytes; limit: nats-py's ordered consumer, a callback",
        )
    ]  # fmt: skip


def _stored(folder: Path, bus: Nats, subject: str, text: bytes, headers: dict[str, str] | None) -> dict[str, Any]:
    """Put the events into the stream; gives what a reader has to be told. `headers` None: without any."""
    file = folder / "event"
    file.write_bytes(text)
    tool(
        "limits.publish",
        host="127.0.0.1",
        port=bus.port,
        **_user(bus, "env-controller"),
        subject=subject,
        body=file,
        headers=headers,
        windows=[512],
        count=EVENTS_REPLAYED,
    )
    user = _user(bus, OPERATOR)
    return {"url": bus.url, "user": user, "stream": EVENTS, "subject": "env.>", "count": EVENTS_REPLAYED}


def _plain(run: Run) -> float:
    """The limit as it was measured before: events of 0.5 KB without headers, which nats-py parses slowly."""
    with run.folder() as folder, nats(folder, fsync=False) as bus:
        reading = _stored(folder, bus, "env.bench.main.plain.build.requested", b"x" * 500, None)
        return EVENTS_REPLAYED / float(tool("limits.replay", **reading)["seconds"])
