"""Fold all facts of one subject into its present state.

Deliveries arrive late, twice and in any order, so the state is never kept and updated: it is computed from the whole
set. Every rule below is a maximum or a minimum over that set, which makes order and duplication irrelevant, and
replay exact.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from catalyst.events.catalogue import BranchPushed, PullRequestChanged

_OPENING = frozenset({"opened", "reopened"})


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
class PullRequest:
    """What a pull request is now. `opened_at` is its last opening; with `state.head.sha` it names one round of its
    life.
    """

    state: PullRequestChanged
    opened_at: datetime
    evidence: str

    @property
    def is_open(self) -> bool:
        return self.state.state == "open"


@dataclass(frozen=True, slots=True)
class Branch:
    """What a branch is now."""

    state: BranchPushed
    evidence: str

    @property
    def exists(self) -> bool:
        return not self.state.deleted


def fold_pull_request(facts: Iterable[PullRequestFact]) -> PullRequest | None:
    """The newest `updated_at` wins and `closed` wins ties.

    `updated_at` has whole seconds. Between open facts of one second, a head that another one names as `before` is the
    older one; if that does not settle it, the smallest delivery id is taken, so that every replica and every replay
    chooses alike.
    """
    known = {fact.id: fact for fact in facts}
    if not known:
        return None
    newest = max(fact.data.updated_at for fact in known.values())
    tied = [fact for fact in known.values() if fact.data.updated_at == newest]
    closed = [fact for fact in tied if fact.data.state == "closed"]
    winner = min(closed or _not_superseded(tied), key=lambda fact: fact.id)
    openings = [fact.data.updated_at for fact in known.values() if fact.data.action in _OPENING]
    return PullRequest(winner.data, max(openings, default=winner.data.created_at), winner.id)


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
