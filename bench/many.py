"""Ten thousand Environments on the control plane: env-controller restarted among them, and one more at a time."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil
import uvloop

from bench import drive
from bench.copies import Template, connected, copy, last_snapshot
from bench.environments import CONTROLLER, USER
from bench.results import Row
from bench.run import Run
from bench.servers import Service, installation, service, settle, tool, until
from bench.stats import Runs, percentile
from bench.world import API, environment, environments
from catalyst.env_controller.effects.cluster import BESIDE, CHILDREN, WORKLOADS
from catalyst.events.topology import EVENTS
from catalyst.kube import resources
from catalyst.kube.client import METADATA_LIST, PAGE
from catalyst.kube.resources import Resource
from catalyst.kube.transport import JSON
from catalyst.local.installation import Installation
from catalyst.model import labels
from catalyst.model.names import Identity

TEAMS: Final = tuple(f"team-{number:02}" for number in range(10))
PROJECTS: Final = tuple(f"project-{number:02}" for number in range(10))
"""Of each team. The first project of all holds a tenth of the Environments, the others share the rest."""
TEMPLATE: Final = Identity(TEAMS[0], PROJECTS[0], "environment-00000")
RESYNC: Final = 90
"""Seconds: what comes after the restart is watched until then, and over one resync."""
MEMORY: Final = (100, 60)
"""MB, and MB for each 1,000 Environments."""


def many(run: Run) -> Sequence[Row]:
    """10,000 Environments: env-controller's restart, its stalls and memory, and one more at a time."""
    count = 1_000 if run.quick else 10_000
    ours: dict[str, list[float]] = {}
    limits: dict[str, list[float]] = {}
    with run.folder() as folder, installation(folder) as found:
        _arrange(run, folder, found, count)
        for number in range(run.runs):
            _add(ours, _restarted(folder, found, count, number, run))
            kubeconfig = found.kubeconfig(CONTROLLER)
            _add(limits, tool("limits.listing", kubeconfig=kubeconfig, lists=_lists(), page=PAGE))
            figures = ", ".join(f"{name} {values[-1]:.3g}" for name, values in (*ours.items(), *limits.items()))
            run.say(f"{number + 1}/{run.runs}: {figures}")
    return _rows(count, ours, limits)


def _add(to: dict[str, list[float]], found: Mapping[str, float]) -> None:
    for name, value in found.items():
        to.setdefault(name, []).append(value)


def _rows(count: int, ours: Mapping[str, list[float]], limits: Mapping[str, list[float]]) -> list[Row]:
    runs = {name: Runs(tuple(values)) for name, values in (*ours.items(), *limits.items())}
    base, each = MEMORY
    at = f"{count:,} Environments of {_projects():,} Projects"
    return [
        Row(
            "many-restart", "many", "s", runs["restart"], 30, "ours<=", runs["seconds"],
            note=f"{at}, one made by env-controller and copied in etcd: from starting the process until every key has "
            f"been looked at; synced after {runs['synced'].median:.1f} s. Beside it the same "
            f"{runs['objects'].median:,.0f} objects listed raw over one warm connection",
            details={"processor_s": ours["processor"]},
        ),
        Row(
            "many-stall", "many", "ms", runs["stall"], 200, "ours<=",
            note="the longest stall of env-controller's loop meanwhile, and over a resync",
        ),
        Row(
            "many-memory", "many", "MB", runs["peak"], base + each * count / 1000, "ours<=", runs["megabytes"],
            note=f"env-controller's highest resident set; at rest {runs['rest'].median:.0f} MB. Beside it the JSON of "
            "what it lists",
        ),
        Row(
            "many-writes", "many", "writes", runs["writes"], 0, "ours<=",
            note="by env-controller in the audit log, and messages that it published, over the restart and a resync",
        ),
        Row(
            "many-one-more", "many", "s", runs["later p99"], 1, "ours<=",
            note=f"p99 of environments created one at a time, until the baseline is complete; p50 "
            f"{runs['later p50'].median:.3f} s",
        ),
    ]  # fmt: skip


# The world


def _arrange(run: Run, folder: Path, found: Installation, count: int) -> None:
    for team in TEAMS:
        found.team(team, f"github/{team}/*")
        found.apply(*(_project(team, project) for project in PROJECTS))
    with service(CONTROLLER, folder, found.settings(CONTROLLER)):
        until(lambda: _all_ready(found, "projects", _projects()), "every project is ready", within=600)
        at = environments(TEMPLATE.project, TEMPLATE.team)
        body = environment(TEMPLATE.project, TEMPLATE.environment, TEMPLATE.team)
        found.admin.post(at, content=body, headers={"content-type": "application/json"}).raise_for_status()
        until(lambda: _is_provisioned(found), "the environment to be copied is complete", within=120)
        time.sleep(3)  # what the cluster's own controllers put into it
    began = time.monotonic()
    copy(found, Template.read(found, TEMPLATE, last_snapshot(found, TEMPLATE)), list(_identities(count)))
    run.say(f"{count:,} environments after {time.monotonic() - began:.0f} s")
    until(lambda: _is_idle(found), "the cluster's own controllers have looked at it", within=900)


def _project(team: str, name: str) -> dict[str, object]:
    return {
        "apiVersion": "catalyst.dev/v1alpha1",
        "kind": "Project",
        "metadata": {"namespace": team, "name": name},
        "spec": {"source": {"repository": f"{team}/{name}"}},
    }


def _projects() -> int:
    return len(TEAMS) * len(PROJECTS)


def _identities(count: int) -> list[Identity]:
    """All but the one that is copied."""
    others = [(team, project) for team in TEAMS for project in PROJECTS][1:]
    first = count // 10
    found = [Identity(TEAMS[0], PROJECTS[0], f"environment-{number:05}") for number in range(1, first)]
    rest = [Identity(*others[number % len(others)], f"environment-{number:05}") for number in range(first, count)]
    return found + rest


def _all_ready(found: Installation, plural: str, count: int) -> bool:
    items = found.admin.get(f"{API}/{plural}").json()["items"]
    ready = [each for each in items if _is_true(each, "Ready")]
    return len(ready) == count


def _is_provisioned(found: Installation) -> bool:
    at = environments(TEMPLATE.project, TEMPLATE.team)
    return _is_true(found.admin.get(f"{at}/{TEMPLATE.environment}").json(), "BaselineReady")


def _is_true(resource: dict[str, dict[str, list[dict[str, str]]]], condition: str) -> bool:
    said = resource.get("status", {}).get("conditions", [])
    return any(each["type"] == condition and each["status"] == "True" for each in said)


def _is_idle(found: Installation) -> bool:
    """The three parts of the control plane together take less than a fifth of a processor."""
    before = _used(found)
    time.sleep(2)
    return (_used(found) - before) / 2 < 0.2


def _used(found: Installation) -> float:
    times = [psutil.Process(part.pid).cpu_times() for part in found.control_plane.parts]
    return sum(each.user + each.system for each in times)


def _lists() -> list[tuple[str, str]]:
    """What env-controller lists when it begins: `[target, accept]` each."""
    ours = f"?labelSelector={labels.TEAM.replace('/', '%2F')}"
    slim: Sequence[tuple[Resource, str]] = [(resources.NAMESPACE, ""), *((each, ours) for each in (*CHILDREN, *BESIDE))]
    whole: Sequence[tuple[Resource, str]] = [
        (resources.PROJECT, ""),
        (resources.ENVIRONMENT, ""),
        *((each, ours) for each in WORKLOADS),
    ]
    return [
        *((resource.path(None) + query, METADATA_LIST) for resource, query in slim),
        *((resource.path(None) + query, JSON) for resource, query in whole),
    ]


# What is measured


def _restarted(folder: Path, found: Installation, count: int, number: int, run: Run) -> dict[str, float]:
    marker, said = found.audit.marker(), _said(found)
    settings = {**found.settings(CONTROLLER), "CATALYST_RESYNC_SECONDS": str(RESYNC)}
    controller = Service(CONTROLLER, folder, settings)
    present = count + number * _more(run)
    settle()
    try:
        began = time.monotonic()
        controller.start()
        until(controller.is_ready, "the mirrors are there", within=300, every=0.1)
        synced = time.monotonic() - began
        until(lambda: _is_done(controller, present), "every key is looked at", within=300, every=0.25)
        restart = time.monotonic() - began
        processor = controller.processor_seconds()
        rest = controller.resident_memory()
        until(lambda: _is_done(controller, 2 * present), "a resync has passed", within=3 * RESYNC, every=1)
        writes = len(found.audit.writes_since(marker, user=USER, refused=True)) + _said(found) - said
        stall = controller.metric("catalyst_loop_longest_stall_seconds") * 1000
        names = [f"additional-{number:02}-{one:03}" for one in range(_more(run))]
        later = uvloop.run(
            drive.one_at_a_time(found.control_plane.admin_kubeconfig, names, TEMPLATE.project, TEMPLATE.team)
        )
        peak = controller.peak_memory()
    finally:
        controller.stop()
    return {
        "restart": restart,
        "synced": synced,
        "processor": processor,
        "stall": stall,
        "peak": peak,
        "rest": rest,
        "writes": float(writes),
        "later p50": percentile(later, 50),
        "later p99": percentile(later, 99),
    }


def _more(run: Run) -> int:
    """Created one at a time after each restart."""
    return 10 if run.quick else 50


def _is_done(controller: Service, count: int) -> bool:
    looked = controller.metric("catalyst_reconciles_total", kind="EnvironmentKey")
    return looked >= count and controller.metric("catalyst_queue_depth") == 0


def _said(found: Installation) -> int:
    """Messages that EVENTS ever held."""

    async def asked() -> int:
        bus = await connected(found)
        info = await bus.stream_info(EVENTS)
        await bus.drain()
        return int(info["state"]["last_seq"]) if info else 0

    return asyncio.run(asked())
