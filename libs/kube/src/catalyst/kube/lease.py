"""Who may write: one leader per Lease, fenced so that it stops before another can start.

    time after the send of the last renewal that succeeded (defaults, seconds)
    0 ────────── 4.5 ──────────── 6 ───────────────────── 10
    fence open   │ fence shut:     │ the leading task is    │ a candidate that saw the record unchanged
                 │ no write starts │ cancelled and awaited  │ for 10 s on its own clock takes over
                 └─ a write begun just before ends (5 s request timeout) before 10 ─┘

Validity counts from the *send* of a renewal, a candidate counts from the *receipt* of what it saw: whatever the
network and the API server do in between, the leader's time is up first. No clock is compared with another machine's;
the times in the Lease are for people. A process that was frozen finds its fence shut when it wakes; the one request
that may already have passed it is stopped by the uid and resourceVersion that every write carries.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from catalyst.kube.client import Kube
from catalyst.kube.errors import AlreadyExists, Conflict, FencedOut, KubeError, NotFound
from catalyst.kube.resources import LEASE
from catalyst.model.manifest import Manifest, Ref
from catalyst.model.points import Points, no_points

logger = logging.getLogger(__name__)

_GRACE = 1.0  # seconds that a leading task gets to end at the least, though another may lead: its fence is shut
_DRIFT = 0.05  # two clocks may run apart by this share of a duration before fencing by time would fail


class LeadWouldNotStop(RuntimeError):
    """The leading task ignored its cancellation for longer than the lease lasts. The process must end now."""


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


@dataclass(slots=True)
class _Seen:
    """A record as a candidate saw it: unchanged since `since` on our clock."""

    resource_version: str
    since: float


class Elector:
    """Leads when nobody else does. One Elector per shard; `identity` must be unique per process, not per pod."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        name: str,
        identity: str,
        *,
        duration: float = 10.0,
        renew_deadline: float = 6.0,
        retry: float = 1.5,
        clock: Callable[[], float] = _loop_time,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        spread: Callable[[], float] = random.random,
        points: Points = no_points,
    ) -> None:
        """Seconds throughout. `clock` is the loop's own, so all of this runs on virtual time; it must go on while the
        loop is busy or the process frozen (asyncio's and uvloop's do). `now` only dates the record, for people.

        Raises ValueError when the times leave no room for a write to end before the lease does.
        """
        self._kube = kube.apart()
        self._fence_after = min(renew_deadline, duration * (1 - _DRIFT) - kube.request_timeout)
        if not 0 < retry < self._fence_after or renew_deadline >= duration:
            raise ValueError(
                f"lease {name}: expected 0 < retry < duration × 0.95 - request timeout and renew_deadline < duration,"
                f" got retry {retry}, duration {duration}, renew_deadline {renew_deadline},"
                f" request timeout {kube.request_timeout}"
            )
        self._ref = Ref(LEASE.api_version, LEASE.kind, namespace, name)
        self.identity = identity
        self._duration = duration
        self._renew_deadline = renew_deadline
        self._retry = retry
        self._clock = clock
        self._now = now
        self._spread = spread
        self._points = points
        self._record: Manifest | None = None  # our record as last written, None while we hold nothing
        self._renewed_at = float("-inf")  # when the last successful renewal was sent
        self._claim = ""  # the acquireTime we wrote last
        self._seen: _Seen | None = None
        self.leading = asyncio.Event()

    # The right to write

    def valid(self) -> bool:
        """Whether a write begun now would end before anybody else may lead."""
        return self._record is not None and self._clock() - self._renewed_at < self._fence_after

    def fence(self) -> None:
        """For `Kube(fence=...)`: returns while `valid()`. Raises FencedOut."""
        if not self.valid():
            raise FencedOut(
                f"{self.identity} may not write: it does not hold {self._ref} or could not renew it in time"
            )

    # The life of a candidate

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Campaigns, leads, and campaigns again when the lease is lost. Returns when `lead` returns; its errors are
        raised.

        `lead` runs as a task and must end soon after it is cancelled. Cancelling `run` stops the lead, then gives the
        lease back, so a successor starts at its next look (`retry`). Raises LeadWouldNotStop.
        """
        while True:
            await self._acquire()
            try:
                if await self._led(lead):
                    return
            finally:
                self.leading.clear()
                self._record = None

    async def _acquire(self) -> None:
        while not await self._attempt():  # noqa: ASYNC110 (a lease is polled: there is nobody to wake us)
            await asyncio.sleep(self._retry * (0.8 + 0.4 * self._spread()))

    async def _attempt(self) -> bool:
        """One look, and one try when the lease is free. An unreachable server is reported and tried again."""
        try:
            found = await self._kube.get(self._ref)
        except NotFound:
            return await self._written(self._fresh(), self._kube.create)
        except KubeError as error:
            logger.warning("lease cannot be read", extra={"lease": str(self._ref), "error": str(error)})
            return False
        if not self._free(found):
            return False
        return await self._written(self._claimed(found), self._kube.replace)

    def _free(self, found: Manifest) -> bool:
        spec = found.get("spec") or {}
        if not spec.get("holderIdentity") or self._is_ours(found):  # ours: lost or unanswered, and nothing leads now
            return True
        version = found["metadata"]["resourceVersion"]
        if self._seen is None or self._seen.resource_version != version:
            self._seen = _Seen(version, self._clock())
            return False
        patience = max(self._duration, float(spec.get("leaseDurationSeconds") or 0))
        return self._clock() - self._seen.since >= patience

    async def _written(self, record: Manifest, write: Callable[[Manifest], Awaitable[Manifest]]) -> bool:
        """Whether the record was stored. Somebody faster, or no answer: False, and the next look tells."""
        sent = self._clock()
        try:
            self._record, self._renewed_at = await write(record), sent
        except (Conflict, AlreadyExists):
            return False
        except KubeError as error:
            logger.warning("lease cannot be written", extra={"lease": str(self._ref), "error": str(error)})
            return False
        return True

    # The life of a leader

    async def _led(self, lead: Callable[[], Awaitable[None]]) -> bool:
        """True when `lead` returned, False when the lease was lost. The leading task has ended in either case."""
        leading = asyncio.create_task(_coroutine(lead))
        renewing = asyncio.create_task(self._renew_until_lost())
        self.leading.set()
        logger.info("leading", extra={"lease": str(self._ref), "identity": self.identity})
        try:
            await asyncio.wait({leading, renewing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Renewal goes on while the leading task winds down; only then is the lease given back.
            try:
                await self._stopped(leading)
            finally:
                lost = renewing.done()
                renewing.cancel()
                await asyncio.wait({renewing})
            if not lost:
                await self._release()
        if lost:
            logger.warning("lease lost", extra={"lease": str(self._ref), "identity": self.identity})
            renewing.result()  # raises what only a bug can raise
        if leading.cancelled():
            return False
        leading.result()
        return True

    async def _stopped(self, leading: asyncio.Task[None]) -> None:
        """Cancels the leading task and waits for its end, at most until somebody else may lead; in a process that was
        frozen until long after that, for a moment.
        """
        patience = max(_GRACE, self._renewed_at + self._duration - self._clock())
        leading.cancel()
        await asyncio.wait({leading}, timeout=patience)
        if not leading.done():
            raise LeadWouldNotStop(f"{self.identity}: the leading task runs on {patience:.1f} s after its cancellation")

    async def _renew_until_lost(self) -> None:
        while (left := self._until_deadline()) > 0:
            await asyncio.sleep(min(self._retry, left))
            await self._points("lease.before-renew")
            if (left := self._until_deadline()) <= 0:
                return
            try:
                async with asyncio.timeout(left):
                    if not await self._renewed():
                        return
            except TimeoutError:
                return
            await self._points("lease.renewed")

    def _until_deadline(self) -> float:
        return self._renewed_at + self._renew_deadline - self._clock()

    async def _renewed(self) -> bool:
        """One renewal. False when another holds the lease; one that got no answer leaves the deadline running."""
        if self._record is None:
            return False
        if await self._written(self._dated(self._record), self._kube.replace):
            return True
        try:
            found = await self._kube.get(self._ref)
        except KubeError as error:
            logger.warning("lease cannot be read", extra={"lease": str(self._ref), "error": str(error)})
            return True
        # Ours still: an earlier renewal whose answer was lost did arrive, so the next one continues from its version.
        self._record = found if self._is_ours(found) else None
        return self._record is not None

    async def _release(self) -> None:
        """Gives the lease back, so that a successor need not wait. Failing is harmless: the lease runs out by
        itself.
        """
        record, self._record = self._record, None  # shuts the fence: no write of ours may follow the release
        try:
            if record is not None:
                await self._given_back(record)
        except KubeError as error:
            logger.warning("lease not released", extra={"lease": str(self._ref), "error": str(error)})

    async def _given_back(self, record: Manifest) -> None:
        try:
            await self._kube.replace(self._vacated(record))
        except Conflict:
            found = await self._kube.get(self._ref)
            if not self._is_ours(found):
                return
            await self._kube.replace(self._vacated(found))  # the last renewal was cut short, but had arrived
        await self._points("lease.released")

    # The record

    def _is_ours(self, found: Manifest) -> bool:
        """Written by this elector: the time of acquisition tells it from another process that uses our identity."""
        spec = found.get("spec") or {}
        return spec.get("holderIdentity") == self.identity and spec.get("acquireTime") == self._claim

    def _vacated(self, record: Manifest) -> Manifest:
        dated = self._dated(record)
        dated["spec"]["holderIdentity"] = ""
        return dated

    def _fresh(self) -> Manifest:
        metadata = {"namespace": self._ref.namespace, "name": self._ref.name}
        record: Manifest = {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": {}}
        return self._claimed(record)

    def _claimed(self, found: Manifest) -> Manifest:
        spec = found.get("spec") or {}
        record = self._dated(found)
        record["spec"] |= {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, round(self._duration)),
            "acquireTime": record["spec"]["renewTime"],
            "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1,
        }
        self._claim = record["spec"]["acquireTime"]
        return record

    def _dated(self, record: Manifest) -> Manifest:
        spec: dict[str, Any] = {
            **(record.get("spec") or {}),
            "renewTime": self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        metadata = {key: value for key, value in record["metadata"].items() if key != "managedFields"}
        return {**record, "metadata": metadata, "spec": spec}


async def _coroutine(lead: Callable[[], Awaitable[None]]) -> None:
    await lead()
