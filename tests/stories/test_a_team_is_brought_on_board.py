"""docs/onboarding.md, typed block by block: from no namespace to the first pull request, and away again. A step that is
left out is named by the dry run, whose remedy is then typed as it stands.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from guide import Guide, StepFailed, Walk
from stage import Stage

PAGE = "onboarding.md"
SYSTEM = "catalyst-system"
ZONE = "preview.example.org"


@pytest.fixture
def walk(stage: Stage, tmp_path: Path, told_settings: None) -> Walk:
    """In a shell with the tools and credentials that the page asks for, and this story's names."""
    walk = Walk(Guide.read(PAGE), tmp_path)
    kubectl = stage.installation.cluster.kubectl
    walk.environment |= {
        "HOME": str(tmp_path),
        "KUBECONFIG": str(stage.installation.cluster.admin_kubeconfig),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), str(kubectl.parent), os.environ["PATH"]]),
        "CATALYST_NATS_URL": stage.installation.nats.url,
        "CATALYST_NATS_SEED_FILE": str(stage.installation.nats.seed("oncall")),
    }
    walk.names(TEAM=stage.team, REPOSITORY=stage.repository, GROUP=f"{stage.team}-people")
    return walk


@pytest.fixture
def told_settings(stage: Stage) -> Iterator[None]:
    """env-controller is a process of this test; where it is deployed, its Deployment says its settings."""
    container = {"name": "env-controller", "image": "catalyst/env-controller:0.1.0"}
    container |= {"env": [{"name": "CATALYST_ZONE", "value": ZONE}]}  # type: ignore[dict-item]
    stage.installation.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "env-controller", "namespace": SYSTEM},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "env-controller"}},
                "template": {"metadata": {"labels": {"app": "env-controller"}}, "spec": {"containers": [container]}},
            },
        }
    )
    yield
    stage.delete(f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/env-controller")


async def test_who_types_the_page_has_a_first_environment_and_can_leave(stage: Stage, walk: Walk) -> None:
    for name in ("namespace", "maximum", "people"):
        walk.step(name)
    assert walk.said.endswith("yes\n")
    stranger = "kubectl auth can-i create projects.catalyst.dev --namespace default --as somebody --as-group {group}"
    assert walk.shell(f"{stranger.format(group=f'{stage.team}-people')} || true") == "no\n"
    await _step(walk, "project")
    await _step(walk, "held")
    assert walk.said.count("would get an environment that has to wait") == 2
    await _step(walk, "explain")
    assert f"{stage.team}/shop/pr-1  would get an environment" in walk.said
    assert f"https://pr-1--shop--{stage.team}.{ZONE}/" in walk.said
    assert stage.environments() == set()
    await stage.deliver(stage.pull_request(1))
    await stage.ready("pr-1")
    walk.step("number")
    await _step(walk, "see")
    assert "It has one, in phase Provisioned" in walk.said
    await _step(walk, "leave")
    assert stage.get(f"/api/v1/namespaces/{stage.team}") is None
    assert stage.namespace("pr-1") is None


@pytest.mark.parametrize("left_out", ["catalyst.dev/repositories", "project"])
async def test_what_was_left_out_is_named_with_its_remedy(stage: Stage, walk: Walk, left_out: str) -> None:
    walk.step("namespace")
    if left_out == "project":
        with pytest.raises(StepFailed, match="There is no Project shop in namespace"):
            await _step(walk, "explain")
        await _step(walk, "project")
        await _step(walk, "explain")
        return
    await _step(walk, "project")
    walk.shell(f'kubectl annotate namespace "$TEAM" {left_out}-')
    await stage.until(lambda: stage.project_condition("Accepted").get("status") == "False", "it is not accepted")
    with pytest.raises(StepFailed, match="is not granted to team") as refused:
        await _step(walk, "explain")
    remedies = re.findall(r"→ (kubectl annotate .*)", str(refused.value))
    assert remedies
    assert shlex.split(remedies[0])[3] == stage.team
    walk.shell(remedies[0])
    await stage.until(lambda: stage.project_condition("Ready").get("status") == "True", "the Project is ready")
    await _step(walk, "explain")


async def _step(walk: Walk, name: str) -> None:
    """Beside the services, which run in this loop."""
    await asyncio.to_thread(walk.step, name)
