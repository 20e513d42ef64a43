"""The loop: news, a start or a timer name a pull request; all about it is looked at, and what differs is written.

    news, STATE ──▶ mirror ──▶ queue of keys ──▶ reconcile(key): conversation → text and reports → what differs ──▶ desk
                                  ▲                                                                          │
                                  └── a moment later (joined) · when the limits allow · after an outage ─────┘

A pull request is told at most once a second, and a key that had to wait is told what is true when its turn comes: a
burst of news costs a few writes. Across a restart one thing is remembered: up to when all was told and reported
(settled.py). About the rest the forge is asked.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from opentelemetry import metrics

from catalyst.events import tracing
from catalyst.events.catalogue import EnvironmentChanged
from catalyst.events.errors import BusError, Reject
from catalyst.events.locks import LostLock
from catalyst.events.stored import Stored
from catalyst.forge.errors import ForgeError, ForgeUnavailable, NotThere, RateLimited
from catalyst.kube.queue import BULK, INTERACTIVE, Backoff, Queue
from catalyst.model.clock import Clock
from catalyst.model.names import Identity
from catalyst.model.points import Points, no_points
from catalyst.model.snapshot import Snapshot
from catalyst.notifier.core import reports
from catalyst.notifier.core.comment import Style, render
from catalyst.notifier.core.conversation import Conversation, PullRequestKey, conversation, key_of, newest
from catalyst.notifier.core.known import Known, KnownComment, KnownReport, is_needed, ours, same_text
from catalyst.notifier.core.reports import CheckReport, DeploymentReport
from catalyst.notifier.effects import Desk, NotNow, States
from catalyst.notifier.settled import settle, settled
from catalyst.service.stages import measure

JOINED: Final = 0.1
"""Seconds that the first news waits for those which come along with it."""
SPACING: Final = 1.0
"""Seconds between two tellings of one pull request."""
HEAD_START: Final = 0.4
"""Seconds that reports get before the comment is written."""
MARGIN: Final = timedelta(minutes=2)
"""By how much what is called settled is older than what was told last: news may come out of order. All these times are
the bus' own: neither our clock nor the publisher's, which may jump, is asked."""
SETTLE_EVERY: Final = 10.0
"""Seconds between two records of it."""
REMEMBERED: Final = timedelta(days=3)
"""A pull request whose environments are all gone for longer is not looked at any more."""

PASSING: Final = (ForgeUnavailable, RateLimited)
"""What goes over by itself; every other `ForgeError` stays until somebody changes something."""

log = structlog.get_logger()


class Notifier:
    """All pull requests that there is something to tell in."""

    def __init__(
        self,
        desks: Mapping[str, Desk],
        states: States,
        *,
        style: Style,
        now: Clock,
        points: Points = no_points,
    ) -> None:
        self._desks = desks
        self._states = states
        self._style = style
        self._now = now
        self._points = points
        self._snapshots: dict[Identity, Snapshot] = {}
        self._seen: dict[Identity, datetime] = {}
        self._members: defaultdict[PullRequestKey, set[Identity]] = defaultdict(set)
        self._known: dict[PullRequestKey, Known] = {}
        self._told_at: dict[PullRequestKey, float] = {}
        self._heard_at: dict[PullRequestKey, float] = {}
        """When the first news came that the comment does not tell yet."""
        self._open: dict[PullRequestKey, datetime] = {}
        """When the oldest news came that are not yet told with all their reports."""
        self._settled: datetime | None = None
        """What is older was told and reported, by us or by who led before."""
        self._traces: dict[Identity, str] = {}
        """The traceparent of the newest snapshot of each."""
        self._commented: dict[Identity, datetime] = {}
        """The webhook that the comment spoke of first: what comes later of the same one is no first word."""
        self._delay = metrics.get_meter("catalyst.notifier").create_histogram("catalyst_comment_delay_seconds", "s")
        self.queue: Queue[PullRequestKey] = self._new_queue()
        self.begun = asyncio.Event()

    def _new_queue(self) -> Queue[PullRequestKey]:
        # An outage of the forge: each key after 1, 2, 4 … 15 s, all keys together twice a second.
        return Queue(backoff=Backoff(base=1.0, cap=15.0, rate=2.0, burst=10), on_error=_failed)

    # What comes in

    def news(self, snapshot: Snapshot, at: datetime, traceparent: str | None = None) -> None:
        """A snapshot that the bus stored `at`, in a trace; one that is not new changes nothing."""
        key = key_of(snapshot)
        if key is not None:
            self._heard_at.setdefault(key, asyncio.get_running_loop().time())
        self._take(snapshot, at, priority=INTERACTIVE, traceparent=traceparent)

    def knows(self, key: PullRequestKey) -> bool:
        """Whether there is, or was, something to tell in this pull request."""
        return bool(self._members.get(key))

    def _take(self, snapshot: Snapshot, at: datetime, *, priority: int, traceparent: str | None) -> None:
        identity = snapshot.key
        before = self._snapshots.get(identity)
        after = newest(before, snapshot) if before else snapshot
        if after == before:
            return
        self._snapshots[identity], self._seen[identity] = after, at
        if traceparent and after is snapshot:
            self._traces[identity] = traceparent
        old, new = key_of(before) if before else None, key_of(after)
        if old is not None and old != new:
            self._members[old].discard(identity)
        if new is not None:
            self._members[new].add(identity)
            if self.begun.is_set():
                self._open.setdefault(new, at)
            self._enqueue(new, priority)

    def _enqueue(self, key: PullRequestKey, priority: int) -> None:
        told = self._told_at.get(key)
        rest = told + SPACING - asyncio.get_running_loop().time() if told is not None else 0.0
        self.queue.add(key, after=max(JOINED, rest), priority=priority)

    # Leading

    async def lead(self, *, workers: int, resync_seconds: float) -> None:
        """Reads STATE, then works until cancelled. What a former lead knew is forgotten, but for how far it came."""
        self._known.clear()
        self.queue = self._new_queue()
        while not (await self._read_settled() and await self._read_states()):  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(1.0)
        worth = self._worth_a_look()
        self._open = {key: min(unsettled) for key in worth if (unsettled := self._unsettled(key))}
        for key in worth:
            self.queue.add(key, priority=BULK)
        self.begun.set()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.queue.run(self.reconcile, workers))
                group.create_task(self._resync(resync_seconds))
                group.create_task(self._settle())
        finally:
            self.begun.clear()

    async def _resync(self, seconds: float) -> None:
        """Looks at everything again: for news that were lost, and for a comment that somebody deleted."""
        while True:
            await asyncio.sleep(seconds)
            if not await self._read_states():
                continue
            worth = self._worth_a_look()
            for key in tuple(self._known):
                if key not in worth:
                    del self._known[key]
                    self._told_at.pop(key, None)
            for key in worth:
                self._known.setdefault(key, Known()).look_again()
                self.queue.add(key, priority=BULK)

    async def _settle(self) -> None:
        """Says how far we came, as long as we lead."""
        said = self._settled
        while True:
            await asyncio.sleep(SETTLE_EVERY)
            until = self._settled_until()
            if until is not None and until != said and await settle(self._states, until):
                said = until

    def _settled_until(self) -> datetime | None:
        """Before it nothing is left to do; None: nothing was ever said."""
        if not self._seen:
            return None
        return min(self._open.values(), default=max(self._seen.values())) - MARGIN

    def _unsettled(self, key: PullRequestKey) -> list[datetime]:
        """When those of its news came that a former lead may not have done with."""
        times = (self._seen[each] for each in self._members[key])
        return [at for at in times if not self._is_settled(at)]

    def _is_settled(self, at: datetime) -> bool:
        return self._settled is not None and at < self._settled

    async def _read_settled(self) -> bool:
        """Whether it could be asked."""
        try:
            self._settled = await settled(self._states)
        except BusError as error:
            log.warning("LOCKS not read", reason=error.reason)
            return False
        return True

    async def _read_states(self) -> bool:
        """Whether all of STATE was read."""
        try:
            async for stored in self._states.states():
                self._take_stored(stored)
        except BusError as error:
            log.warning("STATE not read", reason=error.reason)
            return False
        return True

    def _take_stored(self, stored: Stored) -> None:
        try:
            event = stored.event()
        except Reject as error:
            log.warning("snapshot cannot be read", subject=stored.subject, reason=error.reason)
            return
        data = event.data
        if not isinstance(data, EnvironmentChanged):
            return
        snapshot = data.snapshot
        if not self.begun.is_set() and snapshot.triggered_at is not None:
            # A former lead spoke of it, or was about to: how long that took is not known here.
            self._commented.setdefault(snapshot.key, snapshot.triggered_at)
        self._take(snapshot, stored.time, priority=BULK, traceparent=event.traceparent)

    def _worth_a_look(self) -> set[PullRequestKey]:
        """Those with an environment that lives, or that went lately."""
        since = self._now() - REMEMBERED
        return {
            key
            for key, members in self._members.items()
            if any(self._snapshots[each].phase != "Gone" or self._seen[each] > since for each in members)
        }

    # One pull request

    async def reconcile(self, key: PullRequestKey) -> None:
        """Makes comment, deployments and checks what they should be. Raises `ForgeUnavailable`: again with backoff."""
        with tracing.resumed(self._trace_of(key)):
            before = self._times(key)
            if await self._reconcile(key) and self._times(key) == before:
                self._open.pop(key, None)

    def _times(self, key: PullRequestKey) -> dict[Identity, datetime]:
        return {each: self._seen[each] for each in self._members.get(key, ())}

    def _trace_of(self, key: PullRequestKey) -> str | None:
        """Of the environment that spoke last: one pull request may have several, of one webhook mostly."""
        members = [each for each in self._members.get(key, ()) if each in self._traces]
        return self._traces[max(members, key=self._seen.__getitem__)] if members else None

    async def _reconcile(self, key: PullRequestKey) -> bool:
        """Whether all is done that can be."""
        desk = self._desks.get(key.forge)
        told = conversation(key, (self._snapshots[each] for each in self._members.get(key, ())))
        if desk is None or not told.snapshots:
            return True
        self._told_at[key] = asyncio.get_running_loop().time()
        known = self._known.setdefault(key, Known())
        text = render(told, self._style)
        try:
            if known.comment is None:
                known.comment = ours(await desk.comments(key), await desk.login())
                self._assume_reported(told, known, text)
        except (NotNow, ForgeError) as error:
            self._after(key, [error])
            return False
        reporting = asyncio.create_task(self._report(desk, told, known))
        try:
            await asyncio.wait({reporting}, timeout=HEAD_START)
            heard = self._heard_at.pop(key, None)
            errors = await _caught(self._comment(desk, told, known, text))
            if heard is not None and errors:
                self._heard_at.setdefault(key, heard)
            elif heard is not None:
                self._delay.record(asyncio.get_running_loop().time() - heard)
            errors += await reporting
        finally:
            reporting.cancel()
            await asyncio.wait({reporting})
        self._after(key, errors)
        return not any(map(_passes, errors))

    def _after(self, key: PullRequestKey, errors: list[Exception]) -> None:
        """What follows from what went wrong: later by the limits, by backoff, or not before the next news or timer."""
        waits = [error.after for error in errors if isinstance(error, NotNow)]
        waits += [error.retry_after for error in errors if isinstance(error, RateLimited)]
        for error in errors:
            if isinstance(error, RateLimited):
                log.warning("the forge wants to be left alone", key=str(key), seconds=error.retry_after)
            elif isinstance(error, ForgeError) and not isinstance(error, PASSING):
                log.error(
                    "the forge refuses", key=str(key), asked=error.asked, reason=error.reason, remedy=error.remedy
                )
        if waits:
            self.queue.add(key, after=min(waits), priority=INTERACTIVE)
        unavailable = next((error for error in errors if isinstance(error, ForgeUnavailable)), None)
        if unavailable is not None:
            raise unavailable

    # The comment

    async def _comment(self, desk: Desk, told: Conversation, known: Known, text: str) -> None:
        comment = known.comment
        if comment is None or (comment.id is None and not is_needed(told, comment)):
            return
        if comment.id is not None and not same_text(comment.body, text):
            try:
                await desk.update_comment(told.key, comment.id, text, passing=told.is_on_its_way)
            except NotThere:
                # Deleted by somebody: look whether there is another, else write it anew.
                found = ours(await desk.comments(told.key), await desk.login())
                if found.id == comment.id:
                    raise  # it is there, but not for us: a permission is missing
                known.comment = comment = found
                if comment.id is not None:
                    raise NotNow(SPACING) from None
            else:
                known.comment = comment = KnownComment(comment.id, text, comment.extra)
                await self._points("notifier.comment-updated")
        if comment.id is None:
            await self._create(desk, told, known, text)
            self._measure(told)
            return
        self._measure(told)
        for double in comment.extra:
            await desk.delete_comment(told.key, double)
        known.comment = KnownComment(comment.id, text)

    def _measure(self, told: Conversation) -> None:
        """The comment speaks of all of these now; of a webhook that it had not spoken of, that took so long."""
        for snapshot in told.snapshots:
            since = snapshot.triggered_at
            if since is None or self._commented.get(snapshot.key) == since:
                continue
            self._commented[snapshot.key] = since
            identity, took = snapshot.identity, (self._now() - since).total_seconds()
            measure("webhook-to-comment", took, team=identity.team, project=identity.project)

    async def _create(self, desk: Desk, told: Conversation, known: Known, text: str) -> None:
        await self._points("notifier.before-comment")
        try:
            created = await desk.create_comment(told.key, text)
        except ForgeUnavailable:
            known.comment = None  # it may be there all the same: look before the next try
            raise
        await self._points("notifier.comment-created")
        known.comment = KnownComment(created.id, text)

    # Deployments and checks

    def _assume_reported(self, told: Conversation, known: Known, text: str) -> None:
        if known.comment is None or not same_text(known.comment.body, text):
            return
        for snapshot in told.snapshots:
            if not self._is_settled(self._seen[snapshot.key]):
                continue
            deployment, check = reports.deployment(snapshot), reports.check(snapshot)
            if deployment is not None:
                if deployment.decided:
                    known.looked_back.add(deployment.environment)
                known.deployments.setdefault((deployment.environment, deployment.sha), KnownReport(None, deployment))
            if check is not None:
                known.checks.setdefault((check.name, check.sha), KnownReport(None, check))

    async def _report(self, desk: Desk, told: Conversation, known: Known) -> list[Exception]:
        """Deployments and checks of every environment, side by side; what went wrong is returned."""
        work = [self._report_one(desk, told.key, known, snapshot) for snapshot in told.snapshots]
        return [error for errors in await asyncio.gather(*work) for error in errors]

    async def _report_one(self, desk: Desk, key: PullRequestKey, known: Known, snapshot: Snapshot) -> list[Exception]:
        """A deployment that lives is the sign that its check may be open: it is made before the check, and ended after
        it. So whoever is killed in between leaves what the next one finds, also of former commits.
        """
        deployment, check = reports.deployment(snapshot), reports.check(snapshot)

        async def say_deployment() -> list[Exception]:
            if deployment is None or deployment in known.refused:
                return []
            return await _reported(known, deployment, self._say(desk, key, known, deployment))

        async def say_check() -> list[Exception]:
            if check is None or check in known.refused:
                return []
            return await _reported(known, check, self._check(desk, key, known, check))

        async def end_former_checks() -> list[Exception]:
            errors: list[Exception] = []
            if deployment is not None and deployment.decided and deployment not in known.refused:
                errors += await _caught(self._look_back(desk, key, known, deployment))
            if check is not None and not errors:
                errors += await _caught(self._end_older_checks(desk, key, known, check))
            return errors

        async def end_former_deployments() -> list[Exception]:
            if deployment is None or not (deployment.ends or deployment.state == "success"):
                return []
            return await _caught(self._end_older(desk, key, known, deployment))

        former = (end_former_checks, end_former_deployments)
        ends = deployment is not None and deployment.ends
        order = (*former, say_check, say_deployment) if ends else (say_deployment, say_check, *former)
        found: list[Exception] = []
        for step in order:
            found += await step()
            if any(map(_passes, found)):
                break
        return found

    async def _say(self, desk: Desk, key: PullRequestKey, known: Known, report: DeploymentReport) -> None:
        slot = (report.environment, report.sha)
        have = known.deployments.get(slot, KnownReport())
        if have.said != report:
            number = have.id
            if number is None:
                found = await desk.find_deployment(key, report)
                number = found.id if found else None
            if number is None and not report.ends:
                number = (await desk.create_deployment(key, report)).id
            if number is not None:
                known.deployments[slot] = KnownReport(number, have.said)
                await desk.create_status(key, number, report)
            known.deployments[slot] = KnownReport(number, report)

    async def _look_back(self, desk: Desk, key: PullRequestKey, known: Known, report: DeploymentReport) -> None:
        """Once a life: what a former process said of former commits, and could not end any more."""
        if report.environment in known.looked_back:
            return
        for found in await desk.living_deployments(key, report):
            said = DeploymentReport(found.sha, found.environment, "in_progress", None, "")
            known.deployments.setdefault((found.environment, found.sha), KnownReport(found.id, said))
            known.checks.setdefault((reports.check_name(found.environment), found.sha), KnownReport())
        known.looked_back.add(report.environment)

    async def _end_older(self, desk: Desk, key: PullRequestKey, known: Known, report: DeploymentReport) -> None:
        """The deployments of former commits to the same environment are over."""
        for (environment, sha), have in tuple(known.deployments.items()):
            if environment != report.environment or sha == report.sha or not isinstance(have.said, DeploymentReport):
                continue
            if not have.said.ends:
                ended = DeploymentReport(sha, environment, "inactive", None, "Replaced by a newer commit")
                await self._say(desk, key, known, ended)
            del known.deployments[environment, sha]

    async def _check(self, desk: Desk, key: PullRequestKey, known: Known, report: CheckReport) -> None:
        slot = (report.name, report.sha)
        have = known.checks.get(slot)
        if have is not None and (have.said == report or (report.ends and _completed(have))):
            return
        number = have.id if have else None
        if number is None:
            found = await desk.find_check(key, report)
            number = found.id if found else None
            if report.ends and (found is None or found.status == "completed"):
                known.checks[slot] = KnownReport(number, report)
                return
        if number is None:
            number = (await desk.create_check(key, report)).id
        else:
            await desk.update_check(key, number, report)
        known.checks[slot] = KnownReport(number, report)

    async def _end_older_checks(self, desk: Desk, key: PullRequestKey, known: Known, report: CheckReport) -> None:
        """A check that nothing will come of any more says so, beside the one of the newer commit."""
        for (name, sha), have in tuple(known.checks.items()):
            if name != report.name or sha == report.sha:
                continue
            if not _completed(have):
                await self._check(desk, key, known, reports.replaced(report, sha))
            del known.checks[name, sha]


def _passes(error: Exception) -> bool:
    """Whether it is tried again by itself; what the forge refuses for good is as done as it can be."""
    return isinstance(error, (NotNow, *PASSING))


def _completed(have: KnownReport) -> bool:
    return isinstance(have.said, CheckReport) and have.said.status == "completed"


async def _caught(work: Awaitable[Any]) -> list[Exception]:
    """What kept the work from being done: the forge, or its limits."""
    try:
        await work
    except (NotNow, ForgeError) as error:
        return [error]
    return []


async def _reported(known: Known, report: DeploymentReport | CheckReport, work: Awaitable[None]) -> list[Exception]:
    """As `_caught`; and what the forge refuses for good is not asked again and again."""
    errors = await _caught(work)
    if any(isinstance(error, ForgeError) and not isinstance(error, PASSING) for error in errors):
        known.refused.add(report)
    return errors


def _failed(key: object, error: Exception, delay: float) -> None:
    if isinstance(error, ForgeUnavailable):
        log.warning("the forge is away", key=str(key), asked=error.asked, reason=error.reason, again_in=round(delay, 1))
    elif isinstance(error, LostLock):
        log.info("not told: another leads", key=str(key))
    else:
        log.error("pull request not told", key=str(key), again_in=round(delay, 1), exc_info=error)
