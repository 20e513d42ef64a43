"""Replay: history in order, as fast as it can be read, with back-pressure.

An ephemeral pull consumer without acknowledgements, as the NATS project's newer clients build their ordered consumer:
what we do not ask for is not sent, so a slow reader bounds its own memory. (nats-py's ordered consumer answers flow
control when a message is *received*; a slow reader's queue overflows and drops.) A gap, silence or a lost consumer
begins anew after the last message that was seen.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from catalyst.events.errors import Unread
from catalyst.events.stored import Stored

logger = logging.getLogger(__name__)

ASKED: Final = 1_000
"""Messages asked for at a time; as many again may be waiting for the reader."""
HEARTBEAT: Final = 1.0
EXPIRES: Final = 10.0
INACTIVE: Final = 30.0
"""Seconds until the server forgets a replay that nobody continues."""
ATTEMPTS: Final = 10
"""Beginnings in a row without a single message before the reader is told."""


async def replay(
    client: Client,
    stream: str,
    filter_subject: str,
    *,
    start_sequence: int | None = None,
    start_time: datetime | None = None,
    follow: bool = False,
) -> AsyncIterator[Stored]:
    """The stream's messages that match, in order; ends with the last one there is, unless `follow`.

    Raises:
        ValueError: both starts are given.
        Unread: the server refuses, or does not answer any more.
    """
    if start_sequence is not None and start_time is not None:
        raise ValueError("start_sequence and start_time: expected at most one of the two")
    reader = _Reader(client, stream, filter_subject)
    failures = 0
    while True:
        try:
            async for stored in reader.read(start_sequence, start_time, follow=follow):
                failures = 0
                start_sequence, start_time = stored.sequence + 1, None
                yield stored
        except _Interrupted as exc:
            failures += 1
            if failures >= ATTEMPTS:
                raise Unread(f"replay of {stream} does not get on: {exc}") from exc
            logger.warning(
                "replay begins anew", extra={"stream": stream, "sequence": start_sequence, "reason": str(exc)}
            )
            await asyncio.sleep(0.1 * failures)
        else:
            return


class _Interrupted(Exception):
    """The consumer is gone or left something out."""


class _Reader:
    """One ephemeral consumer at a time."""

    def __init__(self, client: Client, stream: str, filter_subject: str) -> None:
        self._client = client
        self._jetstream = client.jetstream()
        self._stream = stream
        self._filter = filter_subject

    async def read(
        self, start_sequence: int | None, start_time: datetime | None, *, follow: bool
    ) -> AsyncIterator[Stored]:
        name, pending = await self._created(start_sequence, start_time)
        if pending == 0 and not follow:
            await self._deleted(name)
            return
        buffer: deque[Msg] = deque()
        news = asyncio.Event()

        async def arrived(message: Msg) -> None:
            buffer.append(message)
            news.set()

        inbox = self._client.new_inbox()
        subscription = await self._client.subscribe(inbox, cb=arrived)
        asked, expected = 0, 1
        try:
            while True:
                if asked < ASKED // 2:
                    await self._ask(name, inbox, ASKED - asked)
                    asked = ASKED
                try:
                    async with asyncio.timeout(3 * HEARTBEAT):
                        await news.wait()
                except TimeoutError as exc:
                    raise _Interrupted("the server fell silent") from exc
                news.clear()
                while buffer:
                    message = buffer.popleft()
                    if not message.reply:
                        asked = _asked_after(message, asked)
                        continue
                    stored, sequence, left = _stored(self._stream, message)
                    if sequence != expected:
                        raise _Interrupted(f"delivery {expected} was left out")
                    expected += 1
                    asked -= 1
                    yield stored
                    if left == 0 and not follow:
                        return
                    if asked < ASKED // 2:
                        break
                if buffer:
                    news.set()
        except nats.errors.Error as exc:
            raise _Interrupted(str(exc) or type(exc).__name__) from exc
        finally:
            if not self._client.is_closed and not self._client.is_draining:
                await subscription.unsubscribe()
                await self._deleted(name)

    async def _created(self, start_sequence: int | None, start_time: datetime | None) -> tuple[str, int]:
        config = ConsumerConfig(
            ack_policy=AckPolicy.NONE,
            filter_subject=self._filter,
            deliver_policy=DeliverPolicy.ALL,
            inactive_threshold=INACTIVE,
            mem_storage=True,
            num_replicas=1,
        )
        if start_sequence is not None:
            config = config.evolve(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=max(start_sequence, 1))
        elif start_time is not None:
            config = config.evolve(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=start_time)
        # The filter in the request's subject lets the server's permissions decide who may replay what.
        config.name = f"replay-{self._client.new_inbox().rpartition('.')[2]}"
        try:
            info = await self._jetstream.add_consumer(self._stream, config)
        except nats.js.errors.APIError as exc:
            if exc.code == 503:
                raise _Interrupted(str(exc)) from exc
            raise Unread(f"stream {self._stream} cannot be replayed: {exc.description}") from exc
        except nats.errors.Error as exc:
            raise _Interrupted(str(exc) or type(exc).__name__) from exc
        return config.name, info.num_pending or 0

    async def _ask(self, name: str, inbox: str, count: int) -> None:
        request = {"batch": count, "expires": int(EXPIRES * 1e9), "idle_heartbeat": int(HEARTBEAT * 1e9)}
        await self._client.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{name}", json.dumps(request).encode(), reply=inbox
        )

    async def _deleted(self, name: str) -> None:
        try:
            await self._jetstream.delete_consumer(self._stream, name)
        except nats.errors.Error:
            logger.debug("the server will forget the replay by itself", extra={"consumer": name})


def _asked_after(status: Msg, asked: int) -> int:
    headers = status.headers or {}
    code = headers.get("Status")
    if code == "100":
        return asked
    if code == "408":
        return max(0, asked - int(headers.get("Nats-Pending-Messages", asked)))
    raise _Interrupted(f"{code} {headers.get('Description', '')}")


def _stored(stream: str, message: Msg) -> tuple[Stored, int, int]:
    """The message, its delivery's number, and how many are left after it: all told by its reply subject."""
    # $JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<nanoseconds>.<pending>
    tokens = message.reply.split(".")
    at = 2 if len(tokens) == 9 else 4
    stored = Stored(
        stream=stream,
        subject=message.subject,
        sequence=int(tokens[at + 3]),
        data=message.data,
        headers=message.headers or {},
        nanoseconds=int(tokens[at + 5]),
    )
    return stored, int(tokens[at + 4]), int(tokens[at + 6])
