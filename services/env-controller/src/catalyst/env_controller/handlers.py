"""Events in: facts from forges, and the answers of builder and dns-proxy to what an environment asked.

A fact only names a key: the reconcile reads all facts of its subject. The message is acknowledged when that has
succeeded and its record is in the audit, so nothing is acknowledged that has not taken effect, or lacks its record. An
answer is recorded in the status of the environment
it is for, if it answers the life (uid) that asked.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import structlog

from catalyst.env_controller.core.audit import Judgement, Standing, entry_of
from catalyst.env_controller.core.merge import merge_patch
from catalyst.env_controller.effects.audit import Audit
from catalyst.env_controller.effects.cluster import Cluster
from catalyst.env_controller.reconcile import Controller, EnvironmentKey, FactKey, Standings
from catalyst.events.bus import Received
from catalyst.events.catalogue import (
    BranchPushed,
    BuildCleaned,
    BuildFinished,
    CommandGiven,
    Data,
    EnvironmentName,
    PullRequestChanged,
    RouteChanged,
)
from catalyst.events.errors import Reject, Retry
from catalyst.events.event import caused_by
from catalyst.events.subjects import pull_request_subject
from catalyst.kube.errors import Conflict, NotFound
from catalyst.model.environment import Answers, BuildAnswer, Environment, RouteAnswer
from catalyst.model.names import (
    Identity,
    InvalidName,
    branch_environment,
    project_namespace,
    pull_request_environment,
)

log = structlog.get_logger()


class Handlers:
    """One method a type of event; `HANDLERS` says which."""

    def __init__(self, controller: Controller, cluster: Cluster, audit: Audit) -> None:
        self._controller = controller
        self._cluster = cluster
        self._audit = audit

    async def handle(self, received: Received) -> None:
        """Raises Reject for a type nobody handles, Retry while it cannot be done now."""
        handler = HANDLERS.get(type(received.event.data))
        if handler is None:
            raise Reject(f"type {received.event.type}: env-controller handles {', '.join(t.TYPE for t in HANDLERS)}")
        await handler(self, received)

    async def fact(self, received: Received) -> None:
        await self._fact(received, received.subject)

    async def command(self, received: Received) -> None:
        data = received.event.data
        if not isinstance(data, CommandGiven):
            raise Reject(f"{received.event.type}: expected CommandGiven")
        repository = data.repository
        await self._fact(received, pull_request_subject(repository.forge, repository.full_name, data.number))

    async def _fact(self, received: Received, subject: str) -> None:
        """Effect, record, and then the acknowledgement."""
        event = received.event
        try:
            standings = await self._controller.settled(
                FactKey(subject), event=event.message_id, came=event.time, sequence=received.sequence
            )
        except Reject as refusal:
            standings = self._refused(event.data, refusal.reason)
            await self._recorded(received, standings)
            raise
        await self._recorded(received, standings)

    async def _recorded(self, received: Received, standings: Standings) -> None:
        for standing in standings:
            entry = entry_of(received.event, standing, received.message_id)
            if entry is not None:
                await self._audit.record(entry, caused_by(received.event))

    def _refused(self, data: Data, reason: str) -> Standings:
        """For each Project that this would have been for."""
        judgement = Judgement("refused", reason)
        return tuple(Standing(identity, None, judgement) for identity in self._meant(data))

    def _meant(self, data: Data) -> Iterator[Identity]:
        if not isinstance(data, PullRequestChanged | CommandGiven | BranchPushed):
            return
        for project in self._cluster.projects_of(data.repository.forge, data.repository.full_name):
            with suppress(InvalidName):
                name = (
                    branch_environment(data.branch)
                    if isinstance(data, BranchPushed)
                    else pull_request_environment(data.number)
                )
                yield Identity(project.team, project.metadata.name, name)

    async def route_changed(self, received: Received) -> None:
        data = received.event.data
        if not isinstance(data, RouteChanged):
            raise Reject(f"{received.event.type}: expected RouteChanged")
        environment = self._asker(data.environment)
        is_going = environment is not None and environment.metadata.deletion_timestamp is not None
        if environment is None or (data.live and is_going):
            return
        # An old "not live" may arrive late: while the environment lives, it answers nothing that teardown will ask.
        answer = RouteAnswer(
            live=data.live,
            at=received.event.time,
            reason=(data.reason or "")[:1024] or None,
            failed=not data.live and not is_going,
        )
        known = _answers(environment)
        routes = {**known.routes, data.host: answer}
        if answer.failed and data.host not in _hosts(environment):
            routes.pop(data.host)  # it was taken back
        await self._record(environment, known.model_copy(update={"routes": routes}), received)

    async def build_finished(self, received: Received) -> None:
        data = received.event.data
        if not isinstance(data, BuildFinished):
            raise Reject(f"{received.event.type}: expected BuildFinished")
        environment = self._asker(data.environment)
        if environment is None or environment.metadata.deletion_timestamp is not None:
            return
        asked = environment.status.builds.get(data.component) if environment.status else None
        if asked is None or (asked.key, asked.attempt) != (data.key, data.attempt):
            log.info("answer to a build that nobody asks for any more", environment=str(environment.identity))
            return
        known = _answers(environment)
        builds = {**known.builds, data.component: _answer(data, received.event.time)}
        await self._record(environment, known.model_copy(update={"builds": builds}), received)

    async def build_cleaned(self, received: Received) -> None:
        data = received.event.data
        if not isinstance(data, BuildCleaned):
            raise Reject(f"{received.event.type}: expected BuildCleaned")
        environment = self._asker(data.environment)
        if environment is None or environment.metadata.deletion_timestamp is None:
            return
        answers = _answers(environment).model_copy(update={"builds_cleaned": True})
        await self._record(environment, answers, received)

    def _asker(self, name: EnvironmentName) -> Environment | None:
        identity = name.identity
        found = self._cluster.environment(project_namespace(identity.team, identity.project), identity.environment)
        if found is None or found.metadata.uid != name.uid:
            log.info("answer to an environment that is gone", environment=str(identity), uid=name.uid)
            return None
        return found

    async def _record(self, environment: Environment, answers: Answers, received: Received) -> None:
        before, after = _json(_answers(environment)), _json(answers)
        patch = merge_patch(before, after)
        if not patch:
            return
        try:
            await self._cluster.patch_status(self._cluster.environments, environment.ref, {"answers": patch})
        except (Conflict, NotFound) as error:
            raise Retry(str(error), timedelta(milliseconds=200)) from error
        key = EnvironmentKey(environment.metadata.namespace or "", environment.metadata.name)
        self._controller.enqueue(key, event=received.event.message_id)


def _answer(data: BuildFinished, at: datetime) -> BuildAnswer:
    """The answer as the status keeps it: the first line of its message a sentence, the rest the end of the log."""
    sentence = " ".join((data.message or "").split())[:1024]
    message = "\n".join(part for part in (sentence, data.log_tail or "") if part)
    return BuildAnswer(
        key=data.key,
        attempt=data.attempt,
        outcome=data.outcome,
        at=at,
        digest=data.digest,
        ports=data.ports[:64],
        user=(data.user or "")[:256] or None,
        reason=(data.reason or "")[:256] or None,
        message=message[:8192] or None,
    )


def _hosts(environment: Environment) -> set[str]:
    return {route.host for route in environment.status.routes} if environment.status else set()


def _answers(environment: Environment) -> Answers:
    return (environment.status.answers if environment.status else None) or Answers()


def _json(answers: Answers) -> dict[str, Any]:
    return answers.model_dump(mode="json", by_alias=True, exclude_none=True)


HANDLERS: Mapping[type[Data], Callable[[Handlers, Received], Awaitable[None]]] = {
    PullRequestChanged: Handlers.fact,
    BranchPushed: Handlers.fact,
    CommandGiven: Handlers.command,
    RouteChanged: Handlers.route_changed,
    BuildFinished: Handlers.build_finished,
    BuildCleaned: Handlers.build_cleaned,
}
