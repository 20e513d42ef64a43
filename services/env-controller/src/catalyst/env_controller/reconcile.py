"""Keys in, effects out: read the world, ask the core, act; again until nothing is left to change.

    EnvironmentKey   an Environment and everything that is made for it
    ProjectKey       a Project, its namespace, and the facts of its repository when its rules changed
    FactKey          all facts of one pull request or branch

Every trigger (event, watch, timer) only adds a key; a key that fails is tried again with backoff, and nothing is
forgotten meanwhile: whoever waits for a key (`Controller.settled`) is told when it succeeded.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, cast

import structlog
from opentelemetry import context, metrics, propagate, trace
from pydantic import ValidationError

from catalyst.env_controller.core import admission, unreadable
from catalyst.env_controller.core.audit import Standing, judged
from catalyst.env_controller.core.environment import decide, refused_by_cluster
from catalyst.env_controller.core.measured import measured
from catalyst.env_controller.core.merge import merge_patch
from catalyst.env_controller.core.project import decide_project
from catalyst.env_controller.core.recorded import BranchInputs, EnvironmentInputs, ProjectInputs, PullRequestInputs
from catalyst.env_controller.core.requests import Create, Leave, Update
from catalyst.env_controller.core.world import Decision, Patch, World
from catalyst.env_controller.effects.cluster import Cluster, same_but_version, together
from catalyst.env_controller.effects.decisions import Decided, Record, no_record
from catalyst.env_controller.effects.history import History
from catalyst.events import tracing
from catalyst.events.errors import BusError, Reject, Retry
from catalyst.events.event import Cause
from catalyst.events.subjects import ScmSubject, branch_subject, parse_subject, pull_request_subject
from catalyst.kube.errors import AlreadyExists, Conflict, Forbidden, Invalid, KubeError, NotFound
from catalyst.kube.queue import BULK, INTERACTIVE, NORMAL, Queue
from catalyst.kube.reflector import Reflector
from catalyst.kube.unhurried import unhurried
from catalyst.model import labels
from catalyst.model.clock import Clock
from catalyst.model.environment import Environment, EnvironmentStatus
from catalyst.model.manifest import Manifest, ref_of
from catalyst.model.names import (
    Identity,
    InvalidName,
    branch_environment,
    project_namespace,
    pull_request_environment,
)
from catalyst.model.project import Project
from catalyst.model.snapshot import Snapshot, snapshot_of, triggered_at
from catalyst.service.stages import Stage, measure

log = structlog.get_logger()
tracer = trace.get_tracer("catalyst.env_controller")
meter = metrics.get_meter("catalyst.env_controller")
reconciled = meter.create_counter("catalyst_reconciles", description="keys reconciled, by kind and result")
unknown_repository = meter.create_counter(
    "catalyst_unknown_repository_facts", description="facts of repositories that no Project names"
)
duration = meter.create_histogram("catalyst_reconcile_seconds", unit="s", description="time of one reconcile, by kind")

MOST_PASSES = 8
"""Passes over one key before others get their turn: each pass must bring the world nearer, a loop would be a bug."""

FAIR_SHARE = 4
"""Waiting keys of one project that count as interactive; what is beyond that is bulk and lets others overtake."""


@dataclass(frozen=True, slots=True)
class EnvironmentKey:
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class ProjectKey:
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class FactKey:
    """`subject`: the SCM subject of a pull request or branch."""

    subject: str


@dataclass(frozen=True, slots=True)
class Closing:
    """A life that goes: since when, and in which trace."""

    uid: str
    since: datetime
    traceparent: str | None


Key = EnvironmentKey | ProjectKey | FactKey
Standings = tuple[Standing, ...]
Ask = Callable[[Environment | None, Snapshot | None, datetime], PullRequestInputs | BranchInputs]
"""(the Environment, the last snapshot of its name, now) → all that it is decided from."""


class Controller:
    """Works while this replica leads. `cluster` and `history` are its only ways to the world; `record` takes note of
    each decision that changes something.
    """

    def __init__(
        self,
        cluster: Cluster,
        history: History,
        clock: Clock,
        *,
        queue: Queue[Key] | None = None,
        record: Record = no_record,
    ) -> None:
        self._cluster = cluster
        self._history = history
        self._clock = clock
        self._record = record
        self.queue: Queue[Key] = queue or Queue(on_error=_report)
        self._waiters: dict[Key, list[_Waiter]] = {}
        self._reach: dict[Key, int] = {}
        """The highest sequence in SCM of the facts that ask for what is being worked on."""
        self._traces: dict[Key, context.Context] = {}
        self._asked: dict[Key, str] = {}
        self._came: dict[Key, datetime] = {}
        """When the message came that asks for a key; for a fact, the webhook."""
        self._since: dict[Key, datetime] = {}
        """The same, of what is being worked on."""
        self._closing: dict[EnvironmentKey, Closing] = {}
        self._because: dict[Key, str] = {}
        self._lines: dict[str, set[Key]] = {}
        self._identities: dict[EnvironmentKey, Identity] = {}
        self._remembered = asyncio.Event()
        """STATE was read once, or could not be."""
        self.begun = asyncio.Event()

    # Triggers

    def subscribe(self) -> None:
        """Have the mirrors enqueue what changed. Before leading, changes are only mirrored: leading begins with all
        keys.
        """
        cluster = self._cluster
        cluster.projects.on_change(self._project_changed)
        cluster.environments.on_change(self._environment_changed)
        cluster.namespaces.on_change(self._namespace_changed)
        for reflector in cluster.children:
            reflector.on_change(self._child_changed)

    async def lead(self, *, workers: int, resync_seconds: float) -> None:
        """Until cancelled: everything once, then what changes, and everything again every `resync_seconds`."""
        await self._cluster.synced()
        self._history.led_by_others()
        self.begun.set()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.queue.run(self._work, workers))
                group.create_task(self._resync(resync_seconds))
                group.create_task(self._catch_up())
        finally:
            self.begun.clear()
            self._remembered.clear()
            self._abandon()

    async def settled(self, key: Key, *, event: str = "", came: datetime | None = None, sequence: int = 0) -> Standings:
        """Enqueue `key` and wait until it was reconciled from then on; of facts: what came of them for each Project.
        Raises what cannot be retried. `event`: the id of the message that asks for it; `came`: when that was said;
        `sequence`: where it is in SCM, so that nothing is decided without it.
        """
        self._note(key, event)
        if came is not None:
            self._came[key] = came
        waiter = _Waiter(asyncio.get_running_loop().create_future(), sequence)
        self._waiters.setdefault(key, []).append(waiter)
        self._traces[key] = context.get_current()
        self._add(key)
        return await waiter.told

    def enqueue(self, key: Key, *, after: float = 0.0, event: str = "") -> None:
        """`event`: the id of the message that asks for it, whose trace is the present one."""
        if self.begun.is_set():
            self._note(key, event)
            if event:
                self._traces[key] = context.get_current()
            self._add(key, after=after)

    def _note(self, key: Key, event: str) -> None:
        if event:
            self._asked[key] = event

    def _add(self, key: Key, *, after: float = 0.0, priority: int | None = None) -> None:
        """Short lines are served first: a project that brings a thousand keys does not hold up one that brings two."""
        line = self._lines.setdefault(_line(key), set())
        fair = INTERACTIVE if key in line or len(line) < FAIR_SHARE else NORMAL
        if after <= 0:
            line.add(key)
        self.queue.add(key, after=after, priority=fair if priority is None else priority)

    def _environment_changed(self, old: Manifest | None, new: Manifest | None) -> None:
        if not self.begun.is_set():
            return
        found = new or old or {}
        self.enqueue(EnvironmentKey(found["metadata"]["namespace"], found["metadata"]["name"]))
        reference = found["spec"].get("projectRef", {})
        if new is None:
            self.enqueue(ProjectKey(reference.get("team", ""), reference.get("name", "")))
        elif old is None:
            self._reconsider_facts_of(found, reference)

    def _reconsider_facts_of(self, environment: Manifest, reference: Mapping[str, str]) -> None:
        """Somebody else made it: a person, or late a leader that was. Is a pull request behind it, its facts decide."""
        number = environment["spec"].get("source", {}).get("pullRequest", {}).get("number")
        project = self._cluster.projects.store.get(reference.get("team", ""), reference.get("name", ""))
        if number and project:
            source = project["spec"]["source"]
            subject = pull_request_subject(source.get("forge", "github"), source["repository"], number)
            self.enqueue(FactKey(subject))

    def _project_changed(self, old: Manifest | None, new: Manifest | None) -> None:
        metadata = (new or old or {})["metadata"]
        self.enqueue(ProjectKey(metadata["namespace"], metadata["name"]))
        if old is None or new is None or old["spec"] != new["spec"]:
            self._environments_of(metadata["namespace"], metadata["name"])

    def _environments_of(self, team: str, project: str) -> None:
        try:
            namespace = project_namespace(team, project)
        except InvalidName:
            return
        for environment in self._cluster.environments.store.within(namespace):
            self.enqueue(EnvironmentKey(namespace, environment["metadata"]["name"]))

    def _namespace_changed(self, old: Manifest | None, new: Manifest | None) -> None:
        if not self.begun.is_set() or same_but_version(old, new):
            return
        found = new or old or {}
        self._owners_of(old, new)
        name = found["metadata"]["name"]
        projects = self._cluster.projects.store
        for project in projects if self._cluster.is_system(name) else projects.within(name):
            self._project_changed(None, project)

    def _child_changed(self, old: Manifest | None, new: Manifest | None) -> None:
        if self.begun.is_set() and not same_but_version(old, new):
            self._owners_of(old, new)

    def _owners_of(self, *states: Manifest | None) -> None:
        """Before and after: somebody may have changed the labels that say whose it is."""
        for state in states:
            if state is not None:
                self._owner_of(state)

    def _owner_of(self, found: Manifest) -> None:
        owner = found["metadata"].get("labels", {})
        team, project, environment = (owner.get(label) for label in (labels.TEAM, labels.PROJECT, labels.ENVIRONMENT))
        if not team or not project:
            return
        try:
            namespace = project_namespace(team, project)
        except InvalidName:
            return
        self.enqueue(EnvironmentKey(namespace, environment) if environment else ProjectKey(team, project))

    async def _resync(self, seconds: float) -> None:
        await self._remembered.wait()
        while True:
            async for namespace, name in unhurried(self._cluster.projects.store.keys()):
                self._add(ProjectKey(namespace, name), priority=BULK)
            async for namespace, name in unhurried(self._cluster.environments.store.keys()):
                self._add(EnvironmentKey(namespace, name), priority=BULK)
            await asyncio.sleep(seconds)

    def say_all_again(self) -> None:
        """STATE was lost: the resources still know all that was in it."""
        self._history.forget()
        if self.begun.is_set():
            everything = self._cluster.environments.store.keys()
            for namespace, name in everything:
                self._add(EnvironmentKey(namespace, name), priority=BULK)

    async def _catch_up(self) -> None:
        """What may have been left between two leaders: a `Gone` not said, a pull request whose older environment had
        to go first.
        """
        try:
            async for snapshot in unhurried(self._history.all_last()):
                identity = snapshot.key
                namespace = project_namespace(identity.team, identity.project)
                if self._cluster.environments.store.get(namespace, identity.environment) is None:
                    key = EnvironmentKey(namespace, identity.environment)
                    self._identities[key] = identity
                    self._add(key, priority=BULK)
        except BusError as error:
            log.warning("STATE could not be read, trying again", reason=error.reason)
            self._remembered.set()
            await asyncio.sleep(5)
            await self._catch_up()
        self._remembered.set()

    def _again(self, snapshot: Snapshot) -> None:
        """The facts that made this environment may want it anew, now that it is gone."""
        source = snapshot.source
        if not source.forge or not source.repository:
            return
        if source.pull_request:
            subject = pull_request_subject(source.forge, source.repository, source.pull_request.number)
        elif source.branch:
            subject = branch_subject(source.forge, source.repository, source.branch)
        else:
            return
        self._add(FactKey(subject))

    # Work

    async def _work(self, key: Key) -> None:
        kind = type(key).__name__
        began = asyncio.get_running_loop().time()
        waiters, result = self._waiters.pop(key, []), "failed"
        self._leave_line(key)
        self._because[key] = self._asked.pop(key, "")
        self._reach[key] = max((each.sequence for each in waiters if not each.told.done()), default=0)
        if key in self._came:
            self._since[key] = self._came.pop(key)
        token = context.attach(self._traces.pop(key)) if key in self._traces else None
        try:
            with _spanning(key):
                standings = await RECONCILERS[type(key)](self, key) or ()
            _tell(waiters, standings)
            result = "done"
        except (Retry, BusError, KubeError) as error:
            # Not Forbidden: an API server that has just started refuses everybody until it knows the roles.
            if isinstance(key, FactKey) and isinstance(error, Invalid):
                _tell(waiters, Reject(f"the API server refuses it: {error}"))
                result = "rejected"
                return
            self._waiters.setdefault(key, []).extend(waiters)
            result = "retried"
            raise
        except asyncio.CancelledError:
            self._waiters.setdefault(key, []).extend(waiters)
            raise
        except InvalidName as error:
            _tell(waiters, Reject(f"{key}: {error}"))  # trying again would not make it a name
            result = "rejected"
        except Exception as error:
            _tell(waiters, error)
            raise
        finally:
            if token is not None:
                context.detach(token)
            self._because.pop(key, None)
            self._reach.pop(key, None)
            since = self._since.pop(key, None)
            if since is not None and result not in ("done", "rejected"):
                self._came.setdefault(key, since)
            reconciled.add(1, {"kind": kind, "result": result})
            duration.record(asyncio.get_running_loop().time() - began, {"kind": kind})

    def _leave_line(self, key: Key) -> None:
        line = self._lines.get(_line(key), set())
        line.discard(key)
        if not line:
            self._lines.pop(_line(key), None)

    def _abandon(self) -> None:
        """Nobody reconciles any more: whoever waits hands its message back."""
        waiters = [waiter for waiting in self._waiters.values() for waiter in waiting]
        self._waiters.clear()
        _tell(waiters, Retry("this replica does not lead any more", timedelta(seconds=1)))

    # Environments

    async def _environment(self, key: EnvironmentKey) -> None:
        for _ in range(MOST_PASSES):
            manifest = self._cluster.environments.store.get(key.namespace, key.name)
            if manifest is None:
                self._move_up(key)
                return await self._departed(key)
            try:
                environment = Environment.parse(manifest)
                identity = environment.identity
            except (ValidationError, InvalidName) as error:
                return await self._unreadable(self._cluster.environments, manifest, error)
            self._identities[key] = identity
            self._note_closing(key, environment)
            world = await self._cluster.look(environment, self._cluster.observe(environment), self._clock())
            now = self._clock()
            decision = decide(environment, world, now)
            self._note_admission(environment, world, decision)
            decided = Decided(EnvironmentInputs(environment, world, now), decision, _named(key), self._because[key])
            is_change = decision.changes_objects or _differs(decision, environment)
            if is_change:
                self._record(decided)
            with _applying(environment, decision, is_change=is_change):
                said = await self._carry_out(key, environment, world, decision)
            if said and not is_change:
                self._record(decided)
            if not decision.changes_objects:
                if decision.requeue_after is not None:
                    self._add(key, after=max(decision.requeue_after, 0.01))
                return None
        return self._add(key)

    def _note_admission(self, environment: Environment, world: World, decision: Decision) -> None:
        uid = environment.metadata.uid or ""
        if environment.status and environment.status.namespace:
            self._cluster.admit(uid, False)  # its status says so itself
        elif world.place is not None:
            self._cluster.admit(uid, _is_admitted(decision))

    def _move_up(self, key: EnvironmentKey) -> None:
        """One is gone, so there may be a place for the next. Without an identity it went before we led, and whoever
        begins to lead looks at all.
        """
        identity = self._identities.get(key)
        for found in self._cluster.next_in_line(identity.team) if identity else ():
            self._add(EnvironmentKey(found["metadata"]["namespace"], found["metadata"]["name"]))

    async def _carry_out(self, key: EnvironmentKey, environment: Environment, world: World, decision: Decision) -> bool:
        """Whether anything was said on the bus."""
        said = False
        if decision.release:
            said = await self._announce(key, environment.identity, 0)
        await self._act(key, environment, decision)
        if decision.announce:
            said = await self._announce(key, environment.identity, decision.again) or said
        if decision.asks and world.project:
            asked = await self._history.ask(
                environment, world.project, decision.asks, world.platform.git_url, _cause(environment)
            )
            said = asked or said
        return said

    async def _act(self, key: EnvironmentKey, environment: Environment, decision: Decision) -> None:
        mirror, ref = self._cluster.environments, environment.ref
        if decision.amend:
            return await self._cluster.amend(mirror, ref, decision.amend)
        if decision.remove:
            return await self._cluster.remove(mirror, ref)
        if decision.release:
            return await self._release(environment)
        try:
            await together(self._write_status(environment, decision), self._cluster.realise(decision))
        except (Invalid, Forbidden) as error:
            await self._say_refused(key, environment, str(error))
            raise
        return None

    async def _write_status(self, environment: Environment, decision: Decision) -> None:
        if decision.status is None:
            return
        patch = merge_patch(
            _status(environment), decision.status.model_dump(mode="json", by_alias=True, exclude_none=True)
        )
        if patch:
            await self._cluster.patch_status(self._cluster.environments, environment.ref, patch)
            _measure(environment, decision)

    async def _say_refused(self, key: EnvironmentKey, environment: Environment, reason: str) -> None:
        """In the status and on the bus: while it is refused again and again nothing else would be said there."""
        fresh = self._cluster.environment(environment.metadata.namespace or "", environment.metadata.name)
        if fresh is not None:
            status = refused_by_cluster(fresh, reason, self._clock())
            await self._write_status(fresh, Decision(status=status))
            await self._announce(key, environment.identity, 0)

    async def _release(self, environment: Environment) -> None:
        """The finalizer goes last, and only when the API server itself says that the namespace is gone."""
        if not await self._cluster.is_gone(environment):
            return
        left = [name for name in environment.metadata.finalizers if name != labels.FINALIZER]
        await self._cluster.amend(
            self._cluster.environments, environment.ref, {"metadata": {"finalizers": left or None}}
        )

    async def _announce(self, key: EnvironmentKey, identity: Identity, again: int) -> bool:
        """Whether there was something to say."""
        environment = self._cluster.environment(key.namespace, key.name)
        if environment is None or environment.status is None or key.namespace != _home(identity):
            return False  # an Environment in a foreign namespace may not speak for the one it names
        snapshot = snapshot_of(environment, self._cluster.project(identity.team, identity.project))
        traceparent = environment.metadata.annotations.get(labels.TRACEPARENT)
        return await self._history.announce(snapshot, again=again, cause=_cause(environment), traceparent=traceparent)

    async def _departed(self, key: EnvironmentKey) -> None:
        """The resource is gone: say so, and let the facts decide whether there should be a new one."""
        identity = self._identities.pop(key, None)
        if identity is None or key.namespace != _home(identity):
            return
        closing = self._closing.pop(key, None)
        last = await self._said_gone(identity)
        if last is not None:
            self._again(last)
            if closing is not None and closing.uid == last.uid:
                with tracing.resumed(closing.traceparent):
                    took = (self._clock() - closing.since).total_seconds()
                    measure("close-to-gone", took, team=identity.team, project=identity.project)

    def _note_closing(self, key: EnvironmentKey, environment: Environment) -> None:
        """When it began to go, for who measures that: with the resource goes what says so."""
        began = environment.metadata.deletion_timestamp
        if began is not None and environment.spec.deletion is not None:
            began = triggered_at(environment) or began
        if began is not None:
            notes = environment.metadata.annotations
            self._closing[key] = Closing(environment.metadata.uid or "", began, notes.get(labels.TRACEPARENT))

    async def _said_gone(self, identity: Identity) -> Snapshot | None:
        """The last snapshot of this name, which says `Gone` from now on; the API server itself is asked before that
        is said.
        """
        alive = await self._cluster.uid_of_environment(_home(identity), identity.environment)
        return await self._history.announce_gone(identity, alive_uid=alive)

    async def _unreadable(self, mirror: Reflector, manifest: Manifest, error: ValueError) -> None:
        """Kept as it is and said in its status; another version of the CRD let it in."""
        status = unreadable.status(manifest, error, self._clock())
        patch = merge_patch(manifest.get("status", {}), status)
        if patch:
            await self._cluster.patch_status(mirror, ref_of(manifest), patch)

    # Projects

    async def _project(self, key: ProjectKey) -> None:
        for _ in range(MOST_PASSES):
            manifest = self._cluster.projects.store.get(key.namespace, key.name)
            if manifest is None:
                return None
            try:
                project = Project.parse(manifest)
                world = self._cluster.observe_project(project)
            except (ValidationError, InvalidName) as error:
                return await self._unreadable(self._cluster.projects, manifest, error)
            now = self._clock()
            decision = decide_project(project, world, now)
            if decision.changes_objects or _differs(decision, project):
                self._record(Decided(ProjectInputs(project, world, now), decision, _named(key), self._because[key]))
            await self._act_on_project(project, decision)
            if not decision.changes_objects:
                return None
        return self._add(key)

    async def _act_on_project(self, project: Project, decision: Decision) -> None:
        mirror, ref = self._cluster.projects, project.ref
        if decision.amend:
            return await self._cluster.amend(mirror, ref, decision.amend)
        if decision.release:
            left = [name for name in project.metadata.finalizers if name != labels.FINALIZER]
            return await self._cluster.amend(mirror, ref, {"metadata": {"finalizers": left or None}})
        await self._cluster.realise(decision)
        for given in decision.patch:  # our own write comes with no news: the mirror has learned it already
            self._add(EnvironmentKey(given.ref.namespace, given.ref.name))
        if decision.status is None:
            return None
        before, after = _status(project), decision.status.model_dump(mode="json", by_alias=True, exclude_none=True)
        patch = merge_patch(before, after)
        if not patch:
            return None
        if "observedGeneration" in patch or _acceptance(before) != _acceptance(after):
            await self._reconsider(project)
        return await self._cluster.patch_status(mirror, ref, patch)

    async def _reconsider(self, project: Project) -> None:
        """The rules changed: all open facts of the repository are judged anew, before the status says that it was
        done.
        """
        source = project.spec.source
        prefix = pull_request_subject(source.forge, source.repository, 1).removesuffix(".pull_request.1")
        for kind in ("pull_request", "branch"):
            for subject in await self._history.subjects_of(f"{prefix}.{kind}"):
                await self._judge(FactKey(subject), [project], self._because.get(_key_of(project), ""))

    # Facts

    async def _facts(self, key: FactKey) -> Standings:
        subject = parse_subject(key.subject)
        if not isinstance(subject, ScmSubject):
            raise Reject(f"{key.subject}: expected an SCM subject")
        projects = self._cluster.projects_of(subject.forge, subject.repository)
        if projects:
            return await self._judge(key, projects, self._because[key])
        unknown_repository.add(1)
        log.info("no Project names this repository", subject=key.subject)
        return ()

    async def _judge(self, key: FactKey, projects: list[Project], event: str) -> Standings:
        facts = await self._history.facts(key.subject, reach=self._reach.get(key, 0))
        pull_requests, commands, branches = tuple(facts.pull_requests), tuple(facts.commands), tuple(facts.branches)
        standings: list[Standing] = []
        for project in projects:
            refusal = self._cluster.refusal(project)
            if pull_requests:
                name = pull_request_environment(pull_requests[0].data.number)
                ask: Ask = partial(PullRequestInputs, project, refusal, pull_requests, commands)
                standings.append(await self._request(project, name, ask, key, event))
            if branches:
                name = branch_environment(branches[0].data.branch)
                ask = partial(BranchInputs, project, refusal, branches)
                standings.append(await self._request(project, name, ask, key, event))
        return tuple(standings)

    async def _request(self, project: Project, name: str, ask: Ask, fact: FactKey, event: str) -> Standing:
        identity = Identity(project.team, project.metadata.name, name)
        home = _home(identity)
        existing = self._cluster.environment(home, name)
        inputs = ask(existing, None, self._clock())
        request = inputs.decided()
        if isinstance(request, Create):  # only now is history asked: most facts change what is there
            inputs = ask(existing, await self._said_gone(identity), self._clock())
            request = inputs.decided()
        if not isinstance(request, Leave):
            self._record(Decided(inputs, request, _named(fact), event))
        match request:
            case Create(manifest):
                await self._create(_traced(manifest, self._since.get(fact)), project)
                self._add(EnvironmentKey(home, name), priority=INTERACTIVE)
            case Update(patch):
                await self._cluster.patch_environment(Patch(patch.ref, _traced(patch.body, self._since.get(fact))))
                log.info("environment updated", environment=str(identity))
                self._add(EnvironmentKey(home, name), priority=INTERACTIVE)
            case Leave(reason):
                log.info("environment left as it is", environment=str(identity), reason=reason)
        return Standing(
            identity, self._uid(home, name) or (existing.metadata.uid if existing else None), judged(inputs, request)
        )

    def _uid(self, namespace: str, name: str) -> str | None:
        found = self._cluster.environment(namespace, name)
        return found.metadata.uid if found else None

    async def _create(self, manifest: Manifest, project: Project) -> None:
        try:
            await self._cluster.create_environment(manifest)
        except (AlreadyExists, NotFound) as error:
            # AlreadyExists: the mirror is behind. NotFound: the project's namespace is being made just now.
            self._add(ProjectKey(project.team, project.metadata.name))
            raise Retry(str(error)) from error
        log.info(
            "environment created", environment=manifest["metadata"]["name"], namespace=manifest["metadata"]["namespace"]
        )


RECONCILERS: Mapping[type[Key], Callable[[Controller, Any], Awaitable[Standings | None]]] = {
    EnvironmentKey: Controller._environment,  # noqa: SLF001 - the table of this module's own rooms
    ProjectKey: Controller._project,  # noqa: SLF001
    FactKey: Controller._facts,  # noqa: SLF001
}


def _line(key: Key) -> str:
    """Whose keys wait in one line: those of a project, or of a repository."""
    return ".".join(key.subject.split(".")[:4]) if isinstance(key, FactKey) else key.namespace


def _cause(environment: Environment) -> Cause:
    """The event that led to the present spec, and who is behind it."""
    notes = environment.metadata.annotations
    return Cause(notes.get(labels.CAUSE, ""), notes.get(labels.CAUSE), environment.spec.owner)


def _named(key: Key) -> str:
    """`EnvironmentKey acme--shop/pr-42`"""
    name = key.subject if isinstance(key, FactKey) else f"{key.namespace}/{key.name}"
    return f"{type(key).__name__} {name}"


def _key_of(project: Project) -> ProjectKey:
    return ProjectKey(project.team, project.metadata.name)


def _differs(decision: Decision, resource: Environment | Project) -> bool:
    """Whether the status is to be written."""
    return decision.status is not None and decision.status != resource.status


def _is_admitted(decision: Decision) -> bool:
    said = decision.status.condition(admission.CONDITION) if decision.status else None
    return said is not None and said.status == "True"


def _home(identity: Identity) -> str:
    return project_namespace(identity.team, identity.project)


def _status(resource: Environment | Project) -> Manifest:
    return resource.status.model_dump(mode="json", by_alias=True, exclude_none=True) if resource.status else {}


def _acceptance(status: Manifest) -> str | None:
    return next((item["status"] for item in status.get("conditions", ()) if item["type"] == "Accepted"), None)


def _traced(body: Manifest, came: datetime | None) -> Manifest:
    """The present trace rides along, and when the webhook came, so that what follows from this write belongs to it.
    What no webhook brought (a Project's rules changed) takes the note of the last one away.
    """
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    if "traceparent" not in carrier:
        return body
    metadata = body.get("metadata", {})
    annotations = {**metadata.get("annotations", {}), labels.TRACEPARENT: carrier["traceparent"]}
    if came is not None:
        annotations[labels.TRIGGERED_AT] = came.isoformat()
    elif not body.get("kind"):  # a merge patch
        annotations[labels.TRIGGERED_AT] = None
    return {**body, "metadata": {**metadata, "annotations": annotations}}


def _spanning(key: Key) -> AbstractContextManager[object]:
    """A span for what a message asked for. What a watch or a timer brings has one only where it changes something: a
    thousand looks that change nothing would be a thousand traces.
    """
    if not trace.get_current_span().get_span_context().is_valid:
        return nullcontext()
    return tracer.start_as_current_span(f"reconcile {type(key).__name__}", attributes={"catalyst.key": _named(key)})


@contextmanager
def _applying(environment: Environment, decision: Decision, *, is_change: bool) -> Iterator[None]:
    """What is written and published for an Environment belongs to the trace that wrote its spec. Did a message of
    another trace (a build's answer, sent again) ask for this look, it is linked.
    """
    asked: dict[str, str] = {}
    propagate.inject(asked)
    with tracing.resumed(environment.metadata.annotations.get(labels.TRACEPARENT)):
        if not is_change:
            yield
            return
        about: dict[str, str | int | bool] = {
            "catalyst.environment": str(environment.identity),
            "catalyst.phase": decision.status.phase or "" if isinstance(decision.status, EnvironmentStatus) else "",
            "catalyst.created": len(decision.create),
            "catalyst.applied": len(decision.apply),
            "catalyst.deleted": len(decision.delete),
        }
        with tracing.spanning("apply", about, links=[asked.get("traceparent")]):
            yield


def _measure(environment: Environment, decision: Decision) -> None:
    """The stages that the status, just written, says have ended."""
    if not isinstance(decision.status, EnvironmentStatus):
        return
    since = triggered_at(environment) or environment.metadata.creation_timestamp
    if since is None:
        return
    identity = environment.identity
    for stage, seconds in measured(environment.status, decision.status, since):
        measure(cast("Stage", stage), seconds, team=identity.team, project=identity.project)


@dataclass(frozen=True, slots=True)
class _Waiter:
    """Who waits for a key, and which sequence of SCM its message has; 0: none."""

    told: asyncio.Future[Standings]
    sequence: int


def _tell(waiters: list[_Waiter], told: Exception | Standings) -> None:
    for waiter in waiters:
        if waiter.told.done():
            continue
        if isinstance(told, Exception):
            waiter.told.set_exception(told)
        else:
            waiter.told.set_result(told)


def _report(key: Key, error: Exception, delay: float) -> None:
    fields = {"key": str(key), "retry_in_seconds": round(delay, 3)}
    if isinstance(error, Conflict | NotFound | Retry):  # the mirror was a moment behind
        log.info("tried again", reason=str(error), **fields)
    elif isinstance(error, KubeError | BusError):
        log.warning("reconcile failed", reason=str(error), **fields)
    else:
        log.error("reconcile failed", exc_info=error, **fields)
