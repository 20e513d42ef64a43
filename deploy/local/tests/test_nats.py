"""NATS as production runs it: users by nkey, fsync, streams that outlive the server; and faults that hit."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import nats as nats_client
import pytest
from nats.aio.client import Client

from catalyst.events.users import inbox_prefix
from catalyst.local.nats import Nats, TopologyFailed


@asynccontextmanager
async def connected(nats: Nats, user: str) -> AsyncIterator[Client]:
    async def told(_: Exception) -> None:
        """What fails is raised where it was asked for."""

    client = await nats_client.connect(
        nats.url,
        nkeys_seed=str(nats.seed(user)),
        inbox_prefix=inbox_prefix(user),
        allow_reconnect=False,
        error_cb=told,
    )
    try:
        yield client
    finally:
        await client.close()


async def test_streams_outlive_restart_and_kill(nats: Nats) -> None:
    nats.apply_topology()
    url = nats.url
    async with connected(nats, "webhook-ingest") as client:
        await client.jetstream().publish("scm.github.acme.shop.pull_request.1", b"{}")
    nats.restart()
    nats.kill()
    nats.start()
    assert nats.url == url
    async with connected(nats, "operator") as client:
        assert (await client.jetstream().stream_info("SCM")).state.messages == 1


def test_a_frozen_server_does_not_answer(nats: Nats) -> None:
    assert nats.ready()
    nats.freeze()
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"http://127.0.0.1:{nats.ports[1]}/healthz", timeout=0.3, trust_env=False)
    nats.thaw()
    assert nats.ready()


def test_without_a_seed_nobody_comes_in(nats: Nats) -> None:
    command = [sys.executable, "-m", "catalyst.events", "check", "--url", nats.url]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "authentication error" in nats.part.log.read_text()  # the client may see only a closed connection
    allowed = subprocess.run([*command, "--seed", nats.seed("operator")], capture_output=True, text=True, check=False)
    assert "create stream SCM" in allowed.stdout


def test_topology_that_cannot_be_applied_says_why(nats: Nats) -> None:
    nats.kill()
    with pytest.raises(TopologyFailed, match=r"catalyst\.events apply failed:\n.+"):
        nats.apply_topology()
