"""An event as a value, and how each kind gets its id. Pure: time and ids come in.

**Ids make repeats harmless and changes visible.** JetStream stores one event a `message_id` (source + id) in 72 hours:

```
scm.*                 the delivery's GUID
environment.changed   uid/resourceVersion, …/again-N when an unanswered question is asked again, uid/gone for the last
build.requested       uid/component/key/attempt/requested, …/again-N
build.finished        uid/component/key/attempt/outcome, …/again-N when it answers a question asked again
build.cleaned         uid/causing id/cleaned
route.changed         uid/host/causing id/live or gone
session.*             uid/session/opened or closed
audit                 the event's message id and the environment; the API server's audit id
dead                  consumer/stream/sequence, …/resent or …/dropped when somebody dealt with it
```
"""

from dataclasses import dataclass
from datetime import datetime

from catalyst.events.catalogue import (
    AuditRecord,
    BuildCleaned,
    BuildFinished,
    BuildRequested,
    Data,
    DeadLetter,
    DeadSettled,
    EnvironmentChanged,
    RouteChanged,
    ScmData,
    SessionClosed,
    SessionOpened,
)
from catalyst.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One fact. `source` is the service that says so, `id` unique within it; `time` is aware.

    `correlation_id` is the same along a whole causal chain, `causation_id` names the event that led to this one (its
    `message_id`), `actor` the principal behind it, `traceparent` the W3C trace context it was published in.
    """

    id: str
    source: str
    time: datetime
    data: Data
    correlation_id: str = ""
    causation_id: str | None = None
    actor: str | None = None
    traceparent: str | None = None

    def __post_init__(self) -> None:
        if not self.id or not self.source:
            raise ValueError("an event needs an id and a source")
        if self.time.tzinfo is None:
            raise ValueError(f"time {self.time.isoformat()}: expected an aware datetime")
        if not self.correlation_id:
            object.__setattr__(self, "correlation_id", self.message_id)

    @property
    def subject(self) -> str:
        """The NATS subject it is published on."""
        return self.data.nats_subject()

    @property
    def type(self) -> str:
        """`dev.catalyst.scm.pull_request.changed.v1`."""
        return self.data.TYPE

    @property
    def message_id(self) -> str:
        """`Nats-Msg-Id`: what makes a repeat harmless."""
        return f"{self.source}/{self.id}"


@dataclass(frozen=True, slots=True)
class Cause:
    """Why an event is published: the chain it belongs to, the event before it, and who is behind it."""

    correlation_id: str = ""
    causation_id: str | None = None
    actor: str | None = None


NO_CAUSE = Cause()


def caused_by(event: Event) -> Cause:
    """The cause of whatever follows from `event`."""
    return Cause(event.correlation_id, event.message_id, event.actor)


def scm_event(
    data: ScmData, *, delivery: str, time: datetime, source: str = "webhook-ingest", actor: str | None = None
) -> Event:
    """A fact from a forge; `delivery` is the forge's GUID, the same for a redelivery."""
    return Event(id=delivery, source=source, time=time, data=data, actor=actor)


def environment_changed(
    snapshot: Snapshot, *, time: datetime, again: int = 0, source: str = "env-controller", cause: Cause = NO_CAUSE
) -> Event:
    """An environment's state; `again` counts how often an unanswered question was repeated without a change."""
    id_ = f"{snapshot.uid}/gone" if snapshot.phase == "Gone" else f"{snapshot.uid}/{snapshot.resource_version}"
    return _event(_again(id_, again), source, time, EnvironmentChanged(snapshot=snapshot), cause)


def build_requested(
    data: BuildRequested, *, time: datetime, again: int = 0, source: str = "env-controller", cause: Cause = NO_CAUSE
) -> Event:
    """A build is wanted."""
    id_ = f"{data.environment.uid}/{data.component}/{data.key}/{data.attempt}/requested"
    return _event(_again(id_, again), source, time, data, cause)


def build_finished(
    data: BuildFinished, *, time: datetime, again: int = 0, source: str = "builder", cause: Cause = NO_CAUSE
) -> Event:
    """A build ended; `again`: the answer to a question that was repeated that often."""
    id_ = f"{data.environment.uid}/{data.component}/{data.key}/{data.attempt}/{data.outcome}"
    return _event(_again(id_, again), source, time, data, cause)


def build_cleaned(
    data: BuildCleaned, *, causing: Event, time: datetime, source: str = "builder", actor: str | None = None
) -> Event:
    """The answer to `causing`, the snapshot that says the environment terminates."""
    id_ = f"{data.environment.uid}/{causing.id}/cleaned"
    return _event(id_, source, time, data, Cause(causing.correlation_id, causing.message_id, actor or causing.actor))


def route_changed(
    data: RouteChanged, *, causing: Event, time: datetime, source: str = "dns-proxy", actor: str | None = None
) -> Event:
    """What became of a route that `causing`, a snapshot, asked for or withdrew."""
    id_ = f"{data.environment.uid}/{data.host}/{causing.id}/{'live' if data.live else 'gone'}"
    return _event(id_, source, time, data, Cause(causing.correlation_id, causing.message_id, actor or causing.actor))


def session_event(data: SessionOpened | SessionClosed, *, time: datetime, source: str = "gateway") -> Event:
    """A session began or ended."""
    id_ = f"{data.environment.uid}/{data.session}/{data.VERB}"
    return _event(id_, source, time, data, Cause(actor=data.principal))


def audit_recorded(data: AuditRecord, *, operation: str, time: datetime, source: str, cause: Cause = NO_CAUSE) -> Event:
    """One operation by a principal; `operation` is its unique id."""
    return _event(operation, source, time, data, cause)


def dead_letter(data: DeadLetter, *, time: datetime, cause: Cause = NO_CAUSE) -> Event:
    """What a consumer could not handle: one letter a message and consumer, however often it is tried."""
    return _event(f"{data.consumer}/{data.stream}/{data.sequence}", data.service, time, data, cause)


def dead_settled(data: DeadSettled, *, time: datetime, source: str = "oncall", cause: Cause = NO_CAUSE) -> Event:
    """Somebody dealt with a letter; doing the same again is no news."""
    id_ = f"{data.consumer}/{data.stream}/{data.sequence}/{data.outcome}"
    return _event(id_, source, time, data, Cause(cause.correlation_id, cause.causation_id, data.by))


def _event(id_: str, source: str, time: datetime, data: Data, cause: Cause) -> Event:
    return Event(
        id=id_,
        source=source,
        time=time,
        data=data,
        correlation_id=cause.correlation_id,
        causation_id=cause.causation_id,
        actor=cause.actor,
    )


def _again(id_: str, again: int) -> str:
    return f"{id_}/again-{again}" if again else id_
