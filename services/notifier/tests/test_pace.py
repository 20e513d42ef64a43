"""The limits, in virtual time: a forge that counts never has to refuse."""

from hypothesis import given
from hypothesis import strategies as st

from catalyst.notifier.core.pace import RESERVE, Pace

HOUR, MINUTE = 3600.0, 60.0


@given(st.lists(st.tuples(st.floats(0, 20), st.booleans()), max_size=400))
def test_never_more_than_the_forge_allows(wishes: list[tuple[float, bool]]) -> None:
    pace, now, made = Pace(0.0), 0.0, [(float("-inf"), False)]
    for pause, creates in wishes:
        now += pause
        if (wait := pace.wait(now, creates=creates, report=False)) > 0:
            now += wait + 1e-6
            assert pace.wait(now, creates=creates, report=False) == 0
        pace.take(now, creates=creates)
        made.append((now, creates))
        assert sum(1 for at, _ in made if at > now - MINUTE) <= 80
        assert sum(1 for at, created in made if created and at > now - HOUR) <= 500


def test_reports_leave_a_reserve_to_comments() -> None:
    pace, reports = Pace(0.0), 0
    while pace.wait(0.0, creates=True, report=True) == 0:
        pace.take(0.0, creates=True)
        reports += 1
    assert reports == 48 - RESERVE
    assert pace.wait(0.0, creates=True, report=False) == 0


def test_a_refusal_stops_everything_for_as_long_as_the_forge_says() -> None:
    pace = Pace(0.0)
    pace.pause(10.0, 60.0)
    pace.pause(20.0, 5.0)
    assert pace.wait(30.0, creates=False, report=False) == 40.0
    assert pace.wait(70.0, creates=False, report=False) == 0.0
