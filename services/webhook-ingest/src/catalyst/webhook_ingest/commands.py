"""What a `/catalyst` comment is: a command, a call for help, or nothing. Pure: what the forge answered comes in.

| The comment | by | is published as |
|---|---|---|
| `/catalyst deploy`, `stop` | somebody who may write | itself |
| `/catalyst approve` | … | `approve` of the head, unless the pull request changed since the comment was written |
| `/catalyst approve 1a2b3c4` | … | `approve` of the head, if that is its SHA's beginning (seven characters at least) |
| `/catalyst`, `/catalyst help` | … | `help` |
| anything else after `/catalyst`, an approval that fits no head | … | `help`, with the words said as its arguments |
| any of them | anybody else | nothing: ignored and counted |

An approval without a SHA is for what its author saw. GitHub does not tell what that was, so it counts only while
nothing happened to the pull request since; who wants to be sure names the SHA.
"""

import re
from dataclasses import dataclass
from typing import Any, Final, Literal

from catalyst.events.catalogue import CommandGiven, CommentWritten, PullRequestChanged
from catalyst.forge.protocol import MAY_WRITE, Permission

Name = Literal["deploy", "stop", "approve", "help"]

KNOWN: Final[dict[str, Name]] = {"deploy": "deploy", "stop": "stop", "approve": "approve", "help": "help"}
MAX_ARGUMENTS: Final = 8
SHA_BEGINNING: Final = re.compile(r"[0-9a-f]{7,64}")


@dataclass(frozen=True, slots=True)
class Command:
    """What was said."""

    name: Name
    arguments: tuple[str, ...] = ()

    @property
    def needs_head(self) -> bool:
        """Whether the pull request has to be asked for."""
        return self.name == "approve"


def said(comment: CommentWritten) -> Command:
    """The command in a comment's first line; whatever is none is a call for help."""
    words = comment.line.split()[1 : MAX_ARGUMENTS + 2]
    if not words:
        return Command("help")
    name = KNOWN.get(words[0].lower())
    return Command("help", tuple(words)) if name is None else Command(name, tuple(words[1:]))


def may_command(permission: Permission) -> bool:
    """Only who may write to the repository."""
    return permission in MAY_WRITE


def given(
    comment: CommentWritten, command: Command, permission: Permission, pull_request: PullRequestChanged | None
) -> CommandGiven:
    """The fact. `pull_request` as the forge tells it now; None unless `command.needs_head`."""
    fields: dict[str, Any] = {"command": command.name, "arguments": command.arguments}
    if command.name == "approve":
        head = approved_head(comment, command, pull_request) if pull_request else None
        fields = {"command": "approve", "arguments": command.arguments, "head_sha": head}
        if head is None:
            fields = {"command": "help", "arguments": ("approve", *command.arguments)}
    return CommandGiven(
        repository=comment.repository,
        number=comment.number,
        author=comment.author,
        author_id=comment.author_id,
        permission=permission,
        comment_id=comment.comment_id,
        url=comment.url,
        given_at=comment.written_at,
        **fields,
    )


def approved_head(comment: CommentWritten, command: Command, pull_request: PullRequestChanged) -> str | None:
    """The SHA that an approval is for; None: it cannot be told, or it is not the head any more."""
    head = pull_request.head.sha
    if command.arguments:
        named = command.arguments[0].lower()
        return head if SHA_BEGINNING.fullmatch(named) and head.startswith(named) else None
    return head if pull_request.updated_at <= comment.written_at else None
