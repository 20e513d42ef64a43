"""The sweep: forges do not send a lost webhook again by themselves, so on a timer they are asked what was missed.

| Asked | becomes |
|---|---|
| failed deliveries of three days | the fact of each, under the delivery's own GUID: stored before → a duplicate |
| open pull requests | their present state, under an id made of it |
| pull requests closed since the last time | the same: the forge's word that it is closed |

**Nothing is concluded from absence.** A forge that errs or lists nothing publishes nothing, so it deletes nothing: only
what the forge itself calls closed is.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal, Protocol

import structlog
from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from catalyst.events.catalogue import PullRequestChanged, ScmData
from catalyst.events.errors import BusError, Reject
from catalyst.events.event import scm_event
from catalyst.forge.errors import BadPayload, ForgeError, RateLimited
from catalyst.forge.protocol import FailedDelivery, Forge, Ignored, Ping
from catalyst.model.clock import Clock
from catalyst.webhook_ingest.effects import Publisher

REDELIVERABLE: Final = timedelta(days=3)
"""GitHub keeps deliveries that long, and our own ids are remembered as long."""
OVERLAP: Final = timedelta(minutes=10)
"""For a forge whose clock or lists are behind."""
FAILURES_IN_A_ROW: Final = 3
"""So many repositories that cannot be asked, and the forge is taken for broken: the next round asks again."""
ID: Final = "-swept"
"""Sorts before every GUID: where facts of one second contradict each other, the forge's own answer wins the fold."""

Kind = Literal["delivery", "pull_request"]

log = structlog.get_logger()


class Forgotten(Protocol):
    """What is asked of the forge; `catalyst.forge.client.GitHubClient` is it. Raises `ForgeError`."""

    async def repositories(self) -> list[str]:
        """Every repository that we were given."""

    async def open_pull_requests(self, repository: str) -> list[PullRequestChanged]:
        """The open ones."""

    async def closed_pull_requests(self, repository: str, since: datetime) -> list[PullRequestChanged]:
        """The closed ones that changed since then."""

    async def failed_deliveries(self, since: datetime) -> list[FailedDelivery]:
        """Webhooks that were not taken."""

    async def delivery_payload(self, delivery: int) -> tuple[dict[str, str], bytes]:
        """What one of them said."""


@dataclass(slots=True)
class Round:
    """What one round found."""

    published: int = 0
    known: int = 0
    failures: list[str] = field(default_factory=list)


class Sweep:
    """Asks again and again. `repositories`: which ones; empty: all that the sign-in was given."""

    def __init__(
        self, forge: Forge, client: Forgotten, publisher: Publisher, clock: Clock, repositories: Sequence[str] = ()
    ) -> None:
        self._forge = forge
        self._client = client
        self._publisher = publisher
        self._clock = clock
        self._repositories = tuple(repositories)
        self._told: dict[str, datetime] = {}
        """GUIDs of failed deliveries that were dealt with, and when they were sent."""
        self._seen: dict[str, dict[int, str]] = {}
        """Repository → pull request → the id of its state as last published."""
        self._asked: dict[str, datetime] = {}
        """Repository → when its closed pull requests were last asked for."""
        self._counts: Counter[tuple[Kind, str]] = Counter()
        self._last_success = clock()
        meter = metrics.get_meter("catalyst.webhook_ingest")
        meter.create_observable_counter(
            "catalyst.swept", callbacks=[self._observe], description="What the sweep found, and what became of it."
        )
        meter.create_observable_gauge(
            "catalyst_sweep_age_seconds",
            callbacks=[lambda _options: [Observation((clock() - self._last_success).total_seconds())]],
            description="Seconds since a round of the sweep had no failure.",
        )

    async def run(self, every: float) -> None:
        """A round at once, then one every `every` seconds after the end of the last; for ever."""
        while True:
            await self.round()
            await asyncio.sleep(every)

    async def round(self) -> Round:
        """Ask once. What cannot be asked or published now is left to the next round."""
        found = Round()
        for part in (self._deliveries, self._pull_requests):
            try:
                await part(found)
            except ForgeError as exc:
                found.failures.append(str(exc))
            except BusError as exc:
                found.failures.append(exc.reason)
                break
        if found.failures:
            log.warning("sweep incomplete", failures=found.failures[:5], count=len(found.failures))
        else:
            self._last_success = self._clock()
        if found.published:
            log.info("sweep found what was missed", published=found.published)
        return found

    async def _deliveries(self, found: Round) -> None:
        since = self._clock() - REDELIVERABLE
        self._told = {guid: at for guid, at in self._told.items() if at >= since}
        for delivery in await self._client.failed_deliveries(since):
            if delivery.guid in self._told:
                continue
            headers, body = await self._client.delivery_payload(delivery.id)
            await self._redelivered(headers, body, found)
            self._told[delivery.guid] = delivery.delivered_at

    async def _redelivered(self, headers: dict[str, str], body: bytes, found: Round) -> None:
        try:
            delivery = self._forge.delivery(headers)
            told = self._forge.translate(delivery, body)
        except BadPayload as exc:  # it was refused when it was sent, for the same reason
            self._counts["delivery", "refused"] += 1
            log.warning("a failed delivery cannot be read", reason=str(exc))
            return
        if isinstance(told, Ping | Ignored):
            self._counts["delivery", "ignored"] += 1
            return
        await self._publish(told, delivery.id, "delivery", found)

    async def _pull_requests(self, found: Round) -> None:
        failed = 0
        for repository in self._repositories or await self._client.repositories():
            try:
                await self._repository(repository, found)
                failed = 0
            except RateLimited as exc:  # of this installation; the client does not ask again before it ends
                found.failures.append(str(exc))
            except ForgeError as exc:
                failed += 1
                if failed == FAILURES_IN_A_ROW:
                    raise
                found.failures.append(str(exc))

    async def _repository(self, repository: str, found: Round) -> None:
        now = self._clock()
        since = self._asked.get(repository, now - REDELIVERABLE) - OVERLAP
        closed = await self._client.closed_pull_requests(repository, since)
        facts = [*closed, *await self._client.open_pull_requests(repository)]
        seen = self._seen.get(repository, {})
        self._seen[repository] = present = {}
        for fact in facts:
            id_ = state_id(fact)
            if seen.get(fact.number) == id_:
                present[fact.number] = id_
                continue
            await self._publish(fact, id_, "pull_request", found)
            present[fact.number] = id_
        self._asked[repository] = now

    async def _publish(self, fact: ScmData, id_: str, kind: Kind, found: Round) -> None:
        actor = f"{self._forge.name}:{fact.sender}" if isinstance(fact, PullRequestChanged) else None
        try:
            published = await self._publisher.publish(scm_event(fact, delivery=id_, time=self._clock(), actor=actor))
        except Reject as exc:  # larger than the bus takes: it will not fit the next time either
            self._counts[kind, "refused"] += 1
            log.warning("what was missed cannot be published", about=fact.about(), reason=exc.reason)
            return
        self._counts[kind, "known" if published.duplicate else "published"] += 1
        if published.duplicate:
            found.known += 1
        else:
            found.published += 1

    def _observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        for (kind, result), count in self._counts.copy().items():
            yield Observation(count, {"kind": kind, "result": result})


def state_id(fact: PullRequestChanged) -> str:
    """The id of a swept state: another one whenever anything of it changed, the same for every replica and round."""
    state = fact.model_dump_json(exclude={"payload", "payload_omitted", "action", "sender", "sender_id"})
    digest = hashlib.sha256(state.encode()).hexdigest()[:16]
    return f"{ID}/{fact.repository.id}/{fact.number}/{int(fact.updated_at.timestamp())}/{digest}"
