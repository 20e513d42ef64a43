"""One leader at a time, on a real API server: killed, frozen, cut off, stopped in order. The times are shortened."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop
import yaml
from hypothesis import given
from hypothesis import strategies as st

from catalyst.kube.client import Kube
from catalyst.kube.errors import FencedOut, NotFound, Unavailable
from catalyst.kube.lease import Elector, LeadWouldNotStop
from catalyst.kube.settings import KubeSettings
from catalyst.kube.shards import lease_name, shard_of
from catalyst.local.control_plane import ControlPlane
from catalyst.model.manifest import Manifest, Ref

Until = Callable[..., Awaitable[None]]
DURATION, RENEW_DEADLINE, RETRY, REQUEST_TIMEOUT = 4.0, 2.4, 0.4, 1.0
TIMES: dict[str, Any] = {"duration": DURATION, "renew_deadline": RENEW_DEADLINE, "retry": RETRY}


@pytest.fixture
async def hasty(settings: KubeSettings) -> AsyncIterator[Kube]:
    async with await Kube.connect(settings, field_manager="lead", request_timeout=REQUEST_TIMEOUT) as kube:
        yield kube


@dataclass
class Reign:
    """When a lead ran, on this machine's monotonic clock."""

    terms: list[list[float]] = field(default_factory=list)

    async def lead(self) -> None:
        self.terms.append([time.monotonic(), float("inf")])
        try:
            await asyncio.Event().wait()
        finally:
            self.terms[-1][1] = time.monotonic()


def world(namespace: str, owner: str) -> Manifest:
    metadata = {"namespace": namespace, "name": "world"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"owner": owner}}


async def holder(kube: Kube, namespace: str) -> str:
    record = await kube.get(Ref("coordination.k8s.io/v1", "Lease", namespace, "lease"))
    identity: str = record["spec"].get("holderIdentity", "")
    return identity


@contextlib.asynccontextmanager
async def candidate(plane: ControlPlane, namespace: str, identity: str) -> AsyncIterator[asyncio.subprocess.Process]:
    script = Path(__file__).parent / "candidate.py"
    process = await asyncio.create_subprocess_exec(
        sys.executable, script, plane.admin_kubeconfig, namespace, identity, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def told(process: asyncio.subprocess.Process, seconds: float = 15.0) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), seconds)).decode().strip()


def frozen(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


async def test_a_leader_frozen_right_before_a_write_changes_nothing_when_it_wakes(
    plane: ControlPlane, hasty: Kube, namespace: str, until: Until, running: Any
) -> None:
    async with candidate(plane, namespace, "first") as first:
        assert await told(first) == "leading"
        await asyncio.sleep(0.5)
        os.kill(first.pid, signal.SIGUSR1)
        await until(lambda: frozen(first.pid))
        begun = time.monotonic()
        reign = Reign()
        async with running(Elector(hasty, namespace, "lease", "second", **TIMES).run(reign.lead)):
            await until(lambda: bool(reign.terms), 20)
            assert DURATION - RETRY < reign.terms[0][0] - begun < DURATION + 4 * RETRY
            after = await hasty.apply(world(namespace, "second"))
            os.kill(first.pid, signal.SIGCONT)
            assert await told(first) == "fenced"
            await asyncio.sleep(0.5)
            assert await hasty.get(Ref("v1", "ConfigMap", namespace, "world")) == after
            assert await holder(hasty, namespace) == "second"


async def test_a_killed_leader_is_followed_when_its_lease_ran_out(
    plane: ControlPlane, hasty: Kube, namespace: str, until: Until, running: Any
) -> None:
    reign = Reign()
    async with candidate(plane, namespace, "first") as first:
        assert await told(first) == "leading"
        async with running(Elector(hasty, namespace, "lease", "second", **TIMES).run(reign.lead)):
            await asyncio.sleep(1)
            assert reign.terms == []
            first.kill()
            begun = time.monotonic()
            await until(lambda: bool(reign.terms), 20)
            assert DURATION - 2 * RETRY < reign.terms[0][0] - begun < DURATION + 4 * RETRY


async def test_an_orderly_stop_hands_over_at_once(
    plane: ControlPlane, hasty: Kube, namespace: str, until: Until, running: Any
) -> None:
    reign = Reign()
    async with candidate(plane, namespace, "first") as first:
        assert await told(first) == "leading"
        async with running(Elector(hasty, namespace, "lease", "second", **TIMES).run(reign.lead)):
            await asyncio.sleep(0.5)
            first.terminate()
            begun = time.monotonic()
            await until(lambda: bool(reign.terms), 3)
            assert time.monotonic() - begun < 3
        assert await told(first) == "ended"


class Wire:
    """A TCP relay to the API server that can be cut: connections stay open and fall silent."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._whole = asyncio.Event()
        self._whole.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> "Wire":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._relay(source, sink))
            self._tasks.add(task)

    async def _relay(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self._whole.wait()
                sink.write(data)
                await sink.drain()
        except OSError:
            return
        finally:
            sink.close()


async def test_a_leader_that_is_cut_off_stops_before_its_successor_starts(
    plane: ControlPlane, hasty: Kube, namespace: str, until: Until, running: Any, tmp_path: Path
) -> None:
    config = yaml.safe_load(plane.admin_kubeconfig.read_text())
    async with Wire(plane.ports.apiserver) as wire:
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{wire.port}"
        path = tmp_path / "config"
        path.write_text(yaml.safe_dump(config))
        connected = await Kube.connect(KubeSettings(path), field_manager="lead", request_timeout=REQUEST_TIMEOUT)
        async with connected as far:
            first, second = (
                Elector(far, namespace, "lease", "first", **TIMES),
                Elector(hasty, namespace, "lease", "second", **TIMES),
            )
            firsts, seconds = Reign(), Reign()
            async with running(first.run(firsts.lead)):
                await until(lambda: bool(firsts.terms))
                async with running(second.run(seconds.lead)):
                    await asyncio.sleep(1)
                    wire.cut()
                    cut = time.monotonic()
                    await until(lambda: not first.valid(), 5)
                    shut = time.monotonic()
                    with pytest.raises(FencedOut, match="first may not write"):
                        first.fence()
                    await until(lambda: bool(seconds.terms), 20)
                    assert shut - cut < DURATION - REQUEST_TIMEOUT
                    assert firsts.terms[0][1] < seconds.terms[0][0]
                    assert firsts.terms[0][1] - cut < RENEW_DEADLINE + 0.3
                    assert second.valid()
                    wire.mend()
                    await asyncio.sleep(1)
                    assert len(firsts.terms) == 1
                    assert not first.valid()


async def test_cancelling_leaves_no_leading_task_and_gives_the_lease_back(
    hasty: Kube, namespace: str, until: Until
) -> None:
    reign, elector = Reign(), Elector(hasty, namespace, "lease", "only", **TIMES)
    running = asyncio.create_task(elector.run(reign.lead))
    await until(lambda: bool(reign.terms))
    assert elector.valid()
    assert await holder(hasty, namespace) == "only"
    running.cancel()
    await asyncio.wait({running})
    assert reign.terms[0][1] < float("inf")
    assert not elector.valid()
    assert await holder(hasty, namespace) == ""


async def test_a_lead_that_returns_or_fails_ends_the_run_and_gives_the_lease_back(hasty: Kube, namespace: str) -> None:
    async def content() -> None:
        await asyncio.sleep(0)

    async def broken() -> None:
        raise RuntimeError("planted")

    await asyncio.wait_for(Elector(hasty, namespace, "lease", "a", **TIMES).run(content), 5)
    assert await holder(hasty, namespace) == ""
    with pytest.raises(RuntimeError, match="planted"):
        await asyncio.wait_for(Elector(hasty, namespace, "lease", "b", **TIMES).run(broken), 5)
    assert await holder(hasty, namespace) == ""


async def test_a_lead_that_ignores_its_end_is_an_error(hasty: Kube, namespace: str) -> None:
    free = asyncio.Event()
    leading = asyncio.Event()

    async def stubborn() -> None:
        leading.set()
        while not free.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await free.wait()

    elector = Elector(hasty, namespace, "lease", "stubborn", **TIMES)
    running = asyncio.create_task(elector.run(stubborn))
    await leading.wait()
    running.cancel()
    with pytest.raises(LeadWouldNotStop, match="stubborn"):
        await running
    assert not elector.valid()
    assert await holder(hasty, namespace) == "stubborn"  # not given back: it still runs
    free.set()
    await asyncio.sleep(0)


async def test_a_renewal_whose_answer_is_lost_costs_nothing(
    settings: KubeSettings, namespace: str, until: Until, running: Any
) -> None:
    lost = 0

    async def lose(name: str) -> None:
        nonlocal lost
        if name == "kube.after:replace:Lease" and lost < 2:
            lost += 1
            raise Unavailable(0, "planted", "the answer is lost")

    async with await Kube.connect(settings, field_manager="x", request_timeout=REQUEST_TIMEOUT, points=lose) as kube:
        reign, elector = Reign(), Elector(kube, namespace, "lease", "only", **TIMES)
        async with running(elector.run(reign.lead)):
            await until(lambda: lost == 2)
            await asyncio.sleep(2 * RENEW_DEADLINE)
            assert elector.valid()
            assert len(reign.terms) == 1


async def test_the_points_around_a_renewal(hasty: Kube, namespace: str, until: Until) -> None:
    seen: list[str] = []

    async def note(name: str) -> None:
        seen.append(name)

    reign = Reign()
    running = asyncio.create_task(Elector(hasty, namespace, "lease", "a", points=note, **TIMES).run(reign.lead))
    await until(lambda: seen.count("lease.renewed") == 2)
    running.cancel()
    await asyncio.wait({running})
    assert seen[:4] == ["lease.before-renew", "lease.renewed"] * 2
    assert seen[-1] == "lease.released"


async def test_nobody_may_write_before_it_leads(hasty: Kube, namespace: str) -> None:
    elector = Elector(hasty, namespace, "lease", "a", **TIMES)
    with pytest.raises(FencedOut):
        await hasty.fenced(elector.fence).apply(world(namespace, "a"))
    with pytest.raises(NotFound):
        await hasty.get(Ref("v1", "ConfigMap", namespace, "world"))


def test_the_fence_shuts_while_the_loop_is_busy(plane: ControlPlane, settings: KubeSettings) -> None:
    """As after a freeze within a callback: no timer has fired yet, so the fence itself must look at the clock."""

    async def story() -> None:
        async with await Kube.connect(settings, field_manager="x", request_timeout=REQUEST_TIMEOUT) as kube:
            elector = Elector(kube, "default", "busy", "only", **TIMES)

            async def lead() -> None:
                assert elector.valid()
                time.sleep(DURATION)  # noqa: ASYNC251 (the loop is to be blocked)
                with pytest.raises(FencedOut):
                    elector.fence()

            await elector.run(lead)

    uvloop.run(story())


@pytest.mark.parametrize("times", [{"renew_deadline": 10.0}, {"retry": 5.0}, {"retry": 0.0}, {"duration": 5.0}])
async def test_times_that_leave_no_room_are_refused(kube: Kube, times: Any) -> None:
    Elector(kube, "default", "x", "a")
    with pytest.raises(ValueError, match="lease x: expected 0 < retry"):
        Elector(kube, "default", "x", "a", **times)


@given(keys=st.lists(st.text(), min_size=1), shards=st.integers(1, 16))
def test_every_key_has_one_shard(keys: list[str], shards: int) -> None:
    assert all(shard_of(key, shards) == shard_of(key, shards) < shards for key in keys)


def test_shards_are_stable_even_and_named_with_their_count() -> None:
    assert [shard_of(key, 4) for key in ("acme/shop/pr-1", "acme/shop/pr-2", "acme/shop/pr-3")] == [1, 0, 3]
    sizes = [0] * 4
    for number in range(4000):
        sizes[shard_of(f"acme/shop/pr-{number}", 4)] += 1
    assert min(sizes) > 900
    assert (lease_name("env", 0, 1), lease_name("env", 2, 4)) == ("env", "env-2-of-4")
    with pytest.raises(ValueError, match="expected at least 1"):
        shard_of("x", 0)


async def test_the_right_to_write_counts_from_when_the_renewal_was_sent(
    settings: KubeSettings, namespace: str, until: Until, running: Any
) -> None:
    """A renewal whose answer is slow: others saw it when it was sent, so from then on they count, too."""
    slow = 0.5
    sent: list[float] = []

    async def point(name: str) -> None:
        if name == "kube.before:replace:Lease":
            if sent:
                await asyncio.Event().wait()  # only one renewal gets through
            sent.append(time.monotonic())
        elif name == "kube.after:replace:Lease":
            await asyncio.sleep(slow)

    async with await Kube.connect(settings, field_manager="x", request_timeout=REQUEST_TIMEOUT, points=point) as kube:
        reign, elector = Reign(), Elector(kube, namespace, "lease", "only", **TIMES)
        async with running(elector.run(reign.lead)):
            await until(lambda: len(sent) == 1)
            await asyncio.sleep(slow + 0.05)
            assert elector.valid()
            await until(lambda: not elector.valid())
            lasted = time.monotonic() - sent[0]
    room = DURATION * 0.95 - REQUEST_TIMEOUT
    assert lasted < min(RENEW_DEADLINE, room) + slow / 2
