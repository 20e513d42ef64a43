"""Answers out: `build.finished` and `build.cleaned`, in the trace and with the cause of the question."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import structlog
from opentelemetry import context, metrics, propagate

from catalyst.builder.core.job import Asked
from catalyst.events.catalogue import BuildCleaned, BuildFinished, EnvironmentName
from catalyst.events.event import Event, build_cleaned, build_finished
from catalyst.events.stored import Published
from catalyst.model.clock import Clock
from catalyst.model.snapshot import Snapshot

log = structlog.get_logger()
meter = metrics.get_meter("catalyst.builder")
answered = meter.create_counter("catalyst_builds", description="answers to build requests, by outcome and reason")
duration = meter.create_histogram("catalyst_build_seconds", unit="s", description="time of a build, by outcome")


class Publisher(Protocol):
    """The bus, as far as answers need it."""

    async def publish(self, event: Event) -> Published:
        """Raises `Unpublished`."""


class Answers:
    """Publishes. A repeat has the same id and changes nothing, so whoever is not sure publishes again."""

    def __init__(self, bus: Publisher, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock

    async def finished(self, asked: Asked, result: BuildFinished, *, again: int = 0) -> None:
        """`again`: how often the question was repeated; the answer is then a new one, or nobody would hear it."""
        with _within(asked.traceparent):
            event = build_finished(result, time=self._clock(), again=again, cause=asked.cause)
            published = await self._bus.publish(event)
        if published.duplicate:
            return
        answered.add(1, {"outcome": result.outcome, "reason": result.reason or ""})
        duration.record(result.duration_seconds, {"outcome": result.outcome})
        log.info(
            "build finished",
            environment=str(result.environment.identity),
            component=result.component,
            attempt=result.attempt,
            outcome=result.outcome,
            reason=result.reason,
            digest=result.digest,
            seconds=result.duration_seconds,
        )

    async def cleaned(self, snapshot: Snapshot, causing: Event) -> None:
        """Nothing of this environment's builds is left."""
        name = EnvironmentName.of(snapshot.key, snapshot.uid)
        await self._bus.publish(build_cleaned(BuildCleaned(environment=name), causing=causing, time=self._clock()))
        log.info("builds cleaned", environment=str(snapshot.key), uid=snapshot.uid)


@contextmanager
def _within(traceparent: str | None) -> Iterator[None]:
    token = context.attach(propagate.extract({"traceparent": traceparent})) if traceparent else None
    try:
        yield
    finally:
        if token is not None:
            context.detach(token)
