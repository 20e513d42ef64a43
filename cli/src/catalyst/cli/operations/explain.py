"""Why a pull request would, or would not, get an environment: looked up in the cluster and on the bus, written nowhere.

What somebody has no right to read is `Hidden`, and named; only the Project and its Environments have to be readable.
"""

import re
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from catalyst.cli.core.explain import Explanation, Line, Seen
from catalyst.cli.core.explain import explain as explained
from catalyst.cli.core.hidden import Hidden
from catalyst.cli.operations import NotThere, Refused
from catalyst.cli.operations.installed import SYSTEM_NAMESPACE, settings_of
from catalyst.env_controller.config import platform_told
from catalyst.env_controller.core.facts import CommandFact, PullRequestFact, fold_pull_request
from catalyst.env_controller.core.platform import Platform
from catalyst.env_controller.core.world import Observed
from catalyst.events.bus import Bus
from catalyst.events.catalogue import Base, CommandGiven, EnvironmentChanged, Head, PullRequestChanged, Repository
from catalyst.events.errors import Reject
from catalyst.events.subjects import command_subject, environment_subject, pull_request_subject
from catalyst.forge.errors import BadWebhook
from catalyst.forge.github import pull_request as read_webhook
from catalyst.kube import resources
from catalyst.kube.client import Kube
from catalyst.kube.errors import Forbidden, KubeError, NotFound
from catalyst.kube.resources import Resource
from catalyst.model import labels
from catalyst.model.environment import Environment
from catalyst.model.manifest import Manifest, Ref, ref_of
from catalyst.model.names import (
    Identity,
    InvalidName,
    is_name,
    project_namespace,
    pull_request_environment,
    workload_namespace,
)
from catalyst.model.project import Project, Source
from catalyst.model.snapshot import Snapshot

NO_COMMIT: Final = "0" * 40
_PULL_REQUEST: Final = re.compile(r"pr-(\d+)")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """Which pull request. `changes`: what shall be otherwise than the forge told, by name of the fact's fields; without
    a `number` it is one that does not exist yet. `event`: a file with the webhook's body. `settings`: env-controller's
    variables, where its Deployment cannot be looked at.
    """

    team: str
    project: str
    number: int | None = None
    event: Path | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    system_namespace: str = SYSTEM_NAMESPACE

    @property
    def needs_the_bus(self) -> bool:
        """A pull request that exists is known from its facts alone."""
        return self.number is not None and self.event is None


class BadEvent(ValueError):
    """The event file cannot be used; the message says what was expected."""


async def explain(kube: Kube, bus: Bus | None, asked: Asked, now: datetime) -> Explanation:
    """Raises `NotThere`, `Refused`, `BadEvent`, `BusError`, `KubeError`, `InvalidName`."""
    for what, name in (("team", asked.team), ("project", asked.project)):
        if not is_name(name):
            raise InvalidName(f"{what} {name[:200]!r}: expected a name of a-z, 0-9 and single '-' between them")
    if asked.number is not None and asked.event is not None:
        raise BadEvent("NUMBER and --event: expected at most one of the two")
    event = _event(asked.event) if asked.event else None
    project, others = await _project(kube, asked)
    facts, commands = await _facts(kube, bus, asked, event, project, now)
    pull_request = fold_pull_request(facts, commands)
    assert pull_request is not None  # noqa: S101 - `_facts` gives at least one
    identity = Identity(asked.team, asked.project, pull_request_environment(pull_request.state.number))
    seen = Seen(
        team=asked.team,
        name=asked.project,
        platform=await _platform(kube, asked),
        project=project,
        team_notes=await _notes(kube, asked.team),
        system_notes=await _notes(kube, asked.system_namespace),
        facts=tuple(facts),
        commands=tuple(commands),
        existing=await _existing(kube, identity),
        last=await _last(bus, identity) if bus else None,
        home=await _home(kube, identity),
        line=await _line(kube, asked.team),
        others=tuple(others),
        system_namespace=asked.system_namespace,
    )
    return explained(seen, now)


# The pull request


async def _facts(
    kube: Kube,
    bus: Bus | None,
    asked: Asked,
    event: PullRequestChanged | None,
    project: Project | None,
    now: datetime,
) -> tuple[list[PullRequestFact], list[CommandFact]]:
    source = project.spec.source if project else Source(repository=f"{asked.team}/{asked.project}")
    if event is not None:
        return [PullRequestFact("event-file", event.model_copy(update=_changed(event, asked.changes)))], []
    if asked.number is None:
        told = _blank(source, await _free_number(kube, asked), now)
        return [PullRequestFact("made-up", told.model_copy(update=_changed(told, asked.changes)))], []
    if project is None:
        told = _blank(source, asked.number, now)  # what the forge told is kept by repository, which nobody named
        return [PullRequestFact("made-up", told)], []
    if bus is None:
        raise Refused("a pull request that exists is read from the bus, and there is none")
    facts, commands = await _told(bus, source.forge, source.repository, asked.number)
    folded = fold_pull_request(facts, commands)
    if folded is None:
        raise NotThere(
            f"nothing is known of pull request {asked.number} of {source.forge}/{source.repository}: no webhook of it "
            "arrived within 90 days. Look at the App's recent deliveries; or leave the number out and say what it "
            "would be (--head, --base, --fork, --draft, --label)"
        )
    if asked.changes:  # said later than all that the forge said
        later = max(now, folded.state.updated_at)
        changed = {**_changed(folded.state, asked.changes), "updated_at": later, "action": "edited"}
        facts.append(PullRequestFact("made-up", folded.state.model_copy(update=changed)))
    return facts, commands


async def _told(bus: Bus, forge: str, repository: str, number: int) -> tuple[list[PullRequestFact], list[CommandFact]]:
    facts, commands = [], []
    subjects = (pull_request_subject(forge, repository, number), command_subject(forge, repository, number))
    for stored in [each for subject in subjects for each in await bus.facts(subject)]:
        try:
            event = stored.event()
        except Reject:
            continue  # env-controller leaves it out, too
        match event.data:
            case PullRequestChanged() as data:
                facts.append(PullRequestFact(event.id, data))
            case CommandGiven() as data:
                commands.append(CommandFact(event.id, data))
    return facts, commands


def _event(path: Path) -> PullRequestChanged:
    """A webhook's body, as GitHub sends it and shows it under *Recent Deliveries*. Raises `BadEvent`."""
    try:
        found = read_webhook(path.read_bytes())
    except OSError as exc:
        raise BadEvent(f"--event {path}: {exc.strerror or exc}") from exc
    except BadWebhook as exc:
        raise BadEvent(f"--event {path}: expected the body of a pull_request webhook; {exc}") from exc
    assert isinstance(found, PullRequestChanged)  # noqa: S101 - that is what this webhook becomes
    return found


def _blank(source: Source, number: int, now: datetime) -> PullRequestChanged:
    """A pull request of the repository's own branch, just opened."""
    at, repository, base = now.replace(microsecond=0), source.repository, source.default_branch or "main"
    return PullRequestChanged(
        repository=Repository(
            forge=source.forge,
            id=0,
            full_name=repository,
            default_branch=base,
            clone_url=f"https://github.com/{repository}.git",
            private=False,
            fork=False,
        ),
        number=number,
        action="opened",
        state="open",
        merged=False,
        draft=False,
        fork=False,
        title="What would be",
        url=f"https://github.com/{repository}/pull/{number}",
        author="somebody",
        sender="somebody",
        head=Head(ref="change", sha=NO_COMMIT, repository=repository),
        base=Base(ref=base, sha=NO_COMMIT),
        created_at=at,
        updated_at=at,
    )


def _changed(told: PullRequestChanged, changes: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(changes)
    if "head" in found:
        found["head"] = told.head.model_copy(update={"ref": found["head"]})
    if "base" in found:
        found["base"] = told.base.model_copy(update={"ref": found["base"]})
    return found


async def _free_number(kube: Kube, asked: Asked) -> int:
    """One that no Environment of the project has."""
    there = await _readable(_all(kube, resources.ENVIRONMENT, project_namespace(asked.team, asked.project)))
    names = [each["metadata"]["name"] for each in there] if not isinstance(there, Hidden) else []
    numbers = [int(found[1]) for found in map(_PULL_REQUEST.fullmatch, names) if found]
    return max(numbers, default=0) + 1


# The cluster


async def _project(kube: Kube, asked: Asked) -> tuple[Project | None, list[str]]:
    """The Project, or None and those that are there. Raises `Refused` when it cannot be read as one."""
    try:
        manifest = await kube.get(Ref(labels.API_VERSION, "Project", asked.team, asked.project))
    except NotFound:
        there = await _readable(_all(kube, resources.PROJECT, asked.team))
        return None, [each["metadata"]["name"] for each in there] if not isinstance(there, Hidden) else []
    try:
        return Project.parse(manifest), []
    except ValidationError as exc:
        raise Refused(f"Project {asked.team}/{asked.project} cannot be read by this version: {_first(exc)}") from exc


async def _platform(kube: Kube, asked: Asked) -> Platform | Hidden:
    variables: Mapping[str, str] | Hidden = asked.settings
    if not asked.settings:
        variables = await settings_of(kube, "env-controller", asked.system_namespace)
    if isinstance(variables, Hidden):
        return variables
    try:
        return platform_told(variables)
    except ValidationError as exc:
        return Hidden(f"env-controller's settings are wrong: {_first(exc)}", "correct them; env-controller names them")


async def _notes(kube: Kube, namespace: str) -> Mapping[str, str] | Hidden | None:
    try:
        found = await kube.get(Ref("v1", "Namespace", "", namespace), metadata_only=True)
    except NotFound:
        return None
    except Forbidden as exc:
        return _hidden(exc, f"namespace {namespace}")
    notes: Mapping[str, str] = found["metadata"].get("annotations") or {}
    return notes


async def _existing(kube: Kube, identity: Identity) -> Environment | None:
    try:
        place = project_namespace(identity.team, identity.project)
        return Environment.parse(await kube.get(Ref(labels.API_VERSION, "Environment", place, identity.environment)))
    except NotFound:
        return None
    except ValidationError as exc:
        raise Refused(f"Environment {identity} cannot be read by this version: {_first(exc)}") from exc


async def _home(kube: Kube, identity: Identity) -> Observed | None:
    try:
        found = await kube.get(Ref("v1", "Namespace", "", workload_namespace(identity)), metadata_only=True)
    except (NotFound, Forbidden):  # who may not look at it has no rights in it yet; the existing Environment tells
        return None
    metadata = found["metadata"]
    return Observed(
        ref_of(found), labels=metadata.get("labels") or {}, terminating=bool(metadata.get("deletionTimestamp"))
    )


async def _line(kube: Kube, team: str) -> Line | Hidden:
    projects = await _readable(_all(kube, resources.PROJECT, team))
    if isinstance(projects, Hidden):
        return projects
    environments: list[Manifest] = []
    for project in projects:
        try:
            namespace = project_namespace(team, project["metadata"]["name"])
        except InvalidName:
            continue
        there = await _readable(_all(kube, resources.ENVIRONMENT, namespace))
        if isinstance(there, Hidden):
            return there
        environments += there
    homes = await _readable(
        _all(kube, resources.NAMESPACE, None, label_selector=f"{labels.TEAM}={team}", metadata_only=True)
    )
    if isinstance(homes, Hidden):
        return homes
    begun = {(each["metadata"].get("labels") or {}).get(labels.ENVIRONMENT_UID) for each in homes}
    paused = {each["metadata"]["name"] for each in projects if each["spec"].get("paused")}
    return Line(environments, frozenset(uid for uid in begun if uid), frozenset(paused))


async def _all(kube: Kube, resource: Resource, namespace: str | None, **how: Any) -> list[Manifest]:
    return [item async for page in kube.list(resource, namespace, **how) for item in page.items]


async def _readable(reading: Awaitable[T]) -> T | Hidden:
    try:
        return await reading
    except Forbidden as exc:
        return _hidden(exc, "it")


def _hidden(error: KubeError, what: str) -> Hidden:
    return Hidden(f"{what} may not be read: {error.message}", f"ask with a credential that may read {what}")


async def _last(bus: Bus, identity: Identity) -> Snapshot | None:
    stored = await bus.state(environment_subject(identity, "environment", "changed"))
    try:
        data = stored.event().data if stored else None
    except Reject:
        return None
    return data.snapshot if isinstance(data, EnvironmentChanged) else None


def _first(error: ValidationError) -> str:
    told = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(map(str, told['loc']))}: {told['msg']}"
