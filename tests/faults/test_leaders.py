"""Two env-controllers: one leads, the other takes over when it dies, freezes, is cut off or goes in order.

The times are those of production (a lease of 10 s) where they are asserted; elsewhere a lease of 3 s.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from faulted import Rule
from guarantees import Pair, converges, is_alive, is_ready, leader, two_controllers, woken_leader_changes_nothing
from stage import Stage
from wire import wire

from catalyst.local.installation import Installation

PRODUCTION = 10.0
TAKEOVER = 20.0
STOP = 3.0


async def test_killed(installation: Installation, tmp_path: Path) -> None:
    async with two_controllers(installation, tmp_path, lease=PRODUCTION) as pair:
        pair.first.part.kill()
        killed = time.monotonic()
        await pair.scene.sender.deliver(pair.scene.stage.pull_request(1))
        await pair.scene.until(lambda: leader(installation) == "second", "the second leads", within=TAKEOVER)
        await pair.scene.until(lambda: pair.scene.stage.phase("pr-1") == "Provisioned", "it works")
        assert time.monotonic() - killed < TAKEOVER


async def test_stopped_in_order(installation: Installation, tmp_path: Path) -> None:
    async with two_controllers(installation, tmp_path, lease=PRODUCTION) as pair:
        told = time.monotonic()
        stopping = asyncio.create_task(asyncio.to_thread(pair.first.part.stop))
        await pair.scene.until(lambda: leader(installation) == "second", "the second leads", within=STOP)
        await stopping
        assert time.monotonic() - told < STOP
        assert pair.first.part.exit_code == 0
        await pair.scene.sender.deliver(pair.scene.stage.pull_request(1))
        await pair.scene.until(lambda: pair.scene.stage.phase("pr-1") == "Provisioned", "it works")


async def test_cut_off_from_the_api_server(installation: Installation, tmp_path: Path) -> None:
    """With the wire healed, the first is a candidate again, and leads when the second goes."""
    async with (
        wire(installation.control_plane.ports.apiserver) as line,
        two_controllers(installation, tmp_path, lease=PRODUCTION, port=line.port) as pair,
    ):
        on, stage = pair.scene, pair.scene.stage
        line.hold()
        cut = time.monotonic()
        await on.sender.deliver(stage.pull_request(1, sha="a" * 40))
        await on.until(lambda: leader(installation) == "second", "the second leads", within=TAKEOVER)
        assert time.monotonic() - cut < TAKEOVER
        assert pair.first.said("lease lost"), "the first must step down before another leads"
        await converges(on, {"pr-1": "a" * 40})
        await on.quiet()
        before, mark = pair.versions(), stage.installation.audit.marker()
        line.release()
        await on.stage.until_async(lambda: is_ready(pair.first), "the first sees again", within=30)
        assert [one for one in pair.written_by_first(mark) if one[0] < 400] == []
        assert pair.versions() == before
        await asyncio.to_thread(pair.second.part.stop)
        await on.until(lambda: leader(installation) == "first", "the first leads again", within=TAKEOVER)


POINTS = [
    ("opened", "kube.before:create:ResourceQuota"),
    ("closed", "kube.before:delete:Namespace"),
    ("opened", "kube.before:patch:Environment"),
    ("opened", "kube.before:create:Environment"),
    ("opened", "kube.before:create:Namespace"),
    ("closed", "kube.before:patch:Environment"),
    ("closed", "kube.before:delete:Environment"),
    ("opened", "lease.before-renew"),
]


@pytest.mark.parametrize(
    ("phase", "point"),
    [pytest.param(*p, marks=[] if index < 2 else pytest.mark.full(sample=2)) for index, p in enumerate(POINTS)],
)
async def test_frozen(phase: str, point: str, installation: Installation, tmp_path: Path) -> None:
    await woken_leader_changes_nothing(installation, tmp_path, point, phase)


@pytest.mark.parametrize(
    "point", ["kube.before:patch:Environment", "kube.before:create:Namespace", "kube.before:create:ResourceQuota"]
)
async def test_a_request_that_arrives_late(point: str, installation: Installation, tmp_path: Path) -> None:
    """The request has passed the fence and lies on the wire while another leader is made and works; then it comes."""
    rule = Rule(point, "hold", phase="opened")
    async with (
        wire(installation.control_plane.ports.apiserver) as line,
        two_controllers(installation, tmp_path, rule, port=line.port) as pair,
    ):
        on, stage = pair.scene, pair.scene.stage
        # Warm connections first: a request that still has to open one would never get onto the held wire.
        await on.sender.deliver(stage.pull_request(2, sha="c" * 40))
        await converges(on, {"pr-2": "c" * 40})
        on.phase("opened")
        await on.sender.deliver(stage.pull_request(1, sha="a" * 40))
        await on.until(pair.first.faults, "the first is about to write")
        await _nothing_else_is_under_way(pair)
        line.hold()
        pair.first.release()
        await on.until(lambda: leader(installation) == "second", "the second leads", within=TAKEOVER)
        stage.project(development={"quota": {"pods": "9"}})
        await on.sender.deliver(stage.pull_request(1, action="synchronize", sha="b" * 40, before="a" * 40))
        await converges(on, {"pr-1": "b" * 40, "pr-2": "c" * 40})
        await on.until(lambda: _pods(stage) == "9", "the second's quota")
        await on.quiet()
        before, mark = pair.versions(), stage.installation.audit.marker()
        line.release()
        await on.until(lambda: pair.written_by_first(mark), "the late request has come")
        assert [one for one in pair.written_by_first(mark) if one[0] < 400] == []
        assert pair.versions() == before
        assert await is_alive(pair.first)


async def _nothing_else_is_under_way(pair: Pair) -> None:
    """What the first sent beside the held request has been answered, so that a warm connection is free for that."""
    before = -1
    while before != (now := len(pair.first.reached())):
        before = now
        await asyncio.sleep(0.3)


def _pods(stage: Stage) -> str:
    quota = stage.object("ResourceQuota", "pr-1", "environment")
    pods: str = quota["spec"]["hard"]["pods"]
    return pods
