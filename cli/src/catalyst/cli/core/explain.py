"""Why a pull request would, or would not, get an environment: each condition by itself, and what comes of all. Pure.

Every answer is env-controller's own: `acceptance`, `triggers`, `admission`, and last `requests` and
`environment.decide`, as its reconciler calls them. No rule is written down here a second time, and the decision has the
last word: a rule that has no line of its own yet shows there.

```
yes       it would get one, or has one
waits     it would get an Environment that begins later: a draft, a fork, a pause, a place in the line
no        it would get none, or the one it has goes
unknown   something that decides may not be read
```
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal

from catalyst.cli.core.hidden import Hidden
from catalyst.env_controller.core import acceptance, admission, components, deploying, shares, triggers
from catalyst.env_controller.core import backing as backings
from catalyst.env_controller.core import routes as hosts
from catalyst.env_controller.core.admission import Pauses
from catalyst.env_controller.core.baseline import Subject
from catalyst.env_controller.core.environment import decide
from catalyst.env_controller.core.facts import CommandFact, PullRequest, PullRequestFact, fold_pull_request
from catalyst.env_controller.core.platform import Platform
from catalyst.env_controller.core.requests import Create, Leave, Update, for_pull_request
from catalyst.env_controller.core.triggers import NotWanted, Stopped, Wanted
from catalyst.env_controller.core.world import Decision, Observed, SeenSecrets, World
from catalyst.model import labels
from catalyst.model.environment import Environment, EnvironmentStatus, Phase
from catalyst.model.manifest import Manifest, Ref
from catalyst.model.names import Identity, InvalidName, pull_request_environment, workload_namespace
from catalyst.model.project import Project
from catalyst.model.remedies import remedy
from catalyst.model.snapshot import Snapshot

Answer = Literal["yes", "waits", "no", "unknown"]
_WORST_FIRST: Final[tuple[Answer, ...]] = ("no", "unknown", "waits", "yes")
UID: Final = "dry-run"
"""Of the Environment that is only thought of."""


@dataclass(frozen=True, slots=True)
class Line:
    """The team's Environments, and of whom is known that they began: what its maximum is counted from."""

    environments: Sequence[Manifest] = ()
    begun: frozenset[str] = frozenset()
    paused_projects: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Seen:
    """All that a decision is taken from, as effects found it. `team_notes`, `system_notes`: the annotations of the
    team's namespace and of Catalyst's own, None: there is no such namespace. `others`: Projects of the team that are
    there when this one is not. `home`: whatever holds the workload namespace's name.
    """

    team: str
    name: str
    platform: Platform | Hidden
    project: Project | None
    team_notes: Mapping[str, str] | Hidden | None
    system_notes: Mapping[str, str] | Hidden | None
    facts: tuple[PullRequestFact, ...] = ()
    commands: tuple[CommandFact, ...] = ()
    existing: Environment | None = None
    last: Snapshot | None = None
    home: Observed | None = None
    line: Line | Hidden = Line()
    others: tuple[str, ...] = ()
    system_namespace: str = "catalyst-system"


@dataclass(frozen=True, slots=True)
class Check:
    """One condition. `remedy`: what makes a `no` a `yes`, as a command, a field or a comment; empty: nothing has to."""

    name: str
    answer: Answer
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class PlannedComponent:
    """`image`: the one that is given, or None: it is built from `build`."""

    name: str
    image: str | None
    build: Mapping[str, str]
    url: str | None


@dataclass(frozen=True, slots=True)
class PlannedService:
    name: str
    image: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be made. `notes`: what would not, or not yet, and why."""

    namespace: str
    url: str | None
    components: tuple[PlannedComponent, ...]
    services: tuple[PlannedService, ...]
    secrets: tuple[str, ...]
    expires_at: datetime | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """`because`: the sentence that decides, of the first check with that answer."""

    environment: str
    answer: Answer
    because: str
    remedy: str
    checks: tuple[Check, ...]
    plan: Plan | None


def explain(seen: Seen, now: datetime) -> Explanation:
    """`facts` tell of a pull request. Raises ValueError when they do not."""
    pull_request = fold_pull_request(seen.facts, seen.commands)
    if pull_request is None:
        raise ValueError("no fact tells of a pull request")
    if seen.project is None:
        return _explanation(seen, pull_request, [_team(seen), _there(seen)], None)
    platform = seen.platform if isinstance(seen.platform, Platform) else Platform()
    case = _Case(seen, seen.project, pull_request, platform, now)
    checks = [
        _team(seen),
        _there(seen),
        _repository(case),
        _accepted(case),
        _ready(case),
        *_wanted(case),
        _paused(case),
    ]
    environment = None if _is_hidden(checks) else case.wished(case.request())
    checks.append(_place(case, environment))
    if _is_hidden(checks):
        return _explanation(seen, pull_request, checks, None)
    environment, decision = case.outcome()
    return _explanation(seen, pull_request, [*checks, decision], _plan(case, environment) if environment else None)


def _is_hidden(checks: Sequence[Check]) -> bool:
    return any(check.answer == "unknown" for check in checks)


def _explanation(seen: Seen, pull_request: PullRequest, checks: Sequence[Check], plan: Plan | None) -> Explanation:
    answer = _answer(checks)
    first = next(check for check in checks if check.answer == answer) if answer != "yes" else checks[-1]
    identity = Identity(seen.team, seen.name, pull_request_environment(pull_request.state.number))
    return Explanation(str(identity), answer, first.found, first.remedy, tuple(checks), plan)


def _answer(checks: Sequence[Check]) -> Answer:
    """The decision's, where one is taken: none is of a Project that is not asked, or not ready. Else the worst."""
    decided = ("repository", "ready", "decision") if checks[-1].name == "decision" else ()
    return min((each.answer for each in checks if not decided or each.name in decided), key=_WORST_FIRST.index)


@dataclass(frozen=True, slots=True)
class _Case:
    """One pull request and one Project that is there."""

    seen: Seen
    project: Project
    pull_request: PullRequest
    platform: Platform
    now: datetime

    @property
    def grants(self) -> tuple[str, ...] | None:
        return acceptance.granted(self.note(labels.REPOSITORIES))

    def note(self, name: str) -> str | None:
        notes = self.seen.team_notes
        return notes.get(name) if isinstance(notes, Mapping) else None

    @property
    def pauses(self) -> Pauses:
        system = self.seen.system_notes
        everywhere = system.get(labels.PAUSED) if isinstance(system, Mapping) else None
        return Pauses(admission.paused(everywhere), admission.paused(self.note(labels.PAUSED)))

    @property
    def settled(self) -> bool:
        """It began: the line does not matter any more."""
        found = self.seen.existing
        return bool(found and found.status and found.status.namespace)

    def request(self) -> Create | Update | Leave:
        refusal = acceptance.refusal(self.project, self.grants, self.platform)
        return for_pull_request(self.project, refusal, self.pull_request, self.seen.existing, self.seen.last, self.now)

    def wished(self, request: Create | Update | Leave) -> Environment | None:
        """The Environment that there would be, with its place in the line decided by the time of now."""
        match request:
            case Create(manifest):
                known = {"uid": UID, "creationTimestamp": f"{self.now:%Y-%m-%dT%H:%M:%SZ}", "generation": 1}
                return Environment.parse({**manifest, "metadata": {**manifest["metadata"], **known}})
            case Update(patch) if self.seen.existing:
                return Environment.parse(_merged(self.seen.existing.manifest(), patch.body))
        return self.seen.existing

    def place(self, environment: Environment | None) -> admission.Place | None:
        given, line = self.note(labels.MAXIMUM), self.seen.line
        if given is None or self.settled or isinstance(line, Hidden):
            return None
        uid = environment.metadata.uid or UID if environment else UID
        others = [each for each in line.environments if each["metadata"].get("uid") != uid]
        mine = [environment.manifest()] if environment else []
        found = admission.candidates([*others, *mine], begun=line.begun, paused_projects=line.paused_projects)
        return admission.place(uid, found, given)

    def outcome(self) -> tuple[Environment | None, Check]:
        """What the decision is, as the last check; with the Environment that it is about."""
        request = self.request()
        environment = self.wished(request)
        if isinstance(request, Leave) and (environment is None or _is_going(environment)):
            return None, Check("decision", "no", _sentence(request.reason))
        if environment is None or environment.spec.deletion:
            why = environment.spec.deletion.reason if environment and environment.spec.deletion else ""
            return None, Check("decision", "no", f"The Environment that is there goes: {why}.")
        return environment, _decided(environment, decide(environment, self.world(environment), self.now))

    def world(self, environment: Environment) -> World:
        return World(
            platform=self.platform,
            project=self.project,
            grants=self.grants,
            namespace=self.seen.home,
            pauses=self.pauses,
            place=self.place(environment),
        )


def _decided(environment: Environment, decision: Decision) -> Check:
    status = decision.status if isinstance(decision.status, EnvironmentStatus) else None
    if decision.remove or (decision.amend or {}).get("spec", {}).get("deletion"):
        return Check("decision", "no", "The Environment that is there goes: it expired, or its deletion is recorded.")
    if decision.create:
        names = ", ".join(each["metadata"]["name"] for each in decision.create)
        return Check("decision", "yes", f"Namespace {names} is made, with everything in it.")
    ready = status.condition("Ready") if status else None
    if status and ready and status.phase in (Phase.WAITING, Phase.FAILED, Phase.PENDING):
        answer: Answer = "waits" if status.phase == Phase.WAITING else "no"
        return Check("decision", answer, ready.message, remedy(ready.reason).advice)
    phase = environment.status.phase if environment.status else "Pending"
    return Check("decision", "yes", f"It has one, in phase {phase}; `catalyst why {environment.identity}` says more.")


def _merged(old: Manifest, patch: Manifest) -> Manifest:
    """What the API server makes of `old` by a JSON merge patch."""
    found = dict(old)
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, dict):
            before = found.get(key)
            found[key] = _merged(before if isinstance(before, dict) else {}, value)
        else:
            found[key] = value
    return found


def _is_going(environment: Environment) -> bool:
    return bool(environment.metadata.deletion_timestamp or environment.spec.deletion)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


# The conditions, in the order in which they are asked


def _team(seen: Seen) -> Check:
    notes = seen.team_notes
    if isinstance(notes, Hidden):
        return Check("team", "unknown", notes.why, notes.needs)
    if notes is None:
        made = f"kubectl create namespace {seen.team} && kubectl label namespace {seen.team} {labels.TEAM}={seen.team}"
        return Check("team", "no", f"There is no namespace {seen.team}: the platform's people make one a team.", made)
    return Check("team", "yes", f"Namespace {seen.team} is there.")


def _there(seen: Seen) -> Check:
    if seen.project is None:
        near = f" There are: {', '.join(seen.others)}." if seen.others else ""
        return Check(
            "project",
            "no",
            f"There is no Project {seen.name} in namespace {seen.team}.{near}",
            "kubectl apply a Project; docs/onboarding.md has one",
        )
    source = seen.project.spec.source
    return Check("project", "yes", f"Project {seen.team}/{seen.name} is of {source.forge}/{source.repository}.")


def _repository(case: _Case) -> Check:
    source = case.project.spec.source
    told = case.pull_request.state.repository
    if isinstance(case.seen.team_notes, Hidden):
        return Check("repository", "unknown", "Whether it is granted is not known.", case.seen.team_notes.needs)
    if told.full_name.lower() != source.repository.lower() or told.forge != source.forge:
        return Check(
            "repository",
            "no",
            f"The pull request is of {told.forge}/{told.full_name}, the Project of {source.forge}/{source.repository}.",
            "set spec.source.repository in the Project, or ask about the Project of that repository",
        )
    if acceptance.is_granted(source.forge, source.repository, case.grants):
        return Check("repository", "yes", f"{source.forge}/{source.repository} is granted to team {case.seen.team}.")
    problem = acceptance.project_problem(case.project, case.grants, case.platform)
    why, how = (problem.message, problem.remedy) if problem else ("It is not granted.", "")
    return Check("repository", "no", why, how)


def _accepted(case: _Case) -> Check:
    """As if the repository were granted: that has a line of its own."""
    if isinstance(case.seen.platform, Hidden):
        return Check("settings", "unknown", case.seen.platform.why, case.seen.platform.needs)
    source = case.project.spec.source
    as_if = (*(case.grants or ()), f"{source.forge}/{source.repository}")
    problem = acceptance.project_problem(case.project, as_if, case.platform)
    if problem:
        return Check("settings", "no", problem.message, remedy(problem.reason).advice)
    return Check("settings", "yes", "Everything that the Project asks for is allowed.")


def _ready(case: _Case) -> Check:
    project = case.project
    status, ready = project.status, project.status.condition("Ready") if project.status else None
    if project.metadata.deletion_timestamp:
        return Check("ready", "no", "The Project is being deleted.", "kubectl apply it again when it is gone")
    if status is None or ready is None or (status.observed_generation or 0) < (project.metadata.generation or 0):
        return Check(
            "ready",
            "no",
            "env-controller has not looked at this version of the Project.",
            f"kubectl get deployment env-controller --namespace {case.seen.system_namespace}: it has to run, and lead",
        )
    if ready.status != "True":
        return Check("ready", "no", ready.message, remedy(ready.reason).advice)
    return Check("ready", "yes", ready.message)


def _wanted(case: _Case) -> list[Check]:
    """The rules of the Project, and what holds back what they want."""
    if not case.pull_request.is_open:
        return [Check("open", "no", "The pull request is closed.", "reopen it")]
    opened = Check("open", "yes", "The pull request is open.")
    match triggers.for_pull_request(case.project, case.pull_request):
        case NotWanted(reason, how):
            return [opened, Check("triggers", "no", _sentence(reason), how)]
        case Stopped(by, _, url):
            how = "comment `/catalyst deploy`, or reopen it"
            return [opened, Check("triggers", "no", f"Stopped by {by} ({url}).", how)]
        case Wanted(hold):
            rules = Check("triggers", "yes", "The Project's rules want it.")
            if hold:
                return [opened, rules, Check("approval", "waits", hold.message or hold.reason, _lifts(hold.reason))]
            given = case.pull_request.approval
            by = f"Commit {case.pull_request.state.head.sha[:7]} was approved by {given.data.author}." if given else ""
            return [opened, rules, Check("approval", "yes", by or "Nobody has to approve it.")]


def _lifts(reason: str) -> str:
    return "comment `/catalyst approve`" if reason == "Fork" else "mark it as ready, or comment `/catalyst deploy`"


def _paused(case: _Case) -> Check:
    wait = admission.pause(case.project, case.pauses, case.platform.system_namespace)
    if wait:
        return Check("pause", "waits", wait.message, wait.remedy)
    for notes in (case.seen.team_notes, case.seen.system_notes):
        if isinstance(notes, Hidden):
            return Check("pause", "unknown", notes.why, notes.needs)
    return Check("pause", "yes", "Nothing is paused.")


def _place(case: _Case, environment: Environment | None) -> Check:
    if isinstance(case.seen.team_notes, Hidden):
        return Check("place", "unknown", case.seen.team_notes.why, case.seen.team_notes.needs)
    given = case.note(labels.MAXIMUM)
    if case.settled:
        return Check("place", "yes", "It has its place.")
    if given is None:
        return Check("place", "yes", f"Team {case.seen.team} has no maximum.")
    if isinstance(case.seen.line, Hidden):
        return Check("place", "unknown", case.seen.line.why, case.seen.line.needs)
    unpaused = case.project.model_copy(update={"spec": case.project.spec.model_copy(update={"paused": False})})
    wait = admission.wait(unpaused, Pauses(), case.place(environment), case.platform.system_namespace)
    if wait:
        return Check("place", "waits", wait.message, wait.remedy)
    return Check("place", "yes", f"There is a place: the maximum of {case.seen.team} is {given.strip()}.")


# What would be made


def _plan(case: _Case, environment: Environment) -> Plan:
    """Of an Environment that nothing holds back, by the same `deploy` that would ask for its builds."""
    free = environment.spec.model_copy(update={"hold": None})
    subject = Subject(
        environment.identity,
        environment.metadata.uid or UID,
        environment.model_copy(update={"spec": free, "status": None}),
        case.project,
        case.platform,
    )
    name = workload_namespace(environment.identity)
    home = Observed(Ref("v1", "Namespace", "", name, UID))
    world = replace(case.world(environment), namespace=home, secrets=SeenSecrets(), pauses=Pauses(), place=None)
    decision = deploying.deploy(subject, world, EnvironmentStatus(), case.now)
    asked = {ask.component: ask.inputs for ask in decision.asks}
    parts = components.parts(case.project, subject.environment)
    is_told = isinstance(case.seen.platform, Platform)
    return Plan(
        namespace=name,
        url=_or_none(lambda: hosts.url(subject, parts)) if is_told else None,
        components=tuple(
            PlannedComponent(
                part.name,
                part.component.image,
                asked.get(part.name, {}),
                _address(subject, parts, part) if is_told else None,
            )
            for part in parts
        ),
        services=tuple(
            PlannedService(each.name, backings.image(each).reference) for each in backings.backings(case.project)
        ),
        secrets=shares.shares(case.project, subject.environment),
        expires_at=environment.spec.expires_at,
        notes=_notes(case, subject, decision, bool(parts) and all(p.name in asked or not p.is_built for p in parts)),
    )


def _notes(case: _Case, subject: Subject, decision: Decision, is_run: bool) -> tuple[str, ...]:
    found = []
    ready = decision.status.condition("Ready") if isinstance(decision.status, EnvironmentStatus) else None
    if not is_run and ready:
        found.append(ready.message)
    fields = [f"Project {path}" for path in acceptance.unsupported_in_project(case.project)]
    if fields:
        found.append(f"Not implemented yet, and without effect: {', '.join(fields)}.")
    withheld = shares.withheld(case.project, subject.environment)
    if withheld:
        found.append(f"Secrets that the Project does not share with this one: {', '.join(withheld)}.")
    return tuple(found)


def _address(subject: Subject, parts: tuple[components.Part, ...], part: components.Part) -> str | None:
    if not part.is_exposed or part.is_private:
        return None
    port = subject.platform.public_port
    host = _or_none(lambda: hosts.host(subject, parts, part))
    return f"https://{host}{'' if port == 443 else f':{port}'}" if host else None


def _or_none(name: Any) -> str | None:
    try:
        found: str | None = name()
    except InvalidName:
        return None
    return found
