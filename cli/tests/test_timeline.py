"""One environment's history as lines, and what is told of each event."""

from datetime import timedelta

from histories import HOST, START, A, Author, B, asked, ready, stages

from catalyst.cli.core.changes import changes
from catalyst.cli.core.history import causal, moment
from catalyst.cli.core.telling import told
from catalyst.cli.core.timeline import Telling, timeline
from catalyst.events.binding import encode
from catalyst.events.catalogue import CATALOGUE
from catalyst.events.examples import examples
from catalyst.events.stored import Stored
from catalyst.model.environment import Phase


def test_a_life_is_told_with_causes_gaps_and_durations() -> None:
    author = ready(Author())
    told_ = [(line.source, line.text, line.gap, line.took, line.ref, line.cause) for line in timeline(author.moments())]
    assert told_ == [
        ("webhook-ingest", "pull request #42 opened by mona: aaaaaaa on basket", None, None, "SCM/1", None),
        ("env-controller", "Building", 0.2, None, "EVENTS/1", "SCM/1"),
        ("env-controller", "build of web asked for, aaaaaaa, attempt 1", 0.1, None, "EVENTS/2", "SCM/1"),
        ("builder", "build of web succeeded in 20 s", 20.0, 20.0, "EVENTS/3", "EVENTS/2"),
        ("env-controller", "Building → Deploying", 0.2, 20.3, "EVENTS/4", "SCM/1"),
        ("dns-proxy", f"{HOST} answers", 1.0, 1.0, "EVENTS/5", "EVENTS/4"),
        ("env-controller", f"Deploying → Ready: https://{HOST}/", 3.0, 4.0, "EVENTS/6", "SCM/1"),
    ]


def test_a_snapshot_of_the_same_phase_names_what_changed() -> None:
    author = ready(Author())
    author.is_(Phase.READY, source=author.commit(B))
    author.is_(Phase.READY, again=1)
    author.is_(Phase.READY, stages=stages(Accepted=0.2))
    *_, changed, again, on = timeline(author.moments())
    assert changed.text == "Ready: source.commit aaaaaaa → bbbbbbb"
    assert again.text == "Ready, said again"
    assert on.text == "Ready, stages went on"


def test_a_clock_that_is_off_is_named() -> None:
    lines = timeline(ready(Author(skew={"builder": -4.8})).moments())
    assert {line.source: line.clock for line in lines if line.clock} == {"builder": -4.8}


def test_a_failure_and_a_dead_letter_are_bad() -> None:
    author = Author()
    fact = author.opens()
    author.is_(Phase.BUILDING, builds=asked(web="k-a"))
    author.builds(author.asks(key="k-a"), reason="BuildFailed", message="RUN make ended with 2")
    author.buries(fact, reason="data.number: Field required")
    bad = [(line.type, line.text, line.cause) for line in timeline(author.moments()) if line.bad]
    assert bad == [
        (
            "build.finished",
            "build of web failed after 20 s: BuildFailed. RUN make ended with 2",
            "EVENTS/2",
        ),
        (
            "dead.letter",
            "env-controller could not handle SCM/1, tried 5 times: data.number: Field required",
            "SCM/1",
        ),
    ]


def test_what_cannot_be_read_is_a_line_too() -> None:
    poison = Stored("EVENTS", "env.acme.shop.pr-42.build.finished", 9, b"?", {}, int(START.timestamp() * 1e9))
    (line,) = timeline([moment(poison)])
    assert line.bad
    assert line.text == "cannot be read: content-type None: expected application/cloudevents+json"


def test_what_is_sent_again_is_told_as_such_and_changes_nothing() -> None:
    author = ready(Author())
    last, at = author.said[-1]
    body, headers = encode(last)
    again = Stored("EVENTS", last.subject, 99, body, headers, int((at + timedelta(hours=1)).timestamp() * 1e9))
    lines = timeline([*author.moments(), moment(again)])
    assert lines[-1].text == f"again: Ready: https://{HOST}/"
    assert lines[-1].took is None


def test_lines_go_on_where_they_ended() -> None:
    ordered = causal(ready(ready(Author()), commit=B).moments())
    telling = Telling()
    assert [*telling.lines(ordered[:6]), *telling.lines(ordered[6:])] == Telling().lines(ordered)


def test_every_event_of_the_catalogue_is_told_in_one_line() -> None:
    for type_, event in examples().items():
        assert told(event.data), type_
        assert "\n" not in told(event.data)
    assert set(examples()) == set(CATALOGUE)


def test_changes_name_fields_by_the_entries_own_names() -> None:
    author = Author()
    author.opens()
    author.is_(Phase.BUILDING, builds=asked(web="k-a"))
    before = author.state
    ready(author, commit=B)
    found = {change.field: (change.before, change.after) for change in changes(before, author.state)}
    assert found["phase"] == ("Building", "Ready")
    assert found["source.commit"] == (A, B)
    assert found["builds.web.key"] == ("k-a", "k-b")
    assert found["components.web.ready"] == (None, True)
    assert "components.web.name" not in found
    assert found["conditions.Built.status"] == (None, "True")
    assert not any("resourceVersion" in field or "lastTransitionTime" in field for field in found)
    assert changes(author.state, author.state) == ()
    assert {change.after for change in changes(author.state, None)} == {None}
