"""What notifier knows that the forge shows, and what has to be written to make it right. Pure values.

The forge itself is the memory: what is not known is looked up there, by a hidden mark and by names. So a crash at any
moment costs a look, never a second comment.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from catalyst.forge.protocol import Comment
from catalyst.notifier.core.comment import MARK
from catalyst.notifier.core.conversation import Conversation
from catalyst.notifier.core.reports import CheckReport, DeploymentReport


@dataclass(frozen=True, slots=True)
class KnownComment:
    """Our comment as the forge has it; `id` None: there is none. `extra`: more of ours, which should not be."""

    id: int | None
    body: str = ""
    extra: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class KnownReport:
    """One deployment or check: its number at the forge (None: not looked up), and what was said there last (None: not
    known).
    """

    id: int | None = None
    said: DeploymentReport | CheckReport | None = None


@dataclass(slots=True)
class Known:
    """What is known of one pull request. `comment` None: nobody looked yet, or nobody can know after an error."""

    comment: KnownComment | None = None
    deployments: dict[tuple[str, str], KnownReport] = field(default_factory=dict)
    """By environment's name and commit."""
    checks: dict[tuple[str, str], KnownReport] = field(default_factory=dict)
    """By check's name and commit."""
    looked_back: set[str] = field(default_factory=set)
    """Environments whose deployments of former commits are all among `deployments`."""
    refused: set[DeploymentReport | CheckReport] = field(default_factory=set)
    """What the forge would not take: not tried again before the next look at everything."""

    def look_again(self) -> None:
        """Trust nothing about the comment, and try once more what was refused."""
        self.comment = None
        self.refused.clear()


def ours(comments: Iterable[Comment], login: str) -> KnownComment:
    """Our comment among all of a pull request: the oldest that we wrote and that begins with the mark.

    Anybody may write the mark, so the author counts; GitHub shows an App as `name[bot]`.
    """
    found = [each for each in comments if each.author == login and each.body.lstrip().startswith(MARK)]
    if not found:
        return KnownComment(None)
    first, *extra = sorted(found, key=lambda each: each.id)
    return KnownComment(first.id, first.body, tuple(each.id for each in extra))


def answered(comments: Iterable[Comment], login: str, mark: str) -> bool:
    """Whether we replied already, by the reply's mark."""
    return any(each.author == login and mark in each.body for each in comments)


def same_text(one: str, other: str) -> bool:
    """Whether two bodies are the same to the forge, which may give line ends and outer blanks back otherwise."""
    return one.replace("\r\n", "\n").strip() == other.replace("\r\n", "\n").strip()


def is_needed(told: Conversation, known: KnownComment) -> bool:
    """Whether a comment is to be written where there is none: not to say only that something is gone."""
    return known.id is not None or bool(told.alive)
