"""From the webhook to the URL and the comment in one trace, over five processes, NATS, Kubernetes and a build; and
every metric that a dashboard or an alert names is one that these services export.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from building import Project, RegistryServer, registry
from doubles.github import GitHubDouble
from doubles.github.state import PullRequest
from five import SERVICES, Five, five
from monitoring import named
from otlp import Receiver, Span, receiving
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from stage import Stage, operating

from catalyst.events.started import last_started
from catalyst.events.tracing import trace_id
from catalyst.local.installation import Installation
from catalyst.service.stages import STAGES
from catalyst.service.version import code_version

__all__ = ["registry"]

ONLY_WHEN_IT_HAPPENS = {"catalyst_dns_proxy_failures_total", "catalyst_decisions_dropped_total"}
"""Counters that begin with the first time something goes wrong. No alert needs them, dashboards show them."""


@dataclass
class World:
    stage: Stage
    builds: Project
    github: GitHubDouble
    pull: PullRequest
    running: Five
    received: Receiver


@pytest.fixture
async def world(installation: Installation, registry: RegistryServer, tmp_path: Path) -> AsyncIterator[World]:
    async with operating(installation) as operator, GitHubDouble() as github:
        with receiving() as received:
            context = five(installation, registry, github, tmp_path, received.url)
            running = await asyncio.to_thread(context.__enter__)
            try:
                stage = Stage(installation, running.webhooks, operator)
                github.repository(stage.repository, files={"Dockerfile": "FROM scratch\n"})
                github.install(stage.team)
                github.commit(stage.repository, "basket", {"basket.txt": "hello"})
                pull = github.open_pull_request(stage.repository, head="basket")
                builds = Project(operator.bus, operator.bus, installation.admin, registry, stage.team)
                yield World(stage, builds, github, pull, running, received)
            finally:
                await asyncio.to_thread(context.__exit__, None, None, None)


async def test_one_trace_from_the_webhook_to_the_url_and_the_comment(world: World) -> None:
    stage, number, head = world.stage, world.pull.number, world.pull.head
    name = f"pr-{number}"
    stage.grant()
    stage.project()
    await stage.accepted()
    payload = stage.pull_request(number, sha=head)
    for repository in (payload["repository"], payload["pull_request"]["head"]["repo"]):
        repository["clone_url"] = f"https://github.com/{stage.repository}.git"
    assert (await stage.deliver(payload, delivery=f"{stage.team}-first")).status_code == 202
    await build(world, name)
    await run(world, name)
    await stage.until(lambda: stage.phase(name) == "Ready", "it is ready", within=30)
    await stage.until(lambda: "ready" in comment(world), "the comment says so", within=15)

    fact = f"scm.github.{stage.repository.replace('/', '.')}.pull_request.{number}"
    (event, *_) = await stage._operator.events("SCM", fact)
    trace = trace_id(event["traceparent"])
    assert trace is not None

    def spans() -> list[Span]:
        return world.received.of_trace(trace)

    wanted = {
        ("webhook-ingest", "publish scm.pull_request.changed"),
        ("env-controller", "handle scm.pull_request.changed"),
        ("env-controller", "reconcile FactKey"),
        ("env-controller", "apply"),
        ("env-controller", "publish build.requested"),
        ("builder", "handle build.requested"),
        ("builder", "build queue"),
        ("builder", "build"),
        ("builder", "publish build.finished"),
        ("env-controller", "handle build.finished"),
        ("dns-proxy", "route"),
        ("dns-proxy", "publish route.changed"),
        ("env-controller", "handle route.changed"),
        ("notifier", "write comment"),
        ("notifier", "write edit"),
    }
    await emptied(lambda: wanted - {(span.service, span.name) for span in spans()})
    await emptied(lambda: orphans(spans()))
    (first,) = [span for span in spans() if not span.parent]
    assert (first.service, {span.service for span in spans()}) == ("webhook-ingest", set(SERVICES))
    (built,) = [span for span in spans() if span.name == "build"]
    assert built.end - built.start == int(built.end - built.start), "a Job's own times are whole seconds"
    versions = {service: await last_started(stage._operator.bus, service) for service in SERVICES}
    assert {last and last.version for last in versions.values()} == {code_version("env-controller")}
    said = {"env-controller": "environment created", "builder": "build finished", "dns-proxy": "route told"}
    for service, words in said.items():
        lines = [one for one in world.running.logs[service].read_text().splitlines() if f'"event":"{words}"' in one]
        assert [one for one in lines if f'"trace_id":"{trace}"' in one], service

    # The forge sends it once more: another trace, which only points at the first.
    assert (await stage.deliver(payload, delivery=f"{stage.team}-first")).status_code == 202

    def again() -> list[Span]:
        mine = [s for s in tuple(world.received.spans) if s.attributes.get("catalyst.delivery", "").endswith("-first")]
        return [span for span in mine if span.attributes["catalyst.duplicate"]]

    await stage.until(again, "the second delivery is told", within=10)
    (second,) = again()
    assert second.trace != trace
    assert [linked for linked, _ in second.links] == [trace]

    # Closed: what goes belongs to the webhook that closed it.
    await stage.deliver(stage.pull_request(number, action="closed", state="closed", sha=head))
    await stage.gone(name)
    await exported(world, trace)


async def emptied(missing: Callable[[], Collection[object]], within: float = 10.0) -> None:
    """Spans come in batches; what has not come after `within` seconds is shown."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within):
            while missing():
                await asyncio.sleep(0.1)
    assert not missing()


async def exported(world: World, trace: str) -> None:
    found: dict[str, Any] = {}
    texts = {service: world.running.metrics(service) for service in SERVICES}
    for answer in texts.values():
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        for family in text_string_to_metric_families(answer.text):  # type: ignore[no-untyped-call]
            for sample in family.samples:
                found.setdefault(sample.name, []).append(sample)
    missing = {metric: where for metric, where in named().items() if metric not in found}
    assert missing.keys() <= ONLY_WHEN_IT_HAPPENS, missing
    buckets = found["catalyst_stage_seconds_bucket"]
    mine = [sample for sample in buckets if sample.labels["team"] == world.stage.team]
    assert {sample.labels["stage"] for sample in mine} == set(STAGES)
    assert all(set(sample.labels) == {"stage", "team", "project", "le"} for sample in mine)
    assert trace in {sample.exemplar.labels["trace_id"] for sample in mine if sample.exemplar}


async def build(world: World, name: str) -> None:
    subject, asked = f"env.{world.stage.team}.shop.{name}.build.requested", list[dict[str, Any]]()

    async def is_asked() -> bool:
        asked[:] = await world.stage._operator.events("EVENTS", subject)
        return bool(asked)

    await world.stage.until_async(is_asked, "a build is asked for", within=20)
    job = await world.builds.job(key=asked[-1]["data"]["key"])
    await world.builds.succeeds(job)


async def run(world: World, name: str) -> None:
    """Play the kubelet for the environment's own pod."""
    stage, path = world.stage, f"/api/v1/namespaces/{world.stage.team}--shop--{name}/pods"

    def pods() -> list[dict[str, Any]]:
        return list((stage.get(path) or {}).get("items") or ())

    await stage.until(pods, "the pod was admitted", within=20)
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    (pod,) = pods()
    image = pod["spec"]["containers"][0]["image"]
    container = {"name": "web", "image": image, "imageID": image, "restartCount": 0, "ready": True, "started": True}
    status = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}],
        "containerStatuses": [{**container, "state": {"running": {"startedAt": now}}}],
    }
    stage.patch(f"{path}/{pod['metadata']['name']}/status", {"status": status})


def comment(world: World) -> str:
    with world.github.lock:
        return " ".join(each.body for each in world.pull.comments.values())


def orphans(spans: list[Span]) -> list[Span]:
    ids = {span.id for span in spans}
    return [span for span in spans if span.parent and span.parent not in ids]
