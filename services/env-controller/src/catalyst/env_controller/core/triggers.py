"""Does this Project want an environment for this pull request or branch, and may it start by itself?"""

from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase

from catalyst.env_controller.core.facts import Branch, PullRequest
from catalyst.model.environment import Hold
from catalyst.model.project import Project

_DRAFT = "This is a draft: mark the pull request as ready for review, or comment `/catalyst deploy`, and it starts."
_FORK = "This comes from a fork: someone with write access must approve this commit by the comment `/catalyst approve`."


@dataclass(frozen=True, slots=True)
class Wanted:
    """An environment should exist; with a `hold`, nothing is made in it until that is lifted."""

    hold: Hold | None = None


@dataclass(frozen=True, slots=True)
class NotWanted:
    """No environment, and why, as a sentence for people. `remedy`: what would have to be otherwise."""

    reason: str
    remedy: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Stopped:
    """Somebody said `/catalyst stop`: no environment until `/catalyst deploy`, or until it is opened anew."""

    by: str
    at: datetime
    url: str


def for_pull_request(project: Project, pull_request: PullRequest) -> Wanted | NotWanted | Stopped:
    rules, state = project.spec.triggers.pull_requests, pull_request.state
    if not rules.enabled:
        return NotWanted("spec.triggers.pullRequests.enabled is false", "set it to true in the Project")
    if state.fork and rules.forks == "Never":
        return NotWanted(
            "the pull request comes from a fork and spec.triggers.pullRequests.forks is Never",
            "set it to Approval or Always in the Project, or push the branch to the repository itself",
        )
    missing = sorted(set(rules.labels.require) - set(state.labels))
    if missing:
        return NotWanted(
            f"the pull request lacks the labels {', '.join(missing)}",
            "add them to it, or take them off spec.triggers.pullRequests.labels.require in the Project",
        )
    excluded = sorted(set(rules.labels.exclude) & set(state.labels))
    if excluded:
        return NotWanted(
            f"the pull request carries the excluded labels {', '.join(excluded)}",
            "take them off it, or off spec.triggers.pullRequests.labels.exclude in the Project",
        )
    if rules.base_branches and not any(fnmatchcase(state.base.ref, pattern) for pattern in rules.base_branches):
        return NotWanted(
            f"the base branch {state.base.ref} fits none of spec.triggers.pullRequests.baseBranches",
            "add a pattern for it there, in the Project, or change the pull request's base",
        )
    if stop := pull_request.stop:
        return Stopped(stop.data.author, stop.data.given_at, stop.data.url)
    if pull_request.approval:
        return Wanted()
    if state.draft and not rules.drafts and not pull_request.deploy:
        return Wanted(Hold(reason="Draft", message=_DRAFT))
    if state.fork and rules.forks == "Approval":
        return Wanted(Hold(reason="Fork", message=_FORK))
    return Wanted()


def for_branch(project: Project, branch: Branch) -> Wanted | NotWanted:
    name = branch.state.branch
    if any(fnmatchcase(name, rule.pattern) for rule in project.spec.triggers.branches):
        return Wanted()
    return NotWanted(f"the branch {name} fits none of spec.triggers.branches")
