"""Is a request still the question that its environment asks? An event is a hint; the environment's last snapshot, which
names the build asked for last, decides. So an old request that comes late neither builds nor ends a newer build.

snapshot \\ request     asked for last   not asked for
same life, alive       BUILD            told before it: WAIT for the next snapshot; told after it: SUPERSEDED
going or gone          OVER             OVER
another life           –                told before it: WAIT; told after it: OVER
none                   –                WAIT
"""

from datetime import datetime
from enum import StrEnum

from catalyst.events.catalogue import Build as Question
from catalyst.model.environment import Phase
from catalyst.model.snapshot import Snapshot


class Verdict(StrEnum):
    BUILD = "build"
    SUPERSEDED = "superseded"
    OVER = "over"
    WAIT = "wait"


def judge(question: Question, asked_at: datetime, snapshot: Snapshot | None, told_at: datetime | None) -> Verdict:
    """`asked_at`, `told_at`: when env-controller said one and the other, by its own clock."""
    if snapshot is None or told_at is None:
        return Verdict.WAIT
    if snapshot.uid != question.environment.uid:
        return Verdict.OVER if told_at > asked_at else Verdict.WAIT
    if is_over(snapshot):
        return Verdict.OVER
    if asks_for(snapshot, question.component, question.key, question.attempt):
        return Verdict.BUILD
    return Verdict.SUPERSEDED if told_at > asked_at else Verdict.WAIT


def is_over(snapshot: Snapshot) -> bool:
    """The environment goes, or is gone: nothing more is built for it."""
    return snapshot.phase in (Phase.TERMINATING, Phase.GONE)


def asks_for(snapshot: Snapshot, component: str, key: str, attempt: int) -> bool:
    """Whether this is the build that the snapshot asks for."""
    asked = snapshot.builds.get(component)
    return asked is not None and (asked.key, asked.attempt) == (key, attempt)
