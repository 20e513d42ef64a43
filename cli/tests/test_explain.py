"""Each `no` of `catalyst explain` beside a `yes` that differs in that alone; and that the answer is the decision's."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from makers import (
    GRANTS,
    NOW,
    PLATFORM,
    A,
    B,
    at,
    command,
    environment,
    environment_manifest,
    fact,
    project_manifest,
)

from catalyst.cli.core.explain import Explanation, Line, Seen, explain
from catalyst.cli.core.hidden import Hidden
from catalyst.env_controller.core.platform import Platform
from catalyst.env_controller.core.world import Observed
from catalyst.model import labels
from catalyst.model.manifest import Ref
from catalyst.model.project import Project
from catalyst.model.snapshot import snapshot_of

READY = {
    "observedGeneration": 1,
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Ready",
            "message": "Environments may be made.",
            "lastTransitionTime": "2026-11-23T19:00:00Z",
        }
    ],
}
TEAM = {labels.REPOSITORIES: " ".join(GRANTS)}
WITH_REGISTRY = Platform(registry="registry.example.org")


def project(
    *, status: Mapping[str, Any] | None = READY, metadata: Mapping[str, Any] | None = None, **spec: Any
) -> Project:
    manifest = project_manifest(**spec)
    manifest["metadata"] |= metadata or {}
    return Project.parse({**manifest, **({"status": status} if status else {})})


def seen(**fields: Any) -> Seen:
    """Everything is as it should be."""
    best = Seen("acme", "shop", WITH_REGISTRY, project(), TEAM, {}, facts=(fact("d-1"),))
    return replace(best, **fields)


def of(**fields: Any) -> Explanation:
    return explain(seen(**fields), at(60))


def rules(**of_pull_requests: Any) -> Project:
    return project(triggers={"pullRequests": of_pull_requests})


def not_ready(reason: str, message: str) -> Project:
    condition = {**READY["conditions"][0], "status": "False", "reason": reason, "message": message}  # type: ignore[index]
    return project(status={**READY, "conditions": [condition]})


def others(*owners: str, begun: bool = True) -> Line:
    """Environments of the team, a second apart, before that one."""
    manifests = [
        environment_manifest(
            f"pr-{number}",
            metadata={"uid": f"uid-{number}", "creationTimestamp": f"2026-11-23T19:00:{number:02}Z"},
            owner=owner,
        )
        for number, owner in enumerate(owners, 1)
    ]
    return Line(manifests, frozenset(each["metadata"]["uid"] for each in manifests) if begun else frozenset())


FULL = {"team_notes": {**TEAM, labels.MAXIMUM: "2"}, "line": others("mona", "hubot")}
HIDDEN = Hidden("it may not be read", "the right to read it")

# what is otherwise, the twin that is yes, the check that says so, its answer, what it says, the remedy
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str, str, str, str]] = {
    "no namespace": (
        {"team_notes": None, "project": None},
        {},
        "team",
        "no",
        "There is no namespace acme",
        "kubectl create namespace acme && kubectl label namespace acme catalyst.dev/team=acme",
    ),
    "no project": (
        {"project": None, "others": ("shopp",)},
        {},
        "project",
        "no",
        "There are: shopp.",
        "docs/onboarding.md",
    ),
    "not granted": (
        {"team_notes": {labels.REPOSITORIES: "github/acme/other"}},
        {"team_notes": {labels.REPOSITORIES: "github/acme/other github/acme/shop"}},
        "repository",
        "no",
        "github/acme/shop is not granted to team acme (granted: github/acme/other)",
        "kubectl annotate namespace acme --overwrite catalyst.dev/repositories='github/acme/other github/acme/shop'",
    ),
    "granted nothing": ({"team_notes": {}}, {}, "repository", "no", "granted: none", "=github/acme/shop"),
    "another repository": (
        {"facts": (fact("d-1", repository=fact("d").data.repository.model_copy(update={"full_name": "acme/blog"})),)},
        {},
        "repository",
        "no",
        "The pull request is of github/acme/blog",
        "spec.source.repository",
    ),
    "unsafe": (
        {"project": project(development={"quota": {"services.nodeports": 1}})},
        {"project": project(development={"quota": {"services.nodeports": 0}})},
        "settings",
        "no",
        "spec.development.quota[services.nodeports]: must stay 0",
        "development.quota",
    ),
    "not looked at": (
        {"project": project(status=None)},
        {},
        "ready",
        "no",
        "has not looked at",
        "kubectl get deployment",
    ),
    "an older version looked at": (
        {"project": project(metadata={"generation": 2})},
        {"project": project(metadata={"generation": 1})},
        "ready",
        "no",
        "has not looked at this version",
        "env-controller",
    ),
    "namespace taken": (
        {"project": not_ready("NamespaceTaken", "Namespace acme--shop exists and does not belong to this Project")},
        {},
        "ready",
        "no",
        "Namespace acme--shop exists",
        "belongs to somebody else",
    ),
    "going": (
        {"project": project(metadata={"deletionTimestamp": "2026-11-23T19:00:00Z"})},
        {},
        "ready",
        "no",
        "is being deleted",
        "again",
    ),
    "closed": ({"facts": (fact("d-1", state="closed"),)}, {}, "open", "no", "is closed", "reopen"),
    "disabled": (
        {"project": rules(enabled=False)},
        {"project": rules(enabled=True)},
        "triggers",
        "no",
        "enabled",
        "true",
    ),
    "no forks": (
        {"project": rules(forks="Never"), "facts": (fact("d-1", fork=True),)},
        {"project": rules(forks="Never")},
        "triggers",
        "no",
        "forks is Never",
        "Approval or Always",
    ),
    "a label lacks": (
        {"project": rules(labels={"require": ["preview"]})},
        {"project": rules(labels={"require": ["preview"]}), "facts": (fact("d-1", labels=("preview",)),)},
        "triggers",
        "no",
        "lacks the labels preview",
        "labels.require",
    ),
    "a label excludes": (
        {"project": rules(labels={"exclude": ["wip"]}), "facts": (fact("d-1", labels=("wip",)),)},
        {"project": rules(labels={"exclude": ["wip"]})},
        "triggers",
        "no",
        "excluded labels wip",
        "labels.exclude",
    ),
    "another base": (
        {"project": rules(baseBranches=["release/*"])},
        {"project": rules(baseBranches=["release/*", "main"])},
        "triggers",
        "no",
        "base branch main fits none",
        "pattern",
    ),
    "stopped": (
        {"commands": (command("c-1", "stop", given_at=at(1)),)},
        {"commands": (command("c-1", "stop", given_at=at(1)), command("c-2", "deploy", given_at=at(2)))},
        "triggers",
        "no",
        "Stopped by lisa",
        "/catalyst deploy",
    ),
    "a draft": (
        {"facts": (fact("d-1", draft=True),)},
        {"facts": (fact("d-1", draft=True),), "commands": (command("c-1"),)},
        "approval",
        "waits",
        "This is a draft",
        "/catalyst deploy",
    ),
    "a fork": (
        {"facts": (fact("d-1", fork=True, head=A),)},
        {"facts": (fact("d-1", fork=True, head=A),), "commands": (command("c-1", "approve"),)},
        "approval",
        "waits",
        "comes from a fork",
        "/catalyst approve",
    ),
    "another commit of a fork": (
        {"facts": (fact("d-1", fork=True, head=B),), "commands": (command("c-1", "approve"),)},
        {"facts": (fact("d-1", fork=True, head=A),), "commands": (command("c-1", "approve"),)},
        "approval",
        "waits",
        "approve this commit",
        "/catalyst approve",
    ),
    "paused": (
        {"project": project(paused=True)},
        {"project": project(paused=False)},
        "pause",
        "waits",
        "Project acme/shop is paused",
        """kubectl patch project shop --namespace acme --type merge --patch '{"spec": {"paused": false}}'""",
    ),
    "the team paused": (
        {"team_notes": {**TEAM, labels.PAUSED: "an audit"}},
        {"team_notes": {**TEAM, labels.PAUSED: "false"}},
        "pause",
        "waits",
        "Team acme is paused (annotation catalyst.dev/paused of namespace acme): an audit",
        "kubectl annotate namespace acme catalyst.dev/paused-",
    ),
    "all paused": (
        {"system_notes": {labels.PAUSED: "an upgrade"}},
        {"system_notes": None},
        "pause",
        "waits",
        "Catalyst is paused everywhere",
        "kubectl annotate namespace catalyst-system catalyst.dev/paused-",
    ),
    "no place": (
        FULL,
        {**FULL, "team_notes": {**TEAM, labels.MAXIMUM: "3"}},
        "place",
        "waits",
        "Position 1 of 1; the maximum of acme is 2",
        "kubectl annotate namespace acme --overwrite catalyst.dev/maximum-environments=3",
    ),
    "a maximum that is none": (
        {"team_notes": {**TEAM, labels.MAXIMUM: "few"}},
        {"team_notes": {**TEAM, labels.MAXIMUM: "5"}},
        "place",
        "waits",
        "expected a whole number such as 10, found 'few'",
        "catalyst.dev/maximum-environments=10",
    ),
    "a hidden team": ({"team_notes": HIDDEN}, {}, "team", "unknown", "may not be read", "the right"),
    "hidden settings": ({"platform": HIDDEN}, {}, "settings", "unknown", "may not be read", "the right"),
    "hidden pauses": ({"system_notes": HIDDEN}, {}, "pause", "unknown", "may not be read", "the right"),
    "a hidden line": (
        {**FULL, "line": HIDDEN},
        {"line": HIDDEN},  # without a maximum nobody needs it
        "place",
        "unknown",
        "may not be read",
        "the right",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_no_beside_its_yes(case: str) -> None:
    otherwise, twin, name, answer, says, remedy = CASES[case]
    good, found = of(**twin), of(**otherwise)
    assert (good.answer, [c.name for c in good.checks if c.answer != "yes"]) == ("yes", [])
    assert good.checks[-1].name == "decision"
    assert found.answer == answer
    (check,) = [check for check in found.checks if check.name == name]
    assert check.answer == answer
    assert says in check.found
    assert remedy in check.remedy
    assert (found.because, found.remedy) == (check.found, check.remedy)
    assert {c.name for c in found.checks if c.answer not in ("yes", answer)} == set()


def test_every_obstacle_is_told_at_once() -> None:
    found = of(
        project=project(paused=True, triggers={"pullRequests": {"labels": {"require": ["preview"]}}}), team_notes={}
    )
    assert {check.name: check.answer for check in found.checks if check.answer != "yes"} == {
        "repository": "no",
        "triggers": "no",
        "pause": "waits",
        "decision": "no",
    }
    assert found.answer == "no"


def test_what_would_be_made() -> None:
    components = [
        {"name": "web", "build": {"context": "web"}, "ports": [{"containerPort": 80}], "expose": {"port": 80}},
        {
            "name": "api",
            "build": {"dockerfile": "api/Dockerfile"},
            "ports": [{"containerPort": 81}],
            "expose": {"port": 81},
        },
        {"name": "mail", "image": "mailpit:1"},
    ]
    shop = project(
        components=components,
        services=[{"name": "db", "engine": "postgres", "version": "16"}, {"name": "files", "engine": "s3"}],
        secrets=[{"name": "stripe"}, {"name": "open", "forks": True}],
        development={"ttl": "48h"},
    )
    plan = of(project=shop, platform=Platform(registry="r", zone="preview.example.org", public_port=8443)).plan
    assert plan is not None
    assert plan.namespace == "acme--shop--pr-42"
    assert plan.url == "https://pr-42--shop--acme.preview.example.org:8443/"
    assert [(c.name, c.image, dict(c.build), c.url) for c in plan.components] == [
        (
            "web",
            None,
            {"dockerfile": "Dockerfile", "context": "web"},
            "https://pr-42--shop--acme.preview.example.org:8443",
        ),
        (
            "api",
            None,
            {"dockerfile": "api/Dockerfile", "context": "."},
            "https://api--pr-42--shop--acme.preview.example.org:8443",
        ),
        ("mail", "mailpit:1", {}, None),
    ]
    assert [(s.name, s.image) for s in plan.services] == [("db", "postgres:16")]
    assert plan.secrets == ("stripe", "open")
    assert plan.expires_at is not None
    assert plan.expires_at > at(48 * 3600)
    assert plan.notes == ("Not implemented yet, and without effect: Project spec.services[].engine: s3.",)
    fork = of(project=shop, facts=(fact("d-1", fork=True),)).plan  # held, and told all the same
    assert fork is not None
    assert fork.secrets == ("open",)
    assert "Secrets that the Project does not share with this one: stripe." in fork.notes


def test_without_a_registry_it_says_that_nothing_is_built() -> None:
    with_one, without = of().plan, of(platform=PLATFORM).plan
    assert with_one is not None
    assert without is not None
    assert with_one.notes == ()
    assert "CATALYST_REGISTRY is missing" in without.notes[0]


# What is there already


def test_one_that_runs_has_its_environment_whatever_the_line() -> None:
    runs = environment(
        status={"phase": "Ready", "namespace": {"name": "acme--shop--pr-42", "uid": "n"}},
        source={"branch": "basket", "commit": A, "pullRequest": {"number": 42}},
    )
    home = Observed(
        Ref("v1", "Namespace", "", "acme--shop--pr-42", "n"), {labels.ENVIRONMENT_UID: "uid-of-environment"}
    )
    found = of(existing=runs, home=home, **FULL)
    assert found.answer == "yes"
    assert "in phase Ready" in found.because
    gone = of(existing=runs, home=home, project=rules(labels={"require": ["preview"]}))
    assert gone.answer == "no"
    assert "goes: TriggerWithdrawn" in gone.checks[-1].found


def test_one_that_waits_keeps_its_place_in_the_line() -> None:
    mine = environment(source={"commit": A, "pullRequest": {"number": 42}}, owner="octocat")
    line = others("mona", "hubot", "lisa", begun=False)
    waits = of(existing=mine, team_notes={**TEAM, labels.MAXIMUM: "1"}, line=line)
    assert "Position 3 of 3" in waits.because
    assert of(existing=mine, team_notes={**TEAM, labels.MAXIMUM: "4"}, line=line).answer == "yes"


def test_a_foreign_namespace_is_in_the_way() -> None:
    """No line of its own: the decision says it."""
    home = Observed(Ref("v1", "Namespace", "", "acme--shop--pr-42", "n"))
    found = of(home=home)
    assert (found.answer, found.checks[-1].name) == ("no", "decision")
    assert "Namespace acme--shop--pr-42 exists and does not belong to this Environment" in found.because
    assert of(home=None).answer == "yes"


def test_what_expired_in_this_round_stays_gone() -> None:
    was = environment(
        source={"branch": "basket", "commit": A, "pullRequest": {"number": 42, "openedAt": "2026-11-23T20:00:00Z"}},
        deletion={"reason": "Expired", "at": "2026-11-23T20:00:10Z", "evidence": "its time"},
        status={"phase": "Gone"},
    )
    last = snapshot_of(was, project())
    facts = (fact("d-1", head=A, action="opened"),)
    found = of(last=last, facts=facts)
    assert found.answer == "no"
    assert "is gone (Expired)" in found.because
    assert of(last=last, facts=facts, commands=(command("c-1", given_at=at(20)),)).answer == "yes"
    assert of(last=last, facts=(fact("d-1", head=B, action="opened"),)).answer == "yes"


def test_no_fact_is_no_pull_request() -> None:
    with pytest.raises(ValueError, match="no fact"):
        explain(seen(facts=()), NOW)
