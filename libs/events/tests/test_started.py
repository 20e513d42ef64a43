"""A service says its version when it starts; whoever is on call sees the last one."""

import asyncio
import json
from typing import Any

import pytest

from catalyst.events import started
from catalyst.events.started import last_started, say_started
from catalyst.events.topology import LOCKS


async def test_the_version_that_started_last_is_known(bus_of: Any) -> None:
    oncall = await bus_of("oncall")
    assert await last_started(oncall, "builder") is None
    for service, version in (("builder", "a" * 40), ("notifier", "c" * 40), ("builder", "b" * 40 + "-dirty")):
        async with asyncio.timeout(10):
            await say_started(await bus_of(service), service, version)
    found = await last_started(oncall, "builder")
    assert found is not None
    assert found.version == "b" * 40 + "-dirty"
    assert (await oncall.stream_info(LOCKS) or {})["state"]["messages"] == 2


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"null"])
async def test_what_cannot_be_read_is_not_known(bus_of: Any, body: bytes) -> None:
    await (await bus_of("builder")).keep("started.builder", body, {})
    assert await last_started(await bus_of("oncall"), "builder") is None


async def test_a_bus_of_an_older_topology_is_told_when_it_has_a_place_for_it(
    bus_of: Any, operator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(started, "PAUSES", (0.05,))
    jetstream = operator.jetstream()
    wanted = (await jetstream.stream_info(LOCKS)).config
    await jetstream.update_stream(wanted.evolve(subjects=["lock.>"]))
    saying = asyncio.create_task(say_started(await bus_of("builder"), "builder", "a" * 40))
    await asyncio.sleep(0.3)
    assert not saying.done()
    await jetstream.update_stream(wanted)
    async with asyncio.timeout(5):
        await saying
    stored = await (await bus_of("oncall")).last(LOCKS, "started.builder")
    assert stored is not None
    assert json.loads(stored.data) == {"version": "a" * 40}
