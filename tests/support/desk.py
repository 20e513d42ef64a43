"""Where somebody on call sits: the bus as any of its users, and `catalyst` as people run it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from catalyst.events.bus import Bus, BusSettings, Published
from catalyst.events.catalogue import EnvironmentChanged
from catalyst.events.event import Event
from catalyst.events.users import ONCALL, inbox_prefix
from catalyst.local.nats import Nats
from catalyst.model.clock import utc_now

CATALYST = Path(sys.executable).parent / "catalyst"
PATIENCE = 15.0
"""Seconds until STATE follows EVENTS: the first time takes the server a while."""


@dataclass(frozen=True)
class Ran:
    """What a run printed, and its exit code."""

    code: int
    out: str
    err: str


@dataclass
class Desk:
    """Where somebody on call sits. `bus_of` connects as any user, `catalyst` runs the program as `oncall`."""

    nats: Nats
    home: Path
    stack: AsyncExitStack
    buses: dict[str, Bus] = field(default_factory=dict)

    async def bus_of(self, user: str) -> Bus:
        if user not in self.buses:
            settings = BusSettings(
                self.nats.url, self.nats.seed(user), inbox_prefix(user), publish_patience=2.0, drain_patience=1.0
            )
            self.buses[user] = await Bus.connect(settings, name=user, clock=utc_now)
            self.stack.push_async_callback(self.buses[user].drain)
        return self.buses[user]

    async def oncall(self) -> Bus:
        return await self.bus_of(ONCALL)

    async def publish(self, events: Iterable[Event]) -> list[Published]:
        """Each by the service that says it. Returns when STATE has its copies: the server makes them a moment later."""
        said = [(event, await (await self.bus_of(event.source)).publish(event)) for event in events]
        newest = {
            event.subject: event
            for event, published in said
            if isinstance(event.data, EnvironmentChanged) and not published.duplicate
        }
        async with asyncio.timeout(PATIENCE):
            for subject, event in newest.items():
                while not await self._is_copied(subject, event):
                    await asyncio.sleep(0.01)
        return [published for _, published in said]

    async def _is_copied(self, subject: str, event: Event) -> bool:
        found = await (await self.oncall()).state(subject)
        return found is not None and found.event().message_id == event.message_id

    async def catalyst(self, *arguments: str, user: str = ONCALL, **environ: str) -> Ran:
        found = {
            "CATALYST_NATS_URL": self.nats.url,
            "CATALYST_NATS_SEED_FILE": str(self.nats.seed(user)),
            "USER": "hubot",
            **environ,
        }
        return await asyncio.to_thread(run, self.home, arguments, found)


def run(home: Path, arguments: Iterable[str], environ: Mapping[str, str]) -> Ran:
    """`catalyst` with an environment of its own; whatever it says, it is no traceback."""
    clean = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONWARNINGS": "error", **environ}
    done = subprocess.run([CATALYST, *arguments], env=clean, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)
