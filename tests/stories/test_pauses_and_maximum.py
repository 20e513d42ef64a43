"""Nothing new for now, for a project, a team or everybody; and so many at once, the rest in line."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from stage import Stage

SYSTEM = "catalyst-system"


async def test_a_paused_project_makes_nothing_updates_nothing_and_still_takes_away(stage: Stage) -> None:
    await _begun(stage)
    await stage.deliver(stage.pull_request(1))
    await stage.deliver(stage.pull_request(3))
    await stage.ready("pr-1")
    await stage.ready("pr-3")
    stage.project(paused=True)
    await stage.until(lambda: stage.project_condition("Paused"), "the Project says that it is paused")
    await stage.deliver(stage.pull_request(2))
    waiting = await _waits(stage, "pr-2", "Paused")
    assert f"Project {stage.team}/shop is paused (spec.paused)" in waiting["message"]
    assert "sets that to false" in waiting["message"]
    assert stage.namespace("pr-2") is None
    await stage.deliver(stage.pull_request(1, action="closed", state="closed"))
    await stage.gone("pr-1")
    assert stage.phase("pr-3") == "Provisioned"

    # At rest nothing is written; then everything proceeds, and nobody pushes.
    mark = stage.installation.audit.marker()
    await asyncio.sleep(1)
    assert stage.writes(mark) == []
    stage.project(paused=False)
    ready = await stage.ready("pr-2")
    assert stage.condition(ready, "Admitted")["status"] == "True"
    await stage.until(lambda: not stage.project_condition("Paused"), "the Project does not say so any more")


@pytest.fixture
def unpaused(stage: Stage) -> Iterator[None]:
    yield
    stage.annotate(SYSTEM, paused=None)


@pytest.mark.usefixtures("unpaused")
@pytest.mark.parametrize("everywhere", [False, True])
async def test_a_team_or_everything_is_paused_by_an_annotation(stage: Stage, everywhere: bool) -> None:
    await _begun(stage)
    where = SYSTEM if everywhere else stage.team
    stage.annotate(where, paused="moving the cluster, ask ann")
    await stage.until(lambda: stage.project_condition("Paused"), "the Project says that it is paused")
    await stage.deliver(stage.pull_request(1))
    waiting = await _waits(stage, "pr-1", "Paused")
    assert f"of namespace {where}): moving the cluster, ask ann." in waiting["message"]
    assert stage.namespace("pr-1") is None
    # A push is taken in, and what waits is what was pushed last.
    await stage.deliver(stage.pull_request(1, action="synchronize", sha="b" * 40, before="a" * 40))
    await stage.until(lambda: stage.commit("pr-1") == "b" * 40, "the push is noted")
    stage.annotate(where, paused=None)
    await stage.ready("pr-1")
    assert stage.commit("pr-1") == "b" * 40


async def test_thirty_pull_requests_and_a_maximum_of_five(stage: Stage) -> None:
    await _begun(stage)
    stage.annotate(stage.team, maximum_environments="5")
    mark = stage.installation.audit.marker()
    for number in range(1, 31):
        await stage.deliver(stage.pull_request(number))
    await stage.until(lambda: len(_named(stage, "Waiting")) == 25, "25 stand in line", within=30)
    await stage.until(lambda: len(_named(stage, "Provisioned")) == 5, "five have a place")
    begun = _named(stage, "Provisioned")
    last = stage.condition(stage.environment("pr-30"), "Admitted")
    assert last["reason"] == "MaximumReached"
    assert last["message"].startswith("Position ")
    assert f"the maximum of {stage.team} is 5" in last["message"]
    assert _namespaces(stage) == begun
    # 5 take a handful on their way, 25 are told once where they stand, and not each time another comes.
    told = [write for write in stage.writes(mark) if (write.resource, write.subresource) == ("environments", "status")]
    assert 30 <= len(told) <= 90, len(told)

    # A person comes, who has none: she is next. Then the line, by age.
    await stage.deliver(_of(stage.pull_request(31), "ann"))
    await _waits(stage, "pr-31", "MaximumReached")
    assert stage.condition(stage.environment("pr-31"), "Admitted")["message"].startswith("Position 1 of 26;")
    first = min(set(_all()) - begun - {"pr-31"}, key=_number)
    for following in ("pr-31", first):
        gone = min(_named(stage, "Provisioned"), key=_number)
        await stage.deliver(stage.pull_request(_number(gone), action="closed", state="closed"))
        await stage.until(partial(_is_provisioned, stage, following), f"{following} is next", within=30)
        assert len(_namespaces(stage)) <= 5

    mark = stage.installation.audit.marker()
    await asyncio.sleep(2)
    moved = stage.writes(mark)
    assert len(moved) <= 10, f"a line that moves is told of at leisure: {moved}"

    # Raised, more begin at once; a smaller one takes nothing away; one that is no number lets nothing new begin.
    stage.annotate(stage.team, maximum_environments="7")
    await stage.until(lambda: len(_named(stage, "Provisioned")) == 7, "two more begin")
    stage.annotate(stage.team, maximum_environments="many")
    await _waits(stage, "pr-30", "MaximumInvalid")
    assert "expected a whole number such as 10, found 'many'" in _message(stage, "pr-30")
    assert len(_named(stage, "Provisioned")) == 7
    stage.annotate(stage.team, maximum_environments=None)
    await stage.until(lambda: not _named(stage, "Waiting"), "without a maximum all begin", within=60)


async def _begun(stage: Stage) -> None:
    stage.grant()
    stage.project()
    await stage.accepted()


async def _waits(stage: Stage, name: str, reason: str) -> dict[str, Any]:
    await stage.until(
        lambda: stage.condition(stage.environment(name), "Admitted").get("reason") == reason, f"{name} waits: {reason}"
    )
    assert stage.phase(name) == "Waiting"
    return stage.condition(stage.environment(name), "Admitted")


def _is_provisioned(stage: Stage, name: str) -> bool:
    return stage.phase(name) == "Provisioned"


def _message(stage: Stage, name: str) -> str:
    message: str = stage.condition(stage.environment(name), "Admitted")["message"]
    return message


def _all() -> list[str]:
    return [f"pr-{number}" for number in range(1, 31)]


def _number(name: str) -> int:
    return int(name.removeprefix("pr-"))


def _named(stage: Stage, phase: str) -> set[str]:
    found = stage.get(f"/apis/catalyst.dev/v1alpha1/namespaces/{stage.team}--shop/environments") or {"items": []}
    return {item["metadata"]["name"] for item in found["items"] if item.get("status", {}).get("phase") == phase}


def _namespaces(stage: Stage) -> set[str]:
    selector = f"catalyst.dev/team={stage.team},catalyst.dev/environment"
    found = stage.get(f"/api/v1/namespaces?labelSelector={selector}") or {"items": []}
    return {item["metadata"]["name"].rpartition("--")[2] for item in found["items"]}


def _of(payload: dict[str, Any], author: str) -> dict[str, Any]:
    payload["pull_request"]["user"]["login"] = author
    return payload
