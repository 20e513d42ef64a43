"""What waits, what is passed over, and what is taken away again when the reason for it is gone."""

import pytest
from stage import Stage


async def test_a_draft_waits_until_it_is_ready_for_review(stage: Stage) -> None:
    stage.grant()
    stage.project()
    await stage.accepted()
    await stage.deliver(stage.pull_request(1, draft=True))
    await stage.until(lambda: stage.phase("pr-1") == "Waiting", "the draft waits")
    waiting = stage.environment("pr-1")
    assert stage.condition(waiting, "Approved")["reason"] == "Draft"
    assert "ready for review" in stage.condition(waiting, "Approved")["message"]
    assert stage.namespace("pr-1") is None

    await stage.deliver(stage.pull_request(1, action="ready_for_review"))
    ready = await stage.ready("pr-1")
    assert stage.condition(ready, "Approved")["status"] == "True"


async def test_drafts_start_at_once_when_the_project_says_so(stage: Stage) -> None:
    stage.grant()
    stage.project(triggers={"pullRequests": {"drafts": True}})
    await stage.accepted()
    await stage.deliver(stage.pull_request(1, draft=True))
    await stage.ready("pr-1")


async def test_a_fork_waits_for_approval(stage: Stage) -> None:
    stage.grant()
    stage.project()
    await stage.accepted()
    await stage.deliver(stage.pull_request(2, fork=True))
    await stage.until(lambda: stage.phase("pr-2") == "Waiting", "the fork waits")
    assert stage.condition(stage.environment("pr-2"), "Approved")["reason"] == "Fork"
    assert stage.namespace("pr-2") is None


@pytest.mark.parametrize(("policy", "phase"), [("Always", "Provisioned"), ("Never", None)])
async def test_the_project_decides_about_forks(stage: Stage, policy: str, phase: str | None) -> None:
    stage.grant()
    stage.project(triggers={"pullRequests": {"forks": policy}})
    await stage.accepted()
    await stage.deliver(stage.pull_request(3, fork=True))
    await stage.deliver(stage.pull_request(4))
    await stage.ready("pr-4")
    await stage.handled()
    if phase is not None:
        await stage.ready("pr-3")
    assert stage.phase("pr-3") == phase


async def test_labels_bring_an_environment_and_take_it_away(stage: Stage) -> None:
    stage.grant()
    stage.project(triggers={"pullRequests": {"labels": {"require": ["preview"]}}})
    await stage.accepted()
    await stage.deliver(stage.pull_request(5))
    await stage.handled()
    assert stage.environment("pr-5") is None

    await stage.deliver(stage.pull_request(5, action="labeled", labels=["preview"]))
    await stage.ready("pr-5")

    await stage.deliver(stage.pull_request(5, action="unlabeled"))
    await stage.until(lambda: stage.is_going("pr-5"), "pr-5 is going")
    deletion = (stage.environment("pr-5") or {"spec": {}})["spec"].get("deletion", {})
    assert deletion.get("reason") in ("TriggerWithdrawn", None)
    await stage.gone("pr-5")


async def test_a_base_branch_that_is_not_named_is_passed_over(stage: Stage) -> None:
    stage.grant()
    stage.project(triggers={"pullRequests": {"baseBranches": ["main", "release/*"]}})
    await stage.accepted()
    await stage.deliver(stage.pull_request(6, base="develop"))
    await stage.deliver(stage.pull_request(7, base="release/1.2"))
    await stage.ready("pr-7")
    await stage.handled()
    assert stage.environment("pr-6") is None


async def test_a_branch_gets_an_environment_and_loses_it(stage: Stage) -> None:
    stage.grant()
    stage.project(triggers={"branches": [{"pattern": "feature/*"}]})
    await stage.accepted()
    await stage.deliver(stage.push("feature/Cart", after="c" * 40), event="push")
    await stage.deliver(stage.push("other", after="d" * 40), event="push")
    await stage.until(lambda: stage.environments(), "an environment of the branch")
    (name,) = stage.environments()
    assert name.startswith("feature-cart-")
    found = await stage.ready(name)
    assert found["metadata"]["annotations"]["catalyst.dev/branch"] == "feature/Cart"

    await stage.deliver(stage.push("feature/Cart", before="c" * 40, deleted=True), event="push")
    await stage.gone(name)
