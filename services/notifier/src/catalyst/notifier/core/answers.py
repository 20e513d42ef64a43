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
| `/catalyst approve` | allows one commit of a fork to be built and run; the next push needs another approval |
| `/catalyst help` | shows this |

Whoever may write in this repository may give them."""

_LATER: Final = frozenset({"sleep", "wake", "extend"})


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
        case "help":
            return "+1", HELP
        case "deploy":
            return "rocket", f"Deploying {head}. The environment's comment shows how it goes."
        case "stop":
            return "+1", "The environment is being removed. A push or `/catalyst deploy` brings it back."
        case "approve" if command.head_sha:
            return "+1", f"{head} is approved by {code(command.author)}. The next push needs another approval."
        case "approve":
            return "confused", "An approval is for one commit, and this one names none. Give the command once more."
        case later if later in _LATER:
            return "confused", f"{code('/catalyst ' + later)} does not exist yet.\n\n{HELP}"
        case unknown:
            return "confused", f"{code('/catalyst ' + unknown)} is no command.\n\n{HELP}"
