"""Conversation: all environments of one pull request, which one comment tells of. Pure.

The newest snapshot of an environment counts, wherever it came from: news from EVENTS may overtake STATE, and may come
twice or late.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from catalyst.model.environment import Phase
from catalyst.model.snapshot import Snapshot

GRANTED_BUT_REFUSED: Final = frozenset({"UnsafeQuota", "UnsafeEgress", "HostTaken", "InvalidHost"})
"""Reasons of `Accepted=False` that env-controller only finds after it has found the repository granted."""
ON_ITS_WAY: Final = frozenset(
    {Phase.PENDING, Phase.PROVISIONING, Phase.PROVISIONED, Phase.BUILDING, Phase.DEPLOYING, Phase.TERMINATING}
)


@dataclass(frozen=True, slots=True, order=True)
class PullRequestKey:
    """One pull request: what notifier reconciles. `repository` as `owner/name`, in lower case as forges compare it."""

    forge: str
    repository: str
    number: int

    @property
    def owner(self) -> str:
        """Whose limits at the forge a write counts against."""
        return self.repository.partition("/")[0]

    def __str__(self) -> str:
        return f"{self.forge}/{self.repository}#{self.number}"


@dataclass(frozen=True, slots=True)
class Conversation:
    """What there is to tell in one pull request: its environments by team and project."""

    key: PullRequestKey
    snapshots: tuple[Snapshot, ...]

    @property
    def alive(self) -> tuple[Snapshot, ...]:
        """Those that are not gone."""
        return tuple(snapshot for snapshot in self.snapshots if snapshot.phase != Phase.GONE)

    @property
    def is_on_its_way(self) -> bool:
        """Whether more is about to happen by itself in each of its environments that is not gone."""
        return bool(self.alive) and all(snapshot.phase in ON_ITS_WAY for snapshot in self.alive)


def key_of(snapshot: Snapshot) -> PullRequestKey | None:
    """Which pull request a snapshot is to be told in; None: in none.

    None also while it is not certain that the platform granted the repository to the team: the name of a repository and
    the number of a pull request are only somebody's wish until then, and a stranger's pull request must stay clean.
    """
    source = snapshot.source
    if source.pull_request is None or source.forge is None or source.repository is None or not _granted(snapshot):
        return None
    return PullRequestKey(source.forge, source.repository.lower(), source.pull_request.number)


def conversation(key: PullRequestKey, snapshots: Iterable[Snapshot]) -> Conversation:
    """Those of `snapshots` that belong to the pull request, in an order that does not change."""
    own = (snapshot for snapshot in snapshots if key_of(snapshot) == key)
    return Conversation(
        key, tuple(sorted(own, key=lambda s: (s.identity.team, s.identity.project, s.identity.environment)))
    )


def newest(one: Snapshot, other: Snapshot) -> Snapshot:
    """The later of two snapshots of one environment's name. Another uid is another life: the one created later.

    A last word may come when the Project is gone already, without forge and repository: those of before still hold.
    """
    older, newer = sorted((one, other), key=_age)
    if older.uid == newer.uid and newer.source.repository is None and older.source.repository is not None:
        return newer.model_copy(update={"source": older.source})
    return newer


def _age(snapshot: Snapshot) -> tuple[float, str, int, bool]:
    created = snapshot.created_at.timestamp() if snapshot.created_at else 0.0
    version = int(snapshot.resource_version) if snapshot.resource_version.isdecimal() else 0
    return created, snapshot.uid, version, snapshot.phase == Phase.GONE


def _granted(snapshot: Snapshot) -> bool:
    accepted = next((condition for condition in snapshot.conditions if condition.type == "Accepted"), None)
    if accepted is None:
        return False
    return accepted.status == "True" or accepted.reason in GRANTED_BUT_REFUSED
