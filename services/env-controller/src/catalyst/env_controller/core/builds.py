"""Which build is asked for, and what its answer means. `status.builds` is the question; only an answer to exactly that
key and attempt counts.

    another commit or other inputs   another key, and the next attempt: A → B → A is three questions
    failed for a passing reason      the same key, the next attempt, after a while that doubles
    failed, and somebody said deploy the same key, the next attempt, at once
    unanswered                       asked again after a while that doubles, under the same key and attempt
    failed for good                  nothing, until something changes
"""

import hashlib
import math
from datetime import datetime, timedelta
from typing import Final

from catalyst.env_controller.core.baseline import Subject
from catalyst.env_controller.core.components import Part
from catalyst.env_controller.core.world import BuildWish
from catalyst.model import labels
from catalyst.model.environment import BuildAnswer, BuildQuestion, EnvironmentStatus
from catalyst.model.project import Build

ASK_AGAIN_SECONDS: Final = 60.0
TRY_SOON_SECONDS: Final = 5.0
TRY_AGAIN_SECONDS: Final = 60.0
LONGEST_WAIT: Final = 3600.0

PASSING_SOON: Final = frozenset(
    {
        "BuildEvicted",
        "BuildLost",
        "BuildNotStarted",
        "ClusterRefused",
        "PushFailed",
        "RegistryUnavailable",
        "SourceUnavailable",
        "Superseded",
    }
)
"""builder's reasons of which most are over in a moment: a node, a network, a server that begins."""
PASSING: Final = PASSING_SOON | {
    "ImageInvalid",
    "ImageMissing",
    "NamespaceTaken",
    "RegistryRefused",
    "SourceCredentialMissing",
    "SourceNotReadable",
}
"""builder's reasons whose cause may go away without a change of ours, so that it is tried again by itself."""


def questions(subject: Subject, parts: tuple[Part, ...], now: datetime) -> dict[str, BuildQuestion]:
    """The question to ask for every part that is built, beside a commit that is known."""
    status = subject.environment.status or EnvironmentStatus()
    return {part.name: _question(subject, part, status, now) for part in parts if part.is_built}


def _question(subject: Subject, part: Part, status: EnvironmentStatus, now: datetime) -> BuildQuestion:
    wanted, asked = key(subject, part), status.builds.get(part.name)
    deploy, given = subject.environment.metadata.annotations.get(labels.DEPLOY), answer(status, part.name)
    if asked is None:
        return BuildQuestion(key=wanted, attempt=1, deploy=deploy)
    by_command = given is not None and given.outcome == "failed" and deploy not in (None, asked.deploy)
    if asked.key != wanted or by_command:
        return BuildQuestion(key=wanted, attempt=asked.attempt + 1, deploy=deploy)
    if is_due(asked, given, now):
        return BuildQuestion(key=wanted, attempt=asked.attempt + 1, deploy=deploy, retries=(asked.retries or 0) + 1)
    return asked


def answer(status: EnvironmentStatus, component: str) -> BuildAnswer | None:
    """The answer to the question asked last, None while there is none."""
    asked = status.builds.get(component)
    given = status.answers.builds.get(component) if status.answers else None
    if asked is None or given is None or (given.key, given.attempt) != (asked.key, asked.attempt):
        return None
    return given


def is_due(asked: BuildQuestion, given: BuildAnswer | None, now: datetime) -> bool:
    """Whether it is time to try once more."""
    at = retry_at(asked, given)
    return at is not None and at <= now


def retry_at(asked: BuildQuestion, given: BuildAnswer | None) -> datetime | None:
    """When a build that failed for a passing reason is tried again by itself: after 5, 10, 20 … seconds, or after 1, 2,
    4 … minutes where somebody has to do something first. None: not by itself.
    """
    if given is None or given.outcome == "succeeded":
        return None
    if given.outcome == "failed" and given.reason not in PASSING:
        return None
    is_soon = given.outcome == "superseded" or given.reason in PASSING_SOON
    first = TRY_SOON_SECONDS if is_soon else TRY_AGAIN_SECONDS
    return given.at + timedelta(seconds=min(first * 2.0 ** min(asked.retries or 0, 10), LONGEST_WAIT))


def asked_again(since: datetime, now: datetime) -> tuple[int, float]:
    """How often a question open since then has been repeated by now, and the seconds until the next time: after 1, 3,
    7, 15 minutes.
    """
    seconds = max(0.0, (now - since).total_seconds())
    times = int(math.log2(1 + seconds / ASK_AGAIN_SECONDS))
    return times, ASK_AGAIN_SECONDS * (2.0 ** (times + 1) - 1) - seconds


def key(subject: Subject, part: Part) -> str:
    """The same for the same code and inputs, whichever environment asks; 32 hex digits."""
    given = inputs(part)
    texts = [repository(subject), subject.environment.spec.source.commit or "", str(is_fork(subject))]
    texts += [text for name in sorted(given) for text in (name, given[name])]
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode()
        digest.update(b"%d:%b" % (len(encoded), encoded))
    return digest.hexdigest()[:32]


def inputs(part: Part) -> dict[str, str]:
    build = part.component.build or Build()
    given = {"dockerfile": build.dockerfile, "context": build.context}
    if build.target:
        given["target"] = build.target
    return given | {f"arg.{name}": value for name, value in build.args.items()}


def repository(subject: Subject) -> str:
    """Where the commit is: the Project's, also for a fork's, since a forge keeps the commits of its pull requests.

    No other one may be read: what an Environment says of a fork is written by people, and only the Project's repository
    was granted to the team.
    """
    return subject.project.spec.source.repository


def is_fork(subject: Subject) -> bool:
    """Whose code it is. A fork that was deleted meanwhile is still one."""
    pull_request = subject.environment.spec.source.pull_request
    return pull_request is not None and pull_request.fork


def wish(subject: Subject, part: Part, question: BuildQuestion, again: int) -> BuildWish:
    return BuildWish(
        component=part.name,
        key=question.key,
        attempt=question.attempt,
        commit=subject.environment.spec.source.commit or "",
        repository=repository(subject),
        fork=is_fork(subject),
        inputs=inputs(part),
        again=again,
    )
