"""Webhooks as GitHub sends them: signed, once, in no promised order, and never again by itself.

Every attempt is recorded and can be looked at and sent again. A test may lose webhooks, hold them back and let them go
in an order of its own.
"""

import asyncio
import hashlib
import hmac
import json
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
from doubles.github.state import Repository

PATIENCE = 10.0
"""Seconds until GitHub gives up waiting for a 2xx."""
LONGEST_ANSWER = 10_000
FAILED_TO_CONNECT, TIMED_OUT = 502, 504


@dataclass(frozen=True)
class Webhook:
    """What is to be told. `guid` is the same for each attempt."""

    guid: str
    event: str
    action: str | None
    payload: Mapping[str, Any]
    installation: int | None
    repository: int | None

    @property
    def body(self) -> bytes:
        """The bytes that are signed."""
        return json.dumps(self.payload, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass
class Attempt:
    """One try, and what came of it."""

    id: int
    webhook: Webhook
    at: datetime
    redelivery: bool
    headers: dict[str, str]
    status: str = "pending"
    status_code: int = 0
    duration: float = 0.0
    answer_headers: dict[str, str] = field(default_factory=dict)
    answer: str | None = None

    @property
    def delivered(self) -> bool:
        """Whether the receiver said 2xx."""
        return httpx.codes.is_success(self.status_code) if self.status_code >= 100 else False


class Webhooks:
    """The App's hook. `url` None: there is nobody to tell, and nothing is recorded."""

    def __init__(self, *, ids: Iterator[int], clock: Callable[[], datetime], app_id: int) -> None:
        self.url: str | None = None
        self.secret = b""
        self.attempts: dict[int, Attempt] = {}
        self.held: list[Webhook] | None = None
        self.vanished: list[Webhook] = []
        """What was lost without a trace."""
        self._fail_next = 0
        self._vanish_next = 0
        self._ids = ids
        self._clock = clock
        self._app_id = app_id
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: asyncio.Queue[tuple[Webhook, bool]] = asyncio.Queue()
        self._unfinished = 0

    @property
    def idle(self) -> bool:
        """Nothing is on its way."""
        return self._unfinished == 0

    # What a test may do

    def lose(self, count: int = 1, *, recorded: bool = True) -> None:
        """The next ones do not arrive. `recorded`: GitHub knows that they failed; else nobody ever hears of them."""
        if recorded:
            self._fail_next += count
        else:
            self._vanish_next += count

    def hold(self) -> None:
        """Send nothing until `release`."""
        self.held = []

    def release(self, order: Callable[[list[Webhook]], list[Webhook]] | None = None) -> None:
        """Send what was held back: in an order of yours, or shuffled."""
        waiting, self.held = self.held or [], None
        for webhook in (order or _shuffled)(waiting):
            self._send(webhook, redelivery=False)

    # What the double does

    def tell(
        self, event: str, payload: Mapping[str, Any], *, installation: int | None, repository: Repository | None
    ) -> None:
        """Something happened."""
        if self.url is None:
            return
        id_ = repository.id if repository else None
        webhook = Webhook(str(uuid.uuid4()), event, payload.get("action"), payload, installation, id_)
        if self._vanish_next:
            self._vanish_next -= 1
            self.vanished.append(webhook)
        elif self._fail_next:
            self._fail_next -= 1
            attempt = self._attempt(webhook, redelivery=False)
            attempt.status, attempt.status_code = "failed to connect to host", FAILED_TO_CONNECT
        elif self.held is not None:
            self.held.append(webhook)
        else:
            self._send(webhook, redelivery=False)

    def again(self, attempt: Attempt) -> None:
        """Send it once more."""
        self._send(attempt.webhook, redelivery=True)

    async def run(self) -> None:
        """Send what there is to send, for ever, one after the other."""
        self._loop = asyncio.get_running_loop()
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE, verify=False) as client:
            while True:
                webhook, redelivery = await self._queue.get()
                await self._try(client, webhook, redelivery=redelivery)
                self._unfinished -= 1

    def _send(self, webhook: Webhook, *, redelivery: bool) -> None:
        if self._loop is None:
            raise RuntimeError("the double is not running")
        self._unfinished += 1
        self._loop.call_soon_threadsafe(self._queue.put_nowait, (webhook, redelivery))

    def _attempt(self, webhook: Webhook, *, redelivery: bool) -> Attempt:
        headers = {
            "accept": "*/*",
            "content-type": "application/json",
            "user-agent": "GitHub-Hookshot/double",
            "x-github-delivery": webhook.guid,
            "x-github-event": webhook.event,
            "x-github-hook-id": str(self._app_id),
            "x-github-hook-installation-target-id": str(self._app_id),
            "x-github-hook-installation-target-type": "integration",
            "x-hub-signature": "sha1=" + hmac.new(self.secret, webhook.body, hashlib.sha1).hexdigest(),
            "x-hub-signature-256": "sha256=" + hmac.new(self.secret, webhook.body, hashlib.sha256).hexdigest(),
        }
        attempt = Attempt(next(self._ids), webhook, self._clock(), redelivery, headers)
        self.attempts[attempt.id] = attempt
        return attempt

    async def _try(self, client: httpx.AsyncClient, webhook: Webhook, *, redelivery: bool) -> None:
        attempt = self._attempt(webhook, redelivery=redelivery)
        begun = time.monotonic()
        try:
            answer = await client.post(self.url or "", content=webhook.body, headers=attempt.headers)
        except httpx.TimeoutException:
            attempt.status, attempt.status_code = "timed out", TIMED_OUT
        except httpx.HTTPError:
            attempt.status, attempt.status_code = "failed to connect to host", FAILED_TO_CONNECT
        else:
            attempt.status = "OK" if answer.is_success else f"Invalid HTTP Response: {answer.status_code}"
            attempt.status_code = answer.status_code
            attempt.answer_headers = dict(answer.headers)
            attempt.answer = answer.text[:LONGEST_ANSWER]
        attempt.duration = round(time.monotonic() - begun, 3)


def _shuffled(webhooks: list[Webhook]) -> list[Webhook]:
    return random.sample(webhooks, len(webhooks))
