"""The bus as env-controller uses it: facts in, snapshots out."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import structlog

from catalyst.env_controller.core.facts import BranchFact, CommandFact, PullRequestFact
from catalyst.env_controller.core.world import BuildWish
from catalyst.events import tracing
from catalyst.events.bus import Bus
from catalyst.events.catalogue import (
    BranchPushed,
    BuildRequested,
    CommandGiven,
    EnvironmentChanged,
    EnvironmentName,
    PullRequestChanged,
    Repository,
)
from catalyst.events.errors import Reject, Retry
from catalyst.events.event import Cause, Event, build_requested, environment_changed
from catalyst.events.subjects import (
    ScmSubject,
    branch_subject,
    command_subject,
    environment_subject,
    parse_subject,
    pull_request_subject,
)
from catalyst.model.clock import Clock
from catalyst.model.environment import Environment, Phase
from catalyst.model.names import Identity
from catalyst.model.project import Project
from catalyst.model.snapshot import Snapshot

log = structlog.get_logger()


@dataclass
class Facts:
    """All that is known of one branch or one pull request, in no order."""

    pull_requests: list[PullRequestFact] = field(default_factory=list)
    branches: list[BranchFact] = field(default_factory=list)
    commands: list[CommandFact] = field(default_factory=list)


class History:
    """Reads SCM and STATE, publishes `environment.changed`. Remembers what it said last, so that nothing is said
    twice.
    """

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._said: dict[Identity, bytes] = {}
        self._going: dict[Identity, tuple[Snapshot, str | None]] = {}
        """The last snapshot of what goes, and the traceparent it was published with."""
        self._asked: dict[Identity, dict[str, tuple[str, int, int]]] = {}

    def forget(self) -> None:
        """The bus has lost what was said: all of it is news again. What ends is not forgotten: nobody else knows it."""
        self._said.clear()
        self._asked.clear()

    def led_by_others(self) -> None:
        """Since we spoke last, others may have: what they said last is in STATE."""
        self._said.clear()

    async def facts(self, subject: str, *, reach: int = 0) -> Facts:
        """All facts of one branch, or of one pull request with its commands. One that cannot be read was dead-lettered
        when it was delivered; here it is left out.

        `reach`: the sequence in SCM of a fact that must be among them. Any server of the bus answers, also one that was
        frozen and has not caught up: Retry then. Decided without the fact that asks for it, that fact would be
        acknowledged and come to nothing.
        """
        found = Facts()
        told = [stored for each in (subject, *_commands_of(subject)) for stored in await self._bus.facts(each)]
        last = max((stored.sequence for stored in told), default=0)
        if last < reach:
            raise Retry(f"{subject}: the bus shows facts up to {last}, and not {reach} yet")
        for stored in told:
            try:
                event = stored.event()
            except Reject as error:
                log.warning(
                    "unreadable fact left out", subject=stored.subject, sequence=stored.sequence, reason=error.reason
                )
                continue
            match event.data:
                case PullRequestChanged() as data:
                    found.pull_requests.append(PullRequestFact(event.id, data))
                case BranchPushed() as data:
                    found.branches.append(BranchFact(event.id, data))
                case CommandGiven() as data:
                    found.commands.append(CommandFact(event.id, data))
        return found

    async def subjects_of(self, prefix: str) -> list[str]:
        """All SCM subjects below `prefix`, such as `scm.github.acme.shop.pull_request`."""
        return await self._bus.subjects("SCM", f"{prefix}.>")

    async def last(self, identity: Identity) -> Snapshot | None:
        """The last snapshot of this name, whichever life of it."""
        found = await self._last(identity)
        return found[0] if found else None

    async def _last(self, identity: Identity) -> tuple[Snapshot, str | None] | None:
        stored = await self._bus.state(environment_subject(identity, "environment", "changed"))
        if stored is None:
            return None
        event = stored.event()
        return _snapshot(event.data), event.traceparent

    async def all_last(self) -> AsyncIterator[Snapshot]:
        """The last snapshot of every environment there ever was (`Gone` ones for 90 days). What was said is remembered:
        whoever begins to lead need not ask for each.
        """
        async for stored in self._bus.states():
            try:
                snapshot = _snapshot(stored.event().data)
                if snapshot.phase != Phase.GONE:
                    self._said.setdefault(snapshot.key, _content(snapshot, 0))
                yield snapshot
            except Reject as error:
                log.warning("unreadable snapshot left out", subject=stored.subject, reason=error.reason)

    async def announce(self, snapshot: Snapshot, *, again: int, cause: Cause, traceparent: str | None) -> bool:
        """Publish the snapshot unless it says nothing new; whether it did. Raises Retry when the bus cannot take it
        now.
        """
        identity, content = snapshot.key, _content(snapshot, again)
        if identity not in self._said:
            last = await self.last(identity)
            if last is not None:
                self._said[identity] = _content(last, 0)
        if self._said.get(identity) == content:
            return False
        await self._publish(snapshot, again, cause, traceparent)
        self._said[identity] = content
        if snapshot.phase == Phase.TERMINATING:
            self._going[identity] = snapshot, traceparent
        return True

    async def ask(
        self, environment: Environment, project: Project, wishes: tuple[BuildWish, ...], git_url: str, cause: Cause
    ) -> bool:
        """Publish what of these was not published yet: `build.requested`, after the snapshot that wants it; whether
        anything was. Raises Retry when the bus cannot take it now.
        """
        said = False
        identity = environment.identity
        asked = self._asked.setdefault(identity, {})
        for wish in wishes:
            question = (wish.key, wish.attempt, wish.again)
            if asked.get(wish.component) == question:
                continue
            data = BuildRequested(
                environment=EnvironmentName.of(identity, environment.metadata.uid or ""),
                component=wish.component,
                key=wish.key,
                attempt=wish.attempt,
                commit=wish.commit,
                repository=await self._repository(environment, project, git_url),
                trusted=not wish.fork,
                inputs=dict(wish.inputs),
            )
            await self._sent(build_requested(data, time=self._clock(), again=wish.again, cause=cause))
            asked[wish.component] = question
            said = True
            log.info("build asked for", environment=str(identity), component=wish.component, attempt=wish.attempt)
        return said

    async def _repository(self, environment: Environment, project: Project, git_url: str) -> Repository:
        """The Project's, as the forge told of it in the facts of this pull request or branch; where no fact is known,
        as it is written in the Project.
        """
        source, told = project.spec.source, None
        subject = _subject_of(environment, project)
        if subject:
            known = await self.facts(subject)
            facts = [*(fact.data for fact in known.pull_requests), *(fact.data for fact in known.branches)]
            told = facts[-1].repository if facts else None
        return told or Repository(
            forge=source.forge,
            id=0,
            full_name=source.repository,
            default_branch=source.default_branch or "main",
            clone_url=f"{git_url}/{source.repository}.git",
            private=False,
            fork=False,
        )

    async def announce_gone(self, identity: Identity, *, alive_uid: str | None) -> Snapshot | None:
        """Say `Gone` for the last life of this name, unless it is the one still alive. Returns that last snapshot."""
        found = self._going.get(identity) or await self._last(identity)
        if found is None or found[0].uid == alive_uid:
            return found[0] if found else None
        last, traceparent = found
        if last.phase != Phase.GONE:
            last = last.model_copy(update={"phase": Phase.GONE})
            await self._publish(last, 0, Cause(), traceparent)
            log.info("environment gone", environment=str(identity), uid=last.uid)
        self._going.pop(identity, None)
        self._said.pop(identity, None)
        self._asked.pop(identity, None)
        return last

    async def _publish(self, snapshot: Snapshot, again: int, cause: Cause, traceparent: str | None) -> None:
        with tracing.resumed(traceparent):
            await self._sent(environment_changed(snapshot, time=self._clock(), again=again, cause=cause))

    async def _sent(self, event: Event) -> None:
        if not self._bus.connected:
            raise Retry("NATS is away; it is published when it is back")
        await self._bus.publish(event)


def _commands_of(subject: str) -> tuple[str, ...]:
    told = parse_subject(subject)
    if not isinstance(told, ScmSubject) or told.kind != "pull_request":
        return ()
    return (command_subject(told.forge, told.repository, int(told.id)),)


def _subject_of(environment: Environment, project: Project) -> str | None:
    """The SCM subject whose facts made this environment, if any did."""
    source, at = environment.spec.source, project.spec.source
    if source.pull_request:
        return pull_request_subject(at.forge, at.repository, source.pull_request.number)
    return branch_subject(at.forge, at.repository, source.branch) if source.branch else None


def _snapshot(data: object) -> Snapshot:
    if not isinstance(data, EnvironmentChanged):
        raise Reject(f"STATE holds {type(data).__name__}, expected EnvironmentChanged")
    return data.snapshot


def _content(snapshot: Snapshot, again: int) -> bytes:
    """A digest of all that is said, whatever the resource's version."""
    text = snapshot.model_copy(update={"resource_version": ""}).model_dump_json()
    return hashlib.sha256(f"{again} {text}".encode()).digest()
