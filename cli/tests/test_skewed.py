"""Clocks that are off by up to five seconds: the story stays the same, and what is said of time is marked or true."""

from collections.abc import Callable
from datetime import timedelta
from random import Random

import pytest
from histories import START, A, Author, condition, ready
from hypothesis import given, settings
from hypothesis import strategies as st
from skews import SERVICES, STREAMS, assert_causal, drawn, skewed
from told_incidents import INCIDENTS

from catalyst.cli.core.history import causal
from catalyst.cli.core.timeline import timeline
from catalyst.cli.core.why import Why, why
from catalyst.events.topology import EVENTS, SCM
from catalyst.model.environment import Phase, Stage

LIVES: list[Callable[[Author], object]] = [ready, *(each[0] for each in INCIDENTS)]


def seen(author: Author) -> Why:
    found = why(author.moments(), author.now)
    assert found
    return found


@given(st.sampled_from(LIVES), st.integers(0, 2**32), st.booleans(), st.integers(0, 8))
@settings(max_examples=150, deadline=None)
def test_every_life_stays_causal_and_names_the_same_cause(
    life: Callable[[Author], object], seed: int, leaders: bool, after: int
) -> None:
    author, random = Author(), Random(seed)
    life(author)
    true = author.moments()
    services, streams, elected = drawn(random, SERVICES), drawn(random, STREAMS), drawn(random, STREAMS)
    off = skewed(true, services, streams, elected=elected, after=after) if leaders else skewed(true, services, {})
    assert_causal(off)
    found, expected = why(off, author.now), why(true, author.now)
    assert found
    assert expected
    troubles, really = _troubles(found), _troubles(expected)
    assert sorted(troubles) == sorted(really)
    if len({ref.partition("/")[0] for *_, ref in really}) == 1:  # two of different streams nothing connects
        assert troubles == really
    assert all(stage.seconds >= 0 for stage in found.slowest)
    assert found.total is None or found.total >= 0
    if not leaders:  # the services' clocks alone change no order and no time of the bus
        assert troubles == really
        assert [one.ref for one in causal(off)] == [one.ref for one in causal(true)]
        assert [(line.gap, line.took, line.back) for line in timeline(off)] == [
            (line.gap, line.took, line.back) for line in timeline(true)
        ]
        assert found.total == expected.total


def _troubles(found: Why) -> list[tuple[str, str, str]]:
    """Component, reason and where it began, the first cause first."""
    return [(each.component or "", each.reason, each.ref) for each in (found.first, *found.also) if each]


@pytest.mark.parametrize("ahead", [-5.0, -2.0, 0.0, 2.0, 5.0])
def test_what_still_runs_is_counted_by_one_clock_at_a_time(ahead: float) -> None:
    """It began 3 s before the last word about it, which is 4 s old: 7 s, whatever the controller's clock says."""
    author = Author()
    author.opens()
    began = Stage(name="Build", started_at=author.now)
    author.is_(Phase.BUILDING, after=3.0, stages=(began,))
    off = skewed(author.moments(), {"env-controller": ahead}, {})
    found = why(off, author.now + timedelta(seconds=4))
    assert found
    assert [(stage.name, stage.seconds, stage.running) for stage in found.slowest] == [("Build", 7.0, True)]


def test_a_stage_that_the_api_servers_clock_began_is_never_below_zero() -> None:
    """Accepted begins when the resource was made, by the API server's clock, and ends by env-controller's."""
    author = Author()
    author.opens()
    accepted = Stage(name="Accepted", started_at=START + timedelta(seconds=4), finished_at=START)
    author.is_(Phase.BUILDING, stages=(accepted,))
    assert [stage.seconds for stage in seen(author).slowest] == [0.0]


def test_no_duration_is_below_zero_however_far_clocks_are_off() -> None:
    """By a minute, where a life takes 25 s: few draws of the property above turn a duration round, or none."""
    author = ready(Author())
    true = author.moments()
    by_ref = {line.ref: line for line in timeline(skewed(true, {}, {}, elected={EVENTS: -60.0}, after=2))}
    assert (by_ref["EVENTS/3"].gap, by_ref["EVENTS/3"].took) == (0.0, 0.0)
    found = why(skewed(true, {}, {SCM: 60.0}), author.now)
    assert found
    assert found.total == 0.0
    assert seen(author).total == 24.5


def test_what_still_runs_has_not_shrunk_where_this_clock_is_behind_the_buss() -> None:
    author = Author()
    author.opens()
    author.is_(Phase.BUILDING, after=3.0, stages=(Stage(name="Build", started_at=author.now),))
    found = why(author.moments(), author.now - timedelta(seconds=5))
    assert found
    assert [(stage.seconds, stage.running) for stage in found.slowest] == [(3.0, True)]


def test_streams_whose_clocks_contradict_the_order_are_named() -> None:
    """The fact's stream is five seconds ahead: what followed from it seems to have been stored before it."""
    true = ready(Author()).moments()
    assert not any(line.back for line in timeline(true))
    lines = timeline(skewed(true, {}, {SCM: 5.0}))
    assert [(line.ref, line.back) for line in lines if line.back] == [("EVENTS/1", 4.8), ("EVENTS/2", 4.7)]
    assert not any(line.back for line in timeline(skewed(true, {}, {EVENTS: 5.0})))


def test_a_fork_that_waits_says_who_may_let_it_go() -> None:
    author = Author()
    author.opens()
    held = condition("Approved", "False", "Fork", "someone with write access must approve")
    author.is_(Phase.WAITING, reason="Fork", message="someone with write access must approve", conditions=(held,))
    found = seen(author)
    assert found.first
    assert (found.first.reason, found.first.runbook) == ("Fork", "docs/runbooks/Held.md")
    assert "/catalyst approve" in found.first.remedy
    assert found.verdict == "Waiting for 0 ms, because Fork. someone with write access must approve"
    author.is_(Phase.BUILDING, reason="Building", conditions=())
    assert seen(author).first is None


@pytest.mark.parametrize(
    ("delivery", "how"),
    [("-swept/1/42/1/x", "the sweep found it, its webhook never came"), ("d-0", "its webhook came late")],
)
def test_a_fact_that_was_heard_late_is_named_while_its_commit_is_the_present_one(delivery: str, how: str) -> None:
    author = Author()
    author.opens(A, delivery=delivery, updated_at=START - timedelta(minutes=12))
    author.is_(Phase.BUILDING)
    assert seen(author).late == f"heard of about 12 min 1 s after it happened: {how}. SCM/1"
    in_time = Author()
    in_time.opens(A, delivery=delivery, updated_at=START)
    in_time.is_(Phase.BUILDING)
    assert seen(in_time).late is None
