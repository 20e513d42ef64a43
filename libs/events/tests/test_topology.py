"""Applying the topology to a real server, and the operator's tool."""

import asyncio
import json
import stat
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js.api import DiscardPolicy

from catalyst.events.__main__ import main
from catalyst.events.applying import WouldLose, apply, consumer_differences, stream_differences
from catalyst.events.bus import Bus
from catalyst.events.examples import changed, pull_request
from catalyst.events.keys import read_public_keys, write_keys
from catalyst.events.server import nats_server_config
from catalyst.events.topology import (
    CDEVENTS_EVENTS,
    CDEVENTS_SCM,
    CONSUMERS,
    DUPLICATE_WINDOW,
    ENV_CONTROLLER_SCM,
    EVENTS,
    KEPT,
    NOTIFIER_EVENTS,
    NOTIFIER_SCM,
    SCM,
    STATE,
    Budget,
    consumers,
    streams,
)

MIB = 1024 * 1024
SMALL = Budget(scm=256 * MIB, events=256 * MIB, state=64 * MIB, audit=64 * MIB, dead=64 * MIB)


async def test_applied_once_made_twice_kept(bare_server: Any, operator: Client) -> None:
    jetstream = operator.jetstream()
    planned = await apply(jetstream, budget=SMALL, dry=True)
    assert {change.action for change in planned} == {"create"}
    assert (await jetstream.account_info()).streams == 0
    assert [str(change) for change in await apply(jetstream, budget=SMALL)] == [
        "create stream SCM",
        "create stream EVENTS",
        "create stream STATE",
        "create stream AUDIT",
        "create stream DEAD",
        "create stream LOCKS",
        "create stream DECISIONS",
        "create stream CDEVENTS",
        "create consumer SCM/webhook-ingest",
        "create consumer SCM/env-controller",
        "create consumer EVENTS/env-controller",
        "create consumer EVENTS/builder",
        "create consumer EVENTS/dns-proxy",
        "create consumer EVENTS/notifier",
        "create consumer SCM/notifier",
        "create consumer SCM/cdevents",
        "create consumer EVENTS/cdevents",
    ]
    assert {change.action for change in await apply(jetstream, budget=SMALL)} == {"keep"}


async def test_the_streams_are_as_documented(server: Any, operator: Client) -> None:
    jetstream = operator.jetstream()
    for name in (SCM, EVENTS):
        config = (await jetstream.stream_info(name)).config
        assert (config.max_age, config.duplicate_window) == (KEPT, DUPLICATE_WINDOW)
        assert (config.discard, config.retention, config.storage) == (DiscardPolicy.NEW, "limits", "file")
        assert config.allow_direct
        assert config.max_bytes == 256 * MIB
    audit = (await jetstream.stream_info("AUDIT")).config
    assert (audit.deny_delete, audit.deny_purge, audit.max_age) == (True, True, 0)
    consumer = (await jetstream.consumer_info(SCM, "env-controller")).config
    assert (consumer.backoff, consumer.max_deliver) == ([10, 10, 30, 60], 5)
    assert consumer.filter_subjects == list(ENV_CONTROLLER_SCM.filters)


async def test_what_differs_is_changed_and_said(server: Any, operator: Client) -> None:
    jetstream = operator.jetstream()
    larger = replace(SMALL, scm=512 * MIB)
    await jetstream.add_consumer(SCM, replace(ENV_CONTROLLER_SCM, max_ack_pending=3).config())
    changes = [change for change in await apply(jetstream, budget=larger) if change.action != "keep"]
    assert [str(change) for change in changes] == [
        f"update stream SCM (max_bytes: {256 * MIB} → {512 * MIB})",
        "update consumer SCM/env-controller (max_ack_pending: 3 → 64)",
    ]
    assert {change.action for change in await apply(jetstream, budget=larger)} == {"keep"}


async def test_a_change_that_would_lose_messages_is_refused(server: Any, operator: Client, bus_of: Any) -> None:
    bus: Bus = await bus_of("webhook-ingest")
    jetstream = operator.jetstream()
    assert await apply(jetstream, budget=replace(SMALL, scm=900), dry=True)  # empty: nothing to lose
    for number in range(3):
        await bus.publish(pull_request(delivery=str(number)))
    with pytest.raises(WouldLose, match=r"stream SCM: max_bytes 900 is less than the \d+ bytes stored"):
        await apply(jetstream, budget=replace(SMALL, scm=900))
    await jetstream.update_stream((await jetstream.stream_info(SCM)).config.evolve(max_age=0))
    with pytest.raises(WouldLose, match="stream SCM: max_age 7776000"):
        await apply(jetstream, budget=SMALL)
    assert (await jetstream.stream_info(SCM)).state.messages == 3


async def test_state_keeps_the_last_snapshot_of_each(server: Any, operator: Client, bus_of: Any) -> None:
    bus: Bus = await bus_of("env-controller")
    jetstream = operator.jetstream()
    before = (await jetstream.stream_info(STATE)).state.last_seq  # a new STATE counts on from where the old one was
    for version in range(1, 6):
        for environment in ("pr-1", "pr-2"):
            await bus.publish(changed(version, environment=environment, uid=environment))
    while (info := await jetstream.stream_info(STATE)).state.last_seq < before + 10:
        pass
    assert info.state.messages == 2


def test_only_consumers_of_services_that_exist_are_made() -> None:
    assert consumers() == CONSUMERS
    assert consumers(["notifier"]) == (NOTIFIER_EVENTS, NOTIFIER_SCM, CDEVENTS_SCM, CDEVENTS_EVENTS)


def test_keys_are_private_and_stay(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    public = write_keys(folder, ["operator", "env-controller"])
    seed = folder / "operator.seed"
    assert stat.S_IMODE(seed.stat().st_mode) == 0o600
    assert seed.read_text().startswith("SU")
    assert all(key.startswith("U") for key in public.values())
    before = seed.read_bytes()
    assert write_keys(folder, ["operator", "env-controller", "webhook-ingest"]).items() >= public.items()
    assert seed.read_bytes() == before
    assert read_public_keys(folder / "users.json")["operator"] == public["operator"]
    assert seed.read_text().strip() not in (folder / "users.json").read_text()


def test_a_seed_file_without_a_seed_is_named(tmp_path: Path) -> None:
    (tmp_path / "operator.seed").write_text("nonsense")
    with pytest.raises(ValueError, match=r"operator\.seed holds no nkey seed"):
        write_keys(tmp_path, ["operator"])


def test_the_configuration_holds_public_keys_only(tmp_path: Path) -> None:
    public = write_keys(tmp_path, ["operator"])
    config = json.loads(nats_server_config(store_dir="store", port=4222, public_keys=public))
    assert config["jetstream"]["sync_interval"] == "always"
    assert config["jetstream"]["max_file_store"] == Budget().total
    (user,) = config["accounts"]["CATALYST"]["users"]
    assert user["nkey"] == public["operator"]
    with pytest.raises(
        ValueError, match="user 'nobody' does not exist: expected one of operator, oncall, webhook-ingest"
    ):
        nats_server_config(store_dir="store", port=4222, public_keys={"nobody": "U"})


def test_the_tool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"7 seeds and users.json in {tmp_path}\n"
    assert main(["server-config", "--store", "s", "--keys", str(tmp_path / "users.json")]) == 0
    assert json.loads(capsys.readouterr().out)["port"] == 4222
    assert main(["apply", "--url", "nats://127.0.0.1:1"]) == 2
    assert "catalyst.events apply: no connection to nats://127.0.0.1:1: " in capsys.readouterr().err


async def test_the_tool_checks(bare_server: Any, operator: Client) -> None:
    async def run(*arguments: str) -> tuple[int, str]:
        seed = str(bare_server.seed("operator"))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "catalyst.events",
            *arguments,
            "--url",
            bare_server.url,
            "--seed",
            seed,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode()

    await apply(operator.jetstream(), budget=SMALL)
    code, said = await run("check")
    assert code == 1, said
    assert "update stream SCM (max_bytes" in said


def test_how_a_stream_differs_is_told_from_the_servers_own_words() -> None:
    """Bytes and copies are the installation's choice."""
    (wanted,) = (stream for stream in streams() if stream.name == "EVENTS")
    told = {**wanted.as_dict(), "max_bytes": 4096, "num_replicas": 3}
    assert stream_differences(told, wanted) == ()
    assert stream_differences({**told, "discard": "old"}, wanted) == ("discard: old → new",)


def test_how_a_consumer_differs_is_told_from_the_servers_own_words() -> None:
    wanted = consumers()[0].config()
    assert consumer_differences(wanted.as_dict(), wanted) == ()
    assert consumer_differences({**wanted.as_dict(), "max_deliver": 1}, wanted) == ("max_deliver: 1 → 20",)
