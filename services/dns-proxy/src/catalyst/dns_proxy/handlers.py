"""Events in. A snapshot is only news: it says that STATE has changed, which is read from there.

The message is acknowledged as soon as the look is asked for: STATE holds the truth and the timer repeats the look, so
no outage of an edge or of Cloudflare burns deliveries.
"""

from collections.abc import Awaitable, Callable, Mapping

from catalyst.dns_proxy.mirror import Mirror
from catalyst.dns_proxy.reconcile import Reconciler
from catalyst.events.bus import Received
from catalyst.events.catalogue import Data, EnvironmentChanged
from catalyst.events.errors import Reject


class Handlers:
    """One method a type of event; `HANDLERS` says which."""

    def __init__(self, mirror: Mirror, reconciler: Reconciler) -> None:
        self._mirror = mirror
        self._reconciler = reconciler

    async def handle(self, received: Received) -> None:
        """Raises Reject for a type nobody handles, BusError while STATE cannot be read."""
        handler = HANDLERS.get(type(received.event.data))
        if handler is None:
            raise Reject(f"type {received.event.type}: dns-proxy handles {', '.join(t.TYPE for t in HANDLERS)}")
        await handler(self, received)

    async def environment_changed(self, received: Received) -> None:
        await self._mirror.catch_up(received.event)
        self._reconciler.news.set()


HANDLERS: Mapping[type[Data], Callable[[Handlers, Received], Awaitable[None]]] = {
    EnvironmentChanged: Handlers.environment_changed,
}
