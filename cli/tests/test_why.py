"""`why`: histories with incidents in them, each with the first cause it must name; what it waits for; what is slow."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from histories import HOST, A, Author, asked, ready, route, stages
from told_incidents import INCIDENTS, build_fails, second_component_fails_because_the_first_did

from catalyst.cli.core.why import Why, why
from catalyst.model.environment import Phase
from catalyst.model.remedies import REMEDIES
from catalyst.model.snapshot import SnapshotDeletion


def asked_why(author: Author, *, later: float = 0.0) -> Why:
    found = why(author.moments(), author.now + timedelta(seconds=later))
    assert found
    return found


@pytest.mark.parametrize(
    ("incident", "where", "reason", "ref"), INCIDENTS, ids=[each[0].__name__ for each in INCIDENTS]
)
def test_the_first_cause_is_named(incident: Callable[[Author], None], where: str, reason: str, ref: str) -> None:
    author = Author()
    incident(author)
    first = asked_why(author).first
    assert first
    assert (first.component, first.reason, first.ref) == (where, reason, ref)
    assert first.remedy == (REMEDIES[reason].advice if reason in REMEDIES else first.remedy)
    assert first.remedy


@pytest.mark.parametrize("incident", [each[0] for each in INCIDENTS])
def test_skewed_clocks_change_no_cause(incident: Callable[[Author], None]) -> None:
    """The services' clocks decide nothing; the streams' leaders' only what nothing connects."""
    true, skewed = Author(), Author(skew={"env-controller": -5, "builder": 5, "dns-proxy": -3})
    for author in (true, skewed):
        incident(author)
    a, b = asked_why(true).first, asked_why(skewed).first
    assert a
    assert b
    assert (a.component, a.reason, a.ref) == (b.component, b.reason, b.ref)


def test_the_screen_of_a_failed_build() -> None:
    author = Author()
    build_fails(author)
    found = asked_why(author, later=120)
    assert found.verdict == "Failed for 2 min 0 s, because web: BuildFailed. RUN make ended with 2"
    assert found.first
    assert found.first.after == "build of web asked for, aaaaaaa, attempt 1"
    assert found.first.log == "a\nb\nmake: ***"
    assert found.first.runbook == "docs/runbooks/BuildFailed.md"
    assert found.also == ()


def test_what_followed_stands_beside_the_first_cause() -> None:
    author = Author()
    second_component_fails_because_the_first_did(author)
    assert [(each.component, each.reason) for each in asked_why(author).also] == [("web", "InitFailed")]


def test_ready_names_the_slowest_stages_and_nothing_wrong() -> None:
    found = asked_why(ready(Author()))
    assert found.first is None
    assert not found.waits_for
    assert [(stage.name, stage.seconds) for stage in found.slowest] == [
        ("Build", 20.2),
        ("Deploy", 4.0),
        ("Namespace", 0.4),
        ("Accepted", 0.1),
    ]
    assert found.total == pytest.approx(24.5)
    assert found.verdict == "Ready for 0 ms. Nothing is wrong with it."


def test_a_build_that_nobody_answers() -> None:
    author = Author()
    author.opens()
    author.is_(Phase.BUILDING, builds=asked(web="k-a"), stages=stages(Accepted=0.1))
    author.asks(key="k-a")
    assert asked_why(author, later=30).waits_for == ()
    (sentence,) = asked_why(author, later=600).waits_for
    assert sentence == "builder has not answered for the build of web, asked 10 min 0 s ago."


def test_a_route_that_nobody_answers() -> None:
    author = Author()
    author.opens()
    author.is_(Phase.DEPLOYING, routes=route())
    (sentence,) = asked_why(author, later=600).waits_for
    assert sentence == f"dns-proxy has not answered for {HOST}, asked 10 min 0 s ago."
    author.routes()
    assert asked_why(author, later=600).waits_for == ()


def test_a_teardown_says_whose_answer_is_missing() -> None:
    author = ready(Author())
    deletion = SnapshotDeletion(reason="Closed", at=author.now, evidence="pull request closed by mona")
    author.is_(Phase.TERMINATING, deletion=deletion)
    found = asked_why(author, later=300)
    assert found.verdict == "Terminating for 5 min 0 s. Closed: pull request closed by mona."
    assert [each.split(" has")[0] for each in found.waits_for] == ["dns-proxy", "builder"]
    author.routes(live=False)
    assert [each.split(" has")[0] for each in asked_why(author, later=300).waits_for] == ["builder"]
    author.cleans()
    assert asked_why(author, later=300).waits_for == ()
    author.is_(Phase.GONE)
    assert asked_why(author).verdict == "Gone for 0 ms. Closed: pull request closed by mona."


def test_a_former_life_of_the_same_name_is_not_this_one() -> None:
    former = Author(uid="u-0")
    build_fails(former)
    author = Author(now=former.now, said=former.said)
    ready(author)
    assert asked_why(author).first is None


def test_nothing_is_known_of_what_never_had_a_state() -> None:
    author = Author()
    author.opens(A)
    assert why(author.moments(), author.now) is None
