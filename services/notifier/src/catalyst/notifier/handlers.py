"""Events in: news of environments, and commands that somebody gave who may.

News only name a pull request: the mirror takes the snapshot, the queue the key, and the message is acknowledged. STATE
holds the truth, so nothing is lost with it. A command has no such memory: it is acknowledged when it is answered.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog

from catalyst.events.bus import Received
from catalyst.events.catalogue import CommandGiven, Data, EnvironmentChanged
from catalyst.events.errors import Reject
from catalyst.forge.errors import ForgeError, ForgeUnavailable, NotThere, RateLimited
from catalyst.notifier.core.answers import Answer, answer
from catalyst.notifier.core.conversation import PullRequestKey
from catalyst.notifier.core.known import answered
from catalyst.notifier.effects import Desk, NotNow
from catalyst.notifier.reconcile import Notifier

AWAITED: Final = 15.0
"""Seconds that a command waits for its pull request's first environment, which it may have asked for itself."""
LONGEST_PAUSE: Final = 30.0

log = structlog.get_logger()


class Handlers:
    """One method a type of event; `HANDLERS` says which."""

    def __init__(self, notifier: Notifier, desks: Mapping[str, Desk]) -> None:
        self._notifier = notifier
        self._desks = desks

    async def handle(self, received: Received) -> None:
        """Raises Reject for a type nobody handles, and for a command that the forge will not let us answer."""
        handler = HANDLERS.get(type(received.event.data))
        if handler is None:
            raise Reject(f"type {received.event.type}: notifier handles {', '.join(t.TYPE for t in HANDLERS)}")
        await handler(self, received)

    async def environment_changed(self, received: Received) -> None:
        data = received.event.data
        if not isinstance(data, EnvironmentChanged):
            raise Reject(f"{received.event.type}: expected EnvironmentChanged")
        at = received.stored_at or received.event.time
        self._notifier.news(data.snapshot, at, received.event.traceparent)

    async def command_given(self, received: Received) -> None:
        command = received.event.data
        if not isinstance(command, CommandGiven):
            raise Reject(f"{received.event.type}: expected CommandGiven")
        key = PullRequestKey(command.repository.forge, command.repository.full_name.lower(), command.number)
        desk = self._desks.get(key.forge)
        if desk is None or not await self._is_ours(key):
            log.info("command in a pull request without environments", key=str(key), command=command.command)
            return
        pause = 1.0
        while True:
            try:
                await self._answer(desk, key, command.comment_id, answer(command))
            except (NotNow, RateLimited) as error:
                await asyncio.sleep(error.after if isinstance(error, NotNow) else error.retry_after)
            except ForgeUnavailable as error:
                log.warning("the forge is away", key=str(key), asked=error.asked, again_in=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            except NotThere:
                log.info("command's comment or pull request is gone", key=str(key), command=command.command)
                return
            except ForgeError as error:
                raise Reject(str(error)) from error
            else:
                return

    async def _is_ours(self, key: PullRequestKey) -> bool:
        """Whether an environment, whose repository the platform granted, speaks in this pull request."""
        for _ in range(round(AWAITED / 0.5)):
            if self._notifier.knows(key):
                return True
            await asyncio.sleep(0.5)
        return False

    async def _answer(self, desk: Desk, key: PullRequestKey, comment: int | None, said: Answer) -> None:
        # A first delivery may be no first one: somebody sent it again, or the consumer was lost and made anew.
        if comment is not None:
            await desk.react(key, comment, said.reaction)
        if answered(await desk.comments(key), await desk.login(), said.mark):
            return
        await desk.create_comment(key, said.body)


HANDLERS: Mapping[type[Data], Callable[[Handlers, Received], Awaitable[None]]] = {
    EnvironmentChanged: Handlers.environment_changed,
    CommandGiven: Handlers.command_given,
}
