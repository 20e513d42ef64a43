"""Whose turn it is. A suspended Job is the queue's entry, so the queue survives everything that the cluster survives.

The project with the fewest running builds goes first, then the one that has waited longest: ten pull requests of one
project never hold up the single one of another, and nobody starves.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from catalyst.builder.core.platform import Limits


@dataclass(frozen=True, slots=True, order=True)
class Waiting:
    """One suspended Job; ordered by age."""

    since: str
    namespace: str
    job: str
    project: str


def admitted(waiting: Iterable[Waiting], running: Iterable[str], limits: Limits) -> list[Waiting]:
    """Who may start now, in order. `running`: the project of each build under way."""
    busy, queue, chosen = Counter(running), sorted(waiting), list[Waiting]()
    room = limits.at_once - busy.total()
    while room > 0:
        able = [entry for entry in queue if busy[entry.project] < limits.per_project]
        if not able:
            break
        first = min(able, key=lambda entry: (busy[entry.project], entry))
        queue.remove(first)
        chosen.append(first)
        busy[first.project] += 1
        room -= 1
    return chosen
