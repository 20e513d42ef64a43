"""What changed between two times, and why."""

from datetime import timedelta

from histories import A, Author, B, component, ready

from catalyst.cli.core.difference import difference
from catalyst.cli.core.history import causal
from catalyst.cli.core.resending import is_superseded
from catalyst.events.catalogue import Data
from catalyst.events.examples import examples
from catalyst.model.environment import Phase

SECOND = timedelta(seconds=1)


def test_a_new_commit_and_what_it_brought() -> None:
    author = ready(Author())
    before = author.now
    ready(author, commit=B)
    found = {one.field: one for one in difference(causal(author.moments()), before, author.now)}
    commit = found["source.commit"]
    assert (commit.before, commit.after) == (A, B)
    assert commit.because == "pull request #42 synchronize by mona: bbbbbbb on basket"
    assert found["builds.web.key"].because == commit.because
    assert "phase" not in found  # Ready before and after, whatever lay between
    assert difference(causal(author.moments()), author.now, author.now + SECOND) == []


def test_what_an_answer_brought_and_what_was_seen() -> None:
    author = ready(Author())
    life = causal(author.moments())
    built = next(one for one in life if one.event and one.event.data.short_type() == "build.finished")
    found = {one.field: one for one in difference(life, built.at - SECOND, built.at + SECOND)}
    assert found["phase"].because == "build of web succeeded in 20 s"
    healthy = author.now
    author.is_(Phase.DEGRADED, components=(component(reason="CrashLoop"),))
    found = {one.field: one for one in difference(causal(author.moments()), healthy, author.now)}
    assert found["components.web.reason"].because == "seen in the cluster"


def test_from_nothing_everything_is_new() -> None:
    author = ready(Author())
    first = author.said[0][1]
    found = difference(causal(author.moments()), first - SECOND, author.now)
    assert {one.before for one in found} == {None}
    phase = next(one for one in found if one.field == "phase")
    assert phase.after == "Ready"


def test_which_message_makes_another_obsolete() -> None:
    """The whole table, over one example of each event: itself, said again later."""
    of = {event.data.short_type(): event.data for event in examples().values()}

    def obsolete(name: str, **fields: object) -> bool:
        old: Data = of[name]
        return is_superseded(old, old.model_copy(update=fields))

    assert obsolete("environment.changed")
    assert obsolete("route.changed")
    assert not obsolete("route.changed", host="other.example.org")
    assert obsolete("build.requested")
    assert not obsolete("build.requested", component="api")
    assert obsolete("build.finished")
    assert not obsolete("build.finished", component="api")
    assert obsolete("build.cleaned")
    for fact in ("scm.pull_request.changed", "scm.branch.pushed", "scm.command.given", "scm.comment.written"):
        assert not obsolete(fact)
