"""The limits, in virtual time: a forge that counts never has to refuse."""

from hypothesis import given
from hypothesis import strategies as st

from catalyst.notifier.core.pace import FOR_COMMENTS, FOR_OUTCOMES, Pace

HOUR, MINUTE = 3600.0, 60.0


@given(st.lists(st.tuples(st.floats(0, 20), st.booleans()), max_size=400))
def test_never_more_than_the_forge_allows(wishes: list[tuple[float, bool]]) -> None:
    pace, now, made = Pace(0.0), 0.0, [(float("-inf"), False)]
    for pause, creates in wishes:
        now += pause
        if (wait := pace.wait(now, creates=creates)) > 0:
            now += wait + 1e-6
            assert pace.wait(now, creates=creates) == 0
        pace.take(now, creates=creates)
        made.append((now, creates))
        assert sum(1 for at, _ in made if at > now - MINUTE) <= 80
        assert sum(1 for at, created in made if created and at > now - HOUR) <= 500


def test_what_matters_less_leaves_a_reserve() -> None:
    pace = Pace(0.0)
    for reserve, made in ((FOR_COMMENTS, 24), (FOR_OUTCOMES, 12), (0.0, 12)):
        count = 0
        while pace.wait(0.0, creates=True, reserve=reserve) == 0:
            pace.take(0.0, creates=True)
            count += 1
        assert count == made


def test_a_refusal_stops_everything_for_as_long_as_the_forge_says() -> None:
    pace = Pace(0.0)
    pace.pause(10.0, 60.0)
    pace.pause(20.0, 5.0)
    assert pace.wait(30.0, creates=False) == 40.0
    assert pace.wait(70.0, creates=False) == 0.0
