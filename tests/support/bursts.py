"""Histories of pull requests as a forge tells them: many at once, out of order, twice."""

from __future__ import annotations

import random
from typing import Any

from stage import Stage

Told = tuple[str, dict[str, Any]]
"""Delivery id and payload."""


def history(stage: Stage, number: int, chance: random.Random, most: int) -> list[Told]:
    """One to `most` deliveries of one pull request in the order in which things happened, `opened` first."""
    told: list[Told] = []
    state, sha = "closed", _sha(number, 0)
    for step in range(chance.randint(1, most)):
        before = sha
        if state == "closed":
            action, state = ("reopened" if told else "opened"), "open"
        else:
            action = chance.choice(["synchronize", "synchronize", "labeled", "closed"])
            state = "closed" if action == "closed" else "open"
            sha = _sha(number, step) if action == "synchronize" else sha
        more = {"before": before} if action == "synchronize" else {}
        payload = stage.pull_request(number, action=action, state=state, sha=sha, **more)
        told.append((f"{stage.team}-pr{number}-{step}", payload))
    return told


def disturbed(told: list[Told], chance: random.Random) -> list[Told]:
    """The same set in any order, some of it twice."""
    twice = told + [one for one in told if chance.random() < 0.3]
    return chance.sample(twice, len(twice))


def _sha(number: int, step: int) -> str:
    return f"{number:020d}{step:020d}"
