"""The whole service as a process, as its own NATS user, against a real server: what is answered, and what is stored."""

import asyncio
import contextlib
import hashlib
import hmac
import os
import re
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import nats as nats_py
import orjson
import psutil
import pytest

from catalyst.events.binding import decode
from catalyst.events.users import OPERATOR, inbox_prefix
from catalyst.local.nats import Nats

SECRETS = ("the old secret", "the new secret")
PAYLOADS = Path(__file__).parents[3] / "tests" / "data" / "github-webhooks" / "payloads.jsonl"


def payload(name: str) -> bytes:
    with PAYLOADS.open("rb") as lines:
        return next(orjson.dumps(line["payload"]) for line in map(orjson.loads, lines) if line["name"] == name)


OPENED = payload("pull_request/opened/1")
SUBJECT = "scm.github.codertocat.hello-world.pull_request.2"


def signed(body: bytes, event: str = "pull_request", delivery: str = "", secret: str = SECRETS[0]) -> dict[str, str]:
    return {
        "content-type": "application/json",
        "x-github-event": event,
        "x-github-delivery": delivery or str(uuid.uuid4()),
        "x-hub-signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
    }


@dataclass
class Ingest:
    """A running webhook-ingest."""

    process: asyncio.subprocess.Process
    url: str = ""
    ops: str = ""
    log: list[dict[str, Any]] = field(default_factory=list)

    async def post(self, body: bytes, headers: dict[str, str]) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            return await client.post(f"{self.url}/webhooks/github", content=body, headers=headers)

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            return await client.get(f"{self.ops}{path}")

    async def readiness(self, status: int, *, within: float) -> httpx.Response:
        async with asyncio.timeout(within):
            while True:
                answer = await self.get("/readyz")
                if answer.status_code == status:
                    return answer
                await asyncio.sleep(0.1)

    async def follow(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            entry = orjson.loads(line)
            self.log.append(entry)
            if entry["event"] == "ops listening":
                self.ops = f"http://127.0.0.1:{entry['port']}"
            if entry["event"] == "webhooks listening":
                self.url = f"http://127.0.0.1:{entry['port']}"

    async def ready(self) -> None:
        async with asyncio.timeout(20):
            while not any(entry["event"] == "ready" for entry in self.log):
                assert self.process.returncode is None, self.log
                await asyncio.sleep(0.02)


@pytest.fixture(name="bus")
def _bus(nats: Nats) -> Iterator[Nats]:
    nats.apply_topology()
    yield nats
    nats.thaw()


@contextlib.asynccontextmanager
async def running(bus: Nats) -> AsyncIterator[Ingest]:
    environment = {
        "PATH": os.environ["PATH"],
        "CATALYST_NATS_URL": bus.url,
        "CATALYST_NATS_SEED_FILE": str(bus.seed("webhook-ingest")),
        "CATALYST_WEBHOOK_SECRETS": "\n".join(SECRETS),
        "CATALYST_HTTP_HOST": "127.0.0.1",
        "CATALYST_HTTP_PORT": "0",
        "CATALYST_OPS_HOST": "127.0.0.1",
        "CATALYST_OPS_PORT": "0",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "catalyst.webhook_ingest", env=environment, stdout=asyncio.subprocess.PIPE
    )
    ingest = Ingest(process)
    following = asyncio.create_task(ingest.follow())
    try:
        await ingest.ready()
        yield ingest
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await following


@pytest.fixture(name="ingest")
async def _ingest(bus: Nats) -> AsyncIterator[Ingest]:
    async with running(bus) as ingest:
        yield ingest


async def stored(bus: Nats) -> list[Any]:
    """Every message of SCM, read as the operator."""

    async def told(_error: Exception) -> None:
        """Raised where it was asked for."""

    client = await nats_py.connect(
        bus.url, nkeys_seed=str(bus.seed(OPERATOR)), inbox_prefix=inbox_prefix(OPERATOR).encode(), error_cb=told
    )
    try:
        stream = client.jetstream()
        state = (await stream.stream_info("SCM")).state
        found = [await stream.get_msg("SCM", n) for n in range(state.first_seq, state.last_seq + 1) if state.messages]
        return [(message.subject, decode(message.data or b"")) for message in found]
    finally:
        await client.close()


async def test_a_pull_request_is_stored_before_it_is_answered(ingest: Ingest, bus: Nats) -> None:
    headers = signed(OPENED)
    answer = await ingest.post(OPENED, headers)
    assert (answer.status_code, answer.json()) == (
        202,
        {"delivery": headers["x-github-delivery"], "result": "published", "subject": SUBJECT, "reason": None},
    )
    ((subject, event),) = await stored(bus)
    assert (subject, event.id) == (SUBJECT, headers["x-github-delivery"])
    assert event.data.payload.raw == OPENED
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]", event.traceparent)


async def test_a_redelivery_changes_nothing(ingest: Ingest, bus: Nats) -> None:
    headers = signed(OPENED)
    answers = [await ingest.post(OPENED, headers) for _ in range(3)]
    assert [(a.status_code, a.json()["result"]) for a in answers] == [
        (202, "published"),
        (202, "duplicate"),
        (202, "duplicate"),
    ]
    assert len(await stored(bus)) == 1


async def test_what_is_refused_or_ignored_stores_nothing(ingest: Ingest, bus: Nats) -> None:
    table = [
        (OPENED, {**signed(OPENED), "x-hub-signature-256": "sha256=" + "0" * 64}, 401, "none of ours"),
        (OPENED, {k: v for k, v in signed(OPENED).items() if "signature" not in k}, 401, "is missing"),
        (b"{", signed(b"{"), 400, "body: expected a JSON object"),
        (b"{}", signed(b"{}"), 400, "action: expected a value, but it is missing"),
        (OPENED, {k: v for k, v in signed(OPENED).items() if k != "x-github-event"}, 400, "header x-github-event"),
        (b"{}", signed(b"{}", "ping"), 200, None),
        (b"{}", signed(b"{}", "installation"), 202, "installation events are not used yet"),
        (b"{}", signed(b"{}", "made_up"), 202, "made_up events are not used yet"),
    ]
    for body, headers, status, reason in table:
        answer = await ingest.post(body, headers)
        assert answer.status_code == status, answer.text
        assert (reason or "") in (answer.json()["reason"] or "")
    assert await stored(bus) == []
    assert (await ingest.post(OPENED, signed(OPENED, secret=SECRETS[1]))).status_code == 202, (
        "the rotated secret is good"
    )
    counted = (await ingest.get("/metrics")).text
    assert 'catalyst_webhooks_total{event="pull_request",forge="github",result="published"} 1.0' in counted
    assert 'catalyst_webhooks_total{event="other",forge="github",result="ignored"} 1.0' in counted
    assert 'result="refused"' in counted
    assert "made_up" not in counted
    assert SECRETS[0] not in str(ingest.log)


async def test_other_paths_and_methods(ingest: Ingest) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{ingest.url}/webhooks/github")).status_code == 405
        assert (await client.post(f"{ingest.url}/webhooks/gitlab")).status_code == 404
        assert (await client.get(f"{ingest.url}/docs")).status_code == 404


async def chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 65536):
        yield b" " * 65536


@pytest.mark.parametrize("way", ["declared", "chunked", "expects"])
async def test_a_body_of_30_mb_is_refused_without_holding_it(way: str, ingest: Ingest) -> None:
    size = 30 * 1024 * 1024
    process = psutil.Process(ingest.process.pid)
    before = process.memory_info().rss
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        headers = {"x-github-event": "push"}
        if way != "chunked":
            headers["content-length"] = str(size)
        if way == "expects":
            headers["expect"] = "100-continue"
        for _ in range(3):
            try:
                answer = await client.post(f"{ingest.url}/webhooks/github", content=chunks(size), headers=headers)
            except (httpx.WriteError, httpx.ReadError):
                assert way == "expects", "who does not wait for the permission to send is read to its end"
                continue
            assert (answer.status_code, answer.json()["result"]) == (413, "refused")
            assert "26214400 bytes" in answer.json()["reason"]
    held = process.memory_info().rss - before
    assert held < (size if way == "chunked" else 8 * 1024 * 1024), f"{held} bytes more after three bodies"
    assert (await ingest.post(OPENED, signed(OPENED))).status_code == 202


async def test_a_body_of_25_mb_is_taken(ingest: Ingest, bus: Nats) -> None:
    document = orjson.loads(OPENED)
    document["filler"] = "x" * (26_214_400 - len(OPENED) - len(b',"filler":""'))
    body = orjson.dumps(document)
    assert len(body) == 26_214_400
    assert (await ingest.post(body, signed(body))).status_code == 202
    ((_, event),) = await stored(bus)
    assert (event.data.payload, event.data.payload_omitted.size) == (None, len(body))
    body += b" "
    assert (await ingest.post(body, signed(body))).status_code == 413


async def test_nats_frozen_answers_503_in_time_and_loses_nothing(ingest: Ingest, bus: Nats) -> None:
    assert (await ingest.get("/readyz")).status_code == 200
    bus.freeze()
    headers = signed(OPENED)
    began = time.monotonic()
    answer = await ingest.post(OPENED, headers)
    assert time.monotonic() - began <= 10
    assert (answer.status_code, answer.json()["result"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    readiness = await ingest.readiness(503, within=12)
    assert "no connection" in readiness.json()["checks"]["bus"]["reason"]
    bus.thaw()
    await ingest.readiness(200, within=10)
    again = await ingest.post(OPENED, headers)
    assert again.status_code == 202
    assert len(await stored(bus)) == 1, "whether or not the first attempt was stored after all"


async def test_nats_restarted_in_a_burst_loses_nothing_that_was_accepted(ingest: Ingest, bus: Nats) -> None:
    accepted: set[str] = set()

    async def deliver(delivery: str) -> None:
        answer = await ingest.post(OPENED, signed(OPENED, delivery=delivery))
        if answer.status_code == 202:
            accepted.add(delivery)

    async def burst() -> None:
        for number in range(60):
            await asyncio.gather(*(deliver(f"{number}-{twin}") for twin in range(4)))

    bursting = asyncio.create_task(burst())
    await asyncio.sleep(0.2)
    await asyncio.to_thread(bus.kill)
    await asyncio.to_thread(bus.start)
    async with asyncio.timeout(60):
        await bursting
    found = [event.id for _, event in await stored(bus)]
    assert accepted <= set(found)
    assert len(found) == len(set(found)), "nothing is stored twice"
    assert len(accepted) == 240


async def test_sigterm_answers_what_was_begun_and_leaves_with_0(ingest: Ingest, bus: Nats) -> None:
    bus.freeze()
    begun = asyncio.create_task(ingest.post(OPENED, signed(OPENED)))
    await asyncio.sleep(0.5)
    ingest.process.send_signal(signal.SIGTERM)
    await asyncio.sleep(0.3)
    readiness = await ingest.get("/readyz")
    assert (readiness.status_code, readiness.json()["checks"]["process"]["reason"]) == (503, "stopping")
    with pytest.raises(httpx.ConnectError):
        await ingest.post(OPENED, signed(OPENED))
    bus.thaw()
    assert (await begun).status_code == 202
    async with asyncio.timeout(15):
        assert await ingest.process.wait() == 0
    assert len(await stored(bus)) == 1


async def test_a_process_that_is_killed_is_followed_by_another(bus: Nats) -> None:
    headers = signed(OPENED)
    for result in ("published", "duplicate"):
        async with running(bus) as ingest:
            assert (await ingest.post(OPENED, headers)).json()["result"] == result
            ingest.process.kill()
            await ingest.process.wait()
    assert len(await stored(bus)) == 1


async def test_without_a_secret_it_refuses_to_start(bus: Nats) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "catalyst.webhook_ingest",
        env={"PATH": os.environ["PATH"], "CATALYST_NATS_URL": bus.url, "CATALYST_WEBHOOK_SECRETS": ""},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaint = await process.communicate()
    assert process.returncode == 2
    assert complaint.decode().startswith("webhook-ingest: CATALYST_WEBHOOK_SECRETS is empty; expected")
    assert complaint.count(b"\n") == 1
