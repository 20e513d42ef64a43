"""No forge, no webhook: `kubectl apply` of an Environment does all that a pull request does."""

from datetime import UTC, datetime, timedelta

from stage import Stage


async def test_applied_used_and_deleted(stage: Stage) -> None:
    stage.grant()
    stage.project()
    await stage.accepted()
    before = stage.everything()
    stage.apply_environment("playground", source={"branch": "main"})
    found = await stage.ready("playground")
    assert stage.names_of("ResourceQuota", "playground") == {"environment"}
    assert found["metadata"]["finalizers"] == ["catalyst.dev/environment"]

    stage.delete(f"/apis/catalyst.dev/v1alpha1/namespaces/{stage.team}--shop/environments/playground")
    await stage.gone("playground")
    assert stage.everything() - before == frozenset()


async def test_it_expires(stage: Stage) -> None:
    stage.grant()
    stage.project()
    await stage.accepted()
    soon = datetime.now(UTC) + timedelta(seconds=4)
    stage.apply_environment("brief", source={"branch": "main"}, expiresAt=f"{soon:%Y-%m-%dT%H:%M:%SZ}")
    await stage.ready("brief")
    await stage.gone("brief", within=25)
    assert datetime.now(UTC) >= soon.replace(microsecond=0)
    last = await stage.last_said("brief")
    assert (last["phase"], last["deletion"]["reason"]) == ("Gone", "Expired")


async def test_an_expired_pull_request_stays_gone_until_somebody_pushes(stage: Stage) -> None:
    stage.grant()
    stage.project(development={"ttl": "4s"})
    await stage.accepted()
    await stage.deliver(stage.pull_request(1, sha="a" * 40))
    await stage.ready("pr-1")
    await stage.gone("pr-1", within=25)
    await stage.deliver(stage.pull_request(1, action="labeled", labels=["x"], sha="a" * 40))
    await stage.handled()
    assert stage.environment("pr-1") is None
    await stage.deliver(stage.pull_request(1, action="synchronize", sha="b" * 40, before="a" * 40))
    await stage.ready("pr-1")


async def test_a_project_that_is_not_there_yet(stage: Stage) -> None:
    stage.grant()
    stage.project()
    await stage.accepted()
    stage.apply_environment("early", projectRef={"team": stage.team, "name": "shop"}, source={"branch": "main"})
    await stage.ready("early")


async def test_a_namespace_that_is_taken_is_never_adopted(stage: Stage) -> None:
    stage.grant()
    stage.project()
    await stage.accepted()
    taken = f"{stage.team}--shop--mine"
    stage.installation.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": taken}})
    stage.apply_environment("mine", source={"branch": "main"})
    await stage.until(lambda: stage.phase("mine") == "Failed", "the name is refused")
    condition = stage.condition(stage.environment("mine"), "NamespaceReady")
    assert condition["reason"] == "NamespaceTaken"
    assert taken in condition["message"]
    assert stage.names_of("ResourceQuota", "mine") == set()

    stage.delete(f"/apis/catalyst.dev/v1alpha1/namespaces/{stage.team}--shop/environments/mine")
    await stage.until(lambda: stage.environment("mine") is None, "the Environment goes")
    assert (stage.namespace("mine") or {})["status"]["phase"] == "Active"
