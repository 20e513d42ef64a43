"""The server's answers to what was published: one inbox for all of them, a number for each.

nats-py's own request waits by `asyncio.wait_for`, which before Python 3.12 swallows a cancellation that comes together
with the answer; and a fresh random inbox and a checked answer for each cost as much again as the publish itself.
"""

import asyncio
import itertools

import nats.errors
import nats.js.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg

from catalyst.events.stored import Published

_NOBODY = "503"
"""The status with which the server says that no stream listens on a subject."""


class Acks:
    """Publishes, and waits for the stream's answer."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = ""
        self._numbers = itertools.count()
        self._waiting: dict[str, asyncio.Future[Msg]] = {}

    async def listen(self) -> None:
        """Once, when the client has connected; it listens again by itself after a reconnect."""
        self._inbox = self._client.new_inbox()
        await self._client.subscribe(f"{self._inbox}.*", cb=self._heard)

    async def publish(self, subject: str, body: bytes, headers: dict[str, str], *, within: float) -> Published:
        """Sends once and waits at most `within` seconds.

        Raises:
            TimeoutError: no answer; the message may be stored all the same.
            nats.js.errors.APIError: the server refuses.
            nats.js.errors.NoStreamResponseError: no stream takes this subject.
            nats.errors.Error: the connection cannot send.
        """
        loop = asyncio.get_running_loop()
        reply = f"{self._inbox}.{next(self._numbers)}"
        answer = self._waiting[reply] = loop.create_future()
        timer = loop.call_later(within, _give_up, answer)
        try:
            await self._client.publish(subject, body, reply=reply, headers=headers)
            return _published(await answer)
        finally:
            timer.cancel()
            del self._waiting[reply]

    async def _heard(self, message: Msg) -> None:
        answer = self._waiting.get(message.subject)
        if answer is not None and not answer.done():  # else it came after we had stopped waiting
            answer.set_result(message)


def _give_up(answer: asyncio.Future[Msg]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())


def _published(message: Msg) -> Published:
    if message.headers and message.headers.get("Status") == _NOBODY:
        raise nats.js.errors.NoStreamResponseError
    told = orjson.loads(message.data)
    if "error" in told:
        raise nats.js.errors.APIError.from_error(told["error"])
    return Published(told["stream"], told["seq"], bool(told.get("duplicate")))
