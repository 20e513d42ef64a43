"""Webhooks in, answers out: read → decide → publish → answer. 202 is never said before the event is stored.

The route is plain ASGI inside FastAPI: no model of the body, no dependencies, nothing between the socket and the HMAC.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import structlog
from fastapi import FastAPI
from starlette.routing import Route

from catalyst.events.errors import Oversized, Unpublished
from catalyst.forge import GitHub
from catalyst.forge.protocol import Forge, Headers
from catalyst.model.clock import Clock
from catalyst.webhook_ingest import core
from catalyst.webhook_ingest.core import Answer, Fact
from catalyst.webhook_ingest.effects import (
    Bodies,
    Counters,
    HungUp,
    NoRoom,
    Publisher,
    Receive,
    Scope,
    Send,
    TooLarge,
    Traces,
    respond,
)

BODY_SECONDS: Final = 10.0
"""GitHub itself gives up after ten."""
BODY_BUDGET: Final = 8 * core.MAX_BODY
"""Bytes that all bodies may take while they come in: anybody may send, and only a whole body has a signature."""
MAX_UNPUBLISHED: Final = 256
"""Events that may wait for the bus at once, of up to 0.5 MB each; further ones are answered 503 at once."""

log = structlog.get_logger()


class Webhooks:
    """The ASGI app that receives one forge's webhooks."""

    def __init__(self, forge: Forge, *, secrets: Sequence[bytes], publisher: Publisher, clock: Clock) -> None:
        if not secrets or not all(secrets):
            raise ValueError("webhooks need a secret that is not empty")
        self._forge = forge
        self._secrets = tuple(secrets)
        self._publisher = publisher
        self._clock = clock
        self._bodies = Bodies(limit=core.MAX_BODY, budget=BODY_BUDGET, within=BODY_SECONDS)
        self._counters = Counters(forge.name)
        self._unpublished = 0
        self._traces = Traces()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        read = True
        try:
            body = await self._bodies.read(receive, declared=_declared(headers), waits="expect" in headers)
        except HungUp:
            return
        except (TooLarge, NoRoom, TimeoutError) as exc:
            answer, read = _unread(exc), False
        else:
            answer = await self._answer(headers, body)
        self._tell(answer)
        await respond(send, answer, close=not read)

    async def _answer(self, headers: Headers, body: bytes) -> Answer:
        told = core.reading(self._forge, headers, body, self._secrets, self._clock())
        return told if isinstance(told, Answer) else await self._publish(told)

    async def _publish(self, fact: Fact) -> Answer:
        if self._unpublished >= MAX_UNPUBLISHED:
            return core.unavailable(f"{MAX_UNPUBLISHED} events wait for the bus already", fact)
        self._unpublished += 1
        try:
            published = await self._publisher.publish(fact.event)
            self._traces.told(fact.event.message_id, duplicate=published.duplicate)
        except (Unpublished, Oversized) as exc:
            return core.unavailable(exc.reason, fact)
        finally:
            self._unpublished -= 1
        return core.stored(fact, duplicate=published.duplicate)

    def _tell(self, answer: Answer) -> None:
        event = core.event_label(self._forge, answer)
        self._counters.count(self._forge.name, event, answer.result)
        if answer.result in ("refused", "unavailable"):
            delivery = answer.delivery.id if answer.delivery else None
            log.warning(
                "webhook not taken",
                event_name=event,
                delivery=delivery,
                status=int(answer.status),
                reason=answer.reason,
            )


def _declared(headers: Headers) -> int:
    length = headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() else 0


def _unread(error: Exception) -> Answer:
    match error:
        case TooLarge():
            return core.too_large()
        case NoRoom():
            return core.unavailable("too many large bodies are coming in at once")
        case _:
            return core.too_slow(BODY_SECONDS)


HANDLERS: Mapping[str, Forge] = {
    "/webhooks/github": GitHub(),
}


class Door:
    """The ASGI app: webhooks go straight to their endpoint, all else to FastAPI.

    FastAPI's middleware has nothing to say about a webhook (its body limit is ours, its errors are answers) and took
    a quarter of the time of one.
    """

    def __init__(self, api: FastAPI, webhooks: Mapping[str, Webhooks]) -> None:
        self._api = api
        self._webhooks = webhooks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        endpoint = self._webhooks.get(scope["path"]) if is_post else None
        await (endpoint or self._api)(scope, receive, send)


def app(*, secrets: Sequence[bytes], publisher: Publisher, clock: Clock, tracing: bool = False) -> FastAPI | Door:
    """The HTTP door. `tracing`: all through FastAPI, with a server span around each request, for when spans go
    somewhere.
    """
    api = FastAPI(
        title="webhook-ingest",
        openapi_url=None,
        telemetry={"tracing": tracing, "metrics": False, "logs": False, "auto_configure": False},
    )
    webhooks = {
        path: Webhooks(forge, secrets=secrets, publisher=publisher, clock=clock) for path, forge in HANDLERS.items()
    }
    for path, endpoint in webhooks.items():
        api.router.routes.append(Route(path, endpoint, methods=["POST"]))
    return api if tracing else Door(api, webhooks)
