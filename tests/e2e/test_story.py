"""The whole story on the node, by git, the pull request and the URL alone: what `make demo` shows, asserted.

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

STEADY = 40.0
"""Requests a second of the visitor who watches a version change."""


# Not shop yet: while a version changes it loses requests between its components (14 of 573).
@pytest.fixture(params=["hello"])
def scene(
    request: pytest.FixtureRequest, began_here: bool, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Scene, Stages]]:
    """A pull request with this example, just opened."""
    at = Places(tmp_path_factory.mktemp(request.param))
    with Stages(f"the story of {request.param}", live=False) as stages:
        try:
            found, _ = commands.begun(stages, at, request.param, f"{OWNER}/{request.param}", None)
            with found:
                yield found, stages
        finally:
            parts.down(at)


def test_a_pull_request_becomes_a_url_and_goes_again(scene: tuple[Scene, Stages]) -> None:
    there, stages = scene

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
    second, counted = story.changed(stages, there, rate=STEADY)
    assert second != first
    assert counted.failed == 0, str(counted)
    assert counted.requests > 40
    assert _comment_id(there) == comment.id

    # A Dockerfile that fails: the reason is in the comment, the version before goes on serving.
    blamed, counted = story.broken(stages, there, "build")
    assert (blamed.id, counted.failed) == (comment.id, 0), str(counted)
    assert "BuildFailed" in blamed.body
    assert "it fails on purpose" in blamed.body
    assert second[:7] in visitor.get().text

    # The next good commit heals it.
    third, counted = story.changed(stages, there)
    assert (third[:7] in visitor.get().text, counted.failed) == (True, 0), str(counted)
    assert _comment_id(there) == comment.id

    # Closed: nothing is left, and the comment says so in a line.
    last = story.closed(stages, there)
    assert last.id == comment.id
    assert "the pull request was closed" in last.body
    assert list(there.sight.left_of(there.story)) == []
    assert visitor.looks()[0] in (404, 410)


def _comment_id(there: Scene) -> int | None:
    found = there.comment()
    return found.id if found else None


def _trusting_the_web() -> httpx.Client:
    return httpx.Client(base_url=f"https://{LOOPBACK}:8443", verify=ssl.create_default_context(), trust_env=False)
