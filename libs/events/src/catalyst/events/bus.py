"""The bus: events out, durably; events in, answered for; and what is stored, read.

```
publish   awaited, retried with one id for 8 s, then Unpublished; a repeat is stored once
consume   one standing pull a consumer (consuming.py)
facts, subjects, state, states   direct reads (reading.py)
swap      one record replaced, if it is still the one that was seen (locks.py)
keep      one record more that is no event, tried once
append    one event more, if nothing else was said on its subject meanwhile
resend    what is stored already, once more, for consumers that could not handle it
news      that something was published, live
replay    history in order (replaying.py)
```

The connection never gives up by itself. A server that is frozen is noticed by unanswered pings within 10 s.
"""

import asyncio
import hashlib
import logging
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

import nats.errors
import nats.js.api
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from opentelemetry import metrics

from catalyst.events import reading, replaying, tracing
from catalyst.events.acks import Acks
from catalyst.events.binding import CONTENT_TYPE, MESSAGE_ID, TRACEPARENT, TTL, encode
from catalyst.events.catalogue import DeadLetter
from catalyst.events.client import ClosingClient
from catalyst.events.consuming import Consumption, Handler, Received
from catalyst.events.errors import Oversized, Unpublished, Unreachable, WrongLast
from catalyst.events.event import NO_CAUSE, Event, caused_by, dead_letter
from catalyst.events.keys import public_key
from catalyst.events.payload import VERBATIM_LIMIT, Omitted
from catalyst.events.stored import Appended, Published, Stored
from catalyst.events.topology import SCM, STATE, STATE_FILTER, Consumer
from catalyst.model.clock import Clock
from catalyst.model.points import Points, no_points

__all__ = ["Bus", "BusSettings", "Consumer", "Handler", "Published", "Received", "Stored"]

logger = logging.getLogger(__name__)
unpublished = metrics.get_meter("catalyst.events").create_counter(
    "catalyst_bus_unpublished", description="messages that were not stored, by why: full, unanswered, refused"
)

FULL: Final = frozenset({10047, 10077, 10122, 10167})
"""JetStream's error codes for a stream or server without room: waiting does not help, the publisher is told."""
WRONG_LAST_SEQUENCE: Final = 10071
"""JetStream's error code when the newest message is not the expected one."""


@dataclass(frozen=True, slots=True)
class BusSettings:
    """Where the bus is and who we are there. `seed_file` holds the user's nkey seed; None: a server without users.

    All durations in seconds. `inbox_prefix` is private to the user: nobody else may listen to answers meant for us.
    `ca_file`: the authority that a server with TLS is verified by; None: those the machine trusts.
    """

    url: str
    seed_file: Path | None = None
    inbox_prefix: str = "_INBOX"
    connect_patience: float = 10.0
    publish_timeout: float = 1.5
    publish_patience: float = 8.0
    drain_patience: float = 10.0
    ca_file: Path | None = None


class Bus:
    """One connection to NATS. Made by `Bus.connect`, ended by `drain`."""

    def __init__(
        self,
        settings: BusSettings,
        client: Client,
        *,
        name: str,
        clock: Clock,
        points: Points,
        spans: bool,
        on_refused: Callable[[str], None] | None = None,
    ) -> None:
        self._settings = settings
        self._client = client
        self._acks = Acks(client)
        self._name = name
        self._clock = clock
        self._points = points
        self._spans = spans
        self._on_refused = on_refused
        self._consumptions: set[Consumption] = set()
        self._refusals: dict[str, str] = {}
        """Subject, in lower case as the client reports it → why it may not be published."""
        self._up = asyncio.Event()
        self._up.set()
        self._draining = False
        self._background: set[asyncio.Task[None]] = set()
        for why in ("full", "unanswered", "refused"):
            unpublished.add(0, {"why": why})  # a rate sees no first time of what was not there before

    @classmethod
    async def connect(
        cls,
        settings: BusSettings,
        *,
        name: str,
        clock: Clock,
        points: Points = no_points,
        on_closed: Callable[[], Awaitable[None]] | None = None,
        spans: bool = True,
        on_refused: Callable[[str], None] | None = None,
    ) -> Self:
        """Connects as `name`. `on_closed` is awaited when the connection is lost for good, which a drain is not: the
        process had better end. `spans`: False when nobody records them; trace ids are handed on all the same.
        `on_refused` is told each subject, in lower case, that the server does not let us publish to or hear: it says
        so beside the request, which only runs into its timeout.

        Raises:
            Unreachable: no connection within `connect_patience`, with the last reason.
        """
        tls: dict[str, Any] = {}
        if settings.ca_file is not None:
            try:
                tls = {"tls": ssl.create_default_context(cafile=str(settings.ca_file))}
            except OSError as exc:
                raise Unreachable(f"no authority to verify {settings.url} by: {settings.ca_file}: {exc}") from exc
        if settings.seed_file is not None:
            try:
                public_key(settings.seed_file)
            except (OSError, ValueError) as exc:
                raise Unreachable(f"no key to connect to {settings.url} as {name}: {exc}") from exc
        client = ClosingClient()
        bus = cls(settings, client, name=name, clock=clock, points=points, spans=spans, on_refused=on_refused)
        reasons: deque[str] = deque(maxlen=16)

        async def closed() -> None:
            bus._up.clear()
            if not bus._draining:
                logger.error("connection to the bus is closed for good", extra={"bus": settings.url})
                if on_closed is not None:
                    await on_closed()

        async def failed(error: Exception) -> None:
            reasons.append(str(error) or type(error).__name__)
            bus._note(error)

        try:
            async with asyncio.timeout(settings.connect_patience):
                await client.connect(
                    settings.url,
                    name=name,
                    nkeys_seed=str(settings.seed_file) if settings.seed_file else None,
                    inbox_prefix=settings.inbox_prefix,
                    allow_reconnect=True,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.25,  # type: ignore[arg-type]  # an int by its annotation only
                    ping_interval=5,
                    max_outstanding_pings=1,
                    pending_size=8 * 1024 * 1024,
                    drain_timeout=int(settings.drain_patience),
                    connect_timeout=2,
                    error_cb=failed,
                    disconnected_cb=bus._disconnected,
                    reconnected_cb=bus._reconnected,
                    closed_cb=closed,
                    **tls,
                )
                await bus._acks.listen()
        except (TimeoutError, OSError, nats.errors.Error) as exc:
            bus._draining = True
            await client.close()
            # A server that refuses us says so and closes at once: not every try gets to read it.
            refused = (reason for reason in reversed(reasons) if "authorization" in reason.lower())
            reason = next(refused, reasons[-1] if reasons else str(exc) or type(exc).__name__)
            raise Unreachable(f"no connection to {settings.url} as {name}: {reason}") from exc
        return bus

    @property
    def connected(self) -> bool:
        """Whether the server is there, as far as is known; a frozen one is noticed within 10 s."""
        return self._client.is_connected

    def problems(self) -> list[str]:
        """Why the bus does not do its work now, for readiness; empty when it does."""
        lost = [] if self.connected else [f"no connection to {self._settings.url}"]
        return lost + [c.problem for c in self._consumptions if c.problem is not None]

    async def publish(self, event: Event) -> Published:
        """Stores an event, durably, once: the same event again is a `duplicate` and changes nothing.

        Raises:
            Unpublished: not stored within `publish_patience` as far as is known; or the stream is full; or forbidden.
            Oversized: larger than the server takes.
            Reject: the event cannot be written.
        """
        if self._spans:
            with tracing.publishing(event) as traced:
                published = await self._sent(traced)
        else:
            published = await self._sent(tracing.carried_on(event))
        await self._points(f"bus.published:{event.data.short_type()}")
        return published

    async def consume(self, consumer: Consumer, handler: Handler, *, concurrency: int) -> None:
        """Handles the consumer's messages, at most `concurrency` at once, until cancelled or drained.

        The handler returns → ack; raises `Retry` → again later; raises `Reject` → dead letter; anything else → logged,
        again later; the last delivery's failure → dead letter. Cancelling cancels the handlers and hands their messages
        back.
        """
        consumption = Consumption(
            self._client, consumer, handler, concurrency=concurrency, points=self._points, bury=self._bury
        )
        self._consumptions.add(consumption)
        try:
            await consumption.run()
        finally:
            self._consumptions.discard(consumption)

    async def facts(self, subject: str) -> list[Stored]:
        """All facts of one pull request, branch or command subject, oldest first. Raises `Unread`."""
        return [stored async for stored in reading.messages(self._client, SCM, subject)]

    async def subjects(self, stream: str, filter_subject: str) -> list[str]:
        """The subjects of a stream that match and hold a message, sorted. Raises `Unread`."""
        return await reading.subjects(self._client, stream, filter_subject)

    async def last(self, stream: str, subject: str) -> Stored | None:
        """The newest message of one subject. Raises `Unread`."""
        return await reading.last_message(self._client, stream, subject)

    def messages(
        self, stream: str, filter_subject: str, *, start: int = 1, since: datetime | None = None
    ) -> AsyncIterator[Stored]:
        """What a stream holds for a subject or filter, oldest first, by direct gets: from a sequence, or from a time
        on; ends with the last message there is. Raises `Unread`.
        """
        return reading.messages(self._client, stream, filter_subject, start=start, since=since)

    async def last_before(self, stream: str, subject: str, sequence: int) -> Stored | None:
        """The newest message of one subject that is older than that sequence. Raises `Unread`."""
        return await reading.last_before(self._client, stream, subject, sequence)

    async def message(self, stream: str, sequence: int) -> Stored | None:
        """One message by its sequence. Raises `Unread`."""
        return await reading.message(self._client, stream, sequence)

    async def lasts(self, stream: str, filters: Sequence[str], *, at: datetime | None = None) -> list[Stored]:
        """The newest message of each subject that matches, of 1024 at most; with `at` as it was then. Raises
        `Unread`.
        """
        return await reading.lasts(self._client, stream, filters, at=at)

    @property
    def server(self) -> tuple[str, int]:
        """The version of the server that we are connected to, and the largest message it takes, in bytes."""
        version = self._client.connected_server_version
        return f"{version.major}.{version.minor}.{version.patch}", self._client.max_payload

    async def stream_info(self, stream: str) -> dict[str, Any] | None:
        """What the server says about a stream; None when there is none. Raises `Unread`."""
        return await reading.stream_info(self._client, stream)

    async def consumer_info(self, stream: str, name: str) -> dict[str, Any] | None:
        """What the server says about one consumer; None when there is none. Raises `Unread`."""
        return await reading.consumer_info(self._client, stream, name)

    async def consumer_infos(self, stream: str) -> list[dict[str, Any]]:
        """What the server says about the consumers of a stream. Raises `Unread`."""
        return await reading.consumer_infos(self._client, stream)

    @asynccontextmanager
    async def news(self, subjects: Sequence[str]) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever something is published on one of these, live. It may not be stored yet."""
        heard = asyncio.Event()

        async def arrived(_: Msg) -> None:
            heard.set()

        subscriptions = [await self._client.subscribe(subject, cb=arrived) for subject in subjects]
        try:
            yield heard
        finally:
            if not self._client.is_closed and not self._client.is_draining:
                for subscription in subscriptions:
                    await subscription.unsubscribe()

    async def append(self, event: Event, *, after: int) -> Appended | None:
        """Stores an event as `publish` does, if the newest message of its subject is still the one with the sequence
        `after` (0: none). None: it is not, so read it and try again; what was sent before under the same id and stored
        all the same may be the reason.

        Raises: as `publish`.
        """
        body, headers = self._written(tracing.carried_on(event))
        expected = {nats.js.api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: str(after)}
        try:
            published = await self._stored(event.subject, body, headers | expected)
        except WrongLast:
            return None
        await self._points(f"bus.published:{event.data.short_type()}")
        return Appended(published.sequence, published.duplicate, body)

    async def resend(self, stored: Stored, *, unless_after: int | None = None) -> Published:
        """Stores a message once more under a new message id, so that every consumer of its subject is handed it again;
        to them it is the same event. Sent again twice it is a `duplicate`. `unless_after`: only while that sequence is
        the newest of its subject.

        Raises:
            Unpublished: not stored within `publish_patience`, forbidden, or no longer the newest.
        """
        kept = (TTL, TRACEPARENT)
        headers = {name: value for name, value in stored.headers.items() if name in kept}
        headers |= {"content-type": CONTENT_TYPE, MESSAGE_ID: f"resent/{stored.stream}/{stored.sequence}"}
        if unless_after is not None:
            headers[nats.js.api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value] = str(unless_after)
        return await self._stored(stored.subject, stored.data, headers)

    async def state(self, subject: str) -> Stored | None:
        """The last snapshot of one environment; `subject` is its `environment.changed`. Raises `Unread`."""
        return await self.last(STATE, subject)

    def states(self, filter_subject: str = STATE_FILTER, *, start: int = 1) -> AsyncIterator[Stored]:
        """The last snapshot of every environment, or of those whose subject matches the filter; with `start` of those
        that changed since: the sequence in STATE from which on to read. Raises `Unread`.
        """
        return reading.messages(self._client, STATE, filter_subject, start=start)

    def replay(
        self,
        stream: str,
        filter_subject: str,
        *,
        start_sequence: int | None = None,
        start_time: datetime | None = None,
        follow: bool = False,
    ) -> AsyncIterator[Stored]:
        """History in order, from a sequence or a time on; ends with the last message there is, unless `follow`.

        Raises:
            ValueError: both starts are given.
            Unread: the server refuses, or does not answer any more.
        """
        return replaying.replay(
            self._client,
            stream,
            filter_subject,
            start_sequence=start_sequence,
            start_time=start_time,
            follow=follow,
        )

    async def swap(self, subject: str, body: bytes, *, expected: int) -> int | None:
        """Stores `body` as the newest message of `subject`, if the newest there is has the sequence `expected` (0:
        none). Returns its sequence, None when somebody else was first. Tried once.

        Raises:
            Unpublished: no answer in time, or no right to it. The message *may* be stored.
        """
        if not self._up.is_set():  # the client would buffer the message and send it whenever, unobserved
            raise Unpublished(f"{subject}: no connection")
        headers = {nats.js.api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: str(expected)}
        self._refusals.pop(subject.lower(), None)
        timeout = self._settings.publish_timeout
        try:
            return (await self._acks.publish(subject, body, headers, within=timeout)).sequence
        except nats.js.errors.APIError as exc:
            if exc.err_code == WRONG_LAST_SEQUENCE:
                return None
            raise Unpublished(f"{subject}: {exc.description}") from exc
        except (TimeoutError, nats.errors.Error) as exc:
            raise Unpublished(f"{subject}: {self._refusals.get(subject.lower(), _explained(exc))}") from exc

    async def keep(self, subject: str, body: bytes, headers: dict[str, str]) -> None:
        """Stores a record that is no event. Tried once: whoever keeps records can do without one.

        Raises:
            Unpublished: no answer in time, refused, or larger than the server takes. The record *may* be stored.
        """
        if not self._up.is_set():
            raise Unpublished(f"{subject}: no connection")
        if len(body) > self._client.max_payload // 2:
            raise Unpublished(f"{subject}: {len(body)} bytes are more than half of what the bus takes")
        self._refusals.pop(subject.lower(), None)
        try:
            await self._acks.publish(subject, body, headers, within=self._settings.publish_timeout)
        except nats.js.errors.APIError as exc:
            raise Unpublished(f"{subject}: {exc.description}") from exc
        except (TimeoutError, nats.errors.Error) as exc:
            raise Unpublished(f"{subject}: {self._refusals.get(subject.lower(), _explained(exc))}") from exc

    async def project(self, subject: str, id_: str, body: bytes) -> Published:
        """Stores what an event of ours is in others' words, as a CloudEvent; the same id again is a `duplicate`.

        Raises:
            Unpublished: not stored within `publish_patience`, or forbidden.
        """
        return await self._stored(subject, body, {"content-type": CONTENT_TYPE, MESSAGE_ID: id_})

    async def drain(self) -> None:
        """Stops pulling, finishes what is in flight, sends every answer, and closes the connection."""
        self._draining = True
        await asyncio.gather(*(c.drain(self._settings.drain_patience) for c in tuple(self._consumptions)))
        if self._client.is_connected:
            await self._client.drain()
        else:
            await self._client.close()

    async def _sent(self, event: Event) -> Published:
        return await self._stored(event.subject, *self._written(event))

    def _written(self, event: Event) -> tuple[bytes, dict[str, str]]:
        """Body and headers. Raises `Oversized`, `Reject`."""
        body, headers = encode(event)
        size = len(body) + sum(len(name) + len(value) + 4 for name, value in headers.items()) + 12
        if size > self._client.max_payload:
            raise Oversized(
                f"{event.type} {event.id} has {size} bytes with headers, the bus takes {self._client.max_payload}"
            )
        return body, headers

    async def _stored(self, subject: str, body: bytes, headers: dict[str, str]) -> Published:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.publish_patience
        pause, reason = 0.05, "no connection"
        self._refusals.pop(subject.lower(), None)
        while (left := deadline - loop.time()) > 0:
            try:
                # Not while disconnected: the client would buffer the message and send it whenever, unobserved.
                if not self._up.is_set():
                    async with asyncio.timeout(left):
                        await self._up.wait()
                timeout = min(self._settings.publish_timeout, max(deadline - loop.time(), 0.05))
                return await self._acks.publish(subject, body, headers, within=timeout)
            except nats.js.errors.APIError as exc:
                reason = exc.description or str(exc)
                if exc.err_code == WRONG_LAST_SEQUENCE:
                    raise WrongLast(f"{subject}: {reason}") from exc
                if exc.err_code in FULL or (exc.code or 0) < 500:
                    unpublished.add(1, {"why": "full" if exc.err_code in FULL else "refused"})
                    raise Unpublished(f"{subject}: {reason}") from exc
            except nats.errors.ConnectionClosedError as exc:
                raise Unpublished(f"{subject}: the connection is closed") from exc
            except (TimeoutError, nats.errors.Error) as exc:
                if subject.lower() in self._refusals:
                    unpublished.add(1, {"why": "refused"})
                    raise Unpublished(f"{subject}: {self._refusals[subject.lower()]}") from exc
                reason = _explained(exc)
            await asyncio.sleep(min(pause, max(deadline - loop.time(), 0)))
            pause = min(pause * 2, 1.0)
        unpublished.add(1, {"why": "unanswered"})
        raise Unpublished(f"{subject}: not acknowledged within {self._settings.publish_patience:g} s: {reason}")

    async def _bury(self, consumer: Consumer, message: Msg, reason: str, event: Event | None) -> None:
        metadata = message.metadata
        text = _text(message.data)
        letter = DeadLetter(
            service=consumer.service,
            consumer=consumer.name,
            stream=metadata.stream,
            sequence=metadata.sequence.stream,
            original_subject=message.subject,
            delivered=metadata.num_delivered,
            reason=reason[:4096],
            event_type=event.type if event else None,
            event_id=event.message_id if event else None,
            message=text,
            message_omitted=None
            if text is not None
            else Omitted(size=len(message.data), sha256=hashlib.sha256(message.data).hexdigest()),
        )
        await self.publish(dead_letter(letter, time=self._clock(), cause=caused_by(event) if event else NO_CAUSE))

    async def _disconnected(self) -> None:
        self._up.clear()
        if not self._draining:
            logger.warning("connection to the bus lost", extra={"bus": self._settings.url})

    async def _reconnected(self) -> None:
        self._up.set()
        logger.info("connection to the bus restored", extra={"bus": self._settings.url})
        for consumption in tuple(self._consumptions):
            await consumption.rearm()

    def _note(self, error: Exception) -> None:
        """Remembers what the server refused: it says so beside the request, which only runs into its timeout."""
        text = str(error)
        logger.warning("the bus reports an error", extra={"error": text or type(error).__name__})
        if self._on_refused is not None and (refused := _refused(text)):
            self._on_refused(refused)
        _, found, rest = text.lower().partition('permissions violation for publish to "')
        if found:
            subject = rest.partition('"')[0]
            self._refusals[subject] = f"{self._name} may not publish here"
            for consumption in self._consumptions:
                consumption.forbidden(subject)


def _refused(text: str) -> str | None:
    """The subject in the server's `Permissions Violation for Publish to "…"`."""
    _, found, rest = text.lower().partition("permissions violation for ")
    return rest.partition('"')[2].partition('"')[0] if found else None


def _text(body: bytes) -> str | None:
    """The body as text, if it is text that fits into a letter: quoting at worst doubles what counts."""
    if len(body) > VERBATIM_LIMIT // 2:
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def _explained(error: BaseException) -> str:
    if isinstance(error, nats.js.errors.NoStreamResponseError):
        return "no stream takes this subject"
    if isinstance(error, TimeoutError):
        return "no answer"
    return str(error) or type(error).__name__
