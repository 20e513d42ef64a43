"""Streams and consumers, declared once. Pure data; `applying.py` makes a server match it, `users.py` says who may what.

| Stream | Subjects | Keeps |
|---|---|---|
| `SCM` | `scm.>` | 90 d, own budget: a noisy repository must not halt builds and teardown |
| `EVENTS` | `env.>` | 90 d, own budget |
| `STATE` | sources `env.*.*.*.environment.changed` from EVENTS | the last message of each subject, without age |
| `AUDIT` | `audit.>` | everything; nobody deletes or purges |
| `DEAD` | `dead.>` and the server's own advisories | 90 d |
| `LOCKS` | `lock.>`, `started.>`, `settled.>` | who leads, how far it came, which version started: the last |
| `DECISIONS` | `decision.>` | what env-controller decided, and from what: 30 d, the oldest go first |
| `CDEVENTS` | `cdevents.>` | our facts in the words of CDEvents, for others' tools: 90 d, the oldest go first |

SCM, EVENTS and AUDIT refuse new messages when full (`discard: new`): the publisher is told, the forge can redeliver.
`discard: old` would lose silently; it is right for DECISIONS and CDEVENTS, which are no truth: nobody waits for them,
and the newest are worth most. Never work-queue retention: after a crash its acknowledged ids are forgotten.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    StreamSource,
)

SCM: Final = "SCM"
EVENTS: Final = "EVENTS"
STATE: Final = "STATE"
AUDIT: Final = "AUDIT"
DEAD: Final = "DEAD"
LOCKS: Final = "LOCKS"
DECISIONS: Final = "DECISIONS"
CDEVENTS: Final = "CDEVENTS"

STATE_FILTER: Final = "env.*.*.*.environment.changed"
ADVISORY: Final = "$JS.EVENT.ADVISORY.CONSUMER"
MAX_DELIVERIES: Final = f"{ADVISORY}.MAX_DELIVERIES"
TERMINATED: Final = f"{ADVISORY}.MSG_TERMINATED"

_TOLD: Final = (MAX_DELIVERIES, TERMINATED)

MINUTE: Final = 60.0
DAY: Final = 86_400.0
KEPT: Final = 90 * DAY
"""Seconds. How long facts and news are kept."""
DECISIONS_KEPT: Final = 30 * DAY
"""Seconds. How long recorded decisions are kept, if their budget lasts that long."""
DUPLICATE_WINDOW: Final = 3 * DAY
"""Seconds. GitHub redelivers the same GUID for three days; 300,000 ids cost 103 MB."""
GIB: Final = 1024**3


@dataclass(frozen=True, slots=True)
class Budget:
    """What each stream may take of the disk, in bytes, and how often it is stored."""

    scm: int = 8 * GIB
    events: int = 8 * GIB
    state: int = 1 * GIB
    audit: int = 4 * GIB
    dead: int = 1 * GIB
    locks: int = 16 * 1024**2
    decisions: int = 1 * GIB
    cdevents: int = GIB // 2
    replicas: int = 1

    @property
    def total(self) -> int:
        """Bytes of all streams together."""
        parts = (self.scm, self.events, self.state, self.audit, self.dead, self.locks, self.decisions, self.cdevents)
        return sum(parts)


@dataclass(frozen=True, slots=True)
class Consumer:
    """One service's durable place in a stream.

    `backoff`: seconds until a message that nobody acknowledged is delivered again, by delivery; the first is also how
    long a handler may take. It replaces NATS' ack_wait, and the last one repeats. `double_ack`: wait until the server
    confirms the acknowledgement, where a repeat costs.
    """

    stream: str
    name: str
    service: str
    filters: tuple[str, ...]
    backoff: tuple[float, ...] = (10.0, 10.0, 30.0, 60.0)
    max_deliver: int = 5
    max_ack_pending: int = 64
    double_ack: bool = False
    unhurried: bool = False

    @property
    def ack_wait(self) -> float:
        """Seconds without a sign of life after which a message is delivered again, at the least."""
        return min(self.backoff)

    @property
    def deadline(self) -> float | None:
        """Seconds that a handler may take; None: no limit."""
        return None if self.unhurried else self.backoff[0]

    def retry_delay(self, delivered: int) -> float:
        """Seconds until the next try of a message delivered `delivered` times."""
        return self.backoff[min(delivered, len(self.backoff)) - 1]

    def config(self) -> ConsumerConfig:
        """What the server is told."""
        return ConsumerConfig(
            durable_name=self.name,
            description=f"{self.service} reads {self.stream}",
            filter_subjects=list(self.filters),
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self.backoff[0],
            backoff=list(self.backoff),
            max_deliver=self.max_deliver,
            max_ack_pending=self.max_ack_pending,
        )


WEBHOOK_INGEST: Final = Consumer(
    stream=SCM,
    name="webhook-ingest",
    service="webhook-ingest",
    filters=("scm.*.*.*.comment.*",),
    backoff=(20.0, 20.0, 60.0, 300.0),
    max_deliver=20,  # about an hour of a forge that does not answer; an older command would surprise
    max_ack_pending=16,
)
ENV_CONTROLLER_SCM: Final = Consumer(
    stream=SCM,
    name="env-controller",
    service="env-controller",
    filters=("scm.*.*.*.pull_request.*", "scm.*.*.*.branch.*", "scm.*.*.*.command.*"),
    unhurried=True,
)
ENV_CONTROLLER_EVENTS: Final = Consumer(
    stream=EVENTS,
    name="env-controller",
    service="env-controller",
    filters=("env.*.*.*.build.cleaned", "env.*.*.*.build.finished", "env.*.*.*.route.changed"),
    unhurried=True,
)
BUILDER: Final = Consumer(
    stream=EVENTS,
    name="builder",
    service="builder",
    filters=("env.*.*.*.build.requested", "env.*.*.*.environment.changed"),
)
DNS_PROXY: Final = Consumer(
    stream=EVENTS, name="dns-proxy", service="dns-proxy", filters=("env.*.*.*.environment.changed",)
)
NOTIFIER_EVENTS: Final = Consumer(
    stream=EVENTS, name="notifier", service="notifier", filters=("env.*.*.*.environment.changed",)
)
NOTIFIER_SCM: Final = Consumer(
    stream=SCM, name="notifier", service="notifier", filters=("scm.*.*.*.command.*",), unhurried=True
)
CDEVENTS_SCM: Final = Consumer(
    stream=SCM, name="cdevents", service="notifier", filters=("scm.*.*.*.pull_request.*",), max_ack_pending=16
)
CDEVENTS_EVENTS: Final = Consumer(
    stream=EVENTS,
    name="cdevents",
    service="notifier",
    filters=("env.*.*.*.environment.changed", "env.*.*.*.build.requested", "env.*.*.*.build.finished"),
    max_ack_pending=16,
)

CONSUMERS: Final = (
    WEBHOOK_INGEST,
    ENV_CONTROLLER_SCM,
    ENV_CONTROLLER_EVENTS,
    BUILDER,
    DNS_PROXY,
    NOTIFIER_EVENTS,
    NOTIFIER_SCM,
    CDEVENTS_SCM,
    CDEVENTS_EVENTS,
)
SERVICES: Final = ("webhook-ingest", "env-controller", "builder", "dns-proxy", "notifier")
"""The services that exist. Only their consumers are made: one that nobody reads would only grow."""


def streams(budget: Budget | None = None) -> tuple[StreamConfig, ...]:
    """The streams; a source comes before the stream that reads it."""
    budget = budget or Budget()

    def stream(name: str, max_bytes: int, description: str, subjects: Iterable[str] = ()) -> StreamConfig:
        return StreamConfig(
            name=name,
            description=description,
            subjects=list(subjects),
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            discard=DiscardPolicy.NEW,
            max_bytes=max_bytes,
            max_age=KEPT,
            duplicate_window=DUPLICATE_WINDOW,
            num_replicas=budget.replicas,
            allow_direct=True,
        )

    return (
        stream(SCM, budget.scm, "Facts from forges", ["scm.>"]),
        stream(EVENTS, budget.events, "News about environments", ["env.>"]).evolve(allow_msg_ttl=True),
        stream(STATE, budget.state, "The last snapshot of every environment").evolve(
            sources=[StreamSource(name=EVENTS, filter_subject=STATE_FILTER)],
            max_msgs_per_subject=1,
            max_age=0,
            allow_msg_ttl=True,  # a `Gone` snapshot carries its own end
        ),
        stream(AUDIT, budget.audit, "One record per operation by a principal", ["audit.>"]).evolve(
            max_age=0, deny_delete=True, deny_purge=True
        ),
        stream(
            DEAD,
            budget.dead,
            "What no consumer could handle",
            # Of our own consumers only: what a team's reader does with its copies is no dead letter.
            [
                "dead.>",
                *(f"{told}.{consumer.stream}.{consumer.name}" for told in _TOLD for consumer in CONSUMERS),
            ],
        ).evolve(discard=DiscardPolicy.OLD),  # an advisory is fire and forget: refusing it loses the newest
        stream(
            LOCKS,
            budget.locks,
            "Who leads among the replicas of a service, how far it came, and which version started last",
            ["lock.>", "started.>", "settled.>"],
        ).evolve(max_msgs_per_subject=1, max_age=0),
        stream(DECISIONS, budget.decisions, "What env-controller decided, and from what", ["decision.>"]).evolve(
            discard=DiscardPolicy.OLD, max_age=DECISIONS_KEPT, duplicate_window=MINUTE
        ),
        stream(CDEVENTS, budget.cdevents, "Our facts in the words of CDEvents", ["cdevents.>"]).evolve(
            discard=DiscardPolicy.OLD
        ),
    )


def consumers(services: Iterable[str] = SERVICES) -> tuple[Consumer, ...]:
    """The consumers of the services that exist."""
    wanted = set(services)
    return tuple(consumer for consumer in CONSUMERS if consumer.service in wanted)
