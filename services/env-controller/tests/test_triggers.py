"""Each trigger rule beside its allowed twin."""

from typing import Any

import pytest
from makers import B, at, branch, command, project, pull_request

from catalyst.env_controller.core.facts import CommandFact
from catalyst.env_controller.core.triggers import NotWanted, Stopped, Wanted, for_branch, for_pull_request
from catalyst.model.environment import Hold

DRAFT = Hold(
    reason="Draft",
    message="This is a draft: mark the pull request as ready for review, or comment `/catalyst deploy`, and it starts.",
)
FORK = Hold(
    reason="Fork",
    message="This comes from a fork: someone with write access must approve this commit by the comment "
    "`/catalyst approve`.",
)
LABELS = {"labels": {"require": ["preview", "shop"], "exclude": ["wip", "stale"]}}

# rules of the Project, state of the pull request, what comes of it
PULL_REQUESTS: list[tuple[dict[str, Any], dict[str, Any], Wanted | NotWanted]] = [
    ({}, {}, Wanted()),
    ({"enabled": True}, {}, Wanted()),
    ({"enabled": False}, {}, NotWanted("spec.triggers.pullRequests.enabled is false")),
    ({}, {"draft": True}, Wanted(DRAFT)),
    ({"drafts": True}, {"draft": True}, Wanted()),
    ({}, {"fork": True}, Wanted(FORK)),
    ({"forks": "Approval"}, {"fork": True}, Wanted(FORK)),
    ({"forks": "Always"}, {"fork": True}, Wanted()),
    (
        {"forks": "Never"},
        {"fork": True},
        NotWanted("the pull request comes from a fork and spec.triggers.pullRequests.forks is Never"),
    ),
    ({"forks": "Never"}, {"fork": False}, Wanted()),
    ({}, {"draft": True, "fork": True}, Wanted(DRAFT)),
    ({"drafts": True}, {"draft": True, "fork": True}, Wanted(FORK)),
    ({"drafts": True, "forks": "Always"}, {"draft": True, "fork": True}, Wanted()),
    (LABELS, {"labels": ("preview", "shop")}, Wanted()),
    (LABELS, {"labels": ("shop",)}, NotWanted("the pull request lacks the labels preview")),
    (LABELS, {"labels": ()}, NotWanted("the pull request lacks the labels preview, shop")),
    (
        LABELS,
        {"labels": ("shop", "wip", "preview", "stale")},
        NotWanted("the pull request carries the excluded labels stale, wip"),
    ),
    ({"baseBranches": ["main"]}, {}, Wanted()),
    (
        {"baseBranches": ["release/*"]},
        {},
        NotWanted("the base branch main fits none of spec.triggers.pullRequests.baseBranches"),
    ),
    ({"baseBranches": ["release/*", "ma?n"]}, {}, Wanted()),
    (
        {"baseBranches": ["MAIN"]},
        {},
        NotWanted("the base branch main fits none of spec.triggers.pullRequests.baseBranches"),
    ),
    # what is not wanted is not held either: nothing is made for it
    (
        {**LABELS, "forks": "Approval"},
        {"fork": True, "labels": ()},
        NotWanted("the pull request lacks the labels preview, shop"),
    ),
]


@pytest.mark.parametrize(("rules", "state", "expected"), PULL_REQUESTS)
def test_pull_request(rules: dict[str, Any], state: dict[str, Any], expected: Wanted | NotWanted) -> None:
    assert for_pull_request(project(triggers={"pullRequests": rules}), pull_request(**state)) == expected


STOP = Stopped("lisa", at(2), "https://github.com/Acme/Shop/pull/42#issuecomment-1")
SAID: dict[str, tuple[dict[str, Any], dict[str, Any], list[CommandFact], Wanted | NotWanted | Stopped]] = {
    "deploy starts a draft": ({}, {"draft": True}, [command("c")], Wanted()),
    "deploy starts no fork": ({}, {"fork": True}, [command("c")], Wanted(FORK)),
    "approve starts a fork": ({}, {"fork": True}, [command("c", "approve")], Wanted()),
    "approve starts a draft": ({}, {"draft": True}, [command("c", "approve")], Wanted()),
    "an approval is for one commit": ({}, {"fork": True, "head": B}, [command("c", "approve")], Wanted(FORK)),
    "no approval where forks never run": (
        {"forks": "Never"},
        {"fork": True},
        [command("c", "approve")],
        NotWanted("the pull request comes from a fork and spec.triggers.pullRequests.forks is Never"),
    ),
    "stop": ({}, {}, [command("c", "stop", given_at=at(2))], STOP),
    "stop of an approved fork": (
        {},
        {"fork": True},
        [command("b", "approve"), command("c", "stop", given_at=at(2))],
        STOP,
    ),
    "deploy after stop": ({}, {}, [command("c", "stop", given_at=at(2)), command("b", given_at=at(3))], Wanted()),
    "help says nothing": ({}, {"draft": True}, [command("c", "help")], Wanted(DRAFT)),
}


@pytest.mark.parametrize("name", SAID)
def test_commands(name: str) -> None:
    rules, state, commands, expected = SAID[name]
    told = pull_request(commands, **state)
    assert for_pull_request(project(triggers={"pullRequests": rules}), told) == expected


@pytest.mark.parametrize(
    ("patterns", "name", "wanted"),
    [
        ([], "main", False),
        (["main"], "main", True),
        (["main"], "mainline", False),
        (["release/*"], "release/1.2", True),
        (["release/*"], "release/1/hotfix", True),
        (["release/*"], "release", False),
        (["hotfix/*", "release/*"], "release/1", True),
        (["*"], "--upload-pack=x", True),  # that it is not handed to git is decided later, see test_requests.py
        (["v[0-9]"], "v1", True),
        (["v[0-9]"], "vx", False),
    ],
)
def test_branch(patterns: list[str], name: str, wanted: bool) -> None:
    asked = project(triggers={"branches": [{"pattern": pattern} for pattern in patterns]})
    expected = Wanted() if wanted else NotWanted(f"the branch {name} fits none of spec.triggers.branches")
    assert for_branch(asked, branch(branch=name)) == expected
