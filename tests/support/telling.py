"""notifier as a process of its own between a real NATS and the double of GitHub. The test plays env-controller."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import faulted
from doubles.github import GitHubDouble
from doubles.github.state import Comment, PullRequest
from faulted import Rule
from processes import Faulted

from catalyst.events.bus import Bus, BusSettings
from catalyst.events.catalogue import CommandGiven, Repository
from catalyst.events.event import environment_changed, scm_event
from catalyst.events.users import inbox_prefix
from catalyst.local.nats import Nats
from catalyst.local.process import Part, free_ports
from catalyst.model.clock import utc_now
from catalyst.model.snapshot import Snapshot
from catalyst.notifier.core.comment import MARK

REPOSITORY = "acme/shop"
BOT = "catalyst[bot]"


@dataclass
class Telling:
    """One repository with the App installed. `say` publishes what env-controller would."""

    folder: Path
    nats: Nats
    github: GitHubDouble
    controller: Bus
    ingest: Bus
    running: list[Faulted] = field(default_factory=list)

    def pull_request(self, branch: str = "basket") -> PullRequest:
        """A new one, with one commit."""
        self.github.commit(REPOSITORY, branch, {f"{branch}.txt": "hello"})
        return self.github.open_pull_request(REPOSITORY, head=branch)

    def notifier(self, *rules: Rule, name: str = "notifier", plant: str = "", **settings: object) -> Faulted:
        """Started; ended when the test ends."""
        log, (port,) = self.folder / f"{name}.points", free_ports(1)
        key = self.folder / "app.pem"
        key.write_text(self.github.private_key)
        variables = {
            "CATALYST_NATS_URL": self.nats.url,
            "CATALYST_NATS_SEED_FILE": str(self.nats.seed("notifier")),
            "CATALYST_GITHUB_URL": self.github.url,
            "CATALYST_GITHUB_APP_ID": str(self.github.app.id),
            "CATALYST_GITHUB_PRIVATE_KEY_FILE": str(key),
            "CATALYST_RUNBOOKS_URL": "https://docs.example/runbooks",
            "CATALYST_IDENTITY": name,
            "CATALYST_LOCK_SECONDS": "3",
            "CATALYST_OPS_HOST": "127.0.0.1",
            "CATALYST_OPS_PORT": str(port),
            "FAULTS": json.dumps([asdict(rule) for rule in rules]),
            "FAULTS_LOG": str(log),
            "PLANT": plant,
            **{f"CATALYST_{setting.upper()}": str(value) for setting, value in settings.items()},
        }
        faulted.phase_file(log).write_text(faulted.BOOT)
        command: list[str | Path] = [sys.executable, Path(faulted.__file__), "notifier"]
        made = Faulted(Part(name, command, self.folder / f"{name}.log", env=variables, stop_within=10), log, port)
        self.running.append(made)
        made.part.start()
        return made

    async def say(self, *snapshots: Snapshot, clock_is_off: timedelta = timedelta(0)) -> None:
        """`clock_is_off`: by how much env-controller's clock is wrong."""
        for snapshot in snapshots:
            await self.controller.publish(environment_changed(snapshot, time=datetime.now(UTC) + clock_is_off))

    async def command(self, pull: PullRequest, name: str, **fields: Any) -> Comment:
        """Somebody who may write gives a command; webhook-ingest has asked the forge."""
        comment = self.github.write_comment(pull, f"/catalyst {name}", author="mona")
        fact = CommandGiven(
            repository=Repository(
                forge="github", id=pull.repository.id, full_name=REPOSITORY, default_branch="main",
                clone_url=self.github.clone_url(REPOSITORY), private=False, fork=False,
            ),
            number=pull.number, command=name, author="mona", permission="write", comment_id=comment.id,
            url=f"https://github.com/{REPOSITORY}/pull/{pull.number}", given_at=datetime.now(UTC),
            **{"head_sha": pull.head, **fields},
        )  # fmt: skip
        await self.ingest.publish(scm_event(fact, delivery=f"command-{comment.id}", time=datetime.now(UTC)))
        return comment

    def ours(self, pull: PullRequest) -> list[Comment]:
        """What carries our mark."""
        return [comment for comment in self.comments(pull) if comment.body.startswith(MARK)]

    def text(self, pull: PullRequest) -> str:
        """Our one comment; empty when there is none. Fails when there are two."""
        found = self.ours(pull)
        assert len(found) <= 1, [comment.body for comment in found]
        return found[0].body if found else ""

    def comments(self, pull: PullRequest) -> list[Comment]:
        with self.github.lock:
            return sorted(pull.comments.values(), key=lambda comment: comment.id)

    def writes(self, path: str = "", *, answered: range = range(600)) -> list[str]:
        """`METHOD path` of all writes so far whose path holds `path`."""
        return [
            f"{method} {asked}"
            for method, asked, status in self.github.requests
            if method != "GET" and "access_tokens" not in asked and path in asked and status in answered
        ]


async def until(condition: Callable[[], Any], within: float = 15.0) -> float:
    """Waits until it is true, looking often. Returns the seconds it took."""
    began = asyncio.get_running_loop().time()
    while not condition():
        assert asyncio.get_running_loop().time() - began < within, "did not come true in time"
        await asyncio.sleep(0.01)
    return asyncio.get_running_loop().time() - began


@asynccontextmanager
async def telling(folder: Path, nats: Nats) -> AsyncIterator[Telling]:
    """Everything but notifier itself."""
    nats.apply_topology()
    async with GitHubDouble() as github:
        github.repository(REPOSITORY, files={"Dockerfile": "FROM scratch\n"})
        github.install("acme")
        on = Telling(folder, nats, github, await _bus(nats, "env-controller"), await _bus(nats, "webhook-ingest"))
        try:
            yield on
        finally:
            for each in on.running:
                await asyncio.to_thread(each.part.stop)
            await on.controller.drain()
            await on.ingest.drain()


async def _bus(nats: Nats, user: str) -> Bus:
    settings = BusSettings(nats.url, nats.seed(user), inbox_prefix(user))
    return await Bus.connect(settings, name=user, clock=utc_now, spans=False)
