"""The stage of the stories: all services in one process, each as its own ServiceAccount and NATS user; real servers.

A story sends webhook bytes as GitHub would, or applies resources as a person would, and looks at the cluster.
"""

import asyncio
import copy
import functools
import hashlib
import hmac
import itertools
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from catalyst.env_controller import __main__ as env_controller
from catalyst.env_controller.config import Settings as ControllerSettings
from catalyst.events.bus import Bus, BusSettings
from catalyst.events.catalogue import BuildCleaned, BuildFinished, CommandGiven, Data, RouteChanged
from catalyst.events.event import build_cleaned, build_finished, route_changed, scm_event
from catalyst.events.users import inbox_prefix
from catalyst.local.installation import Found, Installation
from catalyst.model.clock import utc_now
from catalyst.service.lifecycle import Lifecycle
from catalyst.webhook_ingest import __main__ as webhook_ingest
from catalyst.webhook_ingest.config import Settings as IngestSettings

SECRET = "a secret of the stories"
_OURS = "system:serviceaccount:catalyst-system:"
_REPOSITORY = ("id", "full_name", "default_branch", "clone_url", "private", "fork")
PATIENCE = 10.0
_numbers = itertools.count(1)
_PATHS = {
    "ResourceQuota": "/api/v1/namespaces/{namespace}/resourcequotas",
    "LimitRange": "/api/v1/namespaces/{namespace}/limitranges",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
    "Deployment": "/apis/apps/v1/namespaces/{namespace}/deployments",
    "StatefulSet": "/apis/apps/v1/namespaces/{namespace}/statefulsets",
    "PersistentVolumeClaim": "/api/v1/namespaces/{namespace}/persistentvolumeclaims",
    "Service": "/api/v1/namespaces/{namespace}/services",
    "Secret": "/api/v1/namespaces/{namespace}/secrets",
    "Pod": "/api/v1/namespaces/{namespace}/pods",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
}


class Operator:
    """The bus, read as the operations people read it."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    async def consumer(self, stream: str, name: str) -> Any:
        return await self.bus._client.jetstream().consumer_info(stream, name)

    async def events(self, stream: str, subject: str) -> list[dict[str, Any]]:
        return [json.loads(stored.data) async for stored in self.bus.replay(stream, subject)]


@asynccontextmanager
async def operating(installation: Installation) -> AsyncIterator[Operator]:
    settings = BusSettings(
        installation.nats.url, installation.nats.seed("operator"), inbox_prefix=inbox_prefix("operator")
    )
    bus = await Bus.connect(settings, name="operator", clock=utc_now)
    try:
        yield Operator(bus)
    finally:
        await bus.drain()


class Stage:
    """What a story may do and see. One team and one repository of its own a story, so that stories do not meet."""

    def __init__(self, installation: Installation, webhook_url: str, operator: "Operator") -> None:
        self.installation = installation
        self._operator = operator
        self.team = f"team{next(_numbers)}"
        self.repository = f"{self.team}/shop"
        self._webhook_url = webhook_url
        self._deliveries = itertools.count(1)
        self._started = datetime.now(UTC).replace(microsecond=0)
        self._ticks = itertools.count(1)

    # What people do

    def grant(self, *patterns: str) -> None:
        self.installation.team(self.team, *(patterns or (f"github/{self.team}/*",)))

    def annotate(self, namespace: str, **notes: str | None) -> None:
        """As `kubectl annotate` does: `catalyst.dev/<name with hyphens>`; None takes it off."""
        named = {f"catalyst.dev/{name.replace('_', '-')}": text for name, text in notes.items()}
        self.patch(f"/api/v1/namespaces/{namespace}", {"metadata": {"annotations": named}})

    def project(self, name: str = "shop", repository: str | None = None, **spec: Any) -> dict[str, Any]:
        source = {"repository": repository or self.repository}
        return self.apply("Project", self.team, name, {"source": source, **spec})

    def apply(self, kind: str, namespace: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        manifest = {
            "apiVersion": "catalyst.dev/v1alpha1",
            "kind": kind,
            "metadata": {"namespace": namespace, "name": name},
            "spec": spec,
        }
        return self.installation.apply(manifest)[0]

    # What GitHub does

    def pull_request(self, number: int, **changes: Any) -> dict[str, Any]:
        """A real payload, of this story's repository, at the next second of the forge's clock."""
        now = self._started + timedelta(seconds=next(self._ticks))
        return pull_request_payload(self.repository, number, now, **changes)

    def push(
        self, branch: str, *, before: str = "0" * 40, after: str = "0" * 40, deleted: bool = False
    ) -> dict[str, Any]:
        now = self._started + timedelta(seconds=next(self._ticks))
        payload = copy.deepcopy(_example("push", None))
        owner, name = self.repository.split("/")
        payload["repository"] |= {"full_name": self.repository, "name": name, "pushed_at": int(now.timestamp())}
        payload["repository"]["owner"] |= {"login": owner, "name": owner}
        payload |= {"ref": f"refs/heads/{branch}", "before": before, "after": after}
        payload |= {"created": before == "0" * 40, "deleted": deleted, "forced": False, "head_commit": None}
        return payload

    async def deliver(
        self, payload: dict[str, Any], *, event: str = "pull_request", delivery: str | None = None
    ) -> httpx.Response:
        body = json.dumps(payload).encode()
        headers = {
            "content-type": "application/json",
            "x-github-event": event,
            "x-github-delivery": delivery or f"{self.team}-{next(self._deliveries):04}",
            "x-hub-signature-256": "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest(),
        }
        async with httpx.AsyncClient() as client:
            return await client.post(self._webhook_url, content=body, headers=headers)

    # What is there

    def get(self, path: str) -> dict[str, Any] | None:
        answer = self.installation.admin.get(path)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def everything(self) -> frozenset[Found]:
        """Every object of the cluster, but for what other teams have."""
        return frozenset(found for found in self.installation.everything() if self._is_mine(found))

    def _is_mine(self, found: Found) -> bool:
        where = found.namespace or found.name
        return where == self.team or where.startswith(f"{self.team}--") or not where.startswith("team")

    def writes(self, mark: int) -> list[Any]:
        """What our services wrote of this team since then, by the API server's own audit log. Other teams'
        environments, of tests before this one, may go on meanwhile.
        """
        return [
            write
            for write in self.installation.audit.writes_since(mark)
            if write.user.startswith(_OURS) and (write.namespace or write.name).split("--")[0] == self.team
        ]

    async def handled(self) -> None:
        """Every delivery so far has been handled: nothing waits in the consumer, nothing is in its hands."""
        await self.until_async(self._idle, "all deliveries are handled")

    async def _idle(self) -> bool:
        info = await self._operator.consumer("SCM", "env-controller")
        return not info.num_pending and not info.num_ack_pending

    async def until_async(self, holds: Callable[[], Awaitable[bool]], what: str, *, within: float = PATIENCE) -> None:
        began = time.monotonic()
        while not await holds():
            if time.monotonic() - began > within:
                pytest.fail(f"not within {within:g} s: {what}")
            await asyncio.sleep(0.02)

    async def said(self, name: str, project: str = "shop") -> list[dict[str, Any]]:
        """All snapshots of this name, oldest first."""
        subject = f"env.{self.team}.{project}.{name}.environment.changed"
        return [event["data"]["snapshot"] for event in await self._operator.events("EVENTS", subject)]

    async def last_said(self, name: str, project: str = "shop") -> dict[str, Any]:
        return (await self.said(name, project))[-1]

    async def phases_said(self, name: str, project: str = "shop") -> list[str]:
        """Without repetitions."""
        phases = [snapshot["phase"] for snapshot in await self.said(name, project)]
        return [phase for index, phase in enumerate(phases) if index == 0 or phases[index - 1] != phase]

    def environments(self, project: str = "shop") -> set[str]:
        found = self.get(f"/apis/catalyst.dev/v1alpha1/namespaces/{self.team}--{project}/environments")
        return {item["metadata"]["name"] for item in (found or {"items": []})["items"]}

    def project_condition(self, kind: str, project: str = "shop") -> dict[str, Any]:
        return self.condition(self.get(f"/apis/catalyst.dev/v1alpha1/namespaces/{self.team}/projects/{project}"), kind)

    def path_of(self, kind: str, environment: str, name: str, project: str = "shop") -> str:
        return f"{_PATHS[kind].format(namespace=f'{self.team}--{project}--{environment}')}/{name}"

    def object(self, kind: str, environment: str, name: str, project: str = "shop") -> dict[str, Any]:
        found = self.get(self.path_of(kind, environment, name, project))
        assert found is not None, f"{kind} {name} of {environment}"
        return found

    def names_of(self, kind: str, environment: str, project: str = "shop") -> set[str]:
        found = self.get(_PATHS[kind].format(namespace=f"{self.team}--{project}--{environment}"))
        return {item["metadata"]["name"] for item in (found or {"items": []})["items"]}

    def commit(self, name: str, project: str = "shop") -> str | None:
        found = self.environment(name, project)
        return found.get("status", {}).get("commit") if found else None

    def uid(self, name: str, project: str = "shop") -> str | None:
        found = self.environment(name, project)
        return found["metadata"]["uid"] if found else None

    def is_going(self, name: str, project: str = "shop") -> bool:
        found = self.environment(name, project)
        return found is None or "deletionTimestamp" in found["metadata"]

    async def gone(self, name: str, project: str = "shop", *, within: float = 30) -> None:
        """The Environment, its namespace, and the last word about it."""
        await self.until(lambda: self.environment(name, project) is None, f"{name} is gone", within=within)
        assert self.namespace(name, project) is None

        async def said_so() -> bool:
            return (await self.phases_said(name, project))[-1] == "Gone"

        await self.until_async(said_so, f"Gone is said of {name}")

    def apply_environment(self, name: str, project: str = "shop", **spec: Any) -> dict[str, Any]:
        """As a person would, by kubectl apply."""
        whole = {"projectRef": {"team": self.team, "name": project}, **spec}
        return self.apply("Environment", f"{self.team}--{project}", name, whole)

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """A JSON merge patch by the cluster's admin: what nobody else may do. Gives the object as it then was."""
        headers = {"content-type": "application/merge-patch+json"}
        answer = self.installation.admin.patch(path, content=json.dumps(body), headers=headers)
        changed: dict[str, Any] = answer.raise_for_status().json()
        return changed

    async def answer(self, service: str, data: Data, name: str, project: str = "shop") -> None:
        """Answer the last snapshot as that service would, by its own NATS user."""
        settings = BusSettings(
            self.installation.nats.url, self.installation.nats.seed(service), inbox_prefix=inbox_prefix(service)
        )
        subject = f"env.{self.team}.{project}.{name}.environment.changed"
        asked = [stored.event() async for stored in self._operator.bus.replay("EVENTS", subject)][-1]
        bus = await Bus.connect(settings, name=service, clock=utc_now)
        try:
            if isinstance(data, RouteChanged):
                await bus.publish(route_changed(data, causing=asked, time=utc_now()))
            elif isinstance(data, BuildFinished):
                await bus.publish(build_finished(data, time=utc_now()))
            elif isinstance(data, BuildCleaned):
                await bus.publish(build_cleaned(data, causing=asked, time=utc_now()))
        finally:
            await bus.drain()

    async def command(self, number: int, command: str, *, author: str = "lisa", **fields: Any) -> None:
        """What webhook-ingest says once the forge has confirmed that the author may write (its own tests show that), at
        the next second of the forge's clock.
        """
        settings = BusSettings(
            self.installation.nats.url,
            self.installation.nats.seed("webhook-ingest"),
            inbox_prefix=inbox_prefix("webhook-ingest"),
        )
        of = self.pull_request(number)["repository"]
        repository = {"forge": "github", **{name: of[name] for name in _REPOSITORY}}
        now = self._started + timedelta(seconds=next(self._ticks))
        comment = next(self._deliveries)
        data = {
            "repository": repository,
            "number": number,
            "command": command,
            "author": author,
            "permission": "write",
            "comment_id": comment,
            "url": f"https://github.com/{self.repository}/pull/{number}#issuecomment-{comment}",
            "given_at": now,
            **fields,
        }
        fact = CommandGiven.model_validate(data)
        bus = await Bus.connect(settings, name="webhook-ingest", clock=utc_now)
        try:
            await bus.publish(
                scm_event(fact, delivery=f"{self.team}-{comment:04}/command", time=now, actor=f"github:{author}")
            )
        finally:
            await bus.drain()

    def delete(self, path: str) -> None:
        self.installation.admin.delete(path).raise_for_status()

    def environment(self, name: str, project: str = "shop") -> dict[str, Any] | None:
        return self.get(f"/apis/catalyst.dev/v1alpha1/namespaces/{self.team}--{project}/environments/{name}")

    def namespace(self, environment: str, project: str = "shop") -> dict[str, Any] | None:
        return self.get(f"/api/v1/namespaces/{self.team}--{project}--{environment}")

    def phase(self, name: str, project: str = "shop") -> str | None:
        found = self.environment(name, project)
        return found.get("status", {}).get("phase") if found else None

    def condition(self, found: dict[str, Any] | None, kind: str) -> dict[str, Any]:
        conditions = (found or {}).get("status", {}).get("conditions", [])
        return next((item for item in conditions if item["type"] == kind), {})

    async def until(self, holds: Callable[[], Any], what: str, *, within: float = PATIENCE) -> float:
        """Seconds it took. Fails, saying what was waited for."""
        began = time.monotonic()
        while not holds():
            if time.monotonic() - began > within:
                pytest.fail(f"not within {within:g} s: {what}")
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    async def ready(self, name: str, project: str = "shop") -> dict[str, Any]:
        await self.until(lambda: self.phase(name, project) == "Provisioned", f"{name} of {project} is provisioned")
        found = self.environment(name, project)
        assert found is not None
        return found

    async def accepted(self, project: str = "shop") -> None:
        path = f"/apis/catalyst.dev/v1alpha1/namespaces/{self.team}/projects/{project}"
        await self.until(lambda: self.condition(self.get(path), "Ready").get("status") == "True", f"{project} is ready")


_EXAMPLES = Path(__file__).parents[1] / "data" / "github-webhooks"


def pull_request_payload(repository: str, number: int, now: datetime, **changes: Any) -> dict[str, Any]:
    """`opened` of the examples, as another repository's. `changes`: action, state, draft, fork, labels, sha, …."""
    payload = copy.deepcopy(_example("pull_request", "opened"))
    owner, name = repository.split("/")
    pull_request, stamp = payload["pull_request"], f"{now:%Y-%m-%dT%H:%M:%SZ}"
    payload["repository"] |= {"full_name": repository, "name": name}
    payload["repository"]["owner"] |= {"login": owner}
    payload["number"] = pull_request["number"] = number
    payload["action"] = changes.get("action", "opened")
    pull_request |= {
        "updated_at": stamp,
        "created_at": stamp,
        "state": changes.get("state", "open"),
        "draft": changes.get("draft", False),
        "merged": changes.get("merged", False),
        "closed_at": stamp if changes.get("state") == "closed" else None,
        "labels": [{"name": label} for label in changes.get("labels", ())],
    }
    head_repository = "stranger/shop" if changes.get("fork") else repository
    pull_request["head"] |= {"sha": changes.get("sha", "a" * 40), "ref": changes.get("ref", "feature/cart")}
    pull_request["head"]["repo"] |= {
        "full_name": head_repository,
        "id": 2 if changes.get("fork") else payload["repository"]["id"],
    }
    pull_request["base"]["repo"] |= {"full_name": repository, "id": payload["repository"]["id"]}
    pull_request["base"]["ref"] = changes.get("base", "main")
    if "before" in changes:
        payload["before"], payload["after"] = changes["before"], changes.get("sha")
    return payload


@functools.cache
def _example(event: str, action: str | None) -> dict[str, Any]:
    for line in (_EXAMPLES / "payloads.jsonl").read_text().splitlines():
        example = json.loads(line)
        if example["event"] == event and example["payload"].get("action") == action:
            payload: dict[str, Any] = example["payload"]
            return payload
    raise LookupError(f"the examples hold no {event} {action}")


@asynccontextmanager
async def services(installation: Installation, settings: dict[str, Any] | None = None) -> AsyncIterator[str]:
    """webhook-ingest and env-controller, running. Gives the webhook's URL."""
    port = free_port()
    ingest = IngestSettings(
        nats_url=installation.nats.url,
        nats_seed_file=installation.nats.seed("webhook-ingest"),
        webhook_secrets=SECRET,
        http_host="127.0.0.1",
        http_port=port,
    )
    controller = ControllerSettings(
        nats_url=installation.nats.url,
        nats_seed_file=installation.nats.seed("env-controller"),
        kubeconfig=installation.kubeconfig("env-controller"),
        **(settings or {}),
    )
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_living(webhook_ingest.main, ingest))
        await stack.enter_async_context(_living(env_controller.main, controller))
        yield f"http://127.0.0.1:{port}/webhooks/github"


@asynccontextmanager
async def _living(main: Any, settings: Any) -> AsyncIterator[Lifecycle]:
    booted = asyncio.Event()
    life = Lifecycle(on_ready=booted.set)
    work = asyncio.create_task(main(settings, life))
    waiting = asyncio.create_task(booted.wait())
    await asyncio.wait([work, waiting], return_when=asyncio.FIRST_COMPLETED)
    if work.done():
        work.result()
    try:
        yield life
    finally:
        life.stop()
        await asyncio.wait_for(work, 15)
        await life.cancel_tasks()
        if life.crashed.done() and not life.crashed.cancelled():
            life.crashed.result()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
