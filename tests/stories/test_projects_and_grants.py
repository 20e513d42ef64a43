"""Several Projects on one repository, repositories that were not granted, and Projects that come, change and go."""

from stage import Stage


async def test_two_projects_share_a_repository(stage: Stage) -> None:
    stage.grant()
    stage.project("shop")
    stage.project("docs", repository=stage.repository.upper())  # GitHub does not tell cases apart
    await stage.accepted("shop")
    await stage.accepted("docs")
    await stage.deliver(stage.pull_request(1))
    shop, docs = await stage.ready("pr-1", "shop"), await stage.ready("pr-1", "docs")
    assert shop["status"]["namespace"]["name"] != docs["status"]["namespace"]["name"]

    await stage.deliver(stage.pull_request(1, action="closed", state="closed"))
    await stage.gone("pr-1", "shop")
    await stage.gone("pr-1", "docs")


async def test_a_repository_that_was_not_granted(stage: Stage) -> None:
    stage.grant("github/somebody-else/*")
    stage.project()
    await stage.until(lambda: stage.project_condition("Accepted").get("status") == "False", "the Project is refused")
    refused = stage.project_condition("Accepted")
    assert refused["reason"] == "RepositoryNotGranted"
    assert f"github/{stage.repository}" in refused["message"]
    assert "catalyst.dev/repositories" in refused["message"]

    answer = await stage.deliver(stage.pull_request(1))
    assert answer.status_code == 202
    await stage.handled()
    assert stage.get(f"/api/v1/namespaces/{stage.team}--shop") is None

    # Granted later: the pull request that is still open gets its environment, nobody has to push again.
    stage.grant()
    await stage.ready("pr-1")


async def test_a_grant_that_is_taken_back_refuses_what_is_there_and_leaves_it_standing(stage: Stage) -> None:
    stage.grant()
    stage.project()
    await stage.accepted()
    await stage.deliver(stage.pull_request(1))
    await stage.ready("pr-1")
    stage.grant("github/somebody-else/*")
    await stage.until(lambda: stage.phase("pr-1") == "Failed", "it is refused")
    refused = stage.condition(stage.environment("pr-1"), "Accepted")
    assert (refused["status"], refused["reason"]) == ("False", "RepositoryNotGranted")
    assert (stage.namespace("pr-1") or {})["status"]["phase"] == "Active"
    stage.grant()
    await stage.ready("pr-1")


async def test_a_repository_nobody_has_heard_of(stage: Stage) -> None:
    answer = await stage.deliver(stage.pull_request(1))
    assert answer.status_code == 202
    await stage.handled()
    assert stage.get(f"/api/v1/namespaces/{stage.team}") is None

    # A Project that is created afterwards finds the pull request that is still open.
    stage.grant()
    stage.project()
    await stage.ready("pr-1")


async def test_a_field_nothing_implements_is_named_and_the_baseline_is_made(stage: Stage) -> None:
    stage.grant()
    stage.project(
        deployments=[{"name": "staging", "branch": "main"}],
        development={"sleep": {"after": "1h"}},
    )
    await stage.accepted()
    supported = stage.project_condition("Supported")
    assert (supported["status"], supported["reason"]) == ("False", "NotImplemented")
    assert "spec.deployments, spec.development.sleep" in supported["message"]
    await stage.deliver(stage.pull_request(1))
    ready = await stage.ready("pr-1")
    assert "spec.deployments" in stage.condition(ready, "Supported")["message"]


async def test_an_unsafe_field_is_refused_and_nothing_is_made(stage: Stage) -> None:
    stage.grant()
    stage.project(development={"egress": [{"cidr": "169.254.169.254/32"}]})
    await stage.until(lambda: stage.project_condition("Accepted").get("status") == "False", "the Project is refused")
    assert stage.project_condition("Accepted")["reason"] == "UnsafeEgress"
    await stage.deliver(stage.pull_request(1))
    await stage.handled()
    assert stage.environments() == set()

    # The allowed twin differs in the address only.
    stage.project(development={"egress": [{"cidr": "10.1.2.3/32"}]})
    await stage.ready("pr-1")
    rules = stage.object("NetworkPolicy", "pr-1", "allow-egress-listed")["spec"]["egress"]
    assert rules == [{"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}]}]


async def test_a_changed_project_changes_its_environments(stage: Stage) -> None:
    stage.grant()
    stage.project(development={"quota": {"pods": "5"}, "egress": [{"cidr": "10.1.2.3/32"}]})
    await stage.accepted()
    await stage.deliver(stage.pull_request(1))
    await stage.ready("pr-1")
    stage.project(development={"quota": {"pods": "6"}})

    def quota() -> str:
        pods: str = stage.object("ResourceQuota", "pr-1", "environment")["spec"]["hard"]["pods"]
        return pods

    await stage.until(lambda: quota() == "6", "the new quota")
    await stage.until(lambda: "allow-egress-listed" not in stage.names_of("NetworkPolicy", "pr-1"), "the old rule goes")


async def test_a_deleted_project_takes_its_environments_along(stage: Stage) -> None:
    stage.grant()
    before = stage.everything()
    stage.project()
    await stage.accepted()
    await stage.deliver(stage.pull_request(1))
    await stage.ready("pr-1")
    stage.delete(f"/apis/catalyst.dev/v1alpha1/namespaces/{stage.team}/projects/shop")
    await stage.until(lambda: stage.get(f"/api/v1/namespaces/{stage.team}--shop") is None, "all is gone", within=40)
    await stage.until(lambda: stage.everything() - before == frozenset(), "nothing is left", within=40)

    # Made again, it finds the pull request that is still open.
    stage.project()
    await stage.ready("pr-1")
