"""Which pull request a snapshot is told in, and which of two snapshots counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snapshots import ACCEPTED, NOW, condition, ready, snapshot

from catalyst.model.environment import Phase
from catalyst.model.snapshot import Snapshot
from catalyst.notifier.core.conversation import PullRequestKey, conversation, key_of, newest

KEY = PullRequestKey("github", "acme/shop", 42)


def test_the_key_is_the_pull_request_in_lower_case() -> None:
    assert key_of(snapshot(repository="Acme/Shop")) == KEY
    assert (KEY.owner, str(KEY)) == ("acme", "github/acme/shop#42")


@pytest.mark.parametrize(
    "conditions",
    [
        (),
        (condition("Accepted", False, "RepositoryNotGranted"),),
        (condition("Accepted", False, "ProjectNotFound"),),
        (condition("Accepted", False, "SomethingNew"),),
        (condition("Ready", True, "Ready"),),
    ],
)
def test_a_repository_that_nobody_granted_is_not_written_to(conditions: tuple[dict[str, str], ...]) -> None:
    assert key_of(snapshot(conditions=conditions)) is None
    assert key_of(snapshot(conditions=(ACCEPTED,))) == KEY


def test_what_is_refused_after_the_grant_is_told() -> None:
    assert key_of(snapshot(conditions=(condition("Accepted", False, "UnsafeQuota"),))) == KEY


def test_without_a_pull_request_or_a_project_there_is_nothing_to_tell() -> None:
    alone = snapshot()
    assert key_of(alone.model_copy(update={"source": alone.source.model_copy(update={"pull_request": None})})) is None
    assert key_of(snapshot(repository=None)) is None


def test_all_projects_of_the_repository_and_no_other_pull_request() -> None:
    shop, docs = ready(), snapshot(project="docs")
    other, elsewhere = snapshot(number=43), snapshot(repository="acme/else")
    assert conversation(KEY, (shop, other, elsewhere, docs)).snapshots == (docs, shop)


@given(st.permutations([snapshot(Phase.BUILDING, 9), snapshot(Phase.READY, 10), snapshot(Phase.GONE, 10)]))
def test_the_newest_counts_in_whatever_order(order: list[Snapshot]) -> None:
    found = order[0]
    for each in order[1:]:
        found = newest(found, each)
    assert found.phase == Phase.GONE


def test_a_new_life_counts_more_than_the_last_word_of_the_former() -> None:
    former = snapshot(Phase.GONE, 900, uid="b")
    later = snapshot(Phase.PENDING, 3, uid="a").model_copy(update={"created_at": NOW.replace(hour=21)})
    assert newest(former, later) == newest(later, former) == later


def test_a_last_word_without_its_project_keeps_the_place() -> None:
    last = newest(snapshot(Phase.TERMINATING, 5), snapshot(Phase.GONE, 6, repository=None))
    assert (last.phase, key_of(last)) == (Phase.GONE, KEY)
