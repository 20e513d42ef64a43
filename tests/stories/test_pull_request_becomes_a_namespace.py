"""A pull request from its opening to its end, as the people see it who never touch the cluster."""

from stage import Stage

BASELINE = {
    "ResourceQuota": {"environment"},
    "LimitRange": {"environment"},
    "NetworkPolicy": {
        "default-deny",
        "allow-dns",
        "allow-same-namespace",
        "allow-from-edge",
        "allow-egress-to-edge",
        "allow-egress-public",
    },
    "ServiceAccount": {"default", "workload"},
    "RoleBinding": {"catalyst-observer", "catalyst-owner"},
}


async def test_opened_pushed_and_closed(stage: Stage) -> None:
    stage.grant()
    stage.project(development={"quota": {"pods": "7"}, "limits": {"max": {"cpu": "1"}}})
    await stage.accepted()
    before = stage.everything()

    # Opened: 202, and within a second the environment and its whole baseline.
    answer = await stage.deliver(stage.pull_request(42, sha="a" * 40))
    assert answer.status_code == 202
    took = await stage.until(lambda: stage.phase("pr-42") == "Provisioned", "pr-42 is provisioned")
    assert took < 1.0

    environment = await stage.ready("pr-42")
    assert environment["spec"]["source"]["commit"] == "a" * 40
    assert environment["spec"]["source"]["pullRequest"]["number"] == 42
    assert {stage_["name"] for stage_ in environment["status"]["stages"]} == {"Accepted", "Namespace", "Baseline"}
    assert all("finishedAt" in stage_ for stage_ in environment["status"]["stages"])
    for kind, names in BASELINE.items():
        assert stage.names_of(kind, "pr-42") == names, kind

    # The Project's own numbers, among the defaults.
    quota = stage.object("ResourceQuota", "pr-42", "environment")["spec"]["hard"]
    assert (quota["pods"], quota["services.nodeports"], quota["requests.cpu"]) == ("7", "0", "2")
    limits = stage.object("LimitRange", "pr-42", "environment")["spec"]["limits"][0]
    assert (limits["max"]["cpu"], limits["max"]["memory"]) == ("1", "4Gi")

    # Pushed: the same environment, the new commit.
    await stage.deliver(stage.pull_request(42, action="synchronize", sha="b" * 40, before="a" * 40))
    await stage.until(lambda: stage.commit("pr-42") == "b" * 40, "the new commit is recorded")
    updated = await stage.ready("pr-42")
    assert updated["metadata"]["uid"] == environment["metadata"]["uid"]
    assert updated["status"]["namespace"] == environment["status"]["namespace"]

    # Closed: everything goes.
    await stage.deliver(stage.pull_request(42, action="closed", state="closed", merged=True, sha="b" * 40))
    await stage.gone("pr-42")
    assert stage.everything() - before == frozenset()

    # What was said about it, in order, ends with Gone.
    phases = await stage.phases_said("pr-42")
    assert phases[0] in ("Pending", "Provisioning")
    assert phases[-3:] == ["Provisioned", "Terminating", "Gone"]


async def test_reopened_it_comes_back_as_a_new_one(stage: Stage) -> None:
    stage.grant()
    stage.project()
    await stage.accepted()
    await stage.deliver(stage.pull_request(7))
    first = await stage.ready("pr-7")

    # Reopened while the old one is still going: the new one waits, then comes.
    await stage.deliver(stage.pull_request(7, action="closed", state="closed"))
    await stage.until(lambda: stage.is_going("pr-7"), "the old one is going")
    await stage.deliver(stage.pull_request(7, action="reopened"))
    await stage.until(lambda: stage.uid("pr-7") not in (None, first["metadata"]["uid"]), "a new pr-7", within=20)
    second = await stage.ready("pr-7")
    assert second["status"]["namespace"]["uid"] != first["status"]["namespace"]["uid"]


async def test_a_late_opened_after_closed_brings_nothing_back(stage: Stage) -> None:
    stage.grant()
    stage.project()
    await stage.accepted()
    opened, late = stage.pull_request(8), stage.pull_request(8, action="labeled", labels=["late"])
    closed = stage.pull_request(8, action="closed", state="closed")
    await stage.deliver(opened)
    await stage.ready("pr-8")
    await stage.deliver(closed)
    await stage.gone("pr-8")

    for delivery in (late, opened):
        answer = await stage.deliver(delivery)
        assert answer.status_code == 202
    await stage.handled()
    assert stage.environment("pr-8") is None
    assert stage.namespace("pr-8") is None


async def test_a_redelivery_changes_nothing(stage: Stage) -> None:
    stage.grant()
    stage.project()
    await stage.accepted()
    payload = stage.pull_request(9)
    await stage.deliver(payload, delivery=f"{stage.team}-again")
    await stage.ready("pr-9")
    mark = stage.installation.audit.marker()

    answer = await stage.deliver(payload, delivery=f"{stage.team}-again")
    assert answer.status_code == 202
    assert answer.json()["result"] == "duplicate"
    await stage.handled()
    assert stage.writes(mark) == []
