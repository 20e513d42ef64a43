"""What webhook-ingest does to the world: it takes bytes from the network, publishes, answers and counts."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final, Protocol

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace import SpanContext

from catalyst.events.event import Event
from catalyst.events.stored import Published
from catalyst.webhook_ingest.core import UNKNOWN_EVENT, Answer

LINKED: Final = 4096
"""Deliveries whose trace is remembered, some hundred bytes each."""

USED: Final = ("pull_request", "push", "issue_comment", UNKNOWN_EVENT)
"""The events that are published, hence may be answered that the bus is away; the last, before they are known."""

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Publisher(Protocol):
    """The one door out; `catalyst.events.bus.Bus` is it."""

    async def publish(self, event: Event) -> Published:
        """Return when the event is stored durably. Raises `Unpublished`; `Oversized` for more than the bus takes."""


class TooLarge(Exception):
    """A body has more bytes than allowed."""


class NoRoom(Exception):
    """So many large bodies are coming in that one more could exhaust the memory."""


class HungUp(Exception):
    """The sender is gone."""


class Bodies:
    """Reads request bodies: `limit` bytes each, `budget` bytes for all that come in pieces, `within` seconds each."""

    def __init__(self, *, limit: int, budget: int, within: float) -> None:
        self._limit = limit
        self._budget = budget
        self._within = within
        self._held = 0

    async def read(self, receive: Receive, *, declared: int, waits: bool) -> bytes:
        """The whole body. `declared`: its Content-Length or 0; `waits`: the sender asked whether it may send it at all.

        Raises `TooLarge`, `NoRoom`, `HungUp`, and `TimeoutError` when it is not complete in time.
        """
        async with asyncio.timeout(self._within):
            if declared > self._limit:
                if not waits:
                    await self._discard(receive)
                raise TooLarge
            piece, more = await _piece(receive)
            return await self._gather(piece, receive) if more else piece

    async def _gather(self, piece: bytes, receive: Receive) -> bytes:
        pieces, size, more = [piece], len(piece), True
        self._held += size
        try:
            while more:
                piece, more = await _piece(receive)
                if size + len(piece) > self._limit:
                    pieces.clear()
                    await self._discard(receive)
                    raise TooLarge
                if self._held + len(piece) > self._budget:
                    raise NoRoom
                pieces.append(piece)
                size += len(piece)
                self._held += len(piece)
            return b"".join(pieces)
        finally:
            self._held -= size

    async def _discard(self, receive: Receive) -> None:
        """Throw away up to twice the limit: most senders read no answer while they still send."""
        left, more = 2 * self._limit, True
        while more and left > 0:
            piece, more = await _piece(receive)
            left -= len(piece)


async def _piece(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise HungUp
    return message.get("body", b""), message.get("more_body", False)


async def respond(send: Send, answer: Answer, *, close: bool) -> None:
    """Send `answer` as JSON; `close`: the rest of the request is not wanted, so the connection cannot go on."""
    body = answer.body()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if answer.retry_after is not None:
        headers.append((b"retry-after", b"%d" % answer.retry_after))
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": int(answer.status), "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Traces:
    """Where spans are recorded: a webhook that the forge sent again is linked to the first one's trace, not made a part
    of it. Remembers the last `LINKED` deliveries of this replica; one that another replica took has no link, only the
    same delivery id on its span.
    """

    def __init__(self) -> None:
        self._first: OrderedDict[str, SpanContext] = OrderedDict()

    def told(self, delivery: str, *, duplicate: bool) -> None:
        """The present span is of this delivery. Without a recorded span nothing is done: it is on the way of each
        webhook.
        """
        span = trace.get_current_span()
        if not span.is_recording():
            return
        span.set_attribute("catalyst.delivery", delivery)
        span.set_attribute("catalyst.duplicate", duplicate)
        if not duplicate:
            self._first[delivery] = span.get_span_context()
            if len(self._first) > LINKED:
                self._first.popitem(last=False)
        elif (first := self._first.get(delivery)) is not None:
            span.add_link(first)


class Counters:
    """`catalyst_webhooks_total{forge, event, result}` at /metrics.

    Counted in a dictionary that is read when somebody asks: a synchronous counter costs 5 µs a webhook.
    """

    def __init__(self, forge: str) -> None:
        # What alerts look for begins with 0, or nobody would see the first one.
        self._counts = Counter({(forge, event, "unavailable"): 0 for event in USED})
        metrics.get_meter("catalyst.webhook_ingest").create_observable_counter(
            "catalyst.webhooks",
            callbacks=[self._observe],
            description="Webhooks by forge, the forge's event and what became of them.",
        )

    def count(self, forge: str, event: str, result: str) -> None:
        """`event` comes from a bounded set, see `core.event_label`."""
        self._counts[forge, event, result] += 1

    def _observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        # On a copy: an exporter reads from another thread.
        for (forge, event, result), count in self._counts.copy().items():
            yield Observation(count, {"forge": forge, "event": event, "result": result})
