"""The runbooks of what goes wrong with a pull request, typed command by command while it stands so; where a page has a
remedy to type, it heals. What needs pods, a registry or a forge: tests/e2e/test_failures.py.

builder's and dns-proxy's answers and the status of pods are played; all else is real.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from played import Story
from runbooks import Terminal, follow, runbook
from stage import Stage

from catalyst.dns_proxy.core.routes import wanted
from catalyst.model.clock import utc_now
from catalyst.model.snapshot import Snapshot

IMAGES = [{"name": "web", "image": "nginx", "expose": {"port": 80}}]
ZONE = "catalyst.localhost"
OLD = "2020-01-01T00:00:00Z"


@pytest.fixture
def controller_settings() -> dict[str, Any]:
    return {"registry": "registry.test:5000", "public_port": 8443}


class OnCall:
    """Who types the pages about pull requests of this stage."""

    def __init__(self, stage: Stage, folder: Path, kubectl: Path) -> None:
        nats = stage.installation.nats
        self.stage = stage
        self.terminal = Terminal.of(
            folder,
            nats.folder / "nkeys",
            kubectl=kubectl,
            KUBECONFIG=str(stage.installation.cluster.admin_kubeconfig),
            CATALYST_NATS_URL=nats.url,
        )

    async def follows(self, page: str, *shows: str, of: str = "pr-1", **names: str) -> str:
        about = {"TEAM": self.stage.team, "PROJECT": "shop", "ENVIRONMENT": of, "COMPONENT": "web", **names}
        return await asyncio.to_thread(partial(follow, page, self.terminal, *shows, **about))

    async def begun(self, name: str) -> None:
        await self.stage.until(lambda: self._is_begun(name), f"{name} begins", within=20)

    def _is_begun(self, name: str) -> bool:
        return self.stage.condition(self.stage.environment(name), "BaselineReady").get("status") == "True"

    def touch(self, name: str) -> None:
        """It is looked at now, and not in half a minute."""
        path = f"/apis/catalyst.dev/v1alpha1/namespaces/{self.stage.team}--shop/environments/{name}"
        self.stage.patch(path, {"metadata": {"annotations": {"example.test/looked": utc_now().isoformat()}}})

    async def said(self, name: str, reason: str) -> None:
        """The bus has it, and so has whoever asks it."""

        async def so() -> bool:
            last = (await self.stage.said(name))[-1:]
            return any(reason in (one.get("reason"), *(c.get("reason") for c in one["components"])) for one in last)

        await self.stage.until_async(so, f"{reason} is said of {name}", within=20)


@pytest.fixture
def on_call(stage: Stage, tmp_path: Path, binaries: dict[str, Path]) -> OnCall:
    return OnCall(stage, tmp_path, binaries["kubectl"])


# Builds: (page, reason, what builder says)

BUILDS = [
    ("BaseImageNotFound", "BaseImageNotFound", "FROM nothing/here: the image cannot be pulled: not found"),
    ("BuildLost", "BuildEvicted", "the node stopped the build: disk pressure"),
    ("BuildTimedOut", "BuildTimedOut", "the build took longer than 1800 s"),
    ("DockerfileInvalid", "DockerfileInvalid", "line 3: unknown instruction: RUNN"),
    ("InvalidInput", "InvalidInput", "build.context: expected a path in the repository, found '../up'"),
    ("OutOfDisk", "OutOfDisk", "the build needed more disk than it may have"),
    ("SourceRefused", "SourceRefused", "https://elsewhere.test is not the forge"),
    ("Other", "SomethingNew", "nobody has thought of this"),
]


@runbook(
    "BaseImageNotFound",
    "BuildLost",
    "BuildTimedOut",
    "DockerfileInvalid",
    "InvalidInput",
    "OutOfDisk",
    "SourceRefused",
    "Other",
)
async def test_builds_that_fail(stage: Stage, on_call: OnCall) -> None:
    stage.grant()
    stage.project(components=[{"name": "web", "build": {"context": "app"}, "expose": {"port": 80}}])
    await stage.accepted()
    stories = [Story(stage, number) for number in range(1, len(BUILDS) + 1)]
    await asyncio.gather(*(story.pulled() for story in stories))
    also = {"InvalidInput": '"context":"app"', "SourceRefused": stage.repository}

    async def fails(story: Story, page: str, reason: str, sentence: str) -> None:
        await story.asked()
        await story.finished("a" * 40, 1, outcome="failed", reason=reason, message=sentence, log_tail="the end of it")
        await on_call.said(story.name, reason)
        await on_call.follows(page, f"first cause web: {reason}, ", sentence, also.get(page, ""), of=story.name)

    await asyncio.gather(*(fails(story, *how) for story, how in zip(stories, BUILDS, strict=True)))


# Programs: (page, reason, how a kubelet's or the Deployment controller's words about it come)


def out_of_memory(story: Story, pod: dict[str, Any]) -> None:
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "startedAt": OLD, "finishedAt": OLD}}
    story.breaks(pod, {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 3, "lastState": ended})


def probe_fails(story: Story, pod: dict[str, Any]) -> None:
    story.breaks(pod, {"state": {"running": {"startedAt": "before"}}})


def no_place(story: Story, pod: dict[str, Any]) -> None:
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": OLD}
    path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}/status"
    said = {**scheduled, "message": "0/3 nodes are available: 3 Insufficient memory."}
    story.stage.patch(path, {"status": {"conditions": [said]}})


def too_slow(story: Story, pod: dict[str, Any]) -> None:
    """The Deployment controller keeps to it once it was said, as long as nothing moves."""
    path = f"{story.stage.path_of('Deployment', story.name, 'web')}/status"
    said = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
    story.stage.patch(path, {"status": {"conditions": [said]}})


PROGRAMS: list[tuple[str, Callable[[Story, dict[str, Any]], None], str]] = [
    ("OutOfMemory", out_of_memory, "limits.memory"),
    ("ProbeFailing", probe_fails, "http-get http://:80/healthz"),
    ("Unschedulable", no_place, "3 Insufficient memory"),
    ("DeadlineExceeded", too_slow, "pod/web-"),
]
PROBED = {**IMAGES[0], "readinessProbe": {"httpGet": {"path": "/healthz", "port": 80}}}


@runbook("OutOfMemory", "ProbeFailing", "Unschedulable", "DeadlineExceeded")
async def test_programs_that_do_not_run(stage: Stage, on_call: OnCall) -> None:
    stage.grant()
    stage.project(components=[PROBED])
    await stage.accepted()
    stories = [Story(stage, number) for number in range(1, len(PROGRAMS) + 1)]
    await asyncio.gather(*(story.pulled() for story in stories))

    async def fails(story: Story, reason: str, happens: Callable[[Story, dict[str, Any]], None], shows: str) -> None:
        happens(story, await story.pod())
        await on_call.said(story.name, reason)
        await on_call.follows(reason, f"first cause web: {reason}, ", shows, of=story.name)

    await asyncio.gather(*(fails(story, *how) for story, how in zip(stories, PROGRAMS, strict=True)))


# What waits, and for whom


@runbook("Held", "MaximumReached", "Paused")
async def test_what_waits(stage: Stage, on_call: OnCall) -> None:
    stage.grant()
    stage.project()
    await stage.accepted()
    await stage.deliver(stage.pull_request(1, fork=True))
    await on_call.said("pr-1", "Fork")
    await on_call.follows("Held", "Fork", '"forks":"Approval"')

    stage.annotate(stage.team, maximum_environments="1")
    await stage.deliver(stage.pull_request(2))
    await on_call.begun("pr-2")
    await stage.deliver(stage.pull_request(3))
    await on_call.said("pr-3", "MaximumReached")
    await on_call.follows("MaximumReached", "pr-2", "Waiting", "MaximumReached", of="pr-3")
    await on_call.begun("pr-3")

    stage.annotate(stage.team, paused="the cluster is moved")
    await stage.until(lambda: stage.project_condition("Paused"), "the Project says that it is paused")
    await stage.deliver(stage.pull_request(4))
    await on_call.said("pr-4", "Paused")
    await on_call.follows("Paused", "pr-4 ", "Paused", of="pr-4")
    await on_call.begun("pr-4")


# What the Project asks for


@runbook("RepositoryNotGranted", "UnsafeSettings")
async def test_projects_that_are_refused(stage: Stage, on_call: OnCall) -> None:
    stage.grant("github/somebody-else/*")
    stage.project()
    await stage.until(lambda: stage.project_condition("Accepted").get("status") == "False", "it is refused")
    await on_call.follows("RepositoryNotGranted", "Reason: RepositoryNotGranted", REPOSITORY=stage.repository)
    await stage.accepted()

    stage.project(development={"egress": [{"cidr": "169.254.0.0/16"}]})
    await stage.until(lambda: stage.project_condition("Accepted").get("reason") == "UnsafeEgress", "it is refused")
    await on_call.follows("UnsafeSettings", "169.254.0.0/16 reaches")
    stage.project()
    await stage.accepted()


@runbook("SecretNotFound", "SecretNotReadable")
async def test_a_secret_that_is_not_there(stage: Stage, on_call: OnCall, tmp_path: Path) -> None:
    (tmp_path / "stripe.env").write_text("KEY=canary-of-a-runbook\n")
    stage.grant()
    stage.project(components=[IMAGES[0]], secrets=[{"name": "stripe"}])
    await stage.accepted()
    await stage.deliver(stage.pull_request(1))
    await on_call.said("pr-1", "SecretNotReadable")
    about = {"SECRET": "stripe", "FILE": "stripe.env"}
    await on_call.follows(
        "SecretNotReadable", "first cause web: SecretNotReadable, ", "yes Name: catalyst-shared-secrets", **about
    )
    on_call.touch("pr-1")
    await on_call.said("pr-1", "SecretNotFound")
    said = await on_call.follows(
        "SecretNotFound", "first cause web: SecretNotFound, ", "secret/stripe created", **about
    )
    assert "canary" not in said
    on_call.touch("pr-1")
    await stage.until(lambda: stage.names_of("Deployment", "pr-1") == {"web"}, "it is healed")


# What others have, or refuse


@runbook("NamespaceTaken", "HostTaken", "InvalidHost", "RouteFailed")
async def test_what_somebody_else_has(stage: Stage, on_call: OnCall) -> None:
    taken = f"{stage.team}--shop--pr-4"
    stage.grant()
    stage.project(components=IMAGES)
    await stage.accepted()
    stage.installation.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": taken}})
    stories = [Story(stage, number) for number in (1, 2, 3)]
    await asyncio.gather(*(story.pulled() for story in stories))
    await stage.deliver(stage.pull_request(4))
    taken_host, impossible, refused = stories
    for story in stories:
        story.run(await story.pod())
    await taken_host.routed(taken_host.host, live=False, reason=await _claimed_twice(taken_host))
    await impossible.routed(impossible.host, live=False, reason=await _not_of_the_zone(impossible))
    await refused.routed(refused.host, live=False, reason=f"{refused.host}: Cloudflare answered 403: quota exceeded")

    async def followed(page: str, name: str, shows: str) -> None:
        await on_call.said(name, page)
        await on_call.follows(page, f"first cause {page}, ", shows, of=name)

    await asyncio.gather(
        followed("HostTaken", taken_host.name, taken_host.host),
        followed("InvalidHost", impossible.name, impossible.host),
        followed("RouteFailed", refused.name, refused.host),
        followed("NamespaceTaken", "pr-4", f'"{taken}" deleted'),
    )
    await on_call.begun("pr-4")


async def _claimed_twice(story: Story) -> str:
    """What dns-proxy says of it when another environment has its host."""
    mine = await _with_a_route(story)
    identity = mine.identity.model_copy(update={"project": "older"})
    route = mine.routes[0].model_copy(update={"namespace": f"{story.stage.team}--older--{story.name}"})
    assert mine.created_at
    begun = mine.created_at.replace(year=2020)
    changes = {"uid": "u-older", "identity": identity, "routes": (route,), "created_at": begun}
    (sentence,) = wanted([mine, mine.model_copy(update=changes)], ZONE).refused.values()
    return sentence


async def _not_of_the_zone(story: Story) -> str:
    """What a dns-proxy of another zone says."""
    (sentence,) = wanted([await _with_a_route(story)], "example.test").refused.values()
    return sentence


async def _with_a_route(story: Story) -> Snapshot:
    await story.stage.until(lambda: story.status().get("routes"), "the route is handed out")
    found: list[Snapshot] = []

    async def said() -> bool:
        found[:] = [Snapshot.model_validate(await story.stage.last_said(story.name))]
        return bool(found[0].routes)

    await story.stage.until_async(said, "the route is said")
    return found[0]


@runbook("RefusedByCluster")
async def test_a_policy_that_is_not_ours(stage: Stage, on_call: OnCall) -> None:
    with _policy_against_services(stage) as name:
        await stage.until(lambda: _refuses(stage), "the policy is in force", within=20)
        stage.grant()
        stage.project(components=IMAGES)
        await stage.accepted()
        await stage.deliver(stage.pull_request(1))
        await on_call.said("pr-1", "RefusedByCluster")
        await on_call.follows("RefusedByCluster", "RefusedByCluster", "Services are not ours to make", f"/{name} ")
    await stage.until(lambda: not _refuses(stage), "the policy is gone", within=20)
    on_call.touch("pr-1")
    await stage.until(lambda: stage.names_of("Service", "pr-1") == {"web"}, "it goes on by itself", within=60)


@contextmanager
def _policy_against_services(stage: Stage) -> Iterator[str]:
    """Of somebody else, in all namespaces of the team."""
    name = f"no-services-for-{stage.team}"
    resources = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["services"]}
    rule = {
        "expression": f"!object.metadata.namespace.startsWith('{stage.team}--')",
        "message": "Services are not ours to make",
    }
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    policy = {"matchConstraints": {"resourceRules": [resources]}, "validations": [rule]}
    stage.installation.apply({**kind, "kind": "ValidatingAdmissionPolicy", "spec": policy})
    binding = {"policyName": name, "validationActions": ["Deny"]}
    stage.installation.apply({**kind, "kind": "ValidatingAdmissionPolicyBinding", "spec": binding})
    try:
        yield name
    finally:
        root = "/apis/admissionregistration.k8s.io/v1"
        stage.delete(f"{root}/validatingadmissionpolicybindings/{name}")
        stage.delete(f"{root}/validatingadmissionpolicies/{name}")


def _refuses(stage: Stage) -> bool:
    """Whether a Service of that team's would be refused: it takes the API server a moment to know."""
    namespace = f"{stage.team}--probe"
    stage.installation.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    service = {"metadata": {"name": "probe"}, "spec": {"ports": [{"port": 80}]}}
    path = f"/api/v1/namespaces/{namespace}/services"
    answer = stage.installation.admin.post(path, params={"dryRun": "All"}, json=service)
    return answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY
