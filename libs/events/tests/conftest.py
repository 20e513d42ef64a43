"""A real nats-server for each test, with our own configuration, users and topology, and a Bus as one of those users."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from catalyst.events.applying import apply
from catalyst.events.bus import Bus, BusSettings
from catalyst.events.examples import NOW
from catalyst.events.keys import write_keys
from catalyst.events.readers import Reader
from catalyst.events.server import nats_server_config
from catalyst.events.topology import Budget
from catalyst.events.users import OPERATOR, inbox_prefix, users
from catalyst.model.points import Points, no_points

MIB = 1024 * 1024
SMALL = Budget(scm=256 * MIB, events=256 * MIB, state=64 * MIB, audit=64 * MIB, dead=64 * MIB)
READERS = (Reader("acme", "ci"), Reader("acme", "bot"), Reader("beta", "ci"))
ROOMY = replace(SMALL, scm=512 * MIB)


class Server:
    """One nats-server process on a port of its own. The store survives `restart` and `kill`."""

    def __init__(self, folder: Path, *, sync_always: bool = False) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        names = [user.name for user in users()] + [reader.user for reader in READERS]
        public = write_keys(folder / "keys", names)
        self.config = folder / "nats.json"
        self.config.write_text(
            nats_server_config(
                store_dir=folder / "store", port=self.port, public_keys=public, sync_always=sync_always, budget=ROOMY
            )
        )
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def seed(self, user: str) -> Path:
        return self.folder / "keys" / f"{user}.seed"

    def start(self) -> None:
        binary = Path(sys.executable).parent / "nats-server"
        with (self.folder / "nats.log").open("ab") as log:
            self.process = subprocess.Popen([binary, "-c", self.config], stdout=log, stderr=log)

    async def answers(self) -> None:
        for _ in range(200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                assert self.process
                assert self.process.poll() is None, (self.folder / "nats.log").read_text()
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                return
        raise TimeoutError((self.folder / "nats.log").read_text())

    def send(self, number: signal.Signals) -> None:
        assert self.process
        os.kill(self.process.pid, number)
        if number == signal.SIGSTOP:  # until every thread has stopped the server may still answer
            os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.send(signal.SIGCONT)
            self.send(number)
            self.process.wait(10)
            self.process = None

    def restart(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.stop(number)
        self.start()


@contextmanager
def started(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def bare_server(tmp_path: Path) -> Iterator[Server]:
    """A server without streams."""
    with started(tmp_path) as server:
        yield server


@pytest.fixture
async def operator(bare_server: Server) -> AsyncIterator[Client]:
    """A connection as the operator."""
    client = await client_of(bare_server, OPERATOR)
    yield client
    await client.close()


@pytest.fixture
async def server(bare_server: Server, operator: Client) -> Server:
    """A server with the topology."""
    await apply(operator.jetstream(), budget=SMALL, readers=READERS)
    return bare_server


async def client_of(server: Server, user: str, **options: Any) -> Client:
    await server.answers()
    return await nats.connect(
        server.url,
        nkeys_seed=str(server.seed(user)),
        inbox_prefix=inbox_prefix(user),
        reconnect_time_wait=0.1,
        max_reconnect_attempts=-1,
        **options,
    )


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Server]:
    """Another server, with users of its own and without streams."""
    (tmp_path / "other").mkdir()
    with started(tmp_path / "other") as server:
        yield server


@pytest.fixture
async def other(empty: Server) -> AsyncIterator[Client]:
    """A connection as the operator of the server `empty`."""
    client = await client_of(empty, OPERATOR)
    yield client
    await client.close()


BusOf = Callable[..., Any]


@pytest.fixture
async def bus_of(server: Server) -> AsyncIterator[BusOf]:
    """`await bus_of("env-controller")`: a Bus as that user, drained at the end."""
    async with AsyncExitStack() as stack:

        async def made(user: str, *, points: Points = no_points, **settings: Any) -> Bus:
            bus = await Bus.connect(
                replace(BusSettings(server.url, server.seed(user), inbox_prefix(user)), **settings),
                name=user,
                clock=lambda: NOW,
                points=points,
            )
            stack.push_async_callback(bus.drain)
            return bus

        yield made


@pytest.fixture
def connect(server: Server) -> Callable[..., Any]:
    """`await connect("webhook-ingest")`: a bare connection as that user, which the test closes."""
    return partial(client_of, server)
