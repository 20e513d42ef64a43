"""Secrets that a team, a project and an environment's owners share: they reach the pods, the strongest counts, as does
each rotation and withdrawal; a fork gets none, and no value is ever said.

There is no node here: a test sees the Deployments and the pods that real controllers make of them.
"""

import asyncio
import base64
import itertools
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from stage import PATIENCE, Stage

from catalyst.env_controller.core import shares
from catalyst.env_controller.core.sharing import CONDITION
from catalyst.env_controller.effects.cluster import Cluster

WEB = {"name": "web", "image": "nginx"}
SHARES = [{"name": "stripe"}]
COPY = shares.copy_name("stripe")


class Sharing:
    """One pull request of a stage whose Project shares a Secret."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.team = stage.team
        self.project = f"{stage.team}--shop"
        self.own = f"{stage.team}--shop--pr-1"
        self.canaries: list[str] = []
        self._looks = itertools.count(1)

    async def opened(self, *, fork: bool = False, **spec: Any) -> None:
        self.stage.grant()
        self.stage.project(**{"components": [WEB], "secrets": SHARES, **spec})
        await self.stage.accepted()
        await self.stage.deliver(self.stage.pull_request(1, fork=fork))

    def share(self, where: str, **values: str) -> None:
        """As `kubectl create secret generic stripe`, or anew with other values. All of them are canaries."""
        self.canaries += values.values()
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        kept_by_kubectl = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"data": data})}
        metadata = {"name": "stripe", "namespace": where, "annotations": kept_by_kubectl}
        self.stage.installation.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})

    def withdraw(self, where: str) -> None:
        self.stage.delete(f"/api/v1/namespaces/{where}/secrets/stripe")

    def let_in(self) -> None:
        """What the message tells the platform's people to do for the team's namespace."""
        self.stage.installation.apply(shares.binding(self.team, {}, shares.READER, "catalyst-system"))

    def look(self) -> None:
        if self.stage.environment("pr-1") is None:
            return
        note = {"metadata": {"annotations": {"example.test/look": str(next(self._looks))}}}
        self.stage.patch(f"/apis/catalyst.dev/v1alpha1/namespaces/{self.project}/environments/pr-1", note)

    async def sees(self, holds: Callable[[], Any], what: str) -> None:
        """Nobody tells of a rotation; whoever does not want to wait touches the Environment."""
        ends = time.monotonic() + PATIENCE
        while not holds():
            if time.monotonic() > ends:
                pytest.fail(f"not within {PATIENCE:g} s: {what}; {json.dumps(self.status())}")
            self.look()
            await asyncio.sleep(0.2)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = (self.stage.environment("pr-1") or {}).get("status", {})
        return found

    def condition(self, kind: str = CONDITION) -> dict[str, Any]:
        return self.stage.condition(self.stage.environment("pr-1"), kind)

    def copied(self) -> dict[str, str] | None:
        found = self.stage.get(f"/api/v1/namespaces/{self.own}/secrets/{COPY}")
        return found and {key: base64.b64decode(text).decode() for key, text in found["data"].items()}

    def template(self) -> dict[str, Any]:
        found = self.stage.get(f"/apis/apps/v1/namespaces/{self.own}/deployments/web")
        return found["spec"]["template"] if found else {}

    def version(self) -> str | None:
        version: str | None = self.template().get("metadata", {}).get("annotations", {}).get("catalyst.dev/secrets")
        return version

    def sources(self) -> list[str]:
        """What every container of the component takes its variables from."""
        containers = self.template().get("spec", {}).get("containers", [{}])
        return [each["secretRef"]["name"] for each in containers[0].get("envFrom", [])]

    def pods(self) -> list[dict[str, Any]]:
        found = self.stage.get(f"/api/v1/namespaces/{self.own}/pods") or {"items": []}
        return [item for item in found["items"] if "deletionTimestamp" not in item["metadata"]]

    async def said(self) -> str:
        """Everything that was said of this team: events, dead letters, resources, workloads."""
        streams = [("EVENTS", f"env.{self.team}.>"), ("STATE", f"env.{self.team}.>"), ("DEAD", "dead.>")]
        events = [await self.stage._operator.events(stream, subject) for stream, subject in streams]
        kinds = ("environments", "projects")
        resources = [self.stage.get(f"/apis/catalyst.dev/v1alpha1/{kind}") for kind in kinds]
        resources += [self.stage.get("/apis/apps/v1/deployments"), self.stage.get("/api/v1/events")]
        assert events[0], "something was said"
        return json.dumps([events, resources])

    def found_in(self, text: str) -> list[str]:
        """Which canaries are in it, raw or as base64 at any offset."""
        return [canary for canary in self.canaries if any(form in text for form in spellings(canary))]


def spellings(canary: str) -> list[str]:
    encoded = [base64.b64encode(b"." * offset + canary.encode()).decode() for offset in range(3)]
    return [canary, *(text[(0, 2, 3)[offset] :].rstrip("=")[:-1] for offset, text in enumerate(encoded))]


async def test_it_reaches_the_pods_the_strongest_counts_and_no_value_is_said(
    stage: Stage, capfd: pytest.CaptureFixture[str]
) -> None:
    on = Sharing(stage)
    stage.grant()
    before = stage.everything()
    stage.project(components=[WEB], secrets=SHARES)
    await stage.accepted()
    on.let_in()
    on.share(on.team, A="canary-team-aaaa", B="canary-team-bbbb", C="canary-team-cccc")
    on.share(on.project, B="canary-project-bbbb", C="canary-project-cccc")
    await stage.deliver(stage.pull_request(1))

    # Team, over it the project: one copy, in the pod of a real ReplicaSet.
    both = {"A": "canary-team-aaaa", "B": "canary-project-bbbb", "C": "canary-project-cccc"}
    await on.sees(lambda: on.copied() == both and on.pods(), "the copy and the pod")
    (pod,) = on.pods()
    assert pod["spec"]["containers"][0]["envFrom"] == [{"secretRef": {"name": COPY}}]
    await stage.until(lambda: on.condition().get("reason") == "Shared", "it is said")
    assert on.condition()["message"] == "Given: stripe."
    assert (
        stage.condition(stage.get(f"/apis/catalyst.dev/v1alpha1/namespaces/{on.team}/projects/shop"), "Supported")[
            "status"
        ]
        == "True"
    )
    first = on.version()
    assert first

    # Over it the owners' own, and each change makes the pods anew.
    on.share(on.own, C="canary-owner-cccc")
    await on.sees(lambda: on.copied() == {**both, "C": "canary-owner-cccc"}, "the owners' own counts")
    await stage.until(lambda: on.version() not in (first, None), "its pods are made anew")
    second = on.version()
    await stage.until(
        lambda: len({each["metadata"]["labels"]["pod-template-hash"] for each in on.pods()}) == 2, "a pod"
    )

    # Rotated: a new value, and the pods with it. At rest nothing is written.
    on.share(on.project, B="canary-rotated-bbbb", C="canary-rotated-cccc")
    rotated = {"A": "canary-team-aaaa", "B": "canary-rotated-bbbb", "C": "canary-owner-cccc"}
    await on.sees(lambda: on.copied() == rotated, "the rotated value")
    await stage.until(lambda: on.version() not in (first, second), "its pods are made anew")
    third = on.version()
    await stage.until(lambda: on.condition().get("reason") == "Shared", "it is said")
    mark = stage.installation.audit.marker()
    for _ in range(3):
        on.look()
        await asyncio.sleep(0.3)
    assert [write for write in stage.writes(mark) if "environments" not in str(write)] == []
    assert on.version() == third

    # Whoever deletes the copy gets it back.
    stage.delete(f"/api/v1/namespaces/{on.own}/secrets/{COPY}")
    await on.sees(lambda: on.copied() == rotated, "the copy is back")
    assert on.version() == third

    # Withdrawn, one by one; the last one leaves nothing behind, and that is said. What runs, runs without it.
    on.withdraw(on.own)
    await on.sees(lambda: (on.copied() or {}).get("C") == "canary-rotated-cccc", "the project's counts again")
    on.withdraw(on.project)
    await on.sees(lambda: (on.copied() or {}).get("B") == "canary-team-bbbb", "the team's counts again")
    on.withdraw(on.team)
    await on.sees(lambda: on.copied() is None and on.sources() == [], "nothing is given")
    await stage.until(lambda: on.condition().get("reason") == "SecretNotFound", "it is said")
    assert f"kubectl create secret generic stripe --namespace {on.project}" in on.condition()["message"]
    assert on.condition("Ready")["reason"] == "SecretNotFound"

    # Back again; then the Project shares it no more.
    on.share(on.project, B="canary-again-bbbb")
    await on.sees(lambda: on.sources() == [COPY], "given again")
    await stage.until(lambda: on.condition().get("reason") == "Shared", "it is said")
    stage.project(components=[WEB], secrets=[])
    await stage.until(lambda: on.copied() is None and on.sources() == [], "taken back")
    right = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{{}}/rolebindings/{shares.BINDING}"
    rights = [right.format(where) for where in (on.own, on.project)]
    await stage.until(lambda: not any(map(stage.get, rights)), "our rights go, too")
    await stage.until(lambda: on.condition() == {}, "nothing more is said of it")

    # No canary anywhere but in Secrets; and the search would find one.
    said, logs = await on.said(), "".join(capfd.readouterr())
    assert "environment created" in logs
    assert on.found_in(said + logs) == []
    assert on.found_in(json.dumps(stage.get(f"/api/v1/namespaces/{on.project}/secrets/stripe"))) == [
        "canary-again-bbbb"
    ]

    await stage.deliver(stage.pull_request(1, action="closed", state="closed"))
    await stage.gone("pr-1")
    left = {str(found) for found in stage.everything() - before if found.namespace == on.own}
    assert left == set()


async def test_a_fork_gets_none_of_it_and_is_told_why(stage: Stage) -> None:
    on = Sharing(stage)
    stage.grant()
    triggers = {"pullRequests": {"forks": "Always"}}
    names_it = {**WEB, "envFrom": [{"secretRef": {"name": "stripe"}}]}
    stage.project(components=[names_it], secrets=SHARES, triggers=triggers)
    await stage.accepted()
    on.share(on.project, KEY="canary-kept-from-forks")
    await stage.deliver(stage.pull_request(1, fork=True))
    await stage.deliver(stage.pull_request(2))
    await stage.until(lambda: stage.names_of("Deployment", "pr-2") == {"web"}, "the twin that is no fork's")
    twin = stage.object("Deployment", "pr-2", "web")["spec"]["template"]["spec"]["containers"][0]
    assert twin["envFrom"] == [{"secretRef": {"name": COPY}}, {"secretRef": {"name": COPY}}]
    assert COPY in stage.names_of("Secret", "pr-2")

    await stage.until(lambda: on.pods(), "the fork's pod")
    assert on.sources() == ["stripe"]
    assert stage.names_of("Secret", "pr-1").isdisjoint({COPY, "stripe"})
    assert shares.BINDING not in stage.names_of("RoleBinding", "pr-1")
    assert on.found_in(json.dumps([on.pods(), stage.environment("pr-1")])) == []
    await stage.until(lambda: on.condition().get("reason") == "Shared", "it is said")
    assert on.condition()["message"] == "Not given to environments of forks: stripe."

    # What a kubelet says of such a pod.
    (pod,) = on.pods()
    waiting = {"reason": "CreateContainerConfigError", "message": 'secret "stripe" not found'}
    container = {"name": "web", "image": "nginx", "imageID": "", "restartCount": 0, "ready": False}
    status = {"phase": "Pending", "containerStatuses": [{**container, "state": {"waiting": waiting}}]}
    stage.patch(f"/api/v1/namespaces/{on.own}/pods/{pod['metadata']['name']}/status", {"status": status})
    await stage.until(lambda: on.condition("Ready").get("reason") == "SecretNotFound", "it is said", within=15)
    assert "does not give stripe to environments of forks (forks: false)" in on.condition("Ready")["message"]

    # Opted in: it gets it like any other.
    stage.project(components=[names_it], secrets=[{"name": "stripe", "forks": True}], triggers=triggers)
    await stage.until(lambda: on.sources() == [COPY, COPY], "given to the fork, too")
    assert on.copied() == {"KEY": "canary-kept-from-forks"}


async def test_what_is_missing_is_said_waited_for_and_heals(stage: Stage) -> None:
    on = Sharing(stage)
    await on.opened()
    await stage.until(lambda: stage.phase("pr-1") == "Failed", "it failed")
    found = on.condition("Ready")
    assert (found["status"], found["reason"]) == ("False", "SecretNotReadable"), "the team has let nobody in"
    assert f"kubectl create secret generic stripe --namespace {on.project}" in found["message"]
    assert f"--namespace {on.team} --clusterrole catalyst-shared-secrets" in found["message"]
    assert stage.names_of("Deployment", "pr-1") == set(), "nothing runs without what it was to get"

    # Let in, nothing is there either. And nobody goes round in circles about it.
    on.let_in()
    await on.sees(lambda: on.condition().get("reason") == "SecretNotFound", "now it is known to be missing")
    await stage.until(lambda: on.condition("Ready")["reason"] == "SecretNotFound", "it is said")
    mark, said = stage.installation.audit.marker(), len(await stage.said("pr-1"))
    await asyncio.sleep(3)
    assert stage.writes(mark) == []
    assert len(await stage.said("pr-1")) == said

    on.share(on.team, KEY="canary-of-the-team")
    await on.sees(lambda: on.sources() == [COPY], "it is healed")
    await stage.until(lambda: on.condition("Ready")["reason"] == "Deploying", "it goes on")
    assert "reason" not in on.status()["components"][0]


async def test_what_a_program_prints_of_it_is_not_said(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no kubelet that could give a log, so the story does."""
    on, canary = Sharing(stage), "canary-of-a-program"
    encoded = base64.b64encode(canary.encode()).decode()

    async def printed(*_: object) -> str:
        return f"key is {canary}, in base64 {encoded}\nout of cheese\n"

    monkeypatch.setattr(Cluster, "_log", printed)
    await on.opened()
    on.share(on.project, KEY=canary)
    await on.sees(on.pods, "the pod")
    (pod,) = on.pods()
    ended = {
        "exitCode": 1,
        "reason": "Error",
        "startedAt": "2026-11-23T20:00:00Z",
        "finishedAt": "2026-11-23T20:00:01Z",
    }
    container = {"name": "web", "image": "nginx", "imageID": "", "restartCount": 3, "ready": False}
    container |= {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": ended}}
    status = {"phase": "Running", "containerStatuses": [container]}
    stage.patch(f"/api/v1/namespaces/{on.own}/pods/{pod['metadata']['name']}/status", {"status": status})
    await stage.until(lambda: on.condition("Ready").get("reason") == "CrashLoop", "it is said", within=15)
    _, first, second = on.status()["components"][0]["message"].splitlines()
    assert first.startswith("key is [redacted], in base64 [redacted]")
    assert second == "out of cheese"
    assert on.found_in(await on.said()) == []


async def test_types_are_kept_apart(stage: Stage) -> None:
    on = Sharing(stage)
    await on.opened(secrets=[{"name": "stripe", "types": ["Deployment"]}, {"name": "mail"}])
    on.share(on.project, KEY="canary-of-deployments")
    metadata = {"name": "mail", "namespace": on.project}
    stage.installation.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"M": "m"}})
    await on.sees(lambda: on.sources() == [shares.copy_name("mail")], "what is for all types")
    assert on.copied() is None
    await stage.until(lambda: on.condition().get("reason") == "Shared", "it is said")
    assert on.condition()["message"] == "Given: mail. Not given to this type of environment: stripe."
