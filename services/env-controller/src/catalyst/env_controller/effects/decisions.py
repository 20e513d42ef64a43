"""Decisions, recorded beside the work: into the stream DECISIONS, compressed. What is decided about an environment
within a moment becomes one message, a line for each decision, oldest first.

Recording never holds up a reconcile and never fails one. What is decided waits for that moment; what comes when there
is no room, while NATS is away, or with more than the bus takes, is dropped and counted. The records are no truth:
nothing reads them but people, and `python -m catalyst.env_controller replay`.
"""

import asyncio
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import structlog
from opentelemetry import metrics

from catalyst.env_controller.core.recorded import (
    SCHEMA,
    BranchInputs,
    EnvironmentInputs,
    Head,
    Inputs,
    ProjectInputs,
    PullRequestInputs,
    Result,
    joined,
    recorded,
    rule_of,
)
from catalyst.env_controller.core.requests import Create, Update
from catalyst.events.bus import Bus
from catalyst.events.errors import Unpublished
from catalyst.events.subjects import decision_subject
from catalyst.model import labels
from catalyst.model.names import branch_environment, pull_request_environment

log = structlog.get_logger()
meter = metrics.get_meter("catalyst.env_controller")
kept = meter.create_counter("catalyst_decisions_recorded", description="decisions recorded, by rule")
dropped = meter.create_counter("catalyst_decisions_dropped", description="decisions not recorded, by reason")

HELD: Final = 2.0
"""Seconds that a record waits for others of the same environment: most of what is decided about a new one. Written
together they are a third of the messages, deflate sees what they repeat, and the code for it is in the processor's
caches only once. Whoever is killed loses this much.
"""
WAITING: Final = 512
"""Records that may wait, or be on their way. Each holds a World, whose greater part the mirrors hold anyway. With half
of them, nothing is waited for.
"""
LARGEST: Final = 256 * 1024
"""Bytes of text in one message, if it has more than one record: deflated, far from what the bus takes."""
AT_ONCE: Final = 8
"""Environments whose messages are on their way to the bus."""
HEADERS: Final = {"Catalyst-Schema": str(SCHEMA), "Content-Encoding": "deflate"}


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision, as it was taken. `key`: what was looked at; `event`: the message that asked for it, or empty."""

    inputs: Inputs
    result: Result
    key: str
    event: str = ""


Record = Callable[[Decided], None]
"""Takes note of a decision. Returns at once and never raises."""


def no_record(_: Decided) -> None:
    """Where nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Line:
    """One record as text."""

    rule: str
    text: bytes


class Decisions:
    """The recorder. `code`: the commit that decides; `held`: seconds that a record may wait for others."""

    def __init__(self, bus: Bus, code: str, held: float = HELD) -> None:
        self._bus = bus
        self._code = code
        self._held = held
        self._taken: list[Decided] = []
        self.waiting = 0
        """Records that were taken and are not written yet."""
        self._some, self._enough = asyncio.Event(), asyncio.Event()
        self._writing = asyncio.Lock()
        self._failing = False

    def record(self, decided: Decided) -> None:
        """Returns at once."""
        if self.waiting >= WAITING:
            dropped.add(1, {"reason": "full"})
            return
        self.waiting += 1
        self._taken.append(decided)
        self._some.set()
        if self.waiting >= WAITING // 2:
            self._enough.set()

    async def run(self) -> None:
        """Writes until cancelled: what was decided while the first of it was held."""
        while True:
            await self._some.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._held):
                    await self._enough.wait()
            await self._write()

    async def written(self, within: float) -> None:
        """Writes what was taken so far, without waiting for more, in at most that many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._write()

    async def _write(self) -> None:
        """One batch after the other, so that what is decided about an environment is sent in this order."""
        async with self._writing:
            taken, self._taken = self._taken, []
            self._some.clear()
            self._enough.clear()
            about: dict[str, list[tuple[Head, Decided]]] = {}
            for each in taken:
                with self._may_be_unwritable(each):
                    head = self._head(each)
                    about.setdefault(head.subject, []).append((head, each))
            several = list(about.items())
            for at in range(0, len(several), AT_ONCE):
                await asyncio.gather(*(self._write_about(*each) for each in several[at : at + AT_ONCE]))
            self.waiting -= len(taken)

    async def _write_about(self, subject: str, decided: Sequence[tuple[Head, Decided]]) -> None:
        """What was decided about one environment."""
        lines = []
        for head, each in decided:
            with self._may_be_unwritable(each):
                lines.append(Line(head.rule, recorded(head, each.inputs, each.result)))
        for message in _messages(lines):
            await self._keep(subject, message)

    @contextmanager
    def _may_be_unwritable(self, decided: Decided) -> Iterator[None]:
        """Something that JSON cannot say. Whatever is wrong with this one, the next may be another."""
        try:
            yield
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            dropped.add(1, {"reason": "unwritable"})
            log.warning("decision not recorded", key=decided.key, reason=str(error))

    async def _keep(self, subject: str, lines: Sequence[Line]) -> None:
        try:
            await self._bus.keep(subject, compressed(joined([line.text for line in lines])), HEADERS)
            for rule, number in Counter(line.rule for line in lines).items():
                kept.add(number, {"rule": rule})
            self._works()
        except Unpublished as error:
            dropped.add(len(lines), {"reason": "bus"})
            self._fails(error.reason)

    def _head(self, decided: Decided) -> Head:
        return Head(
            rule=rule_of(decided.inputs),
            subject=subject_of(decided.inputs),
            at=decided.inputs.now.isoformat(),
            code=self._code,
            key=decided.key,
            event=decided.event,
            cause=_cause(decided),
        )

    def _works(self) -> None:
        if self._failing:
            log.info("decisions are recorded again")
        self._failing = False

    def _fails(self, reason: str) -> None:
        """Said once: during an outage there are many."""
        if not self._failing:
            log.warning("decisions are not recorded", reason=reason)
        self._failing = True


def _messages(lines: Sequence[Line]) -> Iterator[Sequence[Line]]:
    """What goes together. A record that is larger than a message should be has one of its own: should the bus not take
    it, the others are kept.
    """
    first, size = 0, 0
    for number, line in enumerate(lines):
        if number > first and size + len(line.text) > LARGEST:
            yield lines[first:number]
            first, size = number, 0
        size += len(line.text)
    if lines:
        yield lines[first:]


_deflate: Final = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
"""One for all messages: a new one costs as much as what it has to do here. A full flush makes it forget."""


def compressed(text: bytes) -> bytes:
    """As zlib.compress gives it: header, deflated text, an empty last block, checksum (RFC 1950)."""
    body = _deflate.compress(text) + _deflate.flush(zlib.Z_FULL_FLUSH)
    return b"\x78\x01%b\x03\x00%b" % (body, zlib.adler32(text).to_bytes(4, "big"))


def subject_of(inputs: Inputs) -> str:
    """Where it is kept: beside all other decisions about the same environment, or Project."""
    match inputs:
        case EnvironmentInputs(environment):
            identity = environment.identity
            return decision_subject(identity.team, identity.project, identity.environment)
        case ProjectInputs(project):
            return decision_subject(project.team, project.metadata.name)
        case PullRequestInputs():
            name = pull_request_environment(inputs.facts[0].data.number)
        case BranchInputs():
            name = branch_environment(inputs.facts[0].data.branch)
    return decision_subject(inputs.project.team, inputs.project.metadata.name, name)


def _cause(decided: Decided) -> str:
    """The message behind the present spec, or behind the one that is asked for."""
    match decided.inputs, decided.result:
        case EnvironmentInputs(environment), _:
            notes = environment.metadata.annotations
        case _, Create(manifest):
            notes = manifest["metadata"].get("annotations", {})
        case _, Update(patch):
            notes = patch.body.get("metadata", {}).get("annotations", {})
        case _:
            notes = {}
    return str(notes.get(labels.CAUSE, ""))
