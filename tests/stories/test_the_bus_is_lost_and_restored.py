"""NATS loses its volume, and the bus is restored from a backup: environments stay, nothing is made or said twice, and
what came after the backup is there again as soon as the forge has delivered it again.

Backup and restore are typed as docs/operations.md says; the services are away meanwhile, as it says, too.
"""

import asyncio
import functools
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from guarantees import is_ready
from processes import process
from stage import Operator, Stage, operating, services

from catalyst.events.__main__ import main
from catalyst.events.reading import messages
from catalyst.events.topology import EVENTS, LOCKS, STATE, STATE_FILTER
from catalyst.events.users import OPERATOR
from catalyst.local.installation import Installation
from catalyst.local.nats import Nats

BOOT = 30.0


@pytest.fixture
def own(installation: Installation, nats: Nats) -> Installation:
    """The cluster of all stories with a bus of its own, which may be lost."""
    nats.apply_topology()
    return Installation(installation.control_plane, nats)


@asynccontextmanager
async def staged(own: Installation) -> AsyncIterator[tuple[Stage, Operator]]:
    async with operating(own) as operator, services(own) as url:
        yield Stage(own, url, operator), operator


async def on_the_bus(own: Installation, command: str, folder: Path) -> None:
    arguments = [command, str(folder), "--url", own.nats.url, "--seed", str(own.nats.seed(OPERATOR))]
    assert await asyncio.to_thread(main, arguments) == 0


async def lost_and_restored(own: Installation, folder: Path) -> None:
    await asyncio.to_thread(own.nats.stop)
    shutil.rmtree(own.nats.store)
    await asyncio.to_thread(own.nats.start)
    await on_the_bus(own, "restore", folder)
    await asyncio.to_thread(own.nats.restart)
    await asyncio.to_thread(own.nats.apply_topology)
    async with operating(own) as operator, asyncio.timeout(BOOT):
        while await snapshots(operator, STATE) != await snapshots(operator, EVENTS):
            await asyncio.sleep(0.1)


async def snapshots(operator: Operator, stream: str) -> dict[str, bytes]:
    """The last one of each environment. Services begin when STATE is made: who begins before says again what STATE does
    not have yet, which is a repeat on the bus, and one more record of a decision.
    """
    return {one.subject: one.data async for one in messages(operator.bus._client, stream, STATE_FILTER)}


async def ends(operator: Operator) -> dict[str, int]:
    """The last sequence of each stream but STATE, which is made anew, and LOCKS, where whoever starts says so."""
    infos = await operator.bus._client.jetstream().streams_info()
    return {str(info.config.name): info.state.last_seq for info in infos if info.config.name not in (STATE, LOCKS)}


async def test_environments_stay_and_nothing_happens_twice(own: Installation, tmp_path: Path) -> None:
    async with staged(own) as (stage, operator):
        stage.grant()
        stage.project()
        await stage.accepted()
        for number in (1, 2):
            await stage.deliver(stage.pull_request(number), delivery=f"{stage.team}-{number}")
            await stage.ready(f"pr-{number}")
        await stage.deliver(stage.pull_request(2, action="closed", state="closed"))
        await stage.gone("pr-2")
        await stage.handled()
        before, said = stage.environment("pr-1"), await stage.said("pr-1")
    async with operating(own) as operator:
        await on_the_bus(own, "backup", tmp_path / "backup")
        at = await ends(operator)
    await lost_and_restored(own, tmp_path / "backup")
    mark = own.audit.marker()
    async with operating(own) as operator, services(own) as url:
        stage._webhook_url, stage._operator = url, operator
        assert (await stage.deliver(stage.pull_request(1), delivery=f"{stage.team}-1")).status_code == 202
        await stage.handled()
        assert {name: last for name, last in (await ends(operator)).items() if last != at[name]} == {}
        assert (stage.environment("pr-1"), stage.environment("pr-2")) == (before, None)
        assert await stage.said("pr-1") == said
        assert stage.writes(mark) == []
        # It goes on, in both directions.
        sha = "b" * 40
        await stage.deliver(stage.pull_request(1, action="synchronize", sha=sha, before="a" * 40))
        await stage.until(lambda: stage.commit("pr-1") == sha, "the push has arrived")
        await stage.deliver(stage.pull_request(1, action="closed", state="closed", sha=sha))
        await stage.gone("pr-1")


async def test_what_came_after_the_backup_comes_again_before_anybody_acts(own: Installation, tmp_path: Path) -> None:
    after: list[tuple[str, dict[str, Any]]] = []
    sha = "b" * 40
    async with staged(own) as (stage, _):
        stage.grant()
        stage.project()
        await stage.accepted()
        for number in (1, 2):
            await stage.deliver(stage.pull_request(number))
            await stage.ready(f"pr-{number}")
        await stage.handled()
        await on_the_bus(own, "backup", tmp_path / "backup")
        after.append((f"{stage.team}-push", stage.pull_request(1, action="synchronize", sha=sha, before="a" * 40)))
        after.append((f"{stage.team}-close", stage.pull_request(2, action="closed", state="closed")))
        for delivery, payload in after:
            await stage.deliver(payload, delivery=delivery)
        await stage.until(lambda: stage.commit("pr-1") == sha, "the push has arrived")
        await stage.gone("pr-2")
        await stage.handled()
        uid = stage.uid("pr-1")
    await lost_and_restored(own, tmp_path / "backup")
    ingest = process("webhook-ingest", own, tmp_path)
    ingest.part.start()
    try:
        stage._webhook_url = ingest.url
        await stage.until_async(functools.partial(is_ready, ingest), "webhook-ingest is up", within=BOOT)
        for delivery, payload in after:
            assert (await stage.deliver(payload, delivery=delivery)).status_code == 202
    finally:
        await asyncio.to_thread(ingest.part.stop)
    mark = own.audit.marker()
    async with operating(own) as operator, services(own) as url:
        stage._webhook_url, stage._operator = url, operator
        await stage.handled()

        async def told() -> bool:
            """What the backup did not know, from the resources."""
            return (await stage.last_said("pr-1"))["source"].get("commit") == sha and (await stage.phases_said("pr-2"))[
                -1
            ] == "Gone"

        await stage.until_async(told, "STATE says again what is")
        assert (stage.uid("pr-1"), stage.commit("pr-1"), stage.environment("pr-2")) == (uid, sha, None)
        assert [write for write in stage.writes(mark) if "pr-2" in (write.name, write.namespace)] == []
