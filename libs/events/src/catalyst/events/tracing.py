"""One trace over every hop: W3C trace context goes out with each event and is taken up where the event is handled.

A first delivery is a child of the publisher's span. A redelivery only *links* to it: it may come hours later, and
several of them under one parent would tell a story that did not happen. Without an OpenTelemetry SDK all of this does
nothing.
"""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from opentelemetry import context, trace
from opentelemetry.trace import Link, Span, SpanContext, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from catalyst.events.event import Event

_TRACER = trace.get_tracer("catalyst.events")
_PROPAGATOR = TraceContextTextMapPropagator()


def carried_on(event: Event) -> Event:
    """The event in the current trace, or in a new one: for a process that records no spans, at a tenth of the cost."""
    if trace.get_current_span().get_span_context().is_valid:
        return traced(event)
    ids = f"{random.getrandbits(192):048x}"
    return replace(event, traceparent=f"00-{ids[:32]}-{ids[32:]}-00")


def origin(traceparent: str | None) -> SpanContext | None:
    """The span that a `traceparent` names; None for none, or for one that cannot be read."""
    if not traceparent:
        return None
    found = trace.get_current_span(_PROPAGATOR.extract({"traceparent": traceparent})).get_span_context()
    return found if found.is_valid else None


def trace_id(traceparent: str | None) -> str | None:
    """The trace's 32 hex digits, as people type them into their tracing."""
    found = origin(traceparent)
    return trace.format_trace_id(found.trace_id) if found else None


@contextmanager
def resumed(traceparent: str | None) -> Iterator[None]:
    """What happens within belongs to that trace: its logs, spans and events. Where this trace is the current one
    already (the message that asks for the work is of it) its nearest span stays the parent, and None changes nothing.
    """
    found, now = origin(traceparent), trace.get_current_span().get_span_context()
    if found is None or (now.is_valid and now.trace_id == found.trace_id):
        yield
        return
    token = context.attach(_PROPAGATOR.extract({"traceparent": traceparent or ""}))
    try:
        yield
    finally:
        context.detach(token)


@contextmanager
def spanning(
    name: str,
    attributes: dict[str, str | int | bool],
    *,
    since: datetime | None = None,
    links: Iterable[str | None] = (),
) -> Iterator[Span]:
    """A span of the current trace, from `since` until the block ends. `links`: traceparents of what else led to it;
    those of the current trace need none.
    """
    current = trace.get_current_span().get_span_context().trace_id
    found = [each for each in map(origin, links) if each is not None and each.trace_id != current]
    with _TRACER.start_as_current_span(
        name,
        attributes=attributes,
        links=[Link(each) for each in found],
        start_time=nanoseconds(since) if since else None,
    ) as span:
        yield span


def nanoseconds(at: datetime) -> int:
    """A moment as OpenTelemetry wants it."""
    return int(at.timestamp() * 1_000_000) * 1000


@contextmanager
def publishing(event: Event) -> Iterator[Event]:
    """A producer span around a publish; yields the event with the trace context it is to carry."""
    with _TRACER.start_as_current_span(f"publish {event.data.short_type()}", kind=SpanKind.PRODUCER) as span:
        span.set_attributes({"messaging.system": "nats", "messaging.message.id": event.message_id})
        yield traced(event)


def traced(event: Event) -> Event:
    """The event with the current trace context; unchanged outside any trace."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    traceparent = carrier.get("traceparent")
    return replace(event, traceparent=traceparent) if traceparent else event


@contextmanager
def handling(event: Event, consumer: str, delivered: int) -> Iterator[None]:
    """A consumer span around a handler: child of the publisher on the first delivery, linked to it on later ones."""
    parent = _PROPAGATOR.extract({"traceparent": event.traceparent}) if event.traceparent else None
    published, first = origin(event.traceparent), delivered == 1
    with _TRACER.start_as_current_span(
        f"handle {event.data.short_type()}",
        context=parent if first else None,
        kind=SpanKind.CONSUMER,
        links=[Link(published)] if published and not first else [],
        attributes={
            "messaging.system": "nats",
            "messaging.message.id": event.message_id,
            "messaging.consumer.group.name": consumer,
            "catalyst.delivered": delivered,
        },
    ):
        yield
