"""What a comment means, once the forge has said who wrote it and what the pull request is."""

from datetime import timedelta

import pytest

from catalyst.events.catalogue import CommentWritten, PullRequestChanged
from catalyst.events.examples import comment, pull_request
from catalyst.forge.protocol import Permission
from catalyst.webhook_ingest.commands import Command, given, may_command, said

HEAD = "1a2b3c4" + "0" * 33


def written(line: str) -> CommentWritten:
    data = comment(line=line).data
    assert isinstance(data, CommentWritten)
    return data


def now(*, head: str = HEAD, later: timedelta = timedelta(0)) -> PullRequestChanged:
    data = pull_request().data
    assert isinstance(data, PullRequestChanged)
    update = {"head": data.head.model_copy(update={"sha": head}), "updated_at": written("").written_at + later}
    return data.model_copy(update=update)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("/catalyst deploy", Command("deploy")),
        ("/Catalyst  DEPLOY  ", Command("deploy")),
        ("/catalyst\tstop now please", Command("stop", ("now", "please"))),
        ("/catalyst approve 1a2b3c4", Command("approve", ("1a2b3c4",))),
        ("/catalyst", Command("help")),
        ("/catalyst help", Command("help")),
        ("/catalyst dploy", Command("help", ("dploy",))),
        ("/catalyst sleep", Command("help", ("sleep",))),
        ("/catalyst deploy " + "x " * 400, Command("deploy", ("x",) * 8)),
    ],
)
def test_what_is_said(line: str, command: Command) -> None:
    assert said(written(line)) == command


@pytest.mark.parametrize(
    ("permission", "may"),
    [("admin", True), ("maintain", True), ("write", True), ("triage", False), ("read", False), ("none", False)],
)
def test_who_may(permission: Permission, may: bool) -> None:
    assert may_command(permission) is may


@pytest.mark.parametrize(
    ("line", "pull", "head"),
    [
        ("/catalyst approve", now(), HEAD),
        ("/catalyst approve", now(later=timedelta(seconds=-5)), HEAD),
        ("/catalyst approve", now(later=timedelta(seconds=1)), None),
        ("/catalyst approve 1a2b3c4", now(later=timedelta(hours=1)), HEAD),
        (f"/catalyst approve {HEAD.upper()}", now(later=timedelta(hours=1)), HEAD),
        ("/catalyst approve 1a2b3c", now(), None),
        ("/catalyst approve 9999999", now(), None),
        ("/catalyst approve everything", now(), None),
        ("/catalyst approve 1a2b3c4", now(head="f" * 40), None),
    ],
)
def test_an_approval_is_for_one_head_or_for_none(line: str, pull: PullRequestChanged, head: str | None) -> None:
    comment = written(line)
    command = said(comment)
    fact = given(comment, command, "write", pull)
    if head is None:
        assert (fact.command, fact.arguments, fact.head_sha) == ("help", ("approve", *command.arguments), None)
    else:
        assert (fact.command, fact.head_sha, fact.comment_id) == ("approve", head, comment.comment_id)


def test_other_commands_carry_no_head() -> None:
    fact = given(written("/catalyst deploy"), Command("deploy"), "admin", None)
    assert (fact.command, fact.head_sha, fact.permission, fact.author) == ("deploy", None, "admin", "hubot")
