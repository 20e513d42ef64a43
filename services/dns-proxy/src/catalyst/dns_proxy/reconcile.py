"""Look at all there is, ask the core, act; again at every piece of news and every few seconds.

```
mirror (STATE) ─▶ wanted ─▶ for each edge:  current ─▶ plan ─▶ replace, if it differs
                       └──▶ public names (Cloudflare):  the same
                  every host in question is asked for in public ─▶ answers ─▶ route.changed
```

There is one key, the table: a route can only be judged beside the others (two may claim one host). What fails is tried
again with growing pauses; it holds up no other edge. Only the leader runs this.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog
from opentelemetry import metrics

from catalyst.dns_proxy.core import caddy
from catalyst.dns_proxy.core.answers import Answer, Known, Said, Seen, answers, hosts, repeats
from catalyst.dns_proxy.core.caddy import Layout
from catalyst.dns_proxy.core.plan import Plan, plan
from catalyst.dns_proxy.core.routes import LEAVING, Entry, Wanted, wanted
from catalyst.dns_proxy.effects.edge import EdgeError, Edges, Replica, Serves
from catalyst.dns_proxy.effects.names import NamesError, PublicNames
from catalyst.dns_proxy.mirror import Mirror
from catalyst.events import tracing
from catalyst.events.catalogue import EnvironmentName, RouteChanged
from catalyst.events.errors import BusError
from catalyst.events.event import Event, route_changed
from catalyst.events.locks import LostLock
from catalyst.events.stored import Published
from catalyst.model.clock import Clock
from catalyst.model.environment import Phase
from catalyst.model.snapshot import Snapshot

log = structlog.get_logger()
meter = metrics.get_meter("catalyst.dns_proxy")
programmed = meter.create_counter("catalyst_edge_tables_written", description="tables written to an edge")
failed = meter.create_counter("catalyst_dns_proxy_failures", description="looks that failed, by what")
answered = meter.create_counter("catalyst_route_answers", description="route.changed published, by live")

AT_ONCE: Final = 16
"""Hosts asked for at the same time."""
SERVED_WITHIN: Final = 5.0
"""Seconds until an edge serves the table that it took."""
FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 15.0


class Publisher(Protocol):
    """`catalyst.events.bus.Bus` is it."""

    async def publish(self, event: Event) -> Published:
        """Return when the event is stored durably. Raises `Unpublished`."""


class Leadership(Protocol):
    """`catalyst.events.locks.Lock` is it."""

    def fence(self) -> int:
        """The token to write with. Raises `LostLock`."""

    async def confirm(self) -> None:
        """Asks the bus. Raises `LostLock`."""


@dataclass(frozen=True, slots=True)
class Programmed:
    """What one edge serves now, as planned."""

    replica: Replica
    plan: Plan
    revision: str


class Reconciler:
    """Everything dns-proxy does, but for serving pages. All durations in seconds."""

    def __init__(
        self,
        mirror: Mirror,
        edges: Edges,
        names: PublicNames,
        publisher: Publisher,
        leadership: Leadership,
        layout: Layout,
        clock: Clock,
    ) -> None:
        self._mirror = mirror
        self._edges = edges
        self._names = names
        self._publisher = publisher
        self._leadership = leadership
        self._layout = layout
        self._clock = clock
        self._said: dict[tuple[str, str], Said] = {}
        self._programmed: dict[str, Programmed] = {}
        self._looked_at = -1
        self._aim = Wanted()
        self.news = asyncio.Event()
        self.problems: list[str] = []

    async def lead(self, *, look_seconds: float, resync_seconds: float) -> None:
        """Until cancelled: a look at every piece of news and every `look_seconds`; whole every `resync_seconds`."""
        loop = asyncio.get_running_loop()
        self._programmed.clear()
        pause, whole_at = FIRST_PAUSE, loop.time()
        while True:
            self.news.clear()
            whole = loop.time() >= whole_at
            await self.look(whole=whole)
            if whole and not self.problems:
                whole_at = loop.time() + resync_seconds
            pause = min(pause * 2, LONGEST_PAUSE) if self.problems else FIRST_PAUSE
            try:
                async with asyncio.timeout(pause if self.problems else look_seconds):
                    await self.news.wait()
            except TimeoutError:
                continue

    async def look(self, *, whole: bool) -> None:
        """One look: `problems` says afterwards what did not work. `whole`: also where nothing seems to have changed."""
        problems: list[str] = []
        await self._try("state", self._mirror.refresh(), problems)
        if not self._mirror.loaded:
            self._report(problems)
            return
        changes, known = self._mirror.changes, list(self._mirror.known())
        snapshots = [one.snapshot for one in known]
        aim = wanted(snapshots, self._layout.zone)
        again = whole or bool(self.problems)
        done = await self._program_all(aim, snapshots, problems, whole=again or aim != self._aim)
        if again or changes != self._looked_at:
            table = {entry.host: entry for one in done for entry in one.plan.table.values()} or dict(aim.entries)
            await self._try("names", self._names.reconcile(table.values(), snapshots, self._leadership.fence), problems)
            named = not any(problem.startswith("names") for problem in problems)
            await self._try("answers", self._answer(known, aim, done, named=named), problems)
        if not problems:
            self._looked_at, self._aim = changes, aim
        self._report(problems)

    # The edges

    async def _program_all(
        self, aim: Wanted, snapshots: Sequence[Snapshot], problems: list[str], *, whole: bool
    ) -> list[Programmed]:
        replicas: list[Replica] = []

        async def found() -> None:
            replicas.extend(await self._edges.replicas())

        await self._try("edges", found(), problems)
        addresses = {replica.address for replica in replicas}
        self._programmed = {at: one for at, one in self._programmed.items() if at in addresses}
        await asyncio.gather(
            *(self._try("edge", self._program(replica, aim, snapshots, whole=whole), problems) for replica in replicas)
        )
        return [self._programmed[at] for at in sorted(addresses) if at in self._programmed]

    async def _program(self, replica: Replica, aim: Wanted, snapshots: Sequence[Snapshot], *, whole: bool) -> None:
        before = self._programmed.get(replica.address)
        if not whole and before is not None and await replica.revision() == before.revision:
            return
        self._programmed.pop(replica.address, None)
        current = await replica.current()
        token = self._leadership.fence()
        if current.table.token > token:
            # A later leader was here; or the bus was made anew and counts from the start. The lock itself knows.
            await self._leadership.confirm()
            log.warning("table of an unknown leader replaced", edge=replica.address, token=current.table.token)
        planned = plan(current.table.entries, aim, snapshots)
        routes = caddy.routes(planned.table.values(), self._layout, token=token)
        if routes != current.routes:
            await replica.replace(routes, current.etag)
            programmed.add(1)
            log.info(
                "edge programmed",
                edge=replica.address,
                routes=len(planned.table),
                added=[entry.host for entry in planned.put][:20],
                removed=[entry.host for entry in planned.remove][:20],
                kept=[entry.host for entry in planned.kept][:20],
            )
        await self._served(replica, caddy.revision(routes))
        self._programmed[replica.address] = Programmed(replica, planned, caddy.revision(routes))

    async def _served(self, replica: Replica, revision: str) -> None:
        """Returns when visitors get this table. Raises `EdgeError`."""
        for _ in range(round(SERVED_WITHIN / 0.02)):
            if await replica.revision() == revision:
                return
            await asyncio.sleep(0.02)
        raise EdgeError(f"edge {replica.address}: it took the table, but does not serve it")

    # What is told

    async def _answer(self, known: Sequence[Known], aim: Wanted, done: Sequence[Programmed], *, named: bool) -> None:
        refused = dict(aim.refused)
        for one in done:
            refused.update(one.plan.refused)
        for entry in aim.entries.values():
            if reason := self._names.refused(entry.host):
                refused[entry.uid, entry.host] = reason
        asked = [
            (one.snapshot, host)
            for one in known
            for host in hosts(one.snapshot)
            if self._is_open(one, host) and (one.snapshot.phase in LEAVING or (one.snapshot.uid, host) not in refused)
        ]
        limit = asyncio.Semaphore(AT_ONCE)

        async def look(snapshot: Snapshot, host: str) -> Seen:
            async with limit:
                return await self._seen(snapshot, host, named=named)

        found = await asyncio.gather(*(look(snapshot, host) for snapshot, host in asked))
        seen = {(snapshot.uid, host): one for (snapshot, host), one in zip(asked, found, strict=True)}
        for answer in answers(known, refused, seen, self._said):
            await self._publish(answer)
        self._forget(known)
        waiting = [host for (snapshot, host), one in zip(asked, found, strict=True) if one == "unclear"]
        if waiting:
            raise EdgeError(f"it cannot be said yet whether these are served: {', '.join(waiting[:10])}")

    def _is_open(self, one: Known, host: str) -> bool:
        """Whether there may be something to say, so that it is worth asking."""
        if one.snapshot.phase == Phase.GONE:
            return False
        said = self._said.get((one.snapshot.uid, host))
        if said is None or repeats(one.event, said):
            return True
        # A refusal (with a reason) is not yet the answer that it is gone.
        return said.live or said.reason is not None if one.snapshot.phase in LEAVING else not said.live

    async def _seen(self, snapshot: Snapshot, host: str, *, named: bool) -> Seen:
        """What a visitor would find, by all edges that exist now and the public names."""
        try:
            replicas = await self._edges.replicas()
        except EdgeError:
            return "unclear"
        entry = Entry(host, "", snapshot.uid, "", "", 0)
        told = await asyncio.gather(*(replica.serves(host, caddy.whose(entry)) for replica in replicas))
        leaving = snapshot.phase in LEAVING
        return together(told, self._names.seen(host) if named else "unclear", leaving=leaving)

    async def _publish(self, answer: Answer) -> None:
        snapshot = answer.known.snapshot
        name = EnvironmentName(
            team=snapshot.identity.team,
            project=snapshot.identity.project,
            environment=snapshot.identity.environment,
            uid=snapshot.uid,
        )
        data = RouteChanged(environment=name, host=answer.host, live=answer.live, reason=answer.reason)
        about: dict[str, str | int | bool] = {
            "catalyst.environment": str(snapshot.key),
            "catalyst.host": answer.host,
            "catalyst.live": answer.live,
        }
        since = min(answer.known.event.time, self._clock())
        with (
            tracing.resumed(answer.known.event.traceparent),
            tracing.spanning("route", about, since=since, links=[answer.cause.traceparent]),
        ):
            await self._publisher.publish(route_changed(data, causing=answer.cause, time=self._clock()))
            log.info("route told", host=answer.host, uid=snapshot.uid, live=answer.live, reason=answer.reason)
        self._said[answer.key] = answer.said
        answered.add(1, {"live": str(answer.live).lower()})

    def _forget(self, known: Iterable[Known]) -> None:
        alive = {one.snapshot.uid for one in known if one.snapshot.phase != Phase.GONE}
        self._said = {key: said for key, said in self._said.items() if key[0] in alive}

    # Trouble

    async def _try(self, what: str, work: Awaitable[None], problems: list[str]) -> None:
        """What fails is noted and tried again at the next look; it stops nothing else."""
        try:
            await work
        except (EdgeError, NamesError, BusError, LostLock) as exc:
            problems.append(f"{what}: {exc}")
            failed.add(1, {"what": what})

    def _report(self, problems: list[str]) -> None:
        if problems and problems != self.problems:
            log.warning("not everything could be done, tried again", problems=problems[:10])
        if self.problems and not problems:
            log.info("everything is done again")
        self.problems = problems


def together(edges: Sequence[Serves], names: Seen | None, *, leaving: bool) -> Seen:
    """One word for all edges and the names. Pure.

    To be served, one edge must serve it and none something else; one that is silent gets no visitors either. To be
    absent, every edge must say so or be shut: silence proves nothing.
    """
    if leaving:
        absent = bool(edges) and all(one in ("other", "refused") for one in edges)
        return "absent" if absent and names in (None, "absent") else "unclear"
    served = "this" in edges and "other" not in edges
    return "served" if served and names in (None, "served") else "unclear"
