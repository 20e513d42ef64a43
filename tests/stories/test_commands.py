"""What people with write access say in the pull request: deploy, stop, approve."""

from typing import Any

from stage import Stage


async def prepared(stage: Stage) -> None:
    stage.grant()
    stage.project()
    await stage.accepted()


def approval(stage: Stage, name: str) -> dict[str, Any]:
    return stage.condition(stage.environment(name), "Approved")


async def test_deploy_starts_a_draft(stage: Stage) -> None:
    await prepared(stage)
    await stage.deliver(stage.pull_request(1, draft=True))
    await stage.until(lambda: stage.phase("pr-1") == "Waiting", "the draft waits")
    assert "/catalyst deploy" in approval(stage, "pr-1")["message"]
    await stage.command(1, "deploy")
    await stage.ready("pr-1")


async def test_stop_takes_it_away_and_no_push_brings_it_back(stage: Stage) -> None:
    await prepared(stage)
    await stage.deliver(stage.pull_request(1))
    await stage.ready("pr-1")
    await stage.command(1, "stop", author="lisa")
    await stage.gone("pr-1")
    deletion = next(said["deletion"] for said in reversed(await stage.said("pr-1")) if said.get("deletion"))
    assert deletion["reason"] == "Requested"
    assert "/catalyst stop by lisa (https://github.com/" in deletion["evidence"]

    await stage.deliver(stage.pull_request(1, action="synchronize", sha="b" * 40, before="a" * 40))
    await stage.handled()
    assert stage.environment("pr-1") is None
    await stage.command(1, "deploy")
    assert (await stage.ready("pr-1"))["spec"]["source"]["commit"] == "b" * 40


async def test_reopening_forgets_a_stop(stage: Stage) -> None:
    await prepared(stage)
    await stage.deliver(stage.pull_request(1))
    await stage.command(1, "stop")
    await stage.until(lambda: stage.environment("pr-1") is None, "stopped")
    await stage.deliver(stage.pull_request(1, action="closed", state="closed"))
    await stage.deliver(stage.pull_request(1, action="reopened"))
    await stage.ready("pr-1")


async def test_an_approval_is_for_one_commit_of_a_fork(stage: Stage) -> None:
    await prepared(stage)
    await stage.deliver(stage.pull_request(2, fork=True))
    await stage.until(lambda: stage.phase("pr-2") == "Waiting", "the fork waits")
    assert "/catalyst approve" in approval(stage, "pr-2")["message"]
    await stage.command(2, "deploy")
    await stage.command(2, "approve", head_sha="b" * 40)
    await stage.handled()
    assert stage.phase("pr-2") == "Waiting"

    await stage.command(2, "approve", head_sha="a" * 40)
    await stage.ready("pr-2")
    assert (stage.environment("pr-2") or {})["spec"]["approval"]["by"] == "lisa"

    await stage.deliver(stage.pull_request(2, fork=True, action="synchronize", sha="c" * 40, before="a" * 40))
    await stage.until(lambda: approval(stage, "pr-2").get("reason") == "Fork", "the new commit waits")
    assert "approval" not in (stage.environment("pr-2") or {})["spec"]


async def test_a_command_that_is_told_before_its_pull_request(stage: Stage) -> None:
    await prepared(stage)
    opened = stage.pull_request(3, draft=True)
    await stage.command(3, "deploy")
    await stage.handled()
    assert stage.environment("pr-3") is None
    await stage.deliver(opened)
    await stage.ready("pr-3")
