"""What was handed out is taken back before the namespace goes: a missing answer holds the finalizer, and is said.

No service publishes routes or builds yet, so the test hands them out (in the status) and plays both answerers.
"""

from typing import Any

from stage import Stage

from catalyst.events.catalogue import BuildCleaned, EnvironmentName, RouteChanged

HOST = "pr-1.example.test"


async def test_a_missing_answer_holds_the_finalizer(stage: Stage) -> None:
    environment = await _with_a_route_and_a_build(stage)
    uid = environment["metadata"]["uid"]
    await stage.deliver(stage.pull_request(1, action="closed", state="closed"))
    await stage.until(lambda: stage.phase("pr-1") == "Terminating", "it is terminating")
    await stage.until(lambda: _waiting(stage) == (True, True), "both questions are open")
    assert (stage.namespace("pr-1") or {})["status"]["phase"] == "Active"

    name = EnvironmentName(team=stage.team, project="shop", environment="pr-1", uid=uid)
    await stage.answer("builder", BuildCleaned(environment=name), "pr-1")
    await stage.until(lambda: _waiting(stage) == (True, False), "only the route is open")
    assert (stage.namespace("pr-1") or {})["status"]["phase"] == "Active"
    assert "catalyst.dev/environment" in (stage.environment("pr-1") or {})["metadata"]["finalizers"]

    # An answer to another life of that name is no answer.
    other = name.model_copy(update={"uid": "another-life"})
    await stage.answer("dns-proxy", RouteChanged(environment=other, host=HOST, live=False), "pr-1")
    await stage.handled()
    assert _waiting(stage) == (True, False)

    await stage.answer("dns-proxy", RouteChanged(environment=name, host=HOST, live=False), "pr-1")
    await stage.gone("pr-1")


async def test_an_old_answer_does_not_count_for_a_later_question(stage: Stage) -> None:
    environment = await _with_a_route_and_a_build(stage, build=False)
    name = EnvironmentName(team=stage.team, project="shop", environment="pr-1", uid=environment["metadata"]["uid"])
    # "not live" while the environment lives: the route was withdrawn for a moment, say, and came back.
    await stage.answer("dns-proxy", RouteChanged(environment=name, host=HOST, live=False), "pr-1")
    await stage.handled()
    await stage.deliver(stage.pull_request(1, action="closed", state="closed"))
    await stage.until(lambda: _waiting(stage) == (True, False), "the route is asked for")
    assert stage.namespace("pr-1") is not None

    await stage.answer("dns-proxy", RouteChanged(environment=name, host=HOST, live=False), "pr-1")
    await stage.gone("pr-1")


async def _with_a_route_and_a_build(stage: Stage, *, build: bool = True) -> dict[str, Any]:
    stage.grant()
    stage.project()
    await stage.accepted()
    await stage.deliver(stage.pull_request(1))
    await stage.ready("pr-1")
    route = {"host": HOST, "namespace": f"{stage.team}--shop--pr-1", "service": "web", "port": 80}
    status = {"routes": [route], **({"builds": {"web": {"key": "k1", "attempt": 1}}} if build else {})}
    path = f"/apis/catalyst.dev/v1alpha1/namespaces/{stage.team}--shop/environments/pr-1/status"
    stage.patch(path, {"status": status})

    async def said() -> bool:
        return bool((await stage.last_said("pr-1")).get("routes"))

    await stage.until_async(said, "the route is said")
    return await stage.ready("pr-1")


def _waiting(stage: Stage) -> tuple[bool, bool]:
    """(is the route awaited, are the builds awaited), as the condition says it to people."""
    condition = stage.condition(stage.environment("pr-1"), "Terminating")
    if condition.get("reason") != "AwaitingAnswers":
        return False, False
    return f"route {HOST}" in condition["message"], "builds" in condition["message"]
