"""Decisions, recorded beside the work: into the stream DECISIONS, one message each, compressed.

Recording never holds up a reconcile and never fails one. What is decided goes into a short queue; whoever comes when it
is full, while NATS is away, or with more than the bus takes, is dropped and counted. The records are no truth: nothing
reads them but people, and `python -m catalyst.env_controller replay`.
"""

import asyncio
import zlib
from collections.abc import Callable
from contextlib import suppress
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

WAITING: Final = 256
"""Records that may wait to be written. Each holds a World, whose greater part the mirrors hold anyway."""
AT_ONCE: Final = 8
"""Records on their way to the bus."""
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


class Decisions:
    """The recorder. `code`: the commit that decides."""

    def __init__(self, bus: Bus, code: str) -> None:
        self._bus = bus
        self._code = code
        self._waiting: asyncio.Queue[Decided] = asyncio.Queue(WAITING)
        self._failing = False

    def record(self, decided: Decided) -> None:
        """Returns at once."""
        try:
            self._waiting.put_nowait(decided)
        except asyncio.QueueFull:
            dropped.add(1, {"reason": "full"})

    async def run(self) -> None:
        """Writes until cancelled. A few wait for the bus at once, which costs a third of one after the other; what is
        taken first is sent first.
        """
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._run())

    async def _run(self) -> None:
        while True:
            decided = await self._waiting.get()
            try:
                await self._write(decided)
            finally:
                self._waiting.task_done()

    async def written(self, within: float) -> None:
        """Waits until what was taken so far is written, at most that many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._waiting.join()

    async def _write(self, decided: Decided) -> None:
        try:
            head = self._head(decided)
            body = compressed(recorded(head, decided.inputs, decided.result))
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            # Something that JSON cannot say. Whatever is wrong with this one, the next may be another.
            dropped.add(1, {"reason": "unwritable"})
            log.warning("decision not recorded", key=decided.key, reason=str(error))
            return
        try:
            await self._bus.keep(head.subject, body, HEADERS)
            kept.add(1, {"rule": head.rule})
            self._works()
        except Unpublished as error:
            dropped.add(1, {"reason": "bus"})
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


def compressed(text: bytes) -> bytes:
    return zlib.compress(text, 1)


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
