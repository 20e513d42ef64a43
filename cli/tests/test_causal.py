"""Causal order: what caused something stands before it, whatever the clocks say."""

import itertools
from datetime import timedelta
from typing import Any

from histories import START, Author, ready, refs, stored
from hypothesis import given, settings
from hypothesis import strategies as st

from catalyst.cli.core.history import Moment, causal, cause_of, moment
from catalyst.cli.core.timeline import timeline
from catalyst.events.catalogue import BuildRequested, EnvironmentName
from catalyst.events.event import Cause, build_requested
from catalyst.events.examples import REPOSITORY, pull_request
from catalyst.events.topology import AUDIT, EVENTS, SCM

STREAMS = (SCM, EVENTS, AUDIT)


def event(number: int, cause: str | None = None, *, correlation: str = "") -> Any:
    data = BuildRequested(
        environment=EnvironmentName(team="acme", project="shop", environment="pr-42", uid="u-1"),
        component="web",
        key=str(number),
        attempt=1,
        commit="a" * 40,
        repository=REPOSITORY,
        trusted=True,
    )
    return build_requested(data, time=START, cause=Cause(correlation, cause))


@st.composite
def lives(draw: st.DrawFn) -> list[Moment]:
    """Things that follow from each other in any stream, in true order; the clock of each stream is off by up to 5 s."""
    count = draw(st.integers(1, 24))
    skew = {stream: draw(st.floats(-5, 5)) for stream in STREAMS}
    said: list[Moment] = []
    ids: list[str] = []
    numbers = dict.fromkeys(STREAMS, 0)
    for number in range(count):
        stream = draw(st.sampled_from(STREAMS))
        numbers[stream] += draw(st.integers(1, 3))
        cause = draw(st.none() | st.integers(0, number - 1)) if number else None
        by = ids[cause] if cause is not None else None
        one = event(number, by, correlation=ids[0] if draw(st.booleans()) and ids else "")
        ids.append(one.message_id)
        at = START + timedelta(seconds=0.3 * number + skew[stream])
        said.append(moment(stored(one, numbers[stream], at, stream=stream)))
    return said


@given(lives(), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_causes_stand_before_and_streams_keep_their_order(life: list[Moment], random: Any) -> None:
    ordered = causal(life)
    places = {one.event.message_id: place for place, one in enumerate(ordered) if one.event}
    assert sorted(refs(ordered)) == sorted(refs(life))
    for one in ordered:
        assert one.event
        for id_ in (one.event.causation_id, one.event.correlation_id):
            if id_ and id_ != one.event.message_id:
                assert places[id_] < places[one.event.message_id]
    for stream in STREAMS:
        sequences = [one.stored.sequence for one in ordered if one.stored.stream == stream]
        assert sequences == sorted(sequences)
    shuffled = list(life)
    random.shuffle(shuffled)
    assert refs(causal(shuffled)) == refs(ordered)


@given(lives())
@settings(max_examples=100, deadline=None)
def test_what_nothing_connects_stands_by_its_time(life: list[Moment]) -> None:
    """With clocks that agree the order is the true one."""
    true = [
        moment(stored(one.event, one.stored.sequence, START + timedelta(seconds=n), stream=one.stored.stream))
        for n, one in enumerate(life)
        if one.event
    ]
    assert refs(causal(reversed(true))) == refs(true)


@given(
    st.fixed_dictionaries({s: st.floats(-5, 5) for s in ("env-controller", "builder", "dns-proxy")}),
    st.fixed_dictionaries({SCM: st.floats(-5, 5), EVENTS: st.floats(-5, 5)}),
)
@settings(max_examples=200, deadline=None)
def test_a_life_stays_causal_with_clocks_off_by_five_seconds(
    skew: dict[str, float], stream_skew: dict[str, float]
) -> None:
    """Services' clocks and streams' clocks are off; the story is told as it happened, and no gap is negative."""
    author = ready(Author(skew=skew))
    lines = timeline(author.moments(stream_skew))
    told = [(line.source, line.type) for line in lines]
    assert told == [(said.source, said.data.short_type()) for said, _ in author.said]
    assert all(line.gap is None or line.gap >= 0 for line in lines)
    assert all(line.took is None or line.took >= 0 for line in lines)


def test_only_the_order_of_causes_holds_when_a_fact_comes_from_a_faster_clock() -> None:
    """The twin of the property: by the clocks alone the fact would stand last."""
    fact = moment(stored(pull_request(), 1, START + timedelta(seconds=5)))
    assert fact.event
    news = moment(stored(event(1, fact.event.message_id), 1, START))
    assert refs(sorted([fact, news], key=lambda one: one.at)) == ["EVENTS/1", "SCM/1"]
    assert refs(causal([news, fact])) == ["SCM/1", "EVENTS/1"]
    assert cause_of(news, [news, fact]) is fact
    assert cause_of(fact, [news, fact]) is None


def test_a_word_about_a_cause_that_contradicts_the_stream_is_passed_over() -> None:
    late, early = event(2), event(1, event(2).message_id)
    moments = [moment(stored(early, 1, START)), moment(stored(late, 2, START + timedelta(seconds=1)))]
    assert refs(causal(moments)) == ["EVENTS/1", "EVENTS/2"]


def test_causes_in_a_circle_end_nowhere_and_lose_nothing() -> None:
    one, other = event(1, event(2).message_id), event(2, event(1).message_id)
    moments = [moment(stored(one, 1, START, stream=SCM)), moment(stored(other, 1, START, stream=EVENTS))]
    for order in itertools.permutations(moments):
        assert refs(causal(order)) == ["SCM/1", "EVENTS/1"]
