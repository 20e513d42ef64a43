"""Decisions as values that outlive the moment: from what something was decided, what came of it, and deciding it again.

    rule           decided from                                                     gives
    environment    Environment, World, now                                          Decision
    project        Project, ProjectWorld, now                                       ProjectDecision
    pull_request   Project, refusal, facts, commands, Environment, Snapshot, now    create, update or leave
    branch         Project, refusal, facts, Environment, Snapshot, now              create, update or leave

This file is also run beside older and newer cores (replay.py, `--checkout`): of what lies beside it, it uses the names
above and nothing else. A record is one JSON object; `SCHEMA` counts its form, not the form of what is in it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

import orjson
from pydantic import BaseModel, TypeAdapter

from catalyst.env_controller.core.environment import decide
from catalyst.env_controller.core.facts import (
    BranchFact,
    CommandFact,
    PullRequestFact,
    fold_branch,
    fold_pull_request,
)
from catalyst.env_controller.core.project import ProjectWorld, decide_project
from catalyst.env_controller.core.requests import Create, Leave, Request, Update, for_branch, for_pull_request
from catalyst.env_controller.core.world import Decision, Patch, World
from catalyst.model.environment import Environment
from catalyst.model.project import Project
from catalyst.model.snapshot import Snapshot

SCHEMA: Final = 1
"""Of the record's own fields. What is inside grows as the models do: by optional fields."""

_VERBATIM: Final = {"facts": {"__all__": {"data": {"payload", "payload_omitted"}}}}
"""What the forge sent besides what it says: no decision looks at it."""


@dataclass(frozen=True, slots=True)
class EnvironmentInputs:
    """What `decide` was given."""

    environment: Environment
    world: World
    now: datetime

    def decided(self) -> Decision:
        return decide(self.environment, self.world, self.now)


@dataclass(frozen=True, slots=True)
class ProjectInputs:
    """What `decide_project` was given."""

    project: Project
    world: ProjectWorld
    now: datetime

    def decided(self) -> Decision:
        return decide_project(self.project, self.world, self.now)


@dataclass(frozen=True, slots=True)
class PullRequestInputs:
    """All facts of a pull request, and what there is: from the fold to the request."""

    project: Project
    refusal: str | None
    facts: tuple[PullRequestFact, ...]
    commands: tuple[CommandFact, ...]
    existing: Environment | None
    last: Snapshot | None
    now: datetime

    def decided(self) -> Request:
        folded = fold_pull_request(self.facts, self.commands)
        if folded is None:
            return Leave("no fact tells of a pull request")
        return for_pull_request(self.project, self.refusal, folded, self.existing, self.last, self.now)


@dataclass(frozen=True, slots=True)
class BranchInputs:
    """All pushes to a branch, and what there is."""

    project: Project
    refusal: str | None
    facts: tuple[BranchFact, ...]
    existing: Environment | None
    last: Snapshot | None
    now: datetime

    def decided(self) -> Request:
        folded = fold_branch(self.facts)
        if folded is None:
            return Leave("no fact tells of a branch")
        return for_branch(self.project, self.refusal, folded, self.existing, self.last, self.now)


Inputs = EnvironmentInputs | ProjectInputs | PullRequestInputs | BranchInputs
Result = Decision | Request
RULES: Final[Mapping[str, type[Inputs]]] = {
    "environment": EnvironmentInputs,
    "project": ProjectInputs,
    "pull_request": PullRequestInputs,
    "branch": BranchInputs,
}
_NAMES: Final = {inputs: rule for rule, inputs in RULES.items()}


class NotARecord(ValueError):
    """A text that is no record of ours; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Head:
    """Which decision it is. `subject`: where it is kept. `at`: the time it was decided for. `code`: the commit that
    decided. `key`: what was looked at; `event`: the message that asked for this look, empty when a watch or a timer
    did; `cause`: the message that led to the present spec.
    """

    rule: str
    subject: str
    at: str
    code: str
    key: str
    event: str = ""
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """One recorded decision; `inputs` and `result` as JSON values."""

    head: Head
    inputs: dict[str, Any]
    result: dict[str, Any]

    @classmethod
    def parse(cls, text: bytes | str) -> Self:
        """Raises NotARecord."""
        try:
            body = orjson.loads(text)
        except ValueError as exc:
            raise NotARecord(f"expected a JSON object: {exc}") from exc
        if not isinstance(body, dict):
            raise NotARecord(f"expected a JSON object, found {type(body).__name__}")
        if body.get("schema") != SCHEMA:
            raise NotARecord(f"expected schema {SCHEMA}, found {body.get('schema')!r}")
        inputs, result, told = body.get("inputs"), body.get("result"), body.get("head")
        if not isinstance(inputs, dict) or not isinstance(result, dict) or not isinstance(told, dict):
            raise NotARecord("expected the objects head, inputs and result")
        try:
            head = Head(**{name: str(told[name]) for name in Head.__dataclass_fields__ if name in told})
        except TypeError as exc:
            raise NotARecord(f"head: {exc}") from exc
        if head.rule not in RULES:
            raise NotARecord(f"head.rule: expected one of {', '.join(RULES)}, found {head.rule!r}")
        return cls(head, inputs, result)

    def text(self) -> bytes:
        """As one line. `parse` reads it back."""
        return _line(self.head, _dumped(self.inputs), _dumped(self.result))


def joined(lines: Sequence[bytes]) -> bytes:
    """Several records, or one, as one text. `records` reads it back."""
    return b"\n".join(lines)


def records(text: bytes) -> Iterator[Record]:
    """What `joined` wrote, in order. Raises NotARecord."""
    return map(Record.parse, text.split(b"\n"))


def rule_of(inputs: Inputs) -> str:
    return _NAMES[type(inputs)]


def recorded(head: Head, inputs: Inputs, result: Result) -> bytes:
    """The record as one line of JSON. Of resources only what the API server gave, since a default may change; of facts
    not what the forge sent verbatim.
    """
    return _line(head, _inputs_text(inputs), result_text(result))


def result_text(result: Result) -> bytes:
    """What was decided, as JSON without defaults."""
    match result:
        case Create(manifest):
            return _dumped({"create": manifest})
        case Update(patch):
            return b'{"update":' + _adapter(Patch).dump_json(patch, by_alias=True, exclude_defaults=True) + b"}"
        case Leave(reason):
            return _dumped({"leave": reason})
        case decision:
            return _decision_text(decision)


def read_inputs(rule: str, inputs: Mapping[str, Any]) -> Inputs:
    """What was recorded, as values of this code: fields it does not know are left out. Raises pydantic's
    ValidationError.
    """
    found: Inputs = _adapter(RULES[rule]).validate_python(inputs, extra="ignore")
    return found


def decided_json(inputs: Inputs) -> dict[str, Any]:
    """What this code decides from them."""
    found: dict[str, Any] = orjson.loads(result_text(inputs.decided()))
    return found


def _line(head: Head, inputs: bytes, result: bytes) -> bytes:
    parts = (b'{"schema":', str(SCHEMA).encode(), b',"head":', _dumped(head), b',"inputs":', inputs)
    return b"".join((*parts, b',"result":', result, b"}"))


# Most records are of the rule `environment`, and writing them is part of what an environment costs. So what is plain
# there is written by orjson, a third of what pydantic takes, and a Project, which they all hold, once a version.


def _inputs_text(inputs: Inputs) -> bytes:
    match inputs:
        case EnvironmentInputs(environment, world, now):
            parts = (_model_text(environment), _dumped(world), _dumped(now))
            return b'{"environment":%b,"world":%b,"now":%b}' % parts
        case ProjectInputs():
            exclude: Any = None
        case _:
            exclude = _VERBATIM
    return _adapter(type(inputs)).dump_json(inputs, by_alias=True, exclude_unset=True, exclude=exclude)


def _decision_text(decision: Decision) -> bytes:
    plain = {name: manifests for name in _PLAIN if (manifests := getattr(decision, name))}
    rest = _adapter(type(decision)).dump_json(decision, by_alias=True, exclude_defaults=True, exclude=_PLAIN)
    if not plain:
        return rest
    return _dumped(plain) if rest == b"{}" else _dumped(plain)[:-1] + b"," + rest[1:]


def _model_text(model: BaseModel) -> bytes:
    return _adapter(type(model)).dump_json(model, by_alias=True, exclude_unset=True)


def _project_text(project: Project) -> bytes:
    found = _PROJECTS.get(id(project))
    if found is None or found[0] is not project:
        if len(_PROJECTS) >= _MOST_PROJECTS:
            _PROJECTS.clear()
        found = _PROJECTS[id(project)] = project, _model_text(project)
    return found[1]


_PLAIN: Final = {"create", "apply"}
"""Fields of a Decision that hold manifests and nothing else."""
_PROJECTS: Final[dict[int, tuple[Project, bytes]]] = {}
"""By identity: whoever looks at a Project's environments is given the same one until there is a newer version."""
_MOST_PROJECTS: Final = 100


def _dumped(value: Any) -> bytes:
    return orjson.dumps(value, _foreign, orjson.OPT_UTC_Z)


def _foreign(value: Any) -> Any:
    """What orjson does not know by itself."""
    match value:
        case Project():
            return orjson.Fragment(_project_text(value))
        case BaseModel():
            return orjson.Fragment(_model_text(value))
        case Mapping():
            return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


_ADAPTERS: Final[dict[type[Any], TypeAdapter[Any]]] = {}


def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    """Made once a kind: making one costs more than using it."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]
