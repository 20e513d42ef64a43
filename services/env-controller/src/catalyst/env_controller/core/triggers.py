"""Does this Project want an environment for this pull request or branch, and may it start by itself?"""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from catalyst.env_controller.core.facts import Branch, PullRequest
from catalyst.model.environment import Hold
from catalyst.model.project import Project


@dataclass(frozen=True, slots=True)
class Wanted:
    """An environment should exist; with a `hold`, nothing is made in it until that is lifted."""

    hold: Hold | None = None


@dataclass(frozen=True, slots=True)
class NotWanted:
    """No environment, and why, as a sentence for people."""

    reason: str


def for_pull_request(project: Project, pull_request: PullRequest) -> Wanted | NotWanted:
    rules, state = project.spec.triggers.pull_requests, pull_request.state
    if not rules.enabled:
        return NotWanted("spec.triggers.pullRequests.enabled is false")
    if state.fork and rules.forks == "Never":
        return NotWanted("the pull request comes from a fork and spec.triggers.pullRequests.forks is Never")
    missing = sorted(set(rules.labels.require) - set(state.labels))
    if missing:
        return NotWanted(f"the pull request lacks the labels {', '.join(missing)}")
    excluded = sorted(set(rules.labels.exclude) & set(state.labels))
    if excluded:
        return NotWanted(f"the pull request carries the excluded labels {', '.join(excluded)}")
    if rules.base_branches and not any(fnmatchcase(state.base.ref, pattern) for pattern in rules.base_branches):
        return NotWanted(f"the base branch {state.base.ref} fits none of spec.triggers.pullRequests.baseBranches")
    if state.draft and not rules.drafts:
        return Wanted(
            Hold(reason="Draft", message="This is a draft: mark the pull request as ready for review, and it starts.")
        )
    if state.fork and rules.forks == "Approval":
        return Wanted(
            Hold(reason="Fork", message="This comes from a fork: someone with write access must approve this commit.")
        )
    return Wanted()


def for_branch(project: Project, branch: Branch) -> Wanted | NotWanted:
    name = branch.state.branch
    if any(fnmatchcase(name, rule.pattern) for rule in project.spec.triggers.branches):
        return Wanted()
    return NotWanted(f"the branch {name} fits none of spec.triggers.branches")
