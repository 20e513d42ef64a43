"""Events in: news makes it look, anything else is a dead letter."""

from typing import Any, cast

import pytest
from edges import event, snapshot

from catalyst.dns_proxy.handlers import HANDLERS, Handlers
from catalyst.dns_proxy.mirror import Mirror
from catalyst.dns_proxy.reconcile import Reconciler
from catalyst.events.bus import Received
from catalyst.events.catalogue import EnvironmentChanged
from catalyst.events.errors import Reject
from catalyst.events.examples import examples


async def _nothing() -> None:
    return None


def received(of: Any) -> Received:
    return Received(of, "EVENTS", of.subject, 1, 1, _nothing)


async def test_everything_else_is_rejected_by_name() -> None:
    handlers = Handlers(cast("Mirror", None), cast("Reconciler", None))
    for one in examples().values():
        if type(one.data) not in HANDLERS:
            with pytest.raises(Reject, match=f"type {one.type}: dns-proxy handles dev.catalyst.environment.changed"):
                await handlers.handle(received(one))
    assert set(HANDLERS) == {EnvironmentChanged}
    assert type(event(snapshot()).data) in HANDLERS
