"""Events in: facts from forges, and the answers of builder and dns-proxy to what an environment asked.

A fact only names a key: the reconcile reads all facts of its subject. The message is acknowledged when that has
succeeded, so nothing is acknowledged that has not taken effect. An answer is recorded in the status of the environment
it is for, if it answers the life (uid) that asked.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog

from catalyst.env_controller.core.merge import merge_patch
from catalyst.env_controller.effects.cluster import Cluster
from catalyst.env_controller.reconcile import Controller, EnvironmentKey, FactKey
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
from catalyst.events.subjects import pull_request_subject
from catalyst.kube.errors import Conflict, NotFound
from catalyst.model.environment import Answers, BuildAnswer, Environment, RouteAnswer
from catalyst.model.names import project_namespace

log = structlog.get_logger()


class Handlers:
    """One method a type of event; `HANDLERS` says which."""

    def __init__(self, controller: Controller, cluster: Cluster) -> None:
        self._controller = controller
        self._cluster = cluster

    async def handle(self, received: Received) -> None:
        """Raises Reject for a type nobody handles, Retry while it cannot be done now."""
        handler = HANDLERS.get(type(received.event.data))
        if handler is None:
            raise Reject(f"type {received.event.type}: env-controller handles {', '.join(t.TYPE for t in HANDLERS)}")
        await handler(self, received)

    async def fact(self, received: Received) -> None:
        event = received.event
        await self._controller.settled(FactKey(received.subject), event=event.message_id, came=event.time)

    async def command(self, received: Received) -> None:
        data = received.event.data
        if not isinstance(data, CommandGiven):
            raise Reject(f"{received.event.type}: expected CommandGiven")
        repository = data.repository
        await self._controller.settled(
            FactKey(pull_request_subject(repository.forge, repository.full_name, data.number)),
            event=received.event.message_id,
            came=received.event.time,
        )

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
