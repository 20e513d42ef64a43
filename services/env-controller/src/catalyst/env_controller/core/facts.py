"""Fold all facts of one pull request, with its commands, or of one branch into its present state.

Deliveries arrive late, twice and in any order, so the state is never kept and updated: it is computed from the whole
set. Every rule below is a maximum or a minimum over that set, which makes order and duplication irrelevant, and
replay exact.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from catalyst.events.catalogue import BranchPushed, CommandGiven, PullRequestChanged

_OPENING = frozenset({"opened", "reopened"})
_ORDERS = frozenset({"deploy", "stop"})


@dataclass(frozen=True, slots=True)
class PullRequestFact:
    """One delivery: its id (the forge's GUID) and the state it carried."""

    id: str
    data: PullRequestChanged


@dataclass(frozen=True, slots=True)
class BranchFact:
    """One push: its delivery id and the state it carried."""

    id: str
    data: BranchPushed


@dataclass(frozen=True, slots=True)
class CommandFact:
    """One command of somebody who may write: its id and what was said."""

    id: str
    data: CommandGiven


@dataclass(frozen=True, slots=True)
class PullRequest:
    """What a pull request is now. `opened_at` is its last opening; with `state.head.sha` it names one round of its
    life. `order`: the last `deploy` or `stop` since then. `approvals`: by commit.
    """

    state: PullRequestChanged
    opened_at: datetime
    evidence: str
    order: CommandFact | None = None
    approvals: Mapping[str, CommandFact] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        return self.state.state == "open"

    @property
    def approval(self) -> CommandFact | None:
        """Consent to run the commit that is its head now; a push voids it."""
        return self.approvals.get(self.state.head.sha)

    @property
    def stop(self) -> CommandFact | None:
        """Somebody wants it away, and nobody has wanted it back since."""
        return self.order if self.order and self.order.data.command == "stop" else None

    @property
    def deploy(self) -> CommandFact | None:
        """Somebody asked for it, and nobody has stopped it since."""
        return self.order if self.order and self.order.data.command == "deploy" else None

    @property
    def cause(self) -> str:
        """The id of what was said last: the state, an order, or the head's approval."""
        said = [(self.state.updated_at, self.evidence)]
        said += [(fact.data.given_at, fact.id) for fact in (self.order, self.approval) if fact]
        return max(said)[1]


@dataclass(frozen=True, slots=True)
class Branch:
    """What a branch is now."""

    state: BranchPushed
    evidence: str

    @property
    def exists(self) -> bool:
        return not self.state.deleted


def fold_pull_request(facts: Iterable[PullRequestFact], commands: Iterable[CommandFact] = ()) -> PullRequest | None:
    """The newest `updated_at` wins and `closed` wins ties.

    `updated_at` has whole seconds. Between open facts of one second, a head that another one names as `before` is the
    older one; if that does not settle it, the smallest delivery id is taken, so that every replica and every replay
    chooses alike. Commands alone make no pull request.
    """
    known = {fact.id: fact for fact in facts}
    if not known:
        return None
    newest = max(fact.data.updated_at for fact in known.values())
    tied = [fact for fact in known.values() if fact.data.updated_at == newest]
    closed = [fact for fact in tied if fact.data.state == "closed"]
    winner = min(closed or _not_superseded(tied), key=lambda fact: fact.id)
    openings = [fact.data.updated_at for fact in known.values() if fact.data.action in _OPENING]
    opened_at = max(openings, default=winner.data.created_at)
    said = {command.id: command for command in commands}.values()
    return PullRequest(winner.data, opened_at, winner.id, _order(said, opened_at), _approvals(said))


def _order(commands: Iterable[CommandFact], opened_at: datetime) -> CommandFact | None:
    """The newest since the last opening, which voids what was said before it. Of one second: `stop`, then the smallest
    id.
    """
    orders = [c for c in commands if c.data.command in _ORDERS and c.data.given_at >= opened_at]
    newest = max((c.data.given_at for c in orders), default=None)
    tied = [c for c in orders if c.data.given_at == newest]
    return min(tied, key=lambda c: (c.data.command != "stop", c.id), default=None)


def _approvals(commands: Iterable[CommandFact]) -> dict[str, CommandFact]:
    """The first approval of each commit; the smallest id of one second."""
    given = sorted((c for c in commands if c.data.command == "approve"), key=lambda c: (c.data.given_at, c.id))
    return {c.data.head_sha: c for c in reversed(given) if c.data.head_sha}


def _not_superseded(tied: list[PullRequestFact]) -> list[PullRequestFact]:
    replaced = {fact.data.before for fact in tied if fact.data.before and fact.data.before != fact.data.head.sha}
    return [fact for fact in tied if fact.data.head.sha not in replaced] or tied


def fold_branch(facts: Iterable[BranchFact]) -> Branch | None:
    """The newest `pushed_at` wins; within one second a commit that another push names as `before` is the older one;
    then a deletion, then the smallest id.
    """
    known = {fact.id: fact for fact in facts}
    if not known:
        return None
    newest = max(fact.data.pushed_at for fact in known.values())
    tied = [fact for fact in known.values() if fact.data.pushed_at == newest]
    replaced = {fact.data.before for fact in tied if fact.data.before != fact.data.after}
    current = [fact for fact in tied if fact.data.after not in replaced] or tied
    winner = min(current, key=lambda fact: (not fact.data.deleted, fact.id))
    return Branch(winner.data, winner.id)
