"""The API server's audit webhook: batches of events in, records out. Another door beside handlers.py.

```
POST /audit   token ──▶ size ──▶ EventList ──▶ what counts (core/api_audit.py) ──▶ recorded ──▶ 200
              401       413      400                                          503: the API server sends it again
```

Every replica answers, not only the one that leads: a record depends on nothing that a leader alone may do.
"""

import asyncio
import hmac
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

import orjson
import structlog
from opentelemetry import metrics
from pydantic import SecretStr, ValidationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from catalyst.env_controller.core.api_audit import ApiEvent, Place, entry_of, latest, machines, place_of
from catalyst.env_controller.core.audit import Entry
from catalyst.env_controller.effects.audit import Audit
from catalyst.env_controller.effects.cluster import Cluster
from catalyst.events.errors import Retry

log = structlog.get_logger()
meter = metrics.get_meter("catalyst.env_controller")
told = meter.create_counter("catalyst_api_audit_events", description="events of the API server's audit, by result")

LARGEST: Final = 8 * 1024**2
"""Bytes of a batch. 400 events, the API server's default, have less than one megabyte at level Metadata."""
AT_ONCE: Final = 4
"""Batches that are worked on; whoever comes then comes again."""
PATIENCE: Final = 10.0
"""Seconds in which a batch must have arrived."""


class AuditDoor:
    """`tokens`: any of them lets in. `ours`: namespaces whose ServiceAccounts are Catalyst's own."""

    def __init__(self, audit: Audit, cluster: Cluster, tokens: Sequence[SecretStr], ours: Sequence[str]) -> None:
        self._audit = audit
        self._cluster = cluster
        self._tokens = tokens
        self._is_machine = machines(*ours)
        self._working = 0

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/audit", self._arrived, methods=["POST"])])

    async def _arrived(self, request: Request) -> Response:
        if not self._may(request.headers.get("authorization", "")):
            return _answer(401, "expected the audit webhook's token, as Authorization: Bearer …")
        if self._working >= AT_ONCE:
            return _answer(429, "busy")
        self._working += 1
        try:
            async with asyncio.timeout(PATIENCE):
                body = await _body(request)
            if body is None:
                return _answer(413, f"expected at most {LARGEST} bytes: lower --audit-webhook-batch-max-size")
            return await self._batch(body)
        except (TimeoutError, ClientDisconnect):
            return _answer(408, f"expected the whole batch within {PATIENCE:g} s")
        finally:
            self._working -= 1

    async def _batch(self, body: bytes) -> Response:
        try:
            items = orjson.loads(body)["items"]
        except (ValueError, TypeError, KeyError):
            items = None
        if not isinstance(items, list):
            return _answer(400, "expected an audit.k8s.io/v1 EventList as JSON")
        entries = [entry for event in latest(_readable(items)) if (entry := self._entry(event))]
        told.add(len(entries), {"result": "recorded"})
        entries.sort(key=_subject)  # stable: what is one chain's stays in its order
        try:
            async with asyncio.TaskGroup() as group:
                for _, line in groupby(entries, key=_subject):
                    group.create_task(self._record(list(line)))
        except ExceptionGroup as failed:
            waiting, other = failed.split(Retry)
            if other is not None or waiting is None:
                raise
            log.warning("audit batch not recorded, the API server sends it again", reason=str(waiting.exceptions[0]))
            return _answer(503, "not now")
        return _answer(200, "")

    async def _record(self, line: list[Entry]) -> None:
        for entry in line:
            await self._audit.record(entry)

    def _entry(self, event: ApiEvent) -> Entry | None:
        return entry_of(event, self._whose, self._is_machine)

    def _whose(self, namespace: str) -> Place | None:
        found = self._cluster.namespaces.store.get("", namespace) or {}
        return place_of(namespace, found.get("metadata", {}).get("labels") or {})

    def _may(self, given: str) -> bool:
        offered = given.removeprefix("Bearer ").encode() if given.startswith("Bearer ") else b""
        fits = [hmac.compare_digest(token.get_secret_value().encode(), offered) for token in self._tokens]
        return any(fits)


def _readable(items: list[Any]) -> Iterator[ApiEvent]:
    """One that cannot be read does not hold up the others: it would not be readable the next time either."""
    for item in items:
        try:
            yield ApiEvent.model_validate(item)
        except ValidationError as error:
            told.add(1, {"result": "unreadable"})
            where = ", ".join(".".join(map(str, each["loc"])) for each in error.errors(include_input=False))
            log.warning("audit event left out: it cannot be read", fields=where[:256])


async def _body(request: Request) -> bytes | None:
    """None: larger than is taken."""
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > LARGEST:
        return None
    whole = bytearray()
    async for chunk in request.stream():
        whole += chunk
        if len(whole) > LARGEST:
            return None
    return bytes(whole)


def _subject(entry: Entry) -> tuple[str, str, str]:
    return entry.team, entry.project, entry.environment or ""


def _answer(status: int, sentence: str) -> Response:
    return Response(sentence, status, media_type="text/plain")
