"""The bus is sick: nearly full, full, its disk full, a consumer or the whole volume gone. Seen, said, survived.

What a person types to mend it is taken from docs/runbooks, command by command.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import httpx
import nats as nats_client
import pytest
from guarantees import Scene, converges, is_ready, scene
from monitoring import named
from processes import Faulted, process
from runbooks import Terminal, follow, runbook

from catalyst.dns_proxy.mirror import Mirror
from catalyst.events.bus import Bus, BusSettings, Received
from catalyst.events.errors import BusError, Reject, Unpublished
from catalyst.events.event import Event
from catalyst.events.examples import pull_request
from catalyst.events.topology import ENV_CONTROLLER_SCM
from catalyst.events.users import inbox_prefix
from catalyst.events.watching import Watch
from catalyst.local.installation import Installation
from catalyst.local.nats import Nats
from catalyst.model.clock import utc_now

SEEN = 20.0
"""Seconds until the bus was looked at, and said so."""


async def followed(page: str, nats: Nats, folder: Path, *shows: str) -> str:
    """Its runbook, command by command, where the folder of keys is; what they said."""
    monitor = f"http://127.0.0.1:{nats.ports[1]}"
    terminal = Terminal.of(folder, nats.folder / "nkeys", CATALYST_NATS_URL=nats.url, MONITOR=monitor)
    return await asyncio.to_thread(partial(follow, page, terminal, *shows))


async def metrics(service: Faulted) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(f"{service.ops}/metrics")).text


async def figure(service: Faulted, series: str) -> float:
    """The value of one line of its /metrics."""
    (line,) = [line for line in (await metrics(service)).splitlines() if line.startswith(f"{series} ")]
    return float(line.rpartition(" ")[2])


async def readiness(service: Faulted) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(f"{service.ops}/readyz")).text


@asynccontextmanager
async def living(installation: Installation, folder: Path, plant: str = "") -> AsyncIterator[Scene]:
    """A Project, and pr-1 in its namespace. Whatever a test does to the bus, the next one finds a whole one."""
    ingest = process("webhook-ingest", installation, folder)
    try:
        async with scene(installation, ingest, process("env-controller", installation, folder, plant=plant)) as on:
            on.stage.grant()
            on.stage.project()
            await on.until(lambda: on.stage.project_condition("Ready").get("status") == "True", "the Project is ready")
            await on.sender.deliver(on.stage.pull_request(1))
            await converges(on, {"pr-1": "a" * 40})
            await on.quiet()
            yield on
    finally:
        await asyncio.to_thread(installation.nats.apply_topology)


@asynccontextmanager
async def bus_of(nats: Nats, user: str, patience: float = 3.0) -> AsyncIterator[Bus]:
    settings = BusSettings(nats.url, nats.seed(user), inbox_prefix(user), publish_patience=patience, drain_patience=1)
    bus = await Bus.connect(settings, name=user, clock=utc_now)
    try:
        yield bus
    finally:
        await bus.drain()


async def a_consumer_is_deleted(installation: Installation, tmp_path: Path, plant: str) -> None:
    """What comes for it meanwhile is kept; made again, all of the stream is handed out once more, without effect."""
    async with living(installation, tmp_path, plant) as on:
        stage, nats = on.stage, installation.nats
        mark, uid, dead = stage.installation.audit.marker(), stage.uid("pr-1"), await on.dead_letters()
        await on.operator.bus._client.jetstream().delete_consumer("SCM", "env-controller")
        await stage.until_async(lambda: _not_ready(on.controller), "env-controller notices", within=SEEN)
        assert "SCM/env-controller" in await readiness(on.controller)
        gone = 'catalyst_bus_unreadable_consumers{consumer="SCM/env-controller"}'
        assert f"{gone} 1.0" in await metrics(on.controller)
        await on.sender.deliver(stage.pull_request(2, sha="b" * 40))  # kept, though nobody reads it now

        gone_there = "env-controller on SCM: consumer env-controller is not there"
        seen = (gone_there, "runbook CatalystConsumerGone", "create consumer SCM/env-controller")
        await followed("CatalystConsumerGone", nats, tmp_path, *seen)
        await converges(on, {"pr-1": "a" * 40, "pr-2": "b" * 40})
        await stage.until_async(lambda: is_ready(on.controller), "it is ready again", within=SEEN)
        assert f"{gone} 0.0" in await metrics(on.controller), "it is still counted as unreadable"
        await on.quiet()
        assert (stage.uid("pr-1"), await on.dead_letters()) == (uid, dead)
        places = {(f"{stage.team}--shop", "pr-1"), ("", f"{stage.team}--shop--pr-1")}
        about_first = [
            write
            for write in stage.writes(mark)
            if write.code < httpx.codes.BAD_REQUEST
            and ((write.namespace, write.name) in places or write.namespace == f"{stage.team}--shop--pr-1")
        ]
        assert about_first == [], "handed out once more, it has no second effect"


async def the_volume_is_gone(installation: Installation, tmp_path: Path, plant: str) -> None:
    """STATE is rebuilt from the resources, nothing is deleted, and readers of the old STATE go on in the new one."""
    async with living(installation, tmp_path, plant) as on, bus_of(installation.nats, "dns-proxy") as bus:
        stage, nats = on.stage, installation.nats
        mirror = Mirror(bus)
        await mirror.refresh()
        known = {snapshot.uid for snapshot in mirror.snapshots()}
        uid, mark = stage.uid("pr-1"), stage.installation.audit.marker()
        assert uid in known
        await asyncio.to_thread(nats.stop)
        shutil.rmtree(nats.store)
        await asyncio.to_thread(nats.start)
        await on.until(lambda: on.controller.said("CatalystBusVolumeGone"), "env-controller says so", within=SEEN)
        with pytest.raises(BusError):
            await mirror.refresh()
        assert {snapshot.uid for snapshot in mirror.snapshots()} == known, "absence deletes nothing"

        await followed("CatalystBusVolumeGone", nats, tmp_path, "stream STATE: it is not there", "create stream STATE")

        async def rebuilt() -> bool:
            return [snapshot["uid"] for snapshot in await stage.said("pr-1")] == [uid]

        await stage.until_async(rebuilt, "STATE is rebuilt from the resources", within=SEEN)
        assert [write for write in stage.writes(mark) if write.verb == "delete"] == []
        await on.sender.deliver(stage.pull_request(1, action="synchronize", sha="b" * 40, before="a" * 40))
        await converges(on, {"pr-1": "b" * 40})
        assert stage.uid("pr-1") == uid

        async def seen() -> bool:
            await mirror.refresh()
            return any(one.uid == uid and one.commit == "b" * 40 for one in mirror.snapshots())

        await stage.until_async(seen, "a reader of the former STATE reads the new one", within=SEEN)


async def a_stream_is_full(installation: Installation, tmp_path: Path, plant: str) -> None:
    """Said once when it is nearly full and once when that is over; full, what is new is refused and nothing is lost."""
    async with living(installation, tmp_path, plant) as on:
        stage, nats = on.stage, installation.nats
        jetstream = on.operator.bus._client.jetstream()
        info = await jetstream.stream_info("SCM")
        before = info.config.max_bytes
        try:
            await jetstream.update_stream(info.config.evolve(max_bytes=int(info.state.bytes / 0.8) + 1))
            await on.until(lambda: on.controller.said("CatalystStreamFilling"), "nearly full is said", within=SEEN)
            await asyncio.sleep(11)  # two more looks: it is said once
            assert on.controller.part.log.read_text().count("CatalystStreamFilling") == 1, "it is said again and again"
            fill = await figure(on.controller, 'catalyst_stream_fill{stream="SCM"}')
            assert fill == pytest.approx(0.8, abs=0.05)  # the bytes were counted a moment before
            await followed(
                "CatalystStreamFilling", nats, tmp_path, "runbook CatalystStreamFilling", "update stream SCM"
            )

            await jetstream.update_stream(info.config.evolve(max_bytes=info.state.bytes + 1))
            payload = stage.pull_request(2, sha="b" * 40)
            refused = await stage.deliver(payload, delivery="while-full")
            assert (refused.status_code, "maximum bytes exceeded" in refused.text) == (503, True), refused.text
            assert 'catalyst_bus_unpublished_total{why="full"} 1.0' in await metrics(on.ingest)

            said = f"update stream SCM (max_bytes: {info.state.bytes + 1} → {before})"
            await followed("CatalystBusFull", nats, tmp_path, "stream SCM: 100% of its bytes are taken", said)
        finally:
            await jetstream.update_stream(info.config)
        again = await stage.deliver(payload, delivery="while-full")
        assert again.status_code == 202
        await converges(on, {"pr-1": "a" * 40, "pr-2": "b" * 40})
        await on.until(lambda: on.controller.said("bus is well again"), "and that it is over", within=SEEN)


@contextmanager
def small_disk(at: Path, mebibytes: int) -> Iterator[None]:
    at.mkdir(parents=True)
    size = f"size={mebibytes}m"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", at], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


@runbook("CatalystBusDiskFull")
async def test_the_disk_is_full(tmp_path: Path) -> None:
    nats = Nats(tmp_path / "nats")
    with small_disk(nats.store, 24), nats:
        await asyncio.to_thread(nats.apply_topology)
        stored: list[Event] = []
        payload = b'{"a":"' + b"x" * 400_000 + b'"}'
        async with bus_of(nats, "webhook-ingest") as bus:

            async def one_more() -> None:
                event = pull_request(delivery=f"disk-{len(stored)}", payload=payload)
                await bus.publish(event)
                stored.append(event)

            async def on_and_on() -> None:
                while len(stored) < 200:
                    await one_more()

            with pytest.raises(Unpublished, match="not acknowledged within"):
                await on_and_on()
            assert 10 < len(stored) < 64, "as many as there is room for"
            full = "server: its disk is full, and it does not write again by itself; make room and restart it "
            why = f"{full}(runbook CatalystBusDiskFull): JetStream stream 'CATALYST > SCM' write error"
            await followed("CatalystBusDiskFull", nats, tmp_path, why, "no space left on device")
            roomy = ["mount", "-o", "remount,size=256m", str(nats.store)]
            await asyncio.to_thread(subprocess.run, roomy, check=True)
            with pytest.raises(Unpublished):
                await one_more()  # room alone is not enough, as the runbook says
            known = len(stored)
            await asyncio.to_thread(nats.restart)
            await one_more()
            assert len(stored) == known + 1
            assert all([(await bus.publish(event)).duplicate for event in stored]), "what was acknowledged is there"
        said = await followed("CatalystBusDiskFull", nats, tmp_path, f"SCM {len(stored)} ")
        assert "disk" not in said, "it was asked, and it is well"


SICK: dict[str, tuple[Callable[[Installation, Path, str], Awaitable[None]], str, str]] = {
    "a consumer is deleted": (a_consumer_is_deleted, "unreadable-for-ever", "it is still counted as unreadable"),
    "the volume is gone": (the_volume_is_gone, "state-not-said-again", "STATE is rebuilt from the resources"),
    "a stream is full": (a_stream_is_full, "said-at-each-look", "it is said again and again"),
}


@pytest.mark.parametrize(
    "illness",
    [
        pytest.param("a consumer is deleted", marks=runbook("CatalystConsumerGone")),
        pytest.param("the volume is gone", marks=runbook("CatalystBusVolumeGone")),
        pytest.param("a stream is full", marks=runbook("CatalystStreamFilling", "CatalystBusFull")),
    ],
)
async def test_survived(illness: str, installation: Installation, tmp_path: Path) -> None:
    check, _, _ = SICK[illness]
    await check(installation, tmp_path, "")


@pytest.mark.full(sample=1)
@pytest.mark.parametrize("illness", SICK)
async def test_turns_red(illness: str, installation: Installation, tmp_path: Path) -> None:
    check, bug, complaint = SICK[illness]
    with pytest.raises((AssertionError, pytest.fail.Exception), match=complaint):
        await check(installation, tmp_path, bug)


BUS = {"CatalystBusFull", "CatalystBusDiskFull", "CatalystConsumerGone", "CatalystBusVolumeGone", "CatalystDeadLetters"}
"""The alerts of a sick bus; CatalystStreamFilling looks at the same metric as CatalystBusFull."""


@runbook("CatalystDeadLetters")
async def test_a_letter_is_looked_at_and_sent_again(tmp_path: Path) -> None:
    """The runbook of dead letters, while env-controller's consumer first refuses and then takes the message."""
    handled: list[str] = []

    async def handle(received: Received) -> None:
        handled.append(received.event.id)
        if len(handled) == 1:
            raise Reject("head.sha: expected a commit")

    with Nats(tmp_path / "nats") as nats:
        await asyncio.to_thread(nats.apply_topology)
        async with bus_of(nats, "webhook-ingest") as ingest, bus_of(nats, "env-controller") as controller:
            work = asyncio.create_task(controller.consume(ENV_CONTROLLER_SCM, handle, concurrency=1))
            watch = Watch(controller)
            await ingest.publish(pull_request())
            await _letters(watch, {("env-controller", "rejected"): 1})
            said = await followed("CatalystDeadLetters", nats, tmp_path, "head.sha: expected a commit")
            assert all("DEAD/1" in answer for answer in said.split("$ ")[1:]), said
            await _letters(watch, {("env-controller", "rejected"): 0})
            while len(handled) < 2:
                await asyncio.sleep(0.05)
            assert handled == [handled[0]] * 2
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


async def _letters(watch: Watch, wanted: dict[tuple[str, str], int]) -> None:
    async with asyncio.timeout(10):
        while dict(watch.letters()) != wanted:
            await watch.look()
            await asyncio.sleep(0.05)


async def test_each_alert_has_its_metrics(installation: Installation, tmp_path: Path) -> None:
    """Every kind of illness at once, so that each metric that an alert names has something to say at /metrics."""
    wanted = {metric for metric, where in named().items() if where & BUS}
    assert len(wanted) == 5, wanted
    async with living(installation, tmp_path) as on:
        jetstream = on.operator.bus._client.jetstream()
        client = await nats_client.connect(
            installation.nats.url,
            nkeys_seed=str(installation.nats.seed("env-controller")),
            inbox_prefix=inbox_prefix("env-controller"),
        )
        await client.jetstream().publish("dead.env-controller", b"nobody can read this")
        await client.close()
        info = await jetstream.stream_info("SCM")
        await jetstream.update_stream(info.config.evolve(max_bytes=info.state.bytes + 1))
        await jetstream.delete_consumer("EVENTS", "env-controller")
        try:
            assert (await on.stage.deliver(on.stage.pull_request(2), delivery="refused")).status_code == 503

            async def seen() -> bool:
                texts = [await metrics(service) for service in on.services]
                lines = [line for text in texts for line in text.splitlines() if line.startswith("catalyst_")]
                above_zero = {line.partition("{")[0] for line in lines if float(line.rpartition(" ")[2]) > 0}
                return not wanted - above_zero

            await on.stage.until_async(seen, f"all of {sorted(wanted)} are told", within=SEEN)
            unread = await figure(on.controller, 'catalyst_dead_letters{owner="unknown",reason="unreadable"}')
            assert unread == 1
        finally:
            await jetstream.update_stream(info.config)


async def _not_ready(service: Faulted) -> bool:
    return not await is_ready(service)
