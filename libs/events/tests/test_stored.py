"""What a stored message says of itself."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as some

from catalyst.events.stored import Stored


def stored(nanoseconds: int) -> Stored:
    return Stored("EVENTS", "env.acme.shop.pr-1.environment.changed", 1, b"", {}, nanoseconds)


@given(some.integers(min_value=0, max_value=4 * 10**18))
def test_its_time_is_never_later_than_it_was_stored(nanoseconds: int) -> None:
    """Else who asks for what came from that time on would miss it."""
    passed = (stored(nanoseconds).time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert passed * 1000 <= nanoseconds < (passed + 1) * 1000


@pytest.mark.parametrize("nanoseconds", [1_795_823_503_123_456_999, 1_795_823_503_999_999_999])
def test_a_float_would_have_rounded_it_up(nanoseconds: int) -> None:
    assert datetime.fromtimestamp(nanoseconds / 1e9, UTC) > stored(nanoseconds).time
