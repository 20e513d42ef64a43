"""Our comment among others', and what is answered to commands."""

from datetime import timedelta

import pytest
from snapshots import NOW, gone, ready, shown

from catalyst.events.catalogue import CommandGiven
from catalyst.events.examples import command
from catalyst.forge.protocol import Comment
from catalyst.notifier.core.answers import answer
from catalyst.notifier.core.comment import MARK
from catalyst.notifier.core.conversation import Conversation, PullRequestKey
from catalyst.notifier.core.known import KnownComment, answered, is_needed, ours, same_text

KEY = PullRequestKey("github", "acme/shop", 42)


def written(number: int, author: str, body: str) -> Comment:
    at = NOW + timedelta(minutes=number)
    return Comment(number, author, body, f"https://github.com/acme/shop/pull/42#issuecomment-{number}", at, at)


def test_ours_is_by_us_and_begins_with_the_mark() -> None:
    others = [
        written(1, "mona", f"{MARK}\n\nhaha"),
        written(2, "catalyst[bot]", f"You wrote {MARK}"),
        written(3, "catalyst[bot]", f"{MARK}\n\n### Environment"),
    ]
    assert ours(others, "catalyst[bot]") == KnownComment(3, f"{MARK}\n\n### Environment")
    assert ours(others[:2], "catalyst[bot]") == KnownComment(None)


def test_the_oldest_of_several_is_it_and_the_others_are_too_many() -> None:
    three = [written(number, "bot", MARK) for number in (7, 5, 9)]
    assert ours(three, "bot") == KnownComment(5, MARK, (7, 9))


def test_nothing_is_written_only_to_say_that_something_is_gone() -> None:
    over, alive = Conversation(KEY, (gone(),)), Conversation(KEY, (ready(),))
    assert not is_needed(over, KnownComment(None))
    assert is_needed(over, KnownComment(1))
    assert is_needed(alive, KnownComment(None))


def test_line_ends_make_no_difference() -> None:
    assert same_text("a\r\nb\n", "a\nb")
    assert not same_text("a", "b")


@pytest.mark.parametrize(
    ("name", "reaction", "says"),
    [
        ("help", "+1", "/catalyst approve"),
        ("deploy", "rocket", "Deploying"),
        ("stop", "+1", "being removed"),
        ("approve", "+1", "aaaaaaaaaaaa"),
        ("wake", "confused", "cannot be done"),
    ],
)
def test_each_command_is_answered(name: str, reaction: str, says: str) -> None:
    given = command(command=name).data
    assert isinstance(given, CommandGiven)
    said = answer(given)
    page = shown(said.body)
    assert said.reaction == reaction
    assert says in page.text + page.code
    assert said.body.rstrip().endswith(said.mark)
    assert "/catalyst" not in said.body.split("\n")[0][:9], "an answer is no command"


def test_an_approval_without_a_commit_is_not_taken_for_one() -> None:
    for given in (command(head_sha=None).data, command(command="help", arguments=("approve", "1234567")).data):
        assert isinstance(given, CommandGiven)
        assert answer(given).reaction == "confused"


def test_what_is_no_command_is_said_and_calls_nobody() -> None:
    given = command(command="help", arguments=("please", "@acme/admins", "<img>")).data
    assert isinstance(given, CommandGiven)
    page = shown(answer(given).body)
    assert "/catalyst please @acme/admins <img>" in page.code
    assert "@" not in page.text


def test_an_answer_is_found_again_by_its_own_command_only() -> None:
    one, other = command(comment_id=1).data, command(comment_id=12).data
    assert isinstance(one, CommandGiven)
    assert isinstance(other, CommandGiven)
    replies = [written(5, "bot", answer(other).body), written(6, "mona", answer(one).body)]
    assert answered(replies, "bot", answer(other).mark)
    assert not answered(replies, "bot", answer(one).mark)
