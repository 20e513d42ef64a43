"""What must hold whatever happens, as checks that the tests of faults share with those that plant bugs.

Every check raises AssertionError when its guarantee is broken.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from faulted import Rule
from processes import Faulted, process
from stage import Operator, Stage, operating
from wire import own_kubeconfig

from catalyst.env_controller.core.facts import PullRequestFact, fold_pull_request
from catalyst.events.catalogue import PullRequestChanged
from catalyst.events.chain import Link, verify
from catalyst.forge import GitHub
from catalyst.forge.protocol import Delivery
from catalyst.local.installation import Installation
from catalyst.model import labels

LEASE = "/apis/coordination.k8s.io/v1/namespaces/catalyst-system/leases/env-controller"
QUICK_LEASE = 3.0
"""Seconds. A successor of a killed leader waits that long; bounds are asserted with the lease of production."""
REDELIVERY = 45.0
"""Seconds that may pass until a message in the hands of a killed process has come again and is done (10 s each)."""
PROCESS_BOOT = 30.0


class Sender:
    """The forge, which delivers until it is told 202: by hand or by the sweep, always with the same id."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.accepted: dict[str, dict[str, Any]] = {}
        self._ids = itertools.count(1)

    async def deliver(self, payload: dict[str, Any], delivery: str | None = None, *, within: float = 90) -> None:
        """Returns when it was answered 202."""
        delivery = delivery or self.new_id()
        async with asyncio.timeout(within):
            while not await self.try_once(payload, delivery):
                await asyncio.sleep(0.2)

    async def try_once(self, payload: dict[str, Any], delivery: str) -> bool:
        """Whether it was answered 202. No answer, or another: not accepted, as far as the forge knows."""
        try:
            answer = await self.stage.deliver(payload, delivery=delivery)
        except httpx.TransportError:
            return False
        if answer.status_code != httpx.codes.ACCEPTED:
            return False
        self.accepted[delivery] = payload
        return True

    def new_id(self) -> str:
        return f"{self.stage.team}-d{next(self._ids):04}"


@dataclass(slots=True)
class Scene:
    """One team's stage with the services as processes. `dead` is what DEAD held before."""

    stage: Stage
    sender: Sender
    operator: Operator
    ingest: Faulted
    controllers: list[Faulted]
    dead: int = 0
    deaths: list[str] = field(default_factory=list)

    @property
    def controller(self) -> Faulted:
        return self.controllers[0]

    @property
    def services(self) -> list[Faulted]:
        return [self.ingest, *self.controllers]

    def phase(self, name: str) -> None:
        for service in self.services:
            service.phase(name)

    def effects(self) -> list[str]:
        return [point for service in self.services for point in map(effect, service.reached()) if point]

    async def quiet(self, *, within: float = REDELIVERY) -> None:
        """All that was delivered is handled, and no effect has followed for a while."""
        await self.stage.until_async(self._is_quiet, "the services are quiet", within=within)

    async def _is_quiet(self) -> bool:
        if not await self.stage._idle():
            return False
        before = len(self.effects())
        await asyncio.sleep(0.3)
        return before == len(self.effects()) and all(service.part.pid for service in self.services)

    async def dead_letters(self) -> int:
        info = await self.operator.bus._client.jetstream().stream_info("DEAD")
        return int(info.state.messages)

    def until(self, holds: Callable[[], Any], what: str, *, within: float = 30) -> Awaitable[float]:
        return self.stage.until(holds, what, within=within)


@asynccontextmanager
async def scene(installation: Installation, ingest: Faulted, *controllers: Faulted) -> AsyncIterator[Scene]:
    """All processes started and ready; ended at the end, frozen ones too."""
    services = [ingest, *controllers]
    try:
        for service in services:
            if service.part.pid is None:
                service.part.start()
        async with operating(installation) as operator:
            stage = Stage(installation, ingest.url, operator)
            made = Scene(stage, Sender(stage), operator, ingest, list(controllers))
            for service in services:
                what = f"{service.part.name} is ready"
                await stage.until_async(functools.partial(is_ready, service), what, within=PROCESS_BOOT)
            made.dead = await made.dead_letters()
            yield made
    finally:
        for service in services:
            await asyncio.to_thread(service.part.stop)


async def with_project(scene: Scene) -> None:
    """The team's repositories are granted, and its Project is ready."""
    stage = scene.stage
    stage.grant()
    stage.project()
    await scene.until(lambda: stage.project_condition("Ready").get("status") == "True", "the Project is ready")


@asynccontextmanager
async def restarting(scene: Scene) -> AsyncIterator[None]:
    """As Kubernetes does: a process that was killed is started again, now without the fault."""

    async def watch() -> None:
        while True:
            for service in scene.services:
                if service.part.exit_code == -signal.SIGKILL:
                    scene.deaths.append(service.part.name)
                    await asyncio.to_thread(service.again)
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def is_ready(service: Faulted) -> bool:
    assert service.part.pid, f"{service.part.name} ended: {service.part.log.read_text()[-2000:]}"
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            return (await client.get(f"{service.ops}/readyz")).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


def leader(installation: Installation) -> str:
    """The identity in the lease without its random end; empty when it is free."""
    answer = installation.admin.get(LEASE)
    if answer.status_code == httpx.codes.NOT_FOUND:
        return ""
    holder: str = answer.raise_for_status().json()["spec"].get("holderIdentity") or ""
    return holder.rpartition("-")[0]


_WRITES = ("create", "apply", "apply-status", "replace", "patch", "delete")


def effect(line: str) -> str:
    """`<phase> <point>` for a point where something has just changed in the world or is about to be acknowledged; of
    the lease's renewal without a phase, as it goes on all the time. Empty for every other point.
    """
    point = line.partition(" ")[2]
    kind, *rest = point.split(":")
    if kind == "kube.after" and rest[0] in _WRITES and rest[1] != "Lease":
        return line
    if kind in ("lease.before-renew", "lease.renewed"):
        return f"any {point}"
    return line if kind in ("bus.published", "bus.before-ack", "bus.acked", "lease.released") else ""


# A whole life, each step after the last has come to rest.


async def life(scene: Scene, number: int = 42) -> Picture:
    """Project, pull request opened, pushed to, closed; gives what was there before it was closed."""
    stage, sender = scene.stage, scene.sender
    scene.phase("project")
    await with_project(scene)
    await scene.quiet()
    before = stage.everything()

    scene.phase("opened")
    await sender.deliver(stage.pull_request(number, sha="a" * 40))
    await scene.until(lambda: stage.phase(f"pr-{number}") == "Provisioned", "provisioned")
    await scene.quiet()

    scene.phase("pushed")
    await sender.deliver(stage.pull_request(number, action="synchronize", sha="b" * 40, before="a" * 40))
    await scene.until(lambda: stage.commit(f"pr-{number}") == "b" * 40, "the pushed commit is recorded")
    await scene.quiet()
    await scene.until(lambda: stage.phase(f"pr-{number}") == "Provisioned", "provisioned at the pushed commit")
    seen = picture(stage, f"pr-{number}")

    scene.phase("closed")
    await sender.deliver(stage.pull_request(number, action="closed", state="closed", sha="b" * 40))
    await disappears(scene, f"pr-{number}", within=60)
    await scene.quiet()
    assert stage.everything() - before == frozenset()
    return seen


Picture = dict[str, Any]


def picture(stage: Stage, environment: str) -> Picture:
    """What is there for one environment, without what differs from one run to the next."""
    found = stage.environment(environment) or {}
    status = found.get("status", {})
    home, work = f"{stage.team}--shop", f"{stage.team}--shop--{environment}"
    objects = {
        f"{one.resource}/{one.namespace.removeprefix(stage.team)}/{one.name.removeprefix(stage.team)}"
        for one in stage.everything()
        if one.namespace in (home, work) or one.name in (home, work)
    }
    return {
        "objects": objects,
        "phase": status.get("phase"),
        "commit": status.get("commit"),
        "conditions": sorted((c["type"], c["status"], c["reason"]) for c in status.get("conditions", ())),
        "finalizers": found.get("metadata", {}).get("finalizers"),
    }


# The guarantees


async def disappears(scene: Scene, name: str, *, within: float = 60) -> None:
    """The finalizer goes last: when the Environment is gone, its namespace is; and `Gone` is said."""
    stage = scene.stage
    await scene.until(lambda: stage.environment(name) is None, f"{name} is gone", within=within)
    assert stage.namespace(name) is None, f"the Environment {name} is gone, its namespace is left"

    async def said() -> bool:
        return (await stage.phases_said(name))[-1] == "Gone"

    await stage.until_async(said, f"Gone is said of {name}", within=within)


async def nothing_acknowledged_is_lost(scene: Scene) -> None:
    """Every delivery that was answered 202 is stored once, and handled; nothing is dead."""
    subject = f"scm.github.{scene.stage.team}.shop.>"
    stored = Counter(event["id"] for event in await scene.operator.events("SCM", subject))
    assert set(scene.sender.accepted) <= set(stored), "answered 202 and not stored"
    assert [delivery for delivery, times in stored.items() if times > 1] == [], "stored more than once"
    await scene.stage.until_async(scene.stage._idle, "all deliveries are handled", within=REDELIVERY)
    assert await scene.dead_letters() == scene.dead, "something was dead-lettered"
    if scene.stage.project_condition("Ready"):  # without a Project nobody's environment was meant
        await each_has_its_record(scene, set(stored))


async def each_has_its_record(scene: Scene, deliveries: set[str]) -> None:
    """Every fact that was acknowledged is in the audit exactly once, in chains that are whole."""
    found = [one async for one in scene.operator.bus.replay("AUDIT", f"audit.{scene.stage.team}.shop.>")]
    assert verify([Link(one.sequence, one.subject, one.data) for one in found]).faults == ()
    recorded = Counter(json.loads(one.data)["id"].split("/")[1] for one in found)
    assert recorded == Counter(deliveries), "acknowledged without a record, or recorded twice"


async def bus_dies_before_it_stored(scene: Scene) -> None:
    """NATS is killed; whatever webhook-ingest says then, and though it dies too, a 202 is kept."""
    nats = scene.stage.installation.nats
    await asyncio.to_thread(nats.kill)
    try:
        await scene.sender.try_once(scene.stage.pull_request(1), scene.sender.new_id())
        await asyncio.to_thread(scene.ingest.part.kill)
    finally:
        await asyncio.to_thread(nats.start)
    await asyncio.to_thread(scene.ingest.again)
    await nothing_acknowledged_is_lost(scene)


async def redelivered_after_a_death(scene: Scene) -> None:
    """webhook-ingest dies between storing and answering; the forge delivers again; it is stored once."""
    async with restarting(scene):
        await scene.sender.deliver(scene.stage.pull_request(1))
        assert scene.deaths == ["webhook-ingest"]
        await nothing_acknowledged_is_lost(scene)


async def killed_before_its_effect(scene: Scene) -> None:
    """env-controller dies after it was handed a fact and before it did anything: the next one does it."""
    stage = scene.stage
    async with restarting(scene):
        await with_project(scene)
        await scene.sender.deliver(stage.pull_request(1))
        await scene.until(lambda: scene.deaths and stage.installation and is_up(scene.controller), "killed, restarted")
        await stage.until_async(stage._idle, "nothing waits in the consumer", within=REDELIVERY)
        await scene.quiet()
        assert stage.phase("pr-1") == "Provisioned", "acknowledged and not done"


async def killed_after_its_acknowledgement(scene: Scene) -> None:
    """env-controller dies as soon as a fact is acknowledged: by then its record is in the audit."""
    stage = scene.stage
    async with restarting(scene):
        await with_project(scene)
        await scene.sender.deliver(stage.pull_request(1))
        await scene.until(lambda: scene.deaths and is_up(scene.controller), "killed, restarted")
        await scene.quiet()
        await nothing_acknowledged_is_lost(scene)


def is_up(service: Faulted) -> bool:
    return service.part.pid is not None


async def anothers_namespace_is_spared(scene: Scene) -> None:
    """Between the decision to delete a namespace and the request another one takes its name: it stays."""
    stage = scene.stage
    await with_project(scene)
    await scene.sender.deliver(stage.pull_request(1))
    await scene.until(lambda: stage.phase("pr-1") == "Provisioned", "provisioned")
    await scene.sender.deliver(stage.pull_request(1, action="closed", state="closed"))
    await scene.until(lambda: scene.controller.faults(), "the deletion is held")
    name = f"{stage.team}--shop--pr-1"
    stage.delete(f"/api/v1/namespaces/{name}")
    await scene.until(lambda: stage.namespace("pr-1") is None, "the old namespace is gone")
    # Labelled as another life's: of one without such a label the admission policy would take care.
    marks = {labels.ENVIRONMENT_UID: "another", "pod-security.kubernetes.io/enforce": "baseline"}
    another = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": marks}}
    stage.installation.apply(another)
    other = (stage.namespace("pr-1") or {})["metadata"]["uid"]
    scene.controller.release()
    await scene.until(lambda: "kube.before:delete:Namespace" in _after_hold(scene.controller), "the request is sent")
    await scene.until(lambda: stage.environment("pr-1") is None, "the Environment is gone")
    found = stage.namespace("pr-1") or {"metadata": {}, "status": {"phase": "gone"}}
    assert (found["metadata"].get("uid"), found["status"]["phase"]) == (other, "Active"), "another's was deleted"
    stage.delete(f"/api/v1/namespaces/{name}")


def _after_hold(service: Faulted) -> str:
    return "\n".join(service.reached())


# What the facts say


def wanted(stage: Stage, deliveries: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, str | None]:
    """Environment → the commit it should be at, None when it should not be: the pure fold of what was delivered."""
    facts: dict[int, list[PullRequestFact]] = {}
    for delivery, payload in deliveries:
        told = GitHub().translate(Delivery(delivery, "pull_request"), httpx.Request("POST", "/", json=payload).content)
        assert isinstance(told, PullRequestChanged), told
        facts.setdefault(told.number, []).append(PullRequestFact(delivery, told))
    result: dict[str, str | None] = {}
    for number, known in facts.items():
        folded = fold_pull_request(known)
        assert folded is not None
        result[f"pr-{number}"] = folded.state.head.sha if folded.is_open else None
    return result


def present(stage: Stage) -> dict[str, str | None]:
    """Environment → commit of those that are provisioned; another phase is told instead of the commit."""
    found = stage.get(f"/apis/catalyst.dev/v1alpha1/namespaces/{stage.team}--shop/environments") or {"items": []}
    return {item["metadata"]["name"]: _commit_or_phase(item) for item in found["items"]}


def _commit_or_phase(item: dict[str, Any]) -> str | None:
    status = item.get("status", {})
    if "deletionTimestamp" in item["metadata"] or status.get("phase") != "Provisioned":
        return f"{status.get('phase')}"
    if item["spec"]["source"].get("commit") != status.get("commit"):
        return "the commit is not taken up yet"
    commit: str | None = status.get("commit")
    return commit


def namespaces(stage: Stage) -> dict[str, dict[str, Any]]:
    """The environments that have a namespace, and its status."""
    found = stage.get(f"/api/v1/namespaces?labelSelector=catalyst.dev/team%3D{stage.team}") or {"items": []}
    prefix = f"{stage.team}--shop--"
    named = ((item["metadata"]["name"], item["status"]) for item in found["items"])
    return {name.removeprefix(prefix): status for name, status in named if name.startswith(prefix)}


async def converges(scene: Scene, want: dict[str, str | None], *, within: float = 60) -> float:
    """Seconds until the cluster is what `want` says, environments and namespaces alike."""
    stage = scene.stage
    alive = {name: commit for name, commit in want.items() if commit is not None}

    def difference() -> dict[str, Any]:
        try:
            return compared(present(stage))
        except httpx.HTTPError as error:  # the API server is only just coming back
            return {"the cluster": str(error)}

    def compared(have: dict[str, str | None]) -> dict[str, Any]:
        wrong: dict[str, Any] = {
            name: (alive.get(name), have.get(name)) for name in alive | have if alive.get(name) != have.get(name)
        }
        there = namespaces(stage)
        return wrong or {
            name: f"namespace: {there[name]}" if name in there else "no namespace" for name in set(there) ^ set(alive)
        }

    loop = asyncio.get_running_loop()
    began = loop.time()
    while wrong := difference():
        assert loop.time() - began < within, f"not within {within:g} s as the facts say (wanted, found): {wrong}"
        await asyncio.sleep(0.1)
    return loop.time() - began


def quick(installation: Installation, folder: Path, *rules: Rule, plant: str = "", name: str = "") -> Faulted:
    """An env-controller whose lease runs out soon."""
    return process("env-controller", installation, folder, *rules, plant=plant, name=name, lease_seconds=QUICK_LEASE)


# Two controllers


@dataclass(slots=True)
class Pair:
    """Two env-controllers: `first` leads, `second` stands by. `credential`: by which the audit log knows the first."""

    scene: Scene
    first: Faulted
    second: Faulted
    credential: str

    def versions(self) -> dict[str, str]:
        """uid → resourceVersion of all that is the team's."""
        admin, team = self.scene.stage.installation.admin, self.scene.stage.team
        paths = [
            "/api/v1/namespaces",
            *(f"/api/v1/{kind}" for kind in ("resourcequotas", "limitranges", "serviceaccounts")),
            "/apis/networking.k8s.io/v1/networkpolicies",
            *(f"/apis/rbac.authorization.k8s.io/v1/{kind}" for kind in ("roles", "rolebindings")),
            *(f"/apis/catalyst.dev/v1alpha1/{kind}" for kind in ("environments", "projects")),
        ]
        items = [item["metadata"] for path in paths for item in admin.get(path).raise_for_status().json()["items"]]
        mine = [one for one in items if one.get("namespace", one["name"]).startswith(f"{team}--")]
        return {one["uid"]: one["resourceVersion"] for one in mine}

    def written_by_first(self, mark: int) -> list[tuple[int, str, str, str]]:
        """(status, verb, resource, name) of the writes that came from the first since `mark`."""
        with self.scene.stage.installation.control_plane.audit_log.open("rb") as log:
            log.seek(mark)
            events = [json.loads(line) for line in log.read().split(b"\n")[:-1]]
        return [
            (event["responseStatus"]["code"], event["verb"], ref["resource"], ref.get("name", ""))
            for event in events
            if (ref := event.get("objectRef"))
            and self.credential in event["user"].get("extra", {}).get("authentication.kubernetes.io/credential-id", ())
        ]


@asynccontextmanager
async def two_controllers(
    installation: Installation, folder: Path, *rules: Rule, plant: str = "", lease: float = QUICK_LEASE, port: int = 0
) -> AsyncIterator[Pair]:
    """The rules, the bug, and the way to the API server by another port are the first one's. A Project is there."""
    original = installation.kubeconfig("env-controller")
    kubeconfig, credential = own_kubeconfig(original, folder / "first.kubeconfig", port=port or None)
    first = process(
        "env-controller", installation, folder, *rules,
        plant=plant, name="first", lease_seconds=lease, kubeconfig=kubeconfig,
    )  # fmt: skip
    second = process("env-controller", installation, folder, name="second", lease_seconds=lease)
    async with scene(installation, process("webhook-ingest", installation, folder), first) as on:
        stage = on.stage
        await on.until(lambda: leader(installation) == "first", "the first leads", within=30)
        await with_project(on)
        on.controllers.append(second)
        second.part.start()
        try:
            await stage.until_async(lambda: is_ready(second), "the second is ready", within=PROCESS_BOOT)
            yield Pair(on, first, second, credential)
        finally:
            for one in (second, first):
                await asyncio.to_thread(one.part.stop)


async def woken_leader_changes_nothing(
    installation: Installation, folder: Path, point: str, phase: str, plant: str = ""
) -> None:
    """The leader freezes right before a write; the next one leads and writes; the first wakes: nothing it still
    sends has an effect, and it steps down without crashing.
    """
    rule = Rule(point, "freeze", phase=phase)
    async with two_controllers(installation, folder, rule, plant=plant) as pair:
        on, stage = pair.scene, pair.scene.stage
        on.phase("opened")
        await on.sender.deliver(stage.pull_request(1, sha="a" * 40))
        if phase == "closed":
            await on.until(lambda: stage.phase("pr-1") == "Provisioned", "provisioned")
            await on.quiet()
            on.phase("closed")
            await on.sender.deliver(stage.pull_request(1, action="closed", state="closed", sha="a" * 40))
        await on.until(pair.first.faults, "the first freezes")
        await on.until(lambda: leader(installation) == "second", "the second leads", within=20)
        await converges(on, {"pr-1": None if phase == "closed" else "a" * 40})
        await on.quiet()
        before, mark = pair.versions(), stage.installation.audit.marker()

        pair.first.part.thaw()
        await on.until(lambda: pair.first.said("lease lost"), "the first notices", within=20)
        await on.sender.deliver(stage.pull_request(2, sha="c" * 40))
        await on.until(lambda: stage.phase("pr-2") == "Provisioned", "the second goes on")
        written = [one for one in pair.written_by_first(mark) if one[0] < httpx.codes.BAD_REQUEST]
        assert written == [], "the first wrote after the second had"
        after = pair.versions()
        assert {uid: after.get(uid) for uid in before} == before, "something of the old was changed"
        assert await is_alive(pair.first), "it crashed"
        assert leader(installation) == "second"


async def is_alive(service: Faulted) -> bool:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{service.ops}/healthz")
    return service.part.pid is not None and answer.status_code == httpx.codes.OK
