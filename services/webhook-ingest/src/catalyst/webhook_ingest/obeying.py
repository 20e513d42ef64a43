"""Comments in, commands out: ask the forge who may, publish what was commanded.

A webhook is answered when its comment is stored, and nobody is asked until then. Here it is read back, as often as it
takes: the comment is acknowledged when the command is stored or known to be none. A forge that does not answer for an
hour makes it a dead letter, which an operator sees and can send again.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Final, Literal, Protocol

import structlog
from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from catalyst.events.bus import Received
from catalyst.events.catalogue import CommandGiven, CommentWritten, Data, PullRequestChanged
from catalyst.events.errors import Reject, Retry, Unpublished
from catalyst.events.event import Event
from catalyst.forge.errors import ForgeError, NotThere, RateLimited, Refused
from catalyst.forge.protocol import Permission
from catalyst.model.clock import Clock
from catalyst.webhook_ingest import commands
from catalyst.webhook_ingest.effects import Publisher

Result = Literal["given", "ignored", "failed"]

CONCURRENCY: Final = 4
LONGEST_PAUSE: Final = 300.0
"""Seconds between two questions to a forge that is away; the first ones follow sooner."""
LONGEST_WAIT: Final = 3600.0
"""Seconds. A rate limit never lasts longer."""

log = structlog.get_logger()


class Questions(Protocol):
    """What is asked of the forge; `catalyst.forge.client.GitHubClient` is it. Raises `ForgeError`."""

    async def permission(self, repository: str, user: str) -> Permission:
        """What `user` may do."""

    async def pull_request(self, repository: str, number: int) -> PullRequestChanged:
        """The pull request as it is now."""


class Commands:
    """The consumer of comments."""

    def __init__(self, forge: Questions, publisher: Publisher, clock: Clock) -> None:
        self._forge = forge
        self._publisher = publisher
        self._clock = clock
        self._counts: Counter[tuple[str, Result]] = Counter()
        metrics.get_meter("catalyst.webhook_ingest").create_observable_counter(
            "catalyst.commands", callbacks=[self._observe], description="Commands in comments, and what became of them."
        )

    async def handle(self, received: Received) -> None:
        """One comment. Raises `Retry` while the forge or the bus cannot, `Reject` when it never will."""
        handler = HANDLERS.get(type(received.event.data))
        if handler is None:
            raise Reject(f"type {received.event.type}: expected {', '.join(data.TYPE for data in HANDLERS)}")
        await handler(self, received)

    async def comment_written(self, received: Received) -> None:
        """Publish the command, if it is one."""
        event, comment = received.event, received.event.data
        if not isinstance(comment, CommentWritten):
            raise Reject(f"{event.type}: expected CommentWritten")
        command = commands.said(comment)
        try:
            fact = await self._asked(comment, command)
        except ForgeError as exc:
            self._counts[command.name, "failed"] += 1
            raise _failure(exc, received.delivered) from exc
        if fact is None:
            self._counts[command.name, "ignored"] += 1
            log.info("command of somebody who may not write", about=comment.about(), author=comment.author)
            return
        try:
            await self._publisher.publish(_command_event(fact, event, self._clock))
        except Unpublished as exc:
            raise Retry(exc.reason) from exc
        self._counts[command.name, "given"] += 1

    async def _asked(self, comment: CommentWritten, command: commands.Command) -> CommandGiven | None:
        repository = comment.repository.full_name
        permission = await self._forge.permission(repository, comment.author)
        if not commands.may_command(permission):
            return None
        now = await self._forge.pull_request(repository, comment.number) if command.needs_head else None
        return commands.given(comment, command, permission, now)

    def _observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        for (command, result), count in self._counts.copy().items():
            yield Observation(count, {"command": command, "result": result})


HANDLERS: dict[type[Data], Callable[[Commands, Received], Awaitable[None]]] = {
    CommentWritten: Commands.comment_written,
}


def _command_event(fact: CommandGiven, comment: Event, clock: Clock) -> Event:
    """Its id follows from the comment's: handled twice, it is stored once."""
    return Event(
        id=f"{comment.id}/command",
        source=comment.source,
        time=clock(),
        data=fact,
        correlation_id=comment.correlation_id,
        causation_id=comment.message_id,
        actor=f"{fact.repository.forge}:{fact.author}",
    )


def _failure(error: ForgeError, delivered: int) -> Retry | Reject:
    match error:
        case RateLimited():
            return Retry(str(error), timedelta(seconds=min(error.retry_after, LONGEST_WAIT)))
        case NotThere() | Refused():
            return Reject(str(error))
        case _:  # what an operator or time repairs
            return Retry(str(error), timedelta(seconds=min(2.0**delivered, LONGEST_PAUSE)))
