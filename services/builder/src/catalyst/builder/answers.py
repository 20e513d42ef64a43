"""Answers out: `build.finished` and `build.cleaned`, in the trace and with the cause of the question."""

from typing import Final, Protocol

import structlog
from opentelemetry import metrics, trace

from catalyst.builder.core.job import NOT_RUN, Asked, Times
from catalyst.events import tracing
from catalyst.events.catalogue import BuildCleaned, BuildFinished, EnvironmentName
from catalyst.events.event import Event, build_cleaned, build_finished
from catalyst.events.stored import Published
from catalyst.model.clock import Clock
from catalyst.model.snapshot import Snapshot
from catalyst.service.stages import measure

log = structlog.get_logger()
tracer = trace.get_tracer("catalyst.builder")
meter = metrics.get_meter("catalyst.builder")
answered = meter.create_counter("catalyst_builds", description="answers to build requests, by outcome and reason")
PLATFORM_FAULTS: Final = (
    "BuildLost",
    "BuildNotStarted",
    "ImageMissing",
    "ImageInvalid",
    "ClusterRefused",
    "NamespaceTaken",
)
"""The reasons that alert: their counts begin with 0, or nobody would see the first of each."""
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
        for reason in PLATFORM_FAULTS:
            answered.add(0, {"outcome": "failed", "reason": reason})

    async def finished(self, asked: Asked, result: BuildFinished, *, again: int = 0, times: Times = NOT_RUN) -> None:
        """`again`: how often the question was repeated; the answer is then a new one, or nobody would hear it. `times`:
        of its Job, if one ran.
        """
        with tracing.resumed(asked.traceparent):
            span = _span(result, times)
            with trace.use_span(span, end_on_exit=False):
                event = build_finished(result, time=self._clock(), again=again, cause=asked.cause)
                published = await self._bus.publish(event)
                if published.duplicate:
                    return  # the span is told already, by whoever published it: one that never ends is not
                _measure(result, times)
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
        span.end(end_time=tracing.nanoseconds(times.ended) if times.ended else None)

    async def cleaned(self, snapshot: Snapshot, causing: Event) -> None:
        """Nothing of this environment's builds is left."""
        name = EnvironmentName.of(snapshot.key, snapshot.uid)
        await self._bus.publish(build_cleaned(BuildCleaned(environment=name), causing=causing, time=self._clock()))
        log.info("builds cleaned", environment=str(snapshot.key), uid=snapshot.uid)


def _span(result: BuildFinished, times: Times) -> trace.Span:
    """The build as it was, after the fact: the Job's own times, in the trace of whoever asked."""
    attributes = {
        "catalyst.environment": str(result.environment.identity),
        "catalyst.component": result.component,
        "catalyst.outcome": result.outcome,
        "catalyst.reason": result.reason or "",
    }
    began = tracing.nanoseconds(times.started) if times.started else None
    span = tracer.start_span("build", attributes=attributes, start_time=began)
    if result.outcome == "failed":
        span.set_status(trace.StatusCode.ERROR, result.reason)
    return span


def _measure(result: BuildFinished, times: Times) -> None:
    if times.made is None or times.started is None or times.ended is None:
        return
    queue = tracer.start_span(
        "build queue",
        attributes={"catalyst.component": result.component},
        start_time=tracing.nanoseconds(times.made),
    )
    queue.end(end_time=tracing.nanoseconds(times.started))
    team, project = result.environment.team, result.environment.project
    measure("build-queue", (times.started - times.made).total_seconds(), team=team, project=project)
    measure("build", (times.ended - times.started).total_seconds(), team=team, project=project)
