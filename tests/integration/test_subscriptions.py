"""docs/subscriptions.md, command by command: each is read from the page and run with `nats` on a real server."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from snapshots import snapshot

from catalyst.events.bus import Bus, BusSettings
from catalyst.events.catalogue import BuildFinished, EnvironmentName
from catalyst.events.event import build_finished, environment_changed
from catalyst.events.examples import NOW, pull_request
from catalyst.events.topology import CDEVENTS_EVENTS, CDEVENTS_SCM
from catalyst.events.users import inbox_prefix
from catalyst.local.components import nats_cli
from catalyst.local.nats import Nats
from catalyst.local.process import free_ports
from catalyst.model.environment import Phase
from catalyst.notifier.projecting import project

ROOT = Path(__file__).parents[2]
ADDRESS, KEYS = "nats://nats.example.org:4222", "keys/nkeys"
FENCED = re.compile(r"^```\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMANDS: list[str] = [
    line for block in FENCED.findall((ROOT / "docs" / "subscriptions.md").read_text()) for line in block.splitlines()
]
MAKE, PLACE = COMMANDS[:2]
SAVE = next(line for line in COMMANDS if " context save " in line)
ACME, BETA = ('"team":"acme"', '"team":"beta"')
FAILURE = '"outcome":"failed"'
LIVE = {
    "nats --context acme sub 'env.acme.shop.pr-42.>'": ((ACME,), (BETA, "pr-43")),
    "nats --context acme sub 'env.acme.>'": ((ACME, "pr-43"), (BETA,)),
    "nats --context acme sub 'env.acme.*.*.build.finished'": ((ACME, FAILURE), (BETA, "environment.changed.v1")),
    "nats --context acme sub --raw 'env.acme.>' | grep": ((FAILURE, '"phase":"Failed"'), (BETA, '"phase":"Ready"')),
    "nats --context oncall sub 'env.*.*.*.build.*'": ((ACME, BETA, FAILURE), ("environment.changed.v1",)),
    "nats --context oncall sub --raw 'env.>' | grep": ((ACME, BETA, FAILURE), ('"phase":"Ready"',)),
    "nats --context oncall sub 'scm.>'": (("pull_request.changed.v1",), ()),
    "nats --context oncall sub 'dead.>'": (("dead.notifier",), ()),
    "nats --context acme sub 'cdevents.env.acme.>'": (("dev.cdevents.build.finished.0.3.0",), ("beta",)),
}
"""How a command begins → what it tells, and what it must not."""
ASKED = {
    "nats --context acme req --raw CATALYST.API.DIRECT.GET.STATE": '"phase":"',
    "nats --context acme consumer next EVENTS": ACME,
    "nats --context acme consumer info EVENTS": "Unprocessed Messages",
    "nats --context acme req --raw CATALYST.API.CONSUMER.RESET": '"name":"reader--acme--ci"',
    "nats --context acme consumer next CDEVENTS": "dev.cdevents.",
}


@dataclass
class Desk:
    """Somebody's terminal, and the services that publish meanwhile."""

    nats: Nats
    env: dict[str, str]
    folder: Path
    buses: dict[str, Bus]
    version: int = 0

    def run(self, command: str) -> str:
        """What a command that ends by itself prints. Asserts that it succeeds."""
        done = subprocess.run(
            ["bash", "-c", self.here(command)],
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def here(self, command: str) -> str:
        return command.replace(ADDRESS, self.nats.url).replace("python ", f"{sys.executable} ", 1)

    async def happens(self) -> None:
        """One round of news: of two teams and two environments, good and bad."""
        self.version += 1
        for team, number, phase in (("acme", 42, Phase.FAILED), ("acme", 43, Phase.READY), ("beta", 42, Phase.FAILED)):
            told = snapshot(phase, self.version, team=team, number=number)
            await self.buses["env-controller"].publish(environment_changed(told, time=NOW))
            failed = BuildFinished(
                environment=EnvironmentName.of(told.key, told.uid),
                component="web",
                key=f"k{self.version}",
                attempt=1,
                outcome="failed",
                duration_seconds=1,
                reason="BuildFailed",
            )
            await self.buses["builder"].publish(build_finished(failed, time=NOW))
        await self.buses["webhook-ingest"].publish(pull_request(delivery=f"d-{self.version}"))
        await self.buses["notifier"].keep("dead.notifier", b"{}", {})

    async def hears(self, command: str, words: tuple[str, ...]) -> str:
        """What a command that goes on prints until it has said all of `words`, while things happen."""
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-c",
            self.here(command),
            env=self.env,
            cwd=self.folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        assert process.stdout
        told = ""
        try:
            async with asyncio.timeout(20):
                while not all(word in told for word in words):
                    await self.happens()
                    try:
                        told += (await asyncio.wait_for(process.stdout.read(2**20), 0.2)).decode()
                    except TimeoutError:
                        assert process.returncode is None, told
        except TimeoutError:
            pytest.fail(f"{command}\nsaid not all of {words}:\n{told[-4000:]}")
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        return told


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[Nats]:
    """With the reader that the page makes, by the page's command."""
    folder, ports = tmp_path / "nats", tuple(free_ports(2))
    command = MAKE.replace("python", sys.executable, 1).replace(KEYS, str(folder / "nkeys"))
    command = command.replace(ADDRESS, f"nats://127.0.0.1:{ports[0]}")
    subprocess.run(shlex.split(command), check=True, capture_output=True)
    with Nats(folder, ports=(ports[0], ports[1])) as running:
        running.apply_topology()
        yield running


@pytest.fixture
async def desk(tmp_path: Path, nats: Nats) -> AsyncIterator[Desk]:
    home = tmp_path / "home"
    (home / "keys").mkdir(parents=True)
    (home / KEYS).symlink_to(nats.folder / "nkeys")
    env = {
        "PATH": f"{nats_cli().parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
    }
    buses = {
        service: await Bus.connect(
            BusSettings(nats.url, nats.seed(service), inbox_prefix(service)), name=service, clock=lambda: NOW
        )
        for service in ("env-controller", "builder", "webhook-ingest", "notifier")
    }
    made = Desk(nats, env, home, buses)
    context = nats.folder / "nkeys" / "reader--acme--ci.json"
    (home / context.name).write_bytes(context.read_bytes())
    made.run(PLACE)
    made.run(SAVE)
    yield made
    for bus in buses.values():
        await bus.drain()


def test_every_command_of_the_page_is_run_here() -> None:
    begun = (MAKE, PLACE, SAVE, *LIVE, *ASKED)
    assert MAKE.startswith("python -m catalyst.events reader ")
    assert PLACE.startswith("mkdir ")
    for command in COMMANDS:
        assert any(command.startswith(each) for each in begun), f"no test runs {command!r}"
    for each in begun:
        assert sum(command.startswith(each) for command in COMMANDS) == 1, f"the page has not one command {each!r}"


def whole(beginning: str) -> str:
    """The one command of the page that begins so."""
    return next(command for command in COMMANDS if command.startswith(beginning))


@pytest.mark.parametrize("beginning", [each for each in LIVE if "cdevents" not in each])
async def test_what_happens_is_heard(beginning: str, desk: Desk) -> None:
    words, never = LIVE[beginning]
    told = await desk.hears(whole(beginning), words)
    assert not [word for word in never if word in told], told


async def test_what_was_missed_is_read_from_where_one_stopped(desk: Desk, nats: Nats) -> None:
    ask = {beginning: whole(beginning) for beginning in ASKED if "CDEVENTS" not in beginning}
    state, following, info, reset = ask.values()
    for _ in range(2):
        await desk.happens()
    first = desk.run(following)
    assert (first.count(ACME), first.count(BETA)) == (3, 0)
    nats.restart()
    await asyncio.wait_for(desk.happens(), 20)
    second = desk.run(following)
    assert (second.count(ACME), second.count(BETA)) == (3, 0)
    assert not set(first.splitlines()) & set(second.splitlines()) - {""}, "what was acknowledged does not come again"
    for command in (state, info, reset):
        said = next(word for beginning, word in ASKED.items() if command.startswith(beginning))
        assert said in desk.run(command)
    assert desk.run(following) == first, "from the beginning once more"


async def test_the_projection_is_heard_and_kept(desk: Desk) -> None:
    bus = desk.buses["notifier"]
    projecting = [
        asyncio.create_task(bus.consume(consumer, partial(project, bus), concurrency=4))
        for consumer in (CDEVENTS_EVENTS, CDEVENTS_SCM)
    ]
    beginning = "nats --context acme sub 'cdevents"
    (words, never) = next(each for command, each in LIVE.items() if command.startswith(beginning))
    told = await desk.hears(whole(beginning), words)
    assert not [word for word in never if word in told], told
    assert "dev.cdevents." in desk.run(whole("nats --context acme consumer next CDEVENTS"))
    for task in projecting:
        task.cancel()
    await asyncio.gather(*projecting, return_exceptions=True)
    assert bus.problems() == []
