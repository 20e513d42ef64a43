"""One trace over every hop: W3C trace context goes out with each event and is taken up where the event is handled.

A first delivery is a child of the publisher's span. A redelivery only *links* to it: it may come hours later, and
several of them under one parent would tell a story that did not happen. Without an OpenTelemetry SDK all of this does
nothing.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from opentelemetry import trace
from opentelemetry.trace import Link, SpanKind
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
    context = _PROPAGATOR.extract({"traceparent": event.traceparent}) if event.traceparent else None
    origin = trace.get_current_span(context).get_span_context() if context else None
    first = delivered == 1
    with _TRACER.start_as_current_span(
        f"handle {event.data.short_type()}",
        context=context if first else None,
        kind=SpanKind.CONSUMER,
        links=[Link(origin)] if origin and origin.is_valid and not first else [],
        attributes={
            "messaging.system": "nats",
            "messaging.message.id": event.message_id,
            "messaging.consumer.group.name": consumer,
            "catalyst.delivered": delivered,
        },
    ):
        yield
