"""Histories as the services would tell them: the catalogue's own events with their causes, a clock for each service.

`Author` says one thing after another about one environment. What it said becomes moments (pure), or is published as the
services' own users. Time is its own: `after` seconds pass before each thing that is said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from catalyst.cli.core.history import Moment, burial, moment
from catalyst.events.binding import encode
from catalyst.events.catalogue import (
    BuildCleaned,
    BuildFinished,
    BuildRequested,
    DeadLetter,
    EnvironmentName,
    RouteChanged,
)
from catalyst.events.dead import dead
from catalyst.events.event import (
    NO_CAUSE,
    Cause,
    Event,
    build_cleaned,
    build_finished,
    build_requested,
    caused_by,
    dead_letter,
    environment_changed,
    route_changed,
)
from catalyst.events.examples import REPOSITORY, command, pull_request
from catalyst.events.stored import Stored
from catalyst.events.topology import AUDIT, DEAD, EVENTS, SCM
from catalyst.model.environment import BuildQuestion, ComponentStatus, Phase, Route, Stage
from catalyst.model.resource import Condition
from catalyst.model.snapshot import Snapshot, SnapshotIdentity, SnapshotPullRequest, SnapshotSource

START: Final = datetime(2026, 11, 23, 20, 0, tzinfo=UTC)
A: Final = "a" * 40
B: Final = "b" * 40
HOST: Final = "pr-42--shop--acme.example.org"
_STREAM: Final = {"scm": SCM, "env": EVENTS, "audit": AUDIT, "dead": DEAD}


def stream_of(event: Event) -> str:
    return _STREAM[event.subject.partition(".")[0]]


def stored(event: Event, sequence: int, at: datetime, *, stream: str | None = None) -> Stored:
    """As a stream would keep it."""
    body, headers = encode(event)
    delta = at - datetime(1970, 1, 1, tzinfo=UTC)
    nanoseconds = (delta.days * 86_400 + delta.seconds) * 10**9 + delta.microseconds * 1000
    return Stored(stream or stream_of(event), event.subject, sequence, body, headers, nanoseconds)


@dataclass
class Author:
    """`skew`: service → seconds that its clock is ahead. `now` is the true time, which passes at `pace`: 0 for what is
    published, since that takes no time either.
    """

    now: datetime = START
    skew: Mapping[str, float] = field(default_factory=dict)
    uid: str = "u-1"
    environment: str = "pr-42"
    said: list[tuple[Event, datetime]] = field(default_factory=list)
    fact: Event | None = None
    state: Snapshot | None = None
    state_event: Event | None = None
    version: int = 0
    pace: float = 1.0

    @property
    def name(self) -> EnvironmentName:
        return EnvironmentName(team="acme", project="shop", environment=self.environment, uid=self.uid)

    def opens(self, commit: str = A, *, after: float = 1.0, delivery: str = "", **fields: Any) -> Event:
        """A fact about the pull request; the next snapshots follow from it."""
        event = pull_request(
            delivery=delivery or f"d-{len(self.said)}", head={"ref": "basket", "sha": commit}, **fields
        )
        self.fact = self._says(event, after)
        return self.fact

    def commands(self, word: str = "deploy", *, after: float = 1.0) -> Event:
        event = command(delivery=f"c-{len(self.said)}", command=word)
        self.fact = self._says(event, after)
        return self.fact

    def is_(self, phase: Phase, *, after: float = 0.2, again: int = 0, **fields: Any) -> Event:
        """env-controller's next snapshot: the one before with these fields changed."""
        self.version += 1
        state = self.state or Snapshot(
            uid=self.uid,
            resource_version="0",
            identity=SnapshotIdentity(team="acme", project="shop", environment=self.environment),
            phase=phase,
            created_at=self.now,
            source=SnapshotSource(
                forge="github",
                repository="Acme/Shop",
                branch="basket",
                commit=A,
                pull_request=SnapshotPullRequest(number=42, author="mona"),
            ),
        )
        self.state = state.model_copy(update={"phase": phase, "resource_version": str(self.version), **fields})
        self.state_event = self._says(
            environment_changed(self.state, time=self._clock("env-controller", after), again=again, cause=self._cause),
            after,
        )
        return self.state_event

    def commit(self, sha: str) -> SnapshotSource:
        assert self.state
        return self.state.source.model_copy(update={"commit": sha})

    def asks(self, component: str = "web", *, key: str = "k-1", attempt: int = 1, after: float = 0.1) -> Event:
        assert self.state
        data = BuildRequested(
            environment=self.name,
            component=component,
            key=key,
            attempt=attempt,
            commit=self.state.source.commit or A,
            repository=REPOSITORY,
            trusted=True,
        )
        return self._says(build_requested(data, time=self._clock("env-controller", after), cause=self._cause), after)

    def builds(
        self, asked: Event, *, reason: str | None = None, after: float = 20.0, log: str | None = None, message: str = ""
    ) -> Event:
        """builder's answer: it succeeded, or failed for a reason."""
        assert isinstance(asked.data, BuildRequested)
        data = BuildFinished(
            environment=asked.data.environment,
            component=asked.data.component,
            key=asked.data.key,
            attempt=asked.data.attempt,
            outcome="failed" if reason else "succeeded",
            digest=None if reason else f"sha256:{'d' * 64}",
            reason=reason,
            message=message or None,
            log_tail=log,
            duration_seconds=after,
        )
        return self._says(build_finished(data, time=self._clock("builder", after), cause=caused_by(asked)), after)

    def cleans(self, *, after: float = 1.0) -> Event:
        assert self.state_event
        data = BuildCleaned(environment=self.name)
        return self._says(build_cleaned(data, causing=self.state_event, time=self._clock("builder", after)), after)

    def routes(self, host: str = HOST, *, live: bool = True, reason: str | None = None, after: float = 1.0) -> Event:
        assert self.state_event
        data = RouteChanged(environment=self.name, host=host, live=live, reason=reason)
        event = route_changed(data, causing=self.state_event, time=self._clock("dns-proxy", after))
        return self._says(event, after)

    def buries(self, event: Event, *, service: str = "env-controller", reason: str, after: float = 1.0) -> Event:
        """A dead letter about something said before."""
        stream, sequence = self.place(event)
        letter = DeadLetter(
            service=service,
            consumer=service,
            stream=stream,
            sequence=sequence,
            original_subject=event.subject,
            delivered=5,
            reason=reason,
            event_type=event.type,
            event_id=event.message_id,
        )
        return self._says(dead_letter(letter, time=self._clock(service, after), cause=caused_by(event)), after)

    def place(self, event: Event) -> tuple[str, int]:
        """Stream and sequence of something said."""
        return next(
            one.position for one in self.moments() if one.event is not None and one.event.message_id == event.message_id
        )

    def moments(self, stream_skew: Mapping[str, float] | None = None) -> list[Moment]:
        """All that was said, as the streams keep it; `stream_skew`: the clock of each stream's leader."""
        numbers: dict[str, int] = {}
        kept: list[Stored] = []
        for event, at in self.said:
            stream = stream_of(event)
            numbers[stream] = numbers.get(stream, 0) + 1
            kept.append(stored(event, numbers[stream], at + timedelta(seconds=(stream_skew or {}).get(stream, 0.0))))
        letters = [one for one in kept if one.stream == DEAD]
        buried = {one.entry.sequence for one in dead(letters)}
        others = [moment(one) for one in kept if one.stream != DEAD or one.sequence not in buried]
        return [*others, *map(burial, dead(letters))]

    @property
    def _cause(self) -> Cause:
        return Cause(self.fact.message_id, self.fact.message_id, "mona") if self.fact else NO_CAUSE

    def _clock(self, service: str, after: float) -> datetime:
        return self.now + timedelta(seconds=after * self.pace + self.skew.get(service, 0.0))

    def _says(self, event: Event, after: float) -> Event:
        self.now += timedelta(seconds=after * self.pace)
        self.said.append((event, self.now))
        return event


def condition(type_: str, status: str, reason: str, message: str = "") -> Condition:
    return Condition.model_validate(
        {"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": START}
    )


def component(name: str = "web", *, ready: bool = False, reason: str | None = None, message: str = "") -> Any:
    return ComponentStatus(name=name, ready=ready, reason=reason, message=message or None, replicas=1)


def asked(**keys: str) -> dict[str, BuildQuestion]:
    """`asked(web="k-1")`: the builds that a snapshot asks for."""
    return {name: BuildQuestion(key=key) for name, key in keys.items()}


def route(host: str = HOST) -> tuple[Route, ...]:
    return (Route(host=host, namespace="acme--shop--pr-42", service="web", port=80, component="web"),)


def stages(**seconds: float) -> tuple[Stage, ...]:
    """`stages(Build=20.0)`: each began at the start and took so long."""
    return tuple(
        Stage(name=name, started_at=START, finished_at=START + timedelta(seconds=took))
        for name, took in seconds.items()
    )


def ready(author: Author, *, commit: str = A) -> Author:
    """From a pull request to its URL, undisturbed."""
    key = f"k-{commit[0]}"
    author.opens(commit, action="opened" if author.state is None else "synchronize")
    source: dict[str, Any] = {"source": author.commit(commit)} if author.state else {}
    author.is_(Phase.BUILDING, builds=asked(web=key), **source)
    built = author.builds(author.asks(key=key))
    assert isinstance(built.data, BuildFinished)
    author.is_(
        Phase.DEPLOYING,
        routes=route(),
        components=(component(),),
        conditions=(condition("Built", "True", "Built"),),
    )
    author.routes()
    author.is_(
        Phase.READY,
        after=3.0,
        url=f"https://{HOST}/",
        components=(component(ready=True),),
        stages=stages(Accepted=0.1, Namespace=0.4, Build=20.2, Deploy=4.0),
    )
    return author


def refs(moments: Sequence[Moment]) -> list[str]:
    return [one.ref for one in moments]
