"""What touches the world: the forge, by one paced and fenced way. Nothing is decided here.

Every write asks two questions first: do we still lead, and may this account be written to now? A write that must wait
is not waited for: `NotNow` sends the key back to the queue, and when its turn comes, what is true then is written.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Final, Protocol

from opentelemetry import metrics

from catalyst.events import tracing
from catalyst.events.stored import Stored
from catalyst.forge.errors import ForgeError, ForgeUnavailable, RateLimited
from catalyst.forge.protocol import CheckRun, Comment, Deployment, ForgeWriter
from catalyst.notifier.core.conversation import PullRequestKey
from catalyst.notifier.core.pace import FOR_COMMENTS, FOR_OUTCOMES, Pace
from catalyst.notifier.core.reports import CheckReport, DeploymentReport
from catalyst.notifier.settled import Records

LOOKED_BACK: Final = 5
"""Deployments of former commits that are asked about after a restart: a process that lived ended all but its last."""


class States(Records, Protocol):
    """Where the last snapshot of every environment is, and how far the lead came; the Bus is one."""

    def states(self) -> AsyncIterator[Stored]:
        """See `Bus.states`."""


class NotNow(Exception):
    """The account's limits at the forge want this write later, in `after` seconds."""

    def __init__(self, after: float) -> None:
        super().__init__(f"not before {after:.1f} s")
        self.after = after


KINDS: Final = (
    "comment",
    "edit",
    "delete",
    "reaction",
    "deployment",
    "deployment status",
    "check",
    "check edit",
)
RESULTS: Final = ("done", "limited", "unavailable", "refused")
"""Of writes, as they are counted: each from 0, or nobody would see the first refusal."""


class Desk:
    """One forge, written to. Raises `ForgeError`, `NotNow`, and whatever `fence` raises when we do not lead."""

    def __init__(self, forge: ForgeWriter, *, fence: Callable[[], object], clock: Callable[[], float]) -> None:
        self._forge = forge
        self._fence = fence
        self._clock = clock
        self._paces: dict[str, Pace] = {}
        self._login: str | None = None
        # The forge is written to in turn; of what matters less, one at a time stands in the queue before a comment.
        self._report = asyncio.Lock()
        self._count = metrics.get_meter("catalyst.notifier").create_counter("catalyst_forge_writes_total")
        for kind, result in product(KINDS, RESULTS):
            self._count.add(0, {"kind": kind, "result": result})

    async def login(self) -> str:
        """As whom we write."""
        if self._login is None:
            self._login = await self._forge.login()
        return self._login

    def wait(self, key: PullRequestKey) -> float:
        """Seconds until the account of this pull request may be asked again after it refused."""
        pace = self._pace(key)
        return max(0.0, pace.paused_until - self._clock())

    async def comments(self, key: PullRequestKey) -> list[Comment]:
        """All comments of the pull request, oldest first."""
        with self._asking(key):
            return [comment async for comment in self._forge.list_comments(key.repository, key.number)]

    async def create_comment(self, key: PullRequestKey, body: str) -> Comment:
        with self._writing(key, "comment", creates=True):
            return await self._forge.create_comment(key.repository, key.number, body)

    async def update_comment(self, key: PullRequestKey, comment: int, body: str, *, passing: bool) -> Comment:
        """`passing`: the text is about to change again."""
        with self._writing(key, "edit", creates=False, reserve=FOR_OUTCOMES if passing else 0.0):
            return await self._forge.update_comment(key.repository, comment, body)

    async def delete_comment(self, key: PullRequestKey, comment: int) -> None:
        with self._writing(key, "delete", creates=False):
            await self._forge.delete_comment(key.repository, comment)

    async def react(self, key: PullRequestKey, comment: int, content: str) -> None:
        with self._writing(key, "reaction", creates=True):
            await self._forge.react(key.repository, comment, content)  # type: ignore[arg-type]

    async def find_deployment(self, key: PullRequestKey, report: DeploymentReport) -> Deployment | None:
        """The newest deployment of that commit to that environment."""
        with self._asking(key):
            found = self._forge.list_deployments(key.repository, sha=report.sha, environment=report.environment)
            return await anext(aiter(found), None)

    async def living_deployments(self, key: PullRequestKey, report: DeploymentReport) -> list[Deployment]:
        """Of the last few of other commits to that environment, those that nobody ended; oldest first."""
        with self._asking(key):
            living: list[Deployment] = []
            seen = 0
            async for found in self._forge.list_deployments(key.repository, environment=report.environment):
                if found.sha == report.sha:
                    continue
                if await self._forge.deployment_state(key.repository, found.id) != "inactive":
                    living.insert(0, found)
                seen += 1
                if seen == LOOKED_BACK:
                    break
        return living

    async def create_deployment(self, key: PullRequestKey, report: DeploymentReport) -> Deployment:
        async with self._report:
            with self._writing(key, "deployment", creates=True, reserve=FOR_COMMENTS):
                return await self._forge.create_deployment(
                    key.repository, sha=report.sha, environment=report.environment, description="Catalyst environment"
                )

    async def create_status(self, key: PullRequestKey, deployment: int, report: DeploymentReport) -> None:
        async with self._report:
            with self._writing(key, "deployment status", creates=True, reserve=FOR_COMMENTS):
                await self._forge.create_deployment_status(
                    key.repository,
                    deployment,
                    report.state,
                    environment_url=report.url,
                    description=report.description,
                )

    async def find_check(self, key: PullRequestKey, report: CheckReport) -> CheckRun | None:
        """Our newest check of that name and commit: reopened, a pull request goes on with what it had."""
        with self._asking(key):
            found = self._forge.list_check_runs(key.repository, sha=report.sha, name=report.name)
            return await anext(aiter(found), None)

    async def create_check(self, key: PullRequestKey, report: CheckReport) -> CheckRun:
        async with self._report:
            with self._writing(key, "check", creates=True, reserve=FOR_COMMENTS):
                return await self._forge.create_check_run(
                    key.repository,
                    sha=report.sha,
                    name=report.name,
                    external_id=report.external_id,
                    status=report.status,
                    conclusion=report.conclusion,
                    title=report.title,
                    summary=report.summary,
                    details_url=report.url,
                )

    async def update_check(self, key: PullRequestKey, check: int, report: CheckReport) -> CheckRun:
        async with self._report:
            with self._writing(key, "check edit", creates=False, reserve=FOR_COMMENTS):
                return await self._forge.update_check_run(
                    key.repository,
                    check,
                    status=report.status,
                    conclusion=report.conclusion,
                    title=report.title,
                    summary=report.summary,
                    details_url=report.url,
                )

    def _pace(self, key: PullRequestKey) -> Pace:
        return self._paces.setdefault(key.owner, Pace(self._clock()))

    @contextmanager
    def _asking(self, key: PullRequestKey) -> Iterator[None]:
        """Around a read: a refusal for asking too much stops us for as long as the forge says."""
        if (paused := self.wait(key)) > 0:
            raise NotNow(paused)
        try:
            yield
        except RateLimited as error:
            self._pace(key).pause(self._clock(), error.retry_after)
            raise

    @contextmanager
    def _writing(self, key: PullRequestKey, kind: str, *, creates: bool, reserve: float = 0.0) -> Iterator[None]:
        self._fence()
        pace, now = self._pace(key), self._clock()
        wait = pace.wait(now, creates=creates, reserve=reserve)
        if wait > 0:
            raise NotNow(wait)
        pace.take(now, creates=creates)
        result = "done"
        try:
            with self._asking(key), tracing.spanning(f"write {kind}", {"catalyst.pull_request": str(key)}):
                yield
        except RateLimited:
            result = "limited"
            raise
        except ForgeUnavailable:
            result = "unavailable"
            raise
        except ForgeError:
            result = "refused"
            raise
        finally:
            self._count.add(1, {"kind": kind, "result": result})
