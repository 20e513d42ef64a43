"""nats-py's Client, mended where it leaves something behind."""

from nats.aio.client import Client, Srv


class ClosingClient(Client):
    """A try to reconnect closes what the try before it opened.

    nats-py forgets the socket of a handshake that got no answer (a frozen server accepts, and says nothing): one more
    at every try, until the garbage collector finds it.
    """

    async def _connect_to_server(self, s: Srv) -> None:
        if self._transport is not None:
            self._transport.close()  # type: ignore[no-untyped-call]
        await super()._connect_to_server(s)
