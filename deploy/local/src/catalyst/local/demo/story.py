"""The story of one pull request, step by step: followed until its URL answers, changed, broken, closed.

Only git, the pull request and the URL are touched. Where a stage's times come from stands beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx

from catalyst.local.demo.forge import Comment, Forge
from catalyst.local.demo.places import DemoFailed, NotNow, Places, Story
from catalyst.local.demo.sight import Sight
from catalyst.local.demo.source import Source
from catalyst.local.demo.stages import Row, Stages
from catalyst.local.demo.visitor import Counted, Steady, Visitor
from catalyst.model.environment import Environment, EnvironmentStatus, Phase

SHORT: Final = 12
"""Digits of a commit in comments and pages."""
PATIENCE: Final = 600.0
AFTERWARDS: Final = 5.0
"""Seconds that steady visitors stay when the new version is shown: the one before serves a while yet, and then ends."""
BAD: Final = frozenset({Phase.FAILED, Phase.DEGRADED})


@dataclass(frozen=True, slots=True)
class Scene:
    """A pull request that is there, and those who look at it. As a context manager it ends their connections."""

    at: Places
    story: Story
    source: Source
    forge: Forge
    sight: Sight

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.forge.close_connection()
        self.sight.close()

    def environment(self) -> Environment | None:
        return self.sight.environment(self.story)

    def comment(self) -> Comment | None:
        """Catalyst's. Raises DemoFailed when there are two."""
        found = self.forge.comments(self.story.repository, self.story.number)
        if len(found) > 1:
            raise DemoFailed(f"there are {len(found)} comments of Catalyst in the pull request; expected one")
        return found[0] if found else None

    def visitor(self) -> Visitor | None:
        """Of the URL, once there is one."""
        found = self.environment()
        url = found.status.url if found and found.status else None
        return Visitor(url, self.at.authority) if url else None

    def is_shown(self, commit: str, visitor: Visitor) -> tuple[bool, str]:
        """Whether the URL answers with this commit; else what it does."""
        status, body = visitor.looks()
        if status != httpx.codes.OK:
            return False, f"status {status}" if status else body
        if self.story.own is None:
            return commit[:7] in body, "another commit answers"
        found = self.environment()
        ready = found is not None and found.status is not None and _is_ready(found.status, commit)
        return ready, f"status {status}, the commit is not ready yet"

    def changed_at(self) -> float:
        """When the pull request changed last, by the forge's clock, which has whole seconds; since the epoch."""
        updated: str = self.forge.pull(self.story.repository, self.story.number)["updated_at"]
        return datetime.fromisoformat(updated).timestamp()


def changed(stages: Stages, scene: Scene, *, rate: float = 20.0, connections: int = 1) -> tuple[str, Counted]:
    """Push a good commit; returns it, and the requests that steady visitors made until nothing of the version before
    ran any more.
    """
    before, visitor = _serving(scene), scene.visitor()
    with stages.stage("Commit") as row:
        row.says(_next_commit(scene))
    commit = scene.source.head
    began = _pushed(stages, scene)
    if visitor is None or not before:
        follow(stages, scene, commit, since=began)
        return commit, Counted()
    with Steady(visitor, rate=rate, connections=connections) as steady:
        follow(stages, scene, commit, since=began)
        time.sleep(AFTERWARDS)
    return commit, steady.counted


def broken(stages: Stages, scene: Scene, kind: str) -> tuple[Comment, Counted]:
    """Push a bad commit; returns the comment that says why, and the requests of a steady visitor."""
    before, visitor = _serving(scene), scene.visitor()
    with stages.stage("Commit") as row:
        row.says(f"{scene.source.spoil(kind)}: the {kind} will fail")
        commit = scene.source.commit(f"Break the {kind}")
    _pushed(stages, scene)
    with stages.stage("Reason in the comment") as row:
        if visitor is None or not before:
            return _until_blamed(scene, commit, row.sees), Counted()
        with Steady(visitor) as steady:
            comment = _until_blamed(scene, commit, row.sees)
            time.sleep(2)
    return comment, steady.counted


def closed(stages: Stages, scene: Scene) -> Comment:
    """Close; returns the last comment when nothing is left."""
    visitor = scene.visitor()
    with stages.stage("Closed at the forge"):
        scene.forge.close(scene.story.repository, scene.story.number)
    began = time.time()
    waiting: dict[str, Callable[[], str]] = {
        "URL leads nowhere": lambda: "" if visitor is None or visitor.looks()[0] != httpx.codes.OK else "still answers",
        "Nothing left": lambda: ", ".join(scene.sight.left_of(scene.story)),
        "Closing line": lambda: "" if _says_gone(scene.comment()) else "not yet",
    }
    with stages.stage("Everything goes") as row:
        for _ in _patiently(lambda: f"still there: {row.said}"):
            stands = {name: look() for name, look in waiting.items()}
            for name in [name for name, still in stands.items() if not still]:
                stages.passed(name, began=began, ended=time.time(), said=_LOOKED[name])
                del waiting[name]
            if not waiting:
                break
            row.sees("; ".join(f"{name}: {still}" for name, still in stands.items() if still))
        row.says("namespace, route, build objects")
    comment = scene.comment()
    if comment is None:
        raise DemoFailed("the comment is gone; expected a closing line")
    return comment


_LOOKED: Final = {
    "URL leads nowhere": "by asking for it",
    "Nothing left": "no Environment, namespace, Job, pod, credential",
    "Closing line": "by the comment",
}


def _next_commit(scene: Scene) -> str:
    """Somebody's own newest one, or a change of the example's; says which."""
    story, there = scene.story, scene.source
    if story.own:
        before = there.head
        there.follow_own(Path(story.own))
        if there.head == before:
            raise NotNow(f"{story.own} has no new commit; make one there, then run `make demo-push` again")
        return f"{there.head[:SHORT]} of {story.own}"
    there.mend(story.base)
    path = there.change()
    there.commit(f"Change {path}")
    return f"{there.head[:SHORT]} changes {path}"


def _pushed(stages: Stages, scene: Scene) -> float:
    with stages.stage("Push") as row:
        began = time.time()
        scene.source.push(f"HEAD:{scene.story.branch}")
        row.says(f"git push: {scene.story.branch} at {scene.source.head[:SHORT]}")
    return began


def follow(stages: Stages, scene: Scene, commit: str, *, since: float) -> Visitor:
    """Until URL and comment show the commit; every stage on the way is told once. `since`: seconds since the epoch.

    Raises DemoFailed, with the comment, when the environment says that it failed.
    """
    with stages.stage("URL answers over TLS") as row:
        visitor = _until_shown(stages, scene, commit, since, row)
        row.says(f"{visitor.url}, certificate verified, the answer names {commit[:SHORT]}")
    with stages.stage("Comment") as row:
        for _ in _patiently(lambda: f"last seen: {row.said}"):
            comment = scene.comment()
            if comment is not None and commit[:SHORT] in comment.body and "🟢" in comment.title():
                break
            row.sees(comment.first_line() if comment else "none yet")
        row.says(f"one, edited in place: {comment.first_line() if comment else ''}")
    found = scene.environment()
    if found and found.status:
        _tell_stages(stages, found.status, since)
    return visitor


def _until_shown(stages: Stages, scene: Scene, commit: str, since: float, row: Row) -> Visitor:
    bad_since = 0.0
    for _ in _patiently(lambda: f"last seen: {row.said}"):
        found = scene.environment()
        status = found.status if found else None
        _tell_deliveries(stages, scene, since)
        if status is None or status.commit != commit:
            row.sees("waiting for env-controller")
            continue
        _tell_stages(stages, status, since)
        seen = "no URL yet"
        if status.url:
            visitor = Visitor(status.url, scene.at.authority)
            shown, seen = scene.is_shown(commit, visitor)
            if shown:
                return visitor
        row.sees(f"{status.phase}: {seen}")
        bad_since = (bad_since or time.monotonic()) if status.phase in BAD else 0.0
        if bad_since and time.monotonic() - bad_since > 10:
            raise DemoFailed(f"the environment is {status.phase}. {_blame(scene)}")
    raise AssertionError("unreachable")


def _tell_deliveries(stages: Stages, scene: Scene, since: float) -> None:
    name = "Webhook accepted"
    if stages.has(name):
        return
    for each in reversed(scene.forge.deliveries()):
        at = each.at.timestamp()
        if each.event == "pull_request" and each.status == httpx.codes.ACCEPTED and at >= since - 1:
            said = f"202 after {each.seconds * 1000:.0f} ms, by the forge's list of deliveries"
            now = time.time()
            stages.passed(name, began=max(at, now - each.seconds), ended=now, said=said)
            return


def _tell_stages(stages: Stages, status: EnvironmentStatus, since: float) -> None:
    """Those of this run, in the order they ended."""
    ended = [(stage.finished_at, stage.name, stage.started_at) for stage in status.stages if stage.finished_at]
    for over, name, began in sorted(ended):
        if began.timestamp() >= since - 1 and not stages.has(name):
            said = "by the Environment's status"
            stages.passed(name, began=began.timestamp(), ended=over.timestamp(), said=said)


def _until_blamed(scene: Scene, commit: str, says: Callable[[str], None]) -> Comment:
    for _ in _patiently(lambda: "the comment does not say what is wrong"):
        comment = scene.comment()
        if comment is not None:
            says(comment.first_line())
            if commit[:SHORT] in comment.body and "**What to do:**" in comment.body:
                return comment
    raise AssertionError("unreachable")


def _serving(scene: Scene) -> bool:
    visitor = scene.visitor()
    return visitor is not None and visitor.looks()[0] == httpx.codes.OK


def _says_gone(comment: Comment | None) -> bool:
    return comment is not None and "Nothing of it is left" in comment.body


def _is_ready(status: EnvironmentStatus, commit: str) -> bool:
    return status.phase == Phase.READY and status.commit == commit


def _patiently(why: Callable[[], str]) -> Iterator[None]:
    """Look again and again. Raises DemoFailed after PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while True:
        yield
        if time.monotonic() > deadline:
            raise DemoFailed(f"not within {PATIENCE:g} s; {why()}")
        time.sleep(0.2)


def _blame(scene: Scene) -> str:
    comment = scene.comment()
    return f"The comment says:\n\n{quoted(comment.body)}" if comment else "There is no comment yet."


def quoted(body: str) -> str:
    return "\n".join(f"  │ {line}" for line in body.splitlines() if not line.startswith("<!--"))
