"""The bus, backed up from one real server and restored into another: nothing is lost, nothing gets a number twice."""

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from catalyst.events import backup as module
from catalyst.events.__main__ import main
from catalyst.events.applying import apply
from catalyst.events.backup import Kept, NotRestored, backup, restore
from catalyst.events.bus import Bus, BusSettings
from catalyst.events.errors import BusError
from catalyst.events.examples import NOW, changed, pull_request
from catalyst.events.reading import messages
from catalyst.events.topology import ENV_CONTROLLER_SCM, EVENTS, SCM, STATE, STATE_FILTER, Budget, streams
from catalyst.events.users import OPERATOR, inbox_prefix

MIB = 1024 * 1024
SMALL = Budget(scm=256 * MIB, events=256 * MIB, state=64 * MIB, audit=64 * MIB, dead=64 * MIB)
KEPT_STREAMS = [str(stream.name) for stream in streams() if stream.name != STATE]
Contents = dict[str, list[tuple[int, str, bytes, int]]]


async def contents(client: Client) -> Contents:
    """Every message of every stream there is, with its sequence and time."""
    found = {}
    for info in await client.jetstream().streams_info():
        name = str(info.config.name)
        found[name] = [
            (one.sequence, one.subject, one.data, one.nanoseconds) async for one in messages(client, name, ">")
        ]
    return found


async def snapshots(client: Client, stream: str) -> dict[str, bytes]:
    """The last one of each environment."""
    return {one.subject: one.data async for one in messages(client, stream, STATE_FILTER)}


async def copied(client: Client) -> None:
    """STATE has taken over what EVENTS holds."""
    async with asyncio.timeout(10):
        while await snapshots(client, STATE) != await snapshots(client, EVENTS):
            await asyncio.sleep(0.05)


async def restarted(server: Any) -> None:
    await asyncio.to_thread(server.restart)
    await server.answers()
    await asyncio.sleep(3)  # after two seconds the server looks again at what STATE is made from


async def handled(bus: Bus, count: int) -> list[str]:
    """What env-controller's consumer in SCM hands out, once it is `count` messages: subjects."""
    seen: list[str] = []

    async def handler(received: Any) -> None:
        seen.append(received.subject)

    task = asyncio.create_task(bus.consume(ENV_CONTROLLER_SCM, handler, concurrency=1))
    async with asyncio.timeout(10):
        while len(seen) < count:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)  # nothing more comes
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return seen


async def life(bus_of: Any, operator: Client) -> None:
    """Three facts of which two are handled, snapshots of two environments, a lock, a record."""
    ingest, controller, proxy = (
        await bus_of("webhook-ingest"),
        await bus_of("env-controller"),
        await bus_of("dns-proxy"),
    )
    for number in (1, 2):
        await ingest.publish(pull_request(number, delivery=f"d-{number}"))
    await handled(controller, 2)
    await ingest.publish(pull_request(3, delivery="d-3"))
    for version in (1, 2, 3):
        for name in ("pr-1", "pr-2"):
            await controller.publish(changed(version, environment=name, uid=name))
    await controller.keep("decision.acme.shop.pr-1", b"{}", {})
    assert await proxy.swap("lock.dns-proxy", b"{}", expected=0)
    await copied(operator)


async def at(server: Any, user: str) -> Bus:
    return await Bus.connect(
        BusSettings(server.url, server.seed(user), inbox_prefix(user)), name=user, clock=lambda: NOW
    )


async def test_everything_is_there_again_under_its_numbers(
    server: Any, operator: Client, bus_of: Any, other: Client, empty: Any, tmp_path: Path
) -> None:
    await life(bus_of, operator)
    before = await contents(operator)
    assert [name for name in KEPT_STREAMS if before[name]] == [SCM, EVENTS, "LOCKS", "DECISIONS"]
    made = await backup(operator, tmp_path / "backup", NOW)
    assert {kept.stream for kept in made.streams} == before.keys() - {STATE}
    last = await snapshots(operator, STATE)
    del before[STATE]
    await restore(other, tmp_path / "backup")
    assert await contents(other) == before
    # What goes on afterwards, once the server was restarted: ids it has are read at its start only.
    await restarted(empty)
    changes = await apply(other.jetstream(), budget=SMALL)
    assert [str(change) for change in changes if change.action != "keep"] == ["create stream STATE"]
    await copied(other)
    assert await snapshots(other, STATE) == last
    await restarted(empty)
    assert await snapshots(other, STATE) == last
    ingest, controller = await at(empty, "webhook-ingest"), await at(empty, "env-controller")
    assert (await ingest.publish(pull_request(3, delivery="d-3"))).duplicate, "GitHub delivers it again"
    assert (await ingest.publish(pull_request(4, delivery="d-4"))).sequence == 4
    assert [subject.rpartition(".")[2] for subject in await handled(controller, 2)] == ["3", "4"], (
        "1 and 2 were handled"
    )
    assert (await controller.publish(changed(4, environment="pr-1", uid="pr-1"))).sequence == 7
    await copied(other)
    for bus in (ingest, controller):
        await bus.drain()


async def test_what_comes_while_it_is_made_goes_on_where_the_backup_ends(
    server: Any,
    operator: Client,
    bus_of: Any,
    other: Client,
    empty: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After each stream something happens: none that is restored knows more than the one it is made from."""
    controller, count, keep = await bus_of("env-controller"), 0, module._keep

    async def happens() -> None:
        nonlocal count
        count += 1
        await controller.publish(changed(count, environment=f"pr-{count}", uid=f"u-{count}"))
        await copied(operator)

    async def kept(client: Client, name: str, folder: Path) -> Kept:
        found = await keep(client, name, folder)
        await happens()
        return found

    await happens()
    monkeypatch.setattr(module, "_keep", kept)
    await backup(operator, tmp_path / "backup", NOW)
    await restore(other, tmp_path / "backup")
    await apply(other.jetstream(), budget=SMALL)
    again = await at(empty, "env-controller")
    for version in range(101, 111):
        await again.publish(changed(version, environment=f"pr-{version}", uid=f"u-{version}"))
    assert len(await snapshots(other, EVENTS)) > 10
    await copied(other)
    await again.drain()


async def test_a_consumer_ahead_of_the_backup_steps_back(server: Any, operator: Client, bus_of: Any) -> None:
    """As one is whose message came while its stream was read."""
    ingest, controller = await bus_of("webhook-ingest"), await bus_of("env-controller")
    for number in range(1, 5):
        await ingest.publish(pull_request(number, delivery=f"d-{number}"))
    await handled(controller, 4)
    kept = Kept(stream=SCM, messages=2, first=1, last=2, size=0, digest="")
    await module._step_back(operator, kept)
    assert [subject.rpartition(".")[2] for subject in await handled(controller, 2)] == ["3", "4"]


async def test_nothing_that_is_stored_is_replaced(
    server: Any, operator: Client, bus_of: Any, other: Client, empty: Any, tmp_path: Path
) -> None:
    await life(bus_of, operator)
    before = await contents(operator)
    await backup(operator, tmp_path / "backup", NOW)
    with pytest.raises(
        NotRestored, match=r"the bus has SCM, EVENTS, STATE, .* already: expected a server without streams"
    ):
        await restore(operator, tmp_path / "backup")
    with pytest.raises(BusError, match="is not empty: expected a new folder"):
        await backup(operator, tmp_path / "backup", NOW)
    assert await restore(operator, tmp_path / "backup", only_missing=True) == []
    assert await contents(operator) == before
    # A restore that was interrupted is gone on with.
    manifest = module.read(tmp_path / "backup")
    (facts,) = (kept for kept in manifest.streams if kept.stream == SCM)
    await module._restore(other, facts, tmp_path / "backup" / SCM, None)
    with pytest.raises(NotRestored, match="the bus has SCM already"):
        await restore(other, tmp_path / "backup")
    assert [kept.stream for kept in await restore(other, tmp_path / "backup", only_missing=True)] == KEPT_STREAMS[1:]
    assert await contents(other) == {name: found for name, found in before.items() if name != STATE}


def cut(folder: Path) -> None:
    path = folder / EVENTS / "stream.arc.s2"
    path.write_bytes(path.read_bytes()[:-1])


def flipped(folder: Path) -> None:
    path = folder / EVENTS / "stream.arc.s2"
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


def exchanged(folder: Path) -> None:
    shutil.copy(folder / SCM / "backup.json", folder / EVENTS / "backup.json")


def without_an_archive(folder: Path) -> None:
    (folder / "DEAD" / "stream.arc.s2").unlink()


def unfinished(folder: Path) -> None:
    (folder / "bus.json").unlink()


def of_another_format(folder: Path) -> None:
    _edit(folder, lambda manifest: manifest.update(format=2))


def without_a_field(folder: Path) -> None:
    _edit(folder, lambda manifest: manifest["streams"][0].pop("last"))


def without_a_stream(folder: Path) -> None:
    _edit(folder, lambda manifest: manifest.update(streams=[s for s in manifest["streams"] if s["stream"] != "AUDIT"]))


def with_a_foreign_stream(folder: Path) -> None:
    _edit(folder, lambda manifest: manifest["streams"].append({**manifest["streams"][0], "stream": "ORDERS"}))


def _edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    manifest = json.loads((folder / "bus.json").read_text())
    change(manifest)
    (folder / "bus.json").write_text(json.dumps(manifest))


async def test_what_is_damaged_or_foreign_is_refused_before_anything_is_made(
    server: Any, operator: Client, other: Client, empty: Any, tmp_path: Path
) -> None:
    for number, (harm, sentence) in enumerate(
        (
            (cut, r"stream EVENTS: .* has \d+ bytes: expected \d+; it is damaged"),
            (flipped, "stream EVENTS: .* is damaged: expected the SHA-256"),
            (exchanged, "stream EVENTS: .*backup.json is of SCM: expected EVENTS"),
            (without_an_archive, "stream DEAD: expected backup.json and stream.arc.s2"),
            (unfinished, "bus.json cannot be read .*: expected a folder that a backup finished"),
            (of_another_format, "format 2: expected 1"),
            (without_a_field, r"bus.json: streams.0.last: Field required"),
            (without_a_stream, "no stream AUDIT: expected SCM, EVENTS"),
            (with_a_foreign_stream, "stream ORDERS is none of ours: expected SCM"),
        )
    ):
        folder = tmp_path / f"backup-{number}"
        await backup(operator, folder, NOW)
        harm(folder)
        with pytest.raises(NotRestored, match=sentence):
            await restore(other, folder)
        assert await contents(other) == {}
    await backup(operator, tmp_path / "whole", NOW)
    assert len(await restore(other, tmp_path / "whole")) == len(KEPT_STREAMS)


async def test_only_the_operator_may(
    server: Any, bus_of: Any, other: Client, empty: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def typed(command: str, on: Any, user: str, folder: Path) -> int:
        return main([command, str(folder), "--url", on.url, "--seed", str(on.seed(user))])

    for user in ("oncall", "env-controller"):
        assert await asyncio.to_thread(typed, "backup", server, user, tmp_path / user) == 2
        assert "only the operator's seed may do this" in capsys.readouterr().err
    assert await asyncio.to_thread(typed, "backup", server, OPERATOR, tmp_path / "backup") == 0
    assert f"{len(KEPT_STREAMS)} streams in {tmp_path / 'backup'}" in capsys.readouterr().out
    assert (tmp_path / "backup").stat().st_mode & 0o77 == 0
    for user in ("oncall", "env-controller"):
        assert await asyncio.to_thread(typed, "restore", empty, user, tmp_path / "backup") == 2
        assert "permissions violation" in capsys.readouterr().err
    assert await asyncio.to_thread(typed, "restore", empty, OPERATOR, tmp_path / "backup") == 0
    assert f"{len(KEPT_STREAMS)} streams restored" in capsys.readouterr().out
    assert await asyncio.to_thread(typed, "restore", empty, OPERATOR, tmp_path / "backup") == 2
    assert "expected a server without streams" in capsys.readouterr().err


async def test_a_stream_that_the_server_lacks_is_named(bare_server: Any, operator: Client, tmp_path: Path) -> None:
    with pytest.raises(BusError, match=r"[A-Z]+: stream not found: python -m catalyst.events apply makes it"):
        await backup(operator, tmp_path / "backup", NOW)
    with pytest.raises(NotRestored, match="expected a folder that a backup finished"):
        module.read(tmp_path / "backup")
