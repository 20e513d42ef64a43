"""The operator's door of every process: `/healthz`, `/readyz`, `/metrics`. It changes nothing.

Metrics come as Prometheus' text, or as OpenMetrics to whoever asks for that: only there exemplars have a place.
"""

from typing import Any

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from catalyst.service.lifecycle import Lifecycle


def ops_app(life: Lifecycle, registry: CollectorRegistry) -> Starlette:
    """`/healthz`: 200 while the event loop turns. `/readyz`: 200, or 503 with each check and its reason."""

    async def healthz(_: Request) -> Response:
        return _json({"status": "ok"}, 200)

    async def readyz(_: Request) -> Response:
        reasons = life.readiness()
        ready = all(reason is None for reason in reasons.values())
        checks = {name: {"ready": reason is None, "reason": reason} for name, reason in reasons.items()}
        return _json({"ready": ready, "checks": checks}, 200 if ready else 503)

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)])


def _json(body: Any, status: int) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
