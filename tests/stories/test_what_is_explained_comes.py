"""`catalyst explain` says beforehand what env-controller then does, from the same webhook; and changes nothing."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from desk import Ran, run
from stage import Stage

from catalyst.cli.core.explain import Explanation
from catalyst.cli.operations.explain import Asked, explain
from catalyst.kube.client import Kube
from catalyst.kube.settings import KubeSettings
from catalyst.model.clock import utc_now

SETTINGS = {"CATALYST_ZONE": "catalyst.localhost"}
"""env-controller is a process of this test: there is no Deployment to ask."""
REACHED = {"yes": "Provisioned", "waits": "Waiting", "no": None}

PROJECTS: dict[str, dict[str, Any]] = {
    "open": {},
    "labelled": {"triggers": {"pullRequests": {"labels": {"require": ["preview"], "exclude": ["wip"]}}}},
    "closed": {"triggers": {"pullRequests": {"drafts": True, "forks": "Never", "baseBranches": ["main"]}}},
    "halted": {"paused": True},
    "stranger": {},
}
PULL_REQUESTS: dict[int, dict[str, Any]] = {
    1: {},
    2: {"draft": True},
    3: {"fork": True, "labels": ["preview"]},
    4: {"labels": ["preview", "wip"], "base": "release/1"},
}


class Foretelling:
    """`explain` as an operation, by somebody who may read everything."""

    def __init__(self, stage: Stage, folder: Path, kube: Kube) -> None:
        self.stage, self.folder, self.kube = stage, folder, kube

    async def of(self, project: str, payload: dict[str, Any]) -> Explanation:
        event = self.folder / "event.json"
        event.write_text(json.dumps(payload))
        asked = Asked(self.stage.team, project, event=event, settings=SETTINGS)
        return await explain(self.kube, None, asked, utc_now())


async def test_what_is_foretold_from_a_webhook_comes_with_it(stage: Stage, tmp_path: Path) -> None:
    stage.grant(f"github/{stage.repository}")
    for name, spec in PROJECTS.items():
        stage.project(name, repository=f"{stage.team}/other" if name == "stranger" else None, **spec)
    for name in PROJECTS:
        wanted = "False" if name == "stranger" else "True"
        await stage.until(partial(_is_ready, stage, name, wanted), f"Project {name} is ready: {wanted}")
    payloads = {number: stage.pull_request(number, **changes) for number, changes in PULL_REQUESTS.items()}
    mark = stage.installation.audit.marker()
    async with await _admin(stage) as kube:
        foretelling = Foretelling(stage, tmp_path, kube)
        told = {
            (name, number): (await foretelling.of(name, payload)).answer
            for name, (number, payload) in product(PROJECTS, payloads.items())
        }
    assert stage.writes(mark) == []
    assert set(told.values()) == {"yes", "waits", "no"}
    assert list(told.values()).count("yes") >= 4
    for payload in payloads.values():
        await stage.deliver(payload)
    await stage.handled()
    for (name, number), answer in told.items():
        what = f"pr-{number} of {name}, of which {answer!r} was told"
        await stage.until(partial(_is_in, stage, number, name, REACHED[answer]), what)
        assert (stage.namespace(f"pr-{number}", name) is not None) == (answer == "yes"), what


async def test_the_place_in_the_line_is_the_one_that_it_gets(stage: Stage, tmp_path: Path) -> None:
    stage.grant()
    stage.project()
    await stage.accepted()
    stage.annotate(stage.team, maximum_environments="1")
    async with await _admin(stage) as kube:
        foretelling = Foretelling(stage, tmp_path, kube)
        for number, place in ((1, ""), (2, "Position 1 of 1"), (3, "Position 2 of 2")):
            payload = stage.pull_request(number)
            told = await foretelling.of("shop", payload)
            assert told.answer == ("waits" if place else "yes")
            assert place in told.because
            await stage.deliver(payload)
            reached = "Waiting" if place else "Provisioned"
            await stage.until(partial(_is_in, stage, number, "shop", reached), f"pr-{number} is {reached}")
            message = stage.condition(stage.environment(f"pr-{number}"), "Ready")["message"]
            assert message.startswith(place)


async def test_as_people_type_it(stage: Stage, tmp_path: Path) -> None:
    stage.grant()
    stage.project()
    await stage.accepted()
    team, kubeconfig = f"{stage.team}/shop", stage.installation.cluster.admin_kubeconfig

    async def typed(*arguments: str, kubeconfig: Path = kubeconfig, bus: str | None = None) -> Ran:
        given = {
            "KUBECONFIG": str(kubeconfig),
            "CATALYST_NATS_URL": bus or stage.installation.nats.url,
            "CATALYST_NATS_SEED_FILE": str(stage.installation.nats.seed("oncall")),
        }
        return await asyncio.to_thread(run, tmp_path, ["explain", *arguments], given)

    zone = ("--setting", "CATALYST_ZONE=preview.example.org", "--setting", "CATALYST_REGISTRY=registry.example.org")
    # One that does not exist yet, without a bus.
    table = await typed(team, "--head", "basket", *zone, bus="nats://127.0.0.1:1")
    assert (table.code, table.err) == (0, "")
    assert f"{team}/pr-1  would get an environment\n" in table.out
    assert f"https://pr-1--shop--{stage.team}.preview.example.org/" in table.out
    assert "dockerfile=Dockerfile context=." in table.out
    # One that exists, by its facts; what if it were otherwise.
    await stage.deliver(stage.pull_request(7, draft=True))
    await stage.until(lambda: stage.phase("pr-7") == "Waiting", "the draft waits")
    draft = await typed(team, "7", "-o", "json", *zone)
    told = json.loads(draft.out)
    assert (draft.code, told["answer"], told["environment"]) == (1, "waits", f"{team}/pr-7")
    assert "comment `/catalyst deploy`" in told["remedy"]
    as_ready = await typed(team, "7", "--no-draft", "-o", "yaml", *zone)
    assert (as_ready.code, as_ready.out.splitlines()[:2]) == (0, [f"environment: {team}/pr-7", "answer: 'yes'"])
    assert (await typed(team, "7", "--no-draft", "--fork", *zone)).code == 1
    # What cannot be told, and what is not there.
    no_deployment = await typed(team, "--head", "basket")
    assert no_deployment.code == 5
    assert "the settings of env-controller are not known" in no_deployment.out
    rightless = await typed(team, "7", *zone, kubeconfig=stage.installation.kubeconfig("notifier"))
    assert (rightless.code, rightless.out) == (5, "")
    assert 'cannot get resource "projects"' in rightless.err
    nobody = await typed(team, "4711", *zone)
    assert nobody.code == 3
    assert f"nothing is known of pull request 4711 of github/{stage.repository}" in nobody.err
    other = await typed(f"{stage.team}/shopp", "7", *zone)
    assert other.code == 1
    assert "There are: shop." in other.out


def _is_ready(stage: Stage, project: str, status: str) -> bool:
    return stage.project_condition("Ready", project).get("status") == status


def _is_in(stage: Stage, number: int, project: str, phase: str | None) -> bool:
    return stage.phase(f"pr-{number}", project) == phase


async def _admin(stage: Stage) -> Kube:
    return await Kube.connect(KubeSettings(stage.installation.cluster.admin_kubeconfig), field_manager="test")
