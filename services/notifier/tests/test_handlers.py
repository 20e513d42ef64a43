"""Events in: what is not notifier's is refused, what cannot be answered is let go. The rest runs against real servers
in tests/integration/test_notifier.py.
"""

from collections.abc import AsyncIterator

import pytest
from snapshots import NOW, snapshot

from catalyst.events.bus import Received
from catalyst.events.catalogue import CommandGiven, EnvironmentChanged
from catalyst.events.errors import Reject
from catalyst.events.event import Event, environment_changed
from catalyst.events.examples import command, pull_request
from catalyst.events.stored import Stored
from catalyst.model.environment import Phase
from catalyst.notifier.core.comment import Style
from catalyst.notifier.core.conversation import PullRequestKey
from catalyst.notifier.handlers import HANDLERS, Handlers
from catalyst.notifier.reconcile import Notifier


class NoStates:
    async def states(self) -> AsyncIterator[Stored]:
        return
        yield

    async def last(self, stream: str, subject: str) -> Stored | None:
        return None

    async def keep(self, subject: str, body: bytes, headers: dict[str, str]) -> None: ...


def handlers() -> tuple[Handlers, Notifier]:
    notifier = Notifier({}, NoStates(), style=Style(), now=lambda: NOW)
    return Handlers(notifier, {}), notifier


def received(event: Event) -> Received:
    async def in_progress() -> None: ...

    return Received(event, "EVENTS", event.subject, 1, 1, in_progress)


def test_the_table() -> None:
    assert set(HANDLERS) == {EnvironmentChanged, CommandGiven}


async def test_another_type_is_refused() -> None:
    with pytest.raises(Reject, match=r"notifier handles dev\.catalyst\.environment\.changed\.v1"):
        await handlers()[0].handle(received(pull_request()))


async def test_news_queue_their_pull_request_once() -> None:
    handled, notifier = handlers()
    for version in (1, 2, 2, 1):
        await handled.handle(received(environment_changed(snapshot(Phase.READY, version), time=NOW)))
    assert notifier.knows(PullRequestKey("github", "acme/shop", 42))
    assert notifier.queue.delayed == 1


async def test_a_command_of_a_forge_that_we_do_not_write_to_is_let_go() -> None:
    await handlers()[0].handle(received(command()))
