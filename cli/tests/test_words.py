"""Times, names and selections as people write them."""

from datetime import UTC, datetime, timedelta

import pytest
from histories import Author, ready

from catalyst.cli.core.nearest import nearest
from catalyst.cli.core.selection import Selection
from catalyst.cli.core.times import point, took
from catalyst.model.names import Identity

NOW = datetime(2026, 11, 23, 20, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("10m", NOW - timedelta(minutes=10)),
        ("-2h", NOW - timedelta(hours=2)),
        ("1.5 h ago", NOW - timedelta(minutes=90)),
        ("3d", NOW - timedelta(days=3)),
        ("250ms", NOW - timedelta(milliseconds=250)),
        ("19:30", NOW - timedelta(minutes=30)),
        ("19:30:15.5", NOW.replace(hour=19, minute=30, second=15, microsecond=500_000)),
        ("2026-11-22", NOW.replace(day=22, hour=0)),
        ("2026-11-23T20:00:00Z", NOW),
        ("2026-11-23T21:00:00+01:00", NOW),
        ("2026-11-23T19:00:00.000001", NOW.replace(hour=19, microsecond=1)),
    ],
)
def test_times_are_read(text: str, expected: datetime) -> None:
    assert point(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "25:00", "12:60", "10 parsecs", "2026-13-01", "9" * 400 + "w"])
def test_what_is_no_time_says_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match="expected 2026-11-23T20:00:00Z"):
        point(text, NOW)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 ms"),
        (0.003, "3 ms"),
        (0.4, "0.4 s"),
        (12, "12 s"),
        (125, "2 min 5 s"),
        (3780, "1 h 3 min"),
        (187_200, "2 d 4 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert took(seconds) == text


def test_nearest_names() -> None:
    known = ["acme/shop/pr-42", "acme/shop/pr-43", "acme/web/pr-7", "other/shop/main"]
    assert nearest("acme/shop/pr-24", known)[0] in ("acme/shop/pr-42", "acme/shop/pr-43")
    assert nearest("acme/shpo/pr-42", known)[0] == "acme/shop/pr-42"
    assert nearest("acme/shop/quite-another-name", known)[:1] != []
    assert nearest("zzz/yyy/xxx", known) == []
    assert nearest("acme/shop/pr-42", []) == []


def test_selections_are_as_narrow_as_subjects_allow() -> None:
    identity = Identity("acme", "shop", "pr-42")
    assert dict(Selection().filters()) == {"SCM": "scm.>", "EVENTS": "env.>", "AUDIT": "audit.>", "DEAD": ">"}
    assert dict(Selection(environment=identity).filters()) == {
        "EVENTS": "env.acme.shop.pr-42.>",
        "AUDIT": "audit.acme.shop.pr-42",
    }
    assert dict(Selection(team="acme").filters()) == {"EVENTS": "env.acme.>", "AUDIT": "audit.acme.>"}
    assert dict(Selection(type="build.*").filters()) == {"EVENTS": "env.>"}
    assert dict(Selection(type="scm.*", team="acme").filters()) == {}
    assert dict(Selection(type="dead.*").filters()) == {"DEAD": ">"}


def test_what_is_selected() -> None:
    moments = ready(Author()).moments()

    def chosen(**fields: object) -> list[str]:
        selection = Selection(**fields)  # type: ignore[arg-type]
        return [one.event.data.short_type() for one in moments if one.event and selection.has(one)]

    assert len(chosen()) == len(moments)
    assert chosen(service="builder") == ["build.finished"]
    assert chosen(type="build.*") == ["build.requested", "build.finished"]
    assert chosen(type="build.*", service="dns-proxy") == []
    last = max(one.at for one in moments)
    assert len(chosen(until=last)) == len(moments)
    assert len(chosen(until=last - timedelta(microseconds=1))) == len(moments) - 1
