"""One standing pull, owned by the bus: how messages come in, are handled, and are answered for.

```
in flight (queued or handled) + asked for ≤ concurrency          nothing is hoarded that another replica could do
the handler returns        → ack
          raises Retry     → nak with its delay, or the consumer's backoff; the last delivery → dead letter, then term
          raises Reject    → dead letter (own id), then term
          raises another   → logged, as Retry
          takes too long   → cancelled, as Retry
```

Messages of one subject are handled one after the other. While a message waits or is handled the server hears
`in_progress` every third of the consumer's ack_wait. nats-py's `fetch` does not survive a server restart, so the pull
request is published by hand to an inbox of our own and repeated when a reconnect, a refusal or silence says that it
is gone.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from opentelemetry import metrics

from catalyst.events import reading, tracing
from catalyst.events.binding import MESSAGE_ID, decode
from catalyst.events.dead import LETTER_GIVEN_UP
from catalyst.events.errors import BusError, Reject, Retry
from catalyst.events.event import Event
from catalyst.events.topology import Consumer
from catalyst.model.points import Points

logger = logging.getLogger(__name__)
unreadable = metrics.get_meter("catalyst.events").create_up_down_counter(
    "catalyst_bus_unreadable_consumers", description="consumers that this process should read and cannot"
)
_buried = metrics.get_meter("catalyst.events").create_counter(
    "catalyst_messages_buried", description="messages that a consumer could not handle"
)
_delayed = metrics.get_meter("catalyst.events").create_counter(
    "catalyst_message_retries", description="messages handed back to be delivered again"
)

EXPIRES: Final = 30.0
"""Seconds a pull request stands before the server ends it and we ask again."""
HEARTBEAT: Final = 2.0
"""Seconds. The server says that much more often than never that a pull stands; two missed ones mean it does not."""
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0
LAST_ARRIVALS: Final = 0.5
"""Seconds for what is on its way when we stop listening. What comes later is delivered again."""
HANDED_BACK: Final = 0.1
"""Seconds until a message we had no time for is delivered again. A nak without delay burns deliveries."""


@dataclass(frozen=True, slots=True)
class Received:
    """An event as delivered. `delivered` is 1 the first time; `in_progress()` tells the server that work goes on."""

    event: Event
    stream: str
    subject: str
    sequence: int
    delivered: int
    in_progress: Callable[[], Awaitable[None]]
    message_id: str = ""
    """Under which id the bus stored it: the event's own, or `resent/…` when somebody sent it again."""
    stored_at: datetime | None = None
    """When, by the bus' own clock: of all messages the same one, whoever published them."""


Handler = Callable[[Received], Awaitable[None]]
Bury = Callable[[Consumer, Msg, str, Event | None], Awaitable[None]]
"""Publishes the dead letter of a message: consumer, message, reason, the event if it could be read."""


class Consumption:
    """One consumer being read by one handler. `problem` says why nothing comes, when nothing can."""

    def __init__(
        self, client: Client, consumer: Consumer, handler: Handler, *, concurrency: int, points: Points, bury: Bury
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency {concurrency}: expected at least 1")
        self.consumer = consumer
        self.problem: str | None = None
        self._client = client
        self._handler = handler
        self._concurrency = concurrency
        self._points = points
        self._bury = bury
        self._inbox = client.new_inbox()
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{consumer.stream}.{consumer.name}"
        self._requests = 0
        self._asked = 0
        self._in_flight: dict[str, Msg] = {}
        """By the subject that answers for the delivery: a second delivery of one message has another."""
        self._subjects: dict[str, deque[Msg]] = {}
        self._workers: set[asyncio.Task[None]] = set()
        self._heard = 0.0
        self._refused_since: float | None = None
        self._pause = FIRST_PAUSE
        self._not_before = 0.0
        self._handing_back = False
        self._ended = asyncio.Event()
        self._subscription: Subscription | None = None
        self._retry: asyncio.Task[None] | None = None
        # From 0, or nobody would see the first one: it is an increase only where something was before.
        _buried.add(0, self._labels)
        _delayed.add(0, self._labels)

    @property
    def name(self) -> str:
        return f"{self.consumer.stream}/{self.consumer.name}"

    @property
    def _labels(self) -> dict[str, str]:
        return {"stream": self.consumer.stream, "consumer": self.consumer.name}

    async def run(self) -> None:
        """Reads until cancelled (handlers are cancelled and their messages handed back) or `drain` ends."""
        unreadable.add(0, {"consumer": self.name})
        self._subscription = await self._client.subscribe(f"{self._inbox}.*", cb=self._arrived)
        upkeep = asyncio.create_task(self._upkeep(), name=f"upkeep {self.name}")
        try:
            await self.rearm()
            await self._ended.wait()
        except asyncio.CancelledError:
            self._handing_back = True
            await self._hand_back()
            raise
        finally:
            upkeep.cancel()
            if self._retry is not None:
                self._retry.cancel()
            await asyncio.gather(upkeep, *filter(None, [self._retry]), return_exceptions=True)
            await self._stop_listening()
            self._problem(None)

    async def rearm(self) -> None:
        """Asks again: what was asked before a reconnect is forgotten by the server."""
        self._asked = 0
        self._pause, self._not_before = FIRST_PAUSE, 0.0
        self._heard = asyncio.get_running_loop().time()
        await self._top_up()

    def forbidden(self, subject: str) -> None:
        """Told that the server refuses to let us publish to `subject` (in lower case)."""
        if subject == self._next.lower():
            self._unwell(f"consumer {self.name} is not ours to read", at_once=True)

    async def drain(self, timeout: float) -> None:
        """Stops asking, finishes what is in flight, and hands back what takes longer than `timeout` seconds."""
        self._concurrency = 0
        await self._stop_listening()
        while self._workers and timeout > 0:
            began = asyncio.get_running_loop().time()
            await asyncio.wait(self._workers, timeout=timeout)
            timeout -= asyncio.get_running_loop().time() - began
        await self._hand_back()
        self._ended.set()

    # Asking

    async def _top_up(self) -> None:
        """Asks for as many messages as there are free hands; in lots, while others are still asked for."""
        free = self._concurrency - len(self._in_flight) - self._asked
        if self._handing_back or free <= 0 or (self._asked and free < self._concurrency // 2):
            return
        if not self._client.is_connected or asyncio.get_running_loop().time() < self._not_before:
            return
        self._asked += free
        self._requests += 1
        request = {"batch": free, "expires": int(EXPIRES * 1e9), "idle_heartbeat": int(HEARTBEAT * 1e9)}
        try:
            await self._client.publish(
                self._next,
                json.dumps(request).encode(),
                reply=f"{self._inbox}.{self._requests}",
            )
        except nats.errors.Error as exc:
            self._asked = 0  # the reconnect asks again
            logger.warning("pull not sent", extra={"consumer": self.name, "error": str(exc)})

    async def _upkeep(self) -> None:
        """Tells the server that work goes on, and notices when the pull is gone though nobody said so."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.consumer.ack_wait / 3)
            await self._in_progress()
            if self._asked and loop.time() - self._heard > 2 * HEARTBEAT and self._client.is_connected:
                logger.warning("standing pull fell silent, asking again", extra={"consumer": self.name})
                await self.rearm()
            await self._top_up()

    async def _in_progress(self) -> None:
        if not self._client.is_connected:
            return
        try:
            for message in tuple(self._in_flight.values()):
                await message.in_progress()
        except nats.errors.Error as exc:
            logger.warning("progress not told", extra={"consumer": self.name, "error": str(exc)})

    async def _ask_later(self, pause: float) -> None:
        await asyncio.sleep(pause)
        self._retry = None
        await self._top_up()

    async def _arrived(self, message: Msg) -> None:
        self._heard = asyncio.get_running_loop().time()
        if not message.reply:
            await self._status(message)
            return
        self._well()
        self._asked = max(0, self._asked - 1)
        if self._handing_back:
            await self._nak(message, HANDED_BACK)
            return
        self._in_flight[message.reply] = message
        waiting = self._subjects.get(message.subject)
        if waiting is not None:
            waiting.append(message)
            return
        self._subjects[message.subject] = deque([message])
        worker = asyncio.create_task(self._work(message.subject))
        self._workers.add(worker)
        worker.add_done_callback(self._workers.discard)

    async def _status(self, message: Msg) -> None:
        headers = message.headers or {}
        status, description = headers.get("Status", ""), headers.get("Description", "")
        if status == "100":
            self._well()
            return
        self._asked = max(0, self._asked - int(headers.get("Nats-Pending-Messages", self._asked)))
        if status == "408":  # the request ran its time
            self._well()
        elif "deleted" in description.lower():
            self._unwell(f"consumer {self.name} was deleted: apply the topology", at_once=True)
        elif status == "503":
            # Also what a restarted server says until it has loaded the consumer.
            self._unwell(f"consumer {self.name} does not answer: apply the topology", at_once=False)
        else:
            self._unwell(f"consumer {self.name} refused: {status} {description}", at_once=False)
        if self._refused_since is None:
            await self._top_up()

    def _well(self) -> None:
        if self.problem is not None:
            logger.info("consumer answers again", extra={"consumer": self.name})
        self._problem(None)
        self._refused_since, self._pause, self._not_before = None, FIRST_PAUSE, 0.0

    def _problem(self, problem: str | None) -> None:
        change = (problem is not None) - (self.problem is not None)
        self.problem = problem
        if change:
            unreadable.add(change, {"consumer": self.name})

    def _unwell(self, problem: str, *, at_once: bool) -> None:
        now = asyncio.get_running_loop().time()
        self._asked = 0
        self._not_before = now + self._pause
        if self._retry is None:
            self._retry = asyncio.create_task(self._ask_later(self._pause + 0.001))
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        self._refused_since = self._refused_since or now
        if self.problem is None and (at_once or now - self._refused_since > 2 * LONGEST_PAUSE):
            self._problem(problem)
            logger.error("consumer cannot be read", extra={"consumer": self.name, "reason": problem})

    # Handling

    async def _work(self, subject: str) -> None:
        """Handles the messages of one subject in order, until none is waiting."""
        waiting = self._subjects[subject]
        try:
            while waiting:
                message = waiting[0]
                await self._settle(message)
                waiting.popleft()
                self._in_flight.pop(message.reply, None)
                await self._top_up()
        finally:
            del self._subjects[subject]

    async def _settle(self, message: Msg) -> None:
        """Handles one message and answers for it. Whatever cannot be answered is delivered again."""
        event: Event | None = None
        try:
            event = decode(message.data, message.headers or {}, subject=message.subject)
            await self._handle(event, message)
            await self._points(f"bus.before-ack:{self.consumer.name}")
            await self._ack(message)
        except Reject as exc:
            await self._dead(message, exc.reason, event)
        except Retry as exc:
            await self._again(message, exc.reason, exc.after, event)
        except BusError as exc:
            await self._again(message, exc.reason, None, event)
        except Exception as exc:
            logger.exception("handler failed", extra=self._facts(message))
            await self._again(message, f"{type(exc).__name__}: {exc}", None, event)
        else:
            try:
                await self._points(f"bus.acked:{self.consumer.name}")
            except Exception:
                logger.exception("failed after the acknowledgement", extra=self._facts(message))

    async def _handle(self, event: Event, message: Msg) -> None:
        metadata = message.metadata
        received = Received(
            event=event,
            stream=metadata.stream,
            subject=message.subject,
            sequence=metadata.sequence.stream,
            delivered=metadata.num_delivered,
            in_progress=message.in_progress,
            message_id=(message.headers or {}).get(MESSAGE_ID, ""),
            stored_at=metadata.timestamp,
        )
        with tracing.handling(event, self.name, metadata.num_delivered):
            try:
                async with asyncio.timeout(self.consumer.deadline) as scope:
                    await self._handler(received)
            except TimeoutError as exc:
                if scope.expired():
                    raise Retry(f"handling took longer than {self.consumer.deadline:g} s") from exc
                raise

    async def _ack(self, message: Msg) -> None:
        if self.consumer.double_ack:
            await reading.answered(message.ack_sync(timeout=self.consumer.ack_wait))
        else:
            await message.ack()

    async def _again(self, message: Msg, reason: str, after: timedelta | None, event: Event | None) -> None:
        delivered = message.metadata.num_delivered
        if delivered >= self.consumer.max_deliver:
            await self._dead(message, f"{LETTER_GIVEN_UP} {delivered} deliveries: {reason}", event)
            return
        delay = after.total_seconds() if after is not None else self.consumer.retry_delay(delivered)
        logger.warning(
            "message to be delivered again", extra={**self._facts(message), "reason": reason, "after": delay}
        )
        _delayed.add(1, self._labels)
        await self._nak(message, delay)

    async def _dead(self, message: Msg, reason: str, event: Event | None) -> None:
        logger.error("message dead-lettered", extra={**self._facts(message), "reason": reason})
        try:
            await self._bury(self.consumer, message, reason, event)
            _buried.add(1, self._labels)
            await message.term()
        except (BusError, Reject, nats.errors.Error) as exc:
            # Without its letter a message may not go: it stays with the server, whose own advisory is the last resort.
            logger.exception("dead letter not stored", extra={**self._facts(message), "error": str(exc)})
            await self._nak(message, self.consumer.retry_delay(message.metadata.num_delivered))

    async def _nak(self, message: Msg, delay: float) -> None:
        try:
            await message.nak(delay=max(delay, HANDED_BACK))
        except nats.errors.Error as exc:
            logger.warning("message left to redelivery", extra={**self._facts(message), "error": str(exc)})

    async def _hand_back(self) -> None:
        """Cancels what is being handled and gives it, and what waits, back to the server."""
        self._handing_back = True
        workers = tuple(self._workers)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        for message in tuple(self._in_flight.values()):
            if not message.is_acked:
                await self._nak(message, HANDED_BACK)
        self._in_flight.clear()

    async def _stop_listening(self) -> None:
        """Ends interest, and lets what is already on its way arrive first.

        Without a connection, too: the client would subscribe again when it is back, and whatever came to us then would
        be asked for and handed back, until its deliveries are used up.
        """
        subscription, self._subscription = self._subscription, None
        if subscription is None:
            return
        try:
            if self._client.is_connected:
                async with asyncio.timeout(LAST_ARRIVALS):
                    await subscription.drain()  # type: ignore[no-untyped-call]
                return
        except (nats.errors.Error, TimeoutError) as exc:
            logger.warning("subscription not drained", extra={"consumer": self.name, "error": str(exc)})
        with suppress(nats.errors.Error):  # closed, or ended already: then nobody listens
            await subscription.unsubscribe()

    def _facts(self, message: Msg) -> dict[str, object]:
        metadata = message.metadata
        return {
            "consumer": self.name,
            "subject": message.subject,
            "sequence": metadata.sequence.stream,
            "delivered": metadata.num_delivered,
        }
