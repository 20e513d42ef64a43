"""A component as its Deployment: how its pods come and go without anybody who calls them noticing."""

from typing import Any

import pytest
from makers import subject

from catalyst.env_controller.core.components import Part
from catalyst.env_controller.core.workload import DRAIN_SECONDS, SETTLE_SECONDS, Given, Image, deployment
from catalyst.model.manifest import Manifest
from catalyst.model.project import Component

DRAINED = {"preStop": {"sleep": {"seconds": DRAIN_SECONDS}}}
OPEN_FOR_A_WHILE = {"periodSeconds": 1, "successThreshold": SETTLE_SECONDS + 1, "failureThreshold": 6}
HTTP = {"httpGet": {"path": "/healthz", "port": 8000}}


def spec(**component: Any) -> Manifest:
    part = Part(Component.model_validate({"name": "web", "image": "r/web:1", **component}))
    made: Manifest = deployment(subject(), part, Image("r/web:1"), Given())["spec"]
    return made


def container(**component: Any) -> Manifest:
    (found,) = spec(**component)["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("reached", [{"expose": {"port": 8000}}, {"ports": [{"containerPort": 8000}]}])
def test_whoever_can_be_called_settles_before_it_is_and_drains_when_it_goes(reached: dict[str, Any]) -> None:
    """Neighbours inside the environment call it as visitors do, so exposed or not makes no difference."""
    made = container(**reached)
    assert made["lifecycle"] == DRAINED
    assert made["readinessProbe"] == {"tcpSocket": {"port": 8000}, **OPEN_FOR_A_WHILE}


def test_nobody_waits_for_what_nobody_calls() -> None:
    made = container()
    assert "lifecycle" not in made
    assert "readinessProbe" not in made


@pytest.mark.parametrize(
    ("declared", "delay"),
    [
        ({}, SETTLE_SECONDS + 1),
        ({"initialDelaySeconds": 1, "periodSeconds": 5}, SETTLE_SECONDS + 1),
        ({"initialDelaySeconds": 20, "successThreshold": 2}, 20),
    ],
)
def test_a_declared_probe_is_as_declared_but_not_asked_too_early(declared: dict[str, int], delay: int) -> None:
    made = container(expose={"port": 8000}, readinessProbe={**HTTP, **declared})
    assert made["readinessProbe"] == {**HTTP, **declared, "initialDelaySeconds": delay}
    assert made["lifecycle"] == DRAINED


def test_a_probe_of_what_has_no_port_is_as_declared() -> None:
    assert container(readinessProbe={"exec": {"command": ["true"]}})["readinessProbe"] == {
        "exec": {"command": ["true"]}
    }


def test_the_old_version_stays_until_the_new_one_is_ready_unless_they_would_share_a_disk() -> None:
    without_a_gap = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    assert spec(expose={"port": 8000})["strategy"] == without_a_gap
    disk = [{"name": "data", "persistentVolumeClaim": {"size": "1Gi"}}]
    assert spec(expose={"port": 8000}, volumes=disk)["strategy"] == {"type": "Recreate"}
