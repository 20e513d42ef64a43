"""The whole story on the node, by git, the pull request and the URL alone: what `make demo` shows, asserted for each
example. `make test` leaves the broken commit and its mending out of all but the first.

Catalyst runs as deploy/k8s has it; GitHub is the double. The cluster is looked at only to see that nothing is left.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import httpx
import pytest

from catalyst.local.demo import commands, parts, story
from catalyst.local.demo.places import LOOPBACK, OWNER, Places
from catalyst.local.demo.stages import Stages
from catalyst.local.demo.story import Scene

STEADY = 60.0
"""Requests a second of those who watch a version change; the goal is that at least 50 are served."""
LEAST = 50.0
CONNECTIONS = 16
"""Half of them kept, half of them new for every request."""


@pytest.fixture(scope="module")
def at(began_here: bool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    """The demo's files; its processes end afterwards."""
    places = Places(tmp_path_factory.mktemp("demo"))
    try:
        yield places
    finally:
        parts.down(places)


@pytest.fixture(params=["hello", "shop", "notes"])
def scene(request: pytest.FixtureRequest, at: Places) -> Iterator[tuple[Scene, Stages, bool]]:
    """A pull request with this example, just opened; and whether its story is told whole."""
    name: str = request.param
    with Stages(f"the story of {name}", live=False) as stages:
        found, _ = commands.begun(stages, at, name, f"{OWNER}/{name}", None)
        with found:
            yield found, stages, name == "hello" or bool(request.config.getoption("--full"))


def test_a_pull_request_becomes_a_url_and_goes_again(scene: tuple[Scene, Stages, bool]) -> None:
    there, stages, is_whole = scene

    # Opened: the URL answers with the pushed commit, and its certificate is of our authority, nobody else's.
    first = there.source.head
    visitor = story.follow(stages, there, first, since=there.changed_at())
    assert visitor.url.startswith("https://")
    assert first[:7] in visitor.get().text
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"), _trusting_the_web() as stranger:
        visitor.get(client=stranger)
    comment = there.comment()
    assert comment is not None
    assert visitor.host in comment.body

    # Pushed: another version, and nobody noticed but by its content; the same comment.
    second, counted = story.changed(stages, there, rate=STEADY, connections=CONNECTIONS)
    assert second != first
    assert counted.failed == 0, str(counted)
    assert counted.rate >= LEAST, f"{counted.rate:.1f} requests a second"
    assert _comment_id(there) == comment.id
    if is_whole:
        _breaks_and_heals(there, stages, second, comment.id)

    # Closed: nothing is left, and the comment says so in a line.
    last = story.closed(stages, there)
    assert last.id == comment.id
    assert "the pull request was closed" in last.body
    assert list(there.sight.left_of(there.story)) == []
    assert visitor.looks()[0] in (404, 410)


def _breaks_and_heals(there: Scene, stages: Stages, before: str, comment: int) -> None:
    """A Dockerfile that fails: the reason is in the comment, the version before goes on serving; the next good commit
    heals it.
    """
    visitor = there.visitor()
    assert visitor is not None
    blamed, counted = story.broken(stages, there, "build")
    assert (blamed.id, counted.failed) == (comment, 0), str(counted)
    assert "BuildFailed" in blamed.body
    assert "it fails on purpose" in blamed.body
    assert before[:7] in visitor.get().text

    healed, counted = story.changed(stages, there)
    assert (healed[:7] in visitor.get().text, counted.failed) == (True, 0), str(counted)
    assert _comment_id(there) == comment


def _comment_id(there: Scene) -> int | None:
    found = there.comment()
    return found.id if found else None


def _trusting_the_web() -> httpx.Client:
    return httpx.Client(base_url=f"https://{LOOPBACK}:8443", verify=ssl.create_default_context(), trust_env=False)
