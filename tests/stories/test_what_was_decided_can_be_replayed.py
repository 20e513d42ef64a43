"""What was decided about a pull request is recorded, holds no secret, and is decided again elsewhere: the same."""

from __future__ import annotations

import asyncio
import base64
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from stage import Stage

from catalyst.env_controller.core.recorded import Record
from catalyst.env_controller.core.recorded import records as kept_in
from catalyst.env_controller.effects.decisions import HELD
from catalyst.events.topology import DECISIONS

CANARY = "canary-4711-of-a-secret"
COMPONENT = {
    "name": "web",
    "image": "nginx",
    "env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "own", "key": "key"}}}],
}


@pytest.fixture
def controller_settings() -> dict[str, Any]:
    return {"registry": "registry.test:5000"}


async def program(stage: Stage, *words: str | Path) -> tuple[int, str]:
    """`python -m catalyst.env_controller …` as the operator; its status and all it said."""
    nats = stage.installation.nats
    bus = (
        []
        if words[0] == "replay" and str(words[1]).endswith(".gz")
        else ["--url", nats.url, "--seed", nats.seed("operator")]
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "catalyst.env_controller",
        *map(str, [*words, *bus]),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def lived(stage: Stage) -> list[str]:
    """A pull request with a component that crashes and a database; opened and closed. Gives the secrets it met."""
    stage.grant()
    stage.project(components=[COMPONENT], services=[{"name": "db", "engine": "postgres"}])
    await stage.accepted()
    payload = stage.pull_request(1)
    payload["pull_request"]["body"] = f"my {CANARY}-in-the-payload"
    await stage.deliver(payload)
    await stage.until(lambda: _pods_of_web(stage), "its pod was admitted")
    secret = {"stringData": {"key": f"{CANARY}-in-a-secret"}, "apiVersion": "v1", "kind": "Secret"}
    where = {"namespace": f"{stage.team}--shop--pr-1", "name": "own"}
    stage.installation.apply({**secret, "metadata": where})
    pod = min(_pods_of_web(stage))
    last = {"terminated": {"exitCode": 1, "reason": "Error", "message": f"no access\npassword={CANARY}-last-words"}}
    container = {"name": "web", "image": "nginx", "imageID": "nginx", "ready": False, "restartCount": 3}
    waiting = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": last}
    status = {"phase": "Running", "containerStatuses": [{**container, **waiting}]}
    stage.patch(f"{stage.path_of('Pod', 'pr-1', pod)}/status", {"status": status})
    await stage.until(lambda: _reason(stage) == "CrashLoop", "it is said that it crashes", within=15)
    made = stage.object("Secret", "pr-1", "db-credentials")["data"]["password"]
    await stage.deliver(stage.pull_request(1, action="closed", state="closed"))
    await stage.gone("pr-1")
    return [CANARY, base64.b64decode(made).decode(), made]


def _pods_of_web(stage: Stage) -> list[str]:
    return [name for name in stage.names_of("Pod", "pr-1") if name.startswith("web-")]


def _reason(stage: Stage) -> str | None:
    found = (stage.environment("pr-1") or {}).get("status", {}).get("components", [])
    return next((each.get("reason") for each in found if each["name"] == "web"), None)


async def records(stage: Stage) -> list[Record]:
    """All that was decided about this team so far."""
    found = stage._operator.bus.replay(DECISIONS, f"decision.{stage.team}.>")
    return [record async for stored in found for record in kept_in(zlib.decompress(stored.data))]


async def test_recorded_without_secrets_exported_and_decided_again(stage: Stage, tmp_path: Path) -> None:
    secrets = await lived(stage)
    name = f"{stage.team}/shop/pr-1"

    async def is_released() -> bool:
        return any(record.result.get("release") for record in await records(stage))

    await stage.until_async(is_released, "the last decision is recorded")
    found = await records(stage)
    text = b"\n".join(record.text() for record in found).decode()
    for secret in secrets:
        assert secret not in text
        assert base64.b64encode(secret.encode()).decode().rstrip("=")[:-1] not in text
    assert '"terminated":{"exitCode":1,' in text, "that the pod ended was seen, without its last words"
    assert '"secretKeyRef"' in text, "what names a Secret is there"

    # Whole: by which message, of which code, for what.
    rules = [record.head.rule for record in found]
    assert set(rules) == {"project", "pull_request", "environment"}
    opened = next(record for record in found if record.head.rule == "pull_request")
    assert opened.head.event == opened.head.cause == f"webhook-ingest/{stage.team}-0001"
    assert opened.head.key == f"FactKey scm.github.{stage.team}.shop.pull_request.1"
    assert set(opened.result) == {"create"}
    made = next(record for record in found if record.head.rule == "environment")
    assert made.head.subject == f"decision.{stage.team}.shop.pr-1"
    assert made.head.cause == opened.head.cause

    # Taken along, and decided again without the bus.
    history = tmp_path / "history.jsonl.gz"
    status, said = await program(stage, "export", history, "--environment", name)
    assert status == 0, said
    own = [record for record in found if record.head.subject == f"decision.{stage.team}.shop.pr-1"]
    assert f"{len(own)} decisions, {own[0].head.at} to {own[-1].head.at}" in said
    status, said = await program(stage, "replay", history)
    assert (status, f"none of {len(own)} differs" in said) == (0, True), said
    status, said = await program(stage, "replay", "--environment", name)
    assert (status, f"none of {len(own)} differs" in said) == (0, True), said
    status, said = await program(stage, "replay", "--from", own[0].head.at, "--environment", name)
    assert status == 0, said
    within = ("--from", own[1].head.at, "--to", own[2].head.at)  # a part of what is in one message
    part = [record for record in own if own[1].head.at <= record.head.at <= own[2].head.at]
    assert len(part) < len(own)
    status, said = await program(stage, "replay", *within, "--environment", name)
    assert (status, f"none of {len(part)} differs" in said) == (0, True), said

    # What is not there is said with what is.
    status, said = await program(stage, "replay", "--environment", f"{stage.team}/shop/pr-2")
    assert status == 2
    assert said.startswith(f"replay: no decision about {stage.team}/shop/pr-2 is kept; near it are {name}")
    status, said = await program(stage, "replay", "--to", "2020-01-01T00:00:00Z", "--environment", name)
    assert status == 2
    assert f"nothing was decided about {name} in that time: the oldest decision that is kept is from 20" in said
    assert "expected team/project/environment" in (await program(stage, "replay", "--environment", "pr-1"))[1]


async def test_at_rest_nothing_is_recorded(stage: Stage) -> None:
    stage.grant()
    stage.project()
    await stage.accepted()
    await stage.deliver(stage.pull_request(1))
    await stage.until(lambda: stage.phase("pr-1") == "Building", "its build is asked for")
    await stage.handled()
    await asyncio.sleep(HELD + 1)
    before = len(await records(stage))
    await stage.deliver(stage.pull_request(1, action="labeled", labels=["x"]))
    await stage.handled()
    stage.project()
    await asyncio.sleep(HELD + 1)
    assert len(await records(stage)) == before
    await stage.deliver(stage.pull_request(1, action="synchronize", sha="b" * 40, before="a" * 40))
    await stage.until(lambda: stage.commit("pr-1") == "b" * 40, "the push is seen")
    await asyncio.sleep(HELD + 1)
    assert len(await records(stage)) > before
