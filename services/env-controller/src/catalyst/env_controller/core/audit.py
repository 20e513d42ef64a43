"""Who did what at which door, and what came of it: from facts to entries of the audit. Pure.

| The fold says | outcome |
|---|---|
| closed, branch deleted | done |
| wanted, made or as it should be | done |
| wanted and held; or the older environment of this name still goes | held, with what would help |
| not wanted by the Project's rules, stopped, not granted, gone for this round | refused, with the reason |
| `stop` | done |
| a command that nothing implements | refused |

It is judged from the state after the effect, so a message that is handled again gets the same answer.
A pause or a team's maximum is no part of that: the fact was taken, the Environment is there and waits (decision 35).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from catalyst.env_controller.core import triggers
from catalyst.env_controller.core.facts import fold_branch, fold_pull_request
from catalyst.env_controller.core.recorded import BranchInputs, PullRequestInputs
from catalyst.env_controller.core.requests import AS_IT_SHOULD_BE, STILL_GOING, Leave, Request, hold_of
from catalyst.env_controller.core.triggers import NotWanted, Stopped, Wanted
from catalyst.events.catalogue import AuditRecord, BranchPushed, CommandGiven, Principal, PullRequestChanged
from catalyst.events.event import Event
from catalyst.model.names import Identity

Outcome = Literal["done", "refused", "held", "failed"]

UNKNOWN: Final = "unknown"
SWEPT: Final = "swept"
RESENT: Final = "resent/"
_NOT_YET: Final = ("sleep", "wake", "extend")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came of an operation, and why not more."""

    outcome: Outcome
    reason: str | None = None


DONE: Final = Judgement("done")


@dataclass(frozen=True, slots=True)
class Standing:
    """What came of a fact for one Project."""

    identity: Identity
    uid: str | None
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class Entry:
    """One operation, before it has its place in a chain. `id`: the same whenever it is told again."""

    id: str
    team: str
    project: str
    environment: str | None
    uid: str | None
    principal: Principal
    door: str
    operation: str
    target: str
    judgement: Judgement
    at: datetime

    def record(self, number: int, previous: str | None) -> AuditRecord:
        """It as the record with that number, behind the record with that digest."""
        fields: dict[str, Any] = {
            "team": self.team,
            "project": self.project,
            "environment": self.environment,
            "uid": self.uid,
            "principal": self.principal,
            "door": self.door,
            "operation": self.operation[:256],
            "target": self.target[:1024],
            "outcome": self.judgement.outcome,
            "reason": (self.judgement.reason or "")[:1024] or None,
            "at": self.at,
            "number": number,
            "previous": previous,
        }
        return AuditRecord.model_validate(fields)


def judged(inputs: PullRequestInputs | BranchInputs, request: Request) -> Judgement:
    """What a request, decided from these, means for whoever asked."""
    wanted = _wanted(inputs)
    if isinstance(wanted, NotWanted):
        return Judgement("refused", wanted.reason)
    if isinstance(wanted, Stopped):
        return Judgement("refused", f"stopped by {wanted.by}: /catalyst deploy, or reopening, brings it back")
    if wanted is None:
        return DONE
    if isinstance(request, Leave) and request.reason != AS_IT_SHOULD_BE:
        return Judgement("held" if request.reason == STILL_GOING else "refused", request.reason)
    hold = hold_of(inputs.existing, wanted)
    return Judgement("held", hold.message or f"held: {hold.reason}") if hold else DONE


def entry_of(event: Event, standing: Standing, message_id: str = "") -> Entry | None:
    """The entry of a fact for one Project; None for what is no operation. `message_id`: under which id the bus stored
    the message; `resent/…` is an operation of who is on call.
    """
    data = event.data
    door: str
    operation: str
    match data:
        case CommandGiven():
            door, operation = "command", data.command
            principal = _forge(data.author, data.author_id)
        case PullRequestChanged() if data.action == SWEPT:
            door, operation, principal = "sweep", data.state, _forge(UNKNOWN, None)
        case PullRequestChanged():
            door, operation, principal = "pull-request", data.action, _forge(data.sender, data.sender_id)
        case BranchPushed():
            door, operation = "push", "delete" if data.deleted else "create" if data.created else "push"
            principal = _forge(data.sender, data.sender_id)
        case _:
            return None
    id_, target = event.message_id, data.about()
    if message_id.startswith(RESENT):
        id_, target = message_id, f"{event.message_id} of {target}"
        door, operation, principal = "resend", "resend", Principal(kind="oncall", name="oncall")
    identity = standing.identity
    return Entry(
        id=f"{id_}/{identity}",
        team=identity.team,
        project=identity.project,
        environment=identity.environment,
        uid=standing.uid,
        principal=principal,
        door=door,
        operation=operation,
        target=target,
        judgement=_of_command(data, standing.judgement) if isinstance(data, CommandGiven) else standing.judgement,
        at=event.time,
    )


def _of_command(data: CommandGiven, judgement: Judgement) -> Judgement:
    if data.command in _NOT_YET:
        return Judgement("refused", f"/catalyst {data.command} is not implemented yet")
    if data.command == "help" or (data.command == "stop" and (judgement.reason or "").startswith("stopped by ")):
        return DONE
    return judgement


def _wanted(inputs: PullRequestInputs | BranchInputs) -> Wanted | NotWanted | Stopped | None:
    """None: closed, deleted, or nothing is known of it."""
    if isinstance(inputs, PullRequestInputs):
        pull_request = fold_pull_request(inputs.facts, inputs.commands)
        is_open = pull_request is not None and pull_request.is_open
        return triggers.for_pull_request(inputs.project, pull_request) if pull_request and is_open else None
    branch = fold_branch(inputs.facts)
    return triggers.for_branch(inputs.project, branch) if branch and branch.exists else None


def _forge(name: str, number: int | None) -> Principal:
    return Principal(kind="forge", name=name[:256] or UNKNOWN, id=str(number) if number is not None else None)
