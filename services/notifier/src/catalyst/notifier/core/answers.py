"""What is answered to a `/catalyst` command: a reaction, and a reply of a line or two. Pure.

The reply carries a mark with the command's own comment, so that a command that is handled twice is answered once.
"""

from dataclasses import dataclass
from typing import Final

from catalyst.events.catalogue import CommandGiven
from catalyst.forge.protocol import Reaction
from catalyst.notifier.core.text import code

HELP: Final = """\
| Command | What it does |
|---|---|
| `/catalyst deploy` | makes the environment, also of a draft; after a failure, tries the same commit again |
| `/catalyst stop` | removes the environment; a push or `/catalyst deploy` brings it back |
| `/catalyst approve SHA` | allows this commit of a fork to be built and run; the next push needs another approval |
| `/catalyst help` | shows this |

Whoever may write in this repository may give them."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is the whole reply with its mark at the end, by which it is found again."""

    reaction: Reaction
    mark: str
    body: str


def answer(command: CommandGiven) -> Answer:
    """The answer to a command that somebody gave who may."""
    reaction, text = _said(command)
    mark = f"<!-- catalyst:answer {command.comment_id or int(command.given_at.timestamp())} -->"
    return Answer(reaction, mark, f"{text}\n\n{mark}\n")


def _said(command: CommandGiven) -> tuple[Reaction, str]:
    head = code(command.head_sha[:12]) if command.head_sha else "the newest commit"
    match command.command:
        case "help" if command.arguments[:1] == ("approve",):
            return "confused", (
                "This approves nothing: the commit it names is not the newest one, or it names none and the pull "
                "request changed in the meantime. Look at the newest commit and name it: `/catalyst approve SHA`."
            )
        case "help" if command.arguments:
            return "confused", f"{code('/catalyst ' + ' '.join(command.arguments))} is no command.\n\n{HELP}"
        case "help":
            return "+1", HELP
        case "deploy":
            return "rocket", f"Deploying {head}. The environment's comment shows how it goes."
        case "stop":
            return "+1", "The environment is being removed. A push or `/catalyst deploy` brings it back."
        case "approve" if command.head_sha:
            return "+1", f"{head} is approved by {code(command.author)}. The next push needs another approval."
        case other:
            return "confused", f"{code('/catalyst ' + other)} cannot be done (yet).\n\n{HELP}"
