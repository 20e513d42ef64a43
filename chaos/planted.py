"""Five bugs, each put into the running pods, and for each a short plan of aimed faults with which the checks find it.
The same faults without the bug find nothing.

    bug                 where           the fault that is aimed
    ack-before-effect   env-controller  kill -9 when it is about to make the Environment
    publish-without-id  webhook-ingest  kill -9 when the fact is stored and not answered; the forge delivers again
    no-uid-precondition env-controller  between its decision to delete a namespace and the request, the namespace is
                                        somebody else's
    no-fence            env-controller  frozen before a write until another one leads, then woken
    finalizer-first     env-controller  none: a pull request is closed
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from catalyst.model import labels
from chaos import checks, looking, setting
from chaos.looking import Away, Looks, until
from chaos.plan import SERVICES
from chaos.run import Leaders, Setting, say, struck_setting
from chaos.strikes import held
from chaos.support import example
from chaos.traffic import Traffic, Watched, given

NO_SWEEP: Final = 3600
"""Seconds: a sweep would tell env-controller once more of what it lost."""
WITHIN: Final = 45.0
"""Seconds after the fault until all has to be well."""


@dataclass(frozen=True)
class Scene:
    """One repository for one plan. `known`: namespaces of somebody else, with their uids. `before`: facts that there
    were when it began, which another plan may have left.
    """

    on: Setting
    traffic: Traffic
    leaders: Leaders
    known: dict[str, str]
    before: frozenset[str]

    @property
    def looks(self) -> Looks:
        return self.on.looks

    def leading(self) -> dict[str, object]:
        """The pod of the env-controller that leads. Raises Away."""
        if not self.leaders.changes or not self.leaders.changes[-1][1]:
            raise Away("nobody leads")
        holder = self.leaders.changes[-1][1]
        found = next((p for p in self.looks.pods("env-controller") if p["metadata"]["name"] == holder), None)
        if found is None:
            raise Away(f"{holder} is gone")
        return found

    def opened(self) -> Watched:
        """A pull request that is served."""
        found = self.traffic.open("given")
        found.pull.until_served()
        return found


# The plans


def killed_before_the_environment(scene: Scene) -> None:
    pod = until(scene.leading, "somebody leads", 30)
    process = looking.process_in(pod, "env-controller")
    with held(scene.looks, pod, "kube.before:create:Environment") as reached:
        scene.traffic.open("given")
        until(reached, "it is about to make the Environment", 30)
        time.sleep(1)  # an acknowledgement that does not wait for the effect is sent by now
        process.kill()
        until(lambda: setting.ended(process), "it is dead", 5)


def killed_before_the_answer(scene: Scene) -> None:
    github, (pod,) = scene.on.product.github, scene.looks.pods("webhook-ingest")
    process = looking.process_in(pod, "webhook-ingest")
    with held(scene.looks, pod, "bus.published:scm.*") as reached:
        scene.traffic.open("given")
        until(reached, "the fact is stored", 30)
        process.kill()
    until(lambda: not setting.all_there(scene.looks), "it is back", 60)
    github.drained(within=60)
    for attempt in list(github.webhooks.attempts.values()):
        if not attempt.delivered:
            github.redeliver(attempt)
    github.drained(within=60)


def anothers_namespace(scene: Scene) -> None:
    each = scene.opened()
    name, pod = each.pull.namespace, until(scene.leading, "somebody leads", 30)
    where = f"/api/v1/namespaces/{name}"
    with held(scene.looks, pod, "kube.before:delete:Namespace") as reached:
        each.pull.close()
        until(reached, "its namespace is about to be deleted", 60)
        scene.looks.send("DELETE", where)
        until(lambda: scene.looks.get(where) is None, "it is deleted by somebody else", 60)
        # Labelled as another life's: of one without such a label the admission policy would take care.
        marks = {labels.ENVIRONMENT_UID: "another", "pod-security.kubernetes.io/enforce": "baseline"}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": marks}}
        assert scene.looks.send("POST", "/api/v1/namespaces", body) == 201
        scene.known[name] = (scene.looks.get(where) or {})["metadata"]["uid"]
    until(lambda: scene.traffic.environment(each) is None, "the Environment is gone", 60)


def woken_leader(scene: Scene) -> None:
    pod = until(scene.leading, "somebody leads", 30)
    name, process = scene.leaders.changes[-1][1], looking.process_in(pod, "env-controller")
    with held(scene.looks, pod, "kube.before:[!wlg]*:ResourceQuota") as reached:
        each = scene.traffic.open("given")
        until(reached, "it is about to write", 30)
        with scene.on.undo.frozen(process):
            until(lambda: scene.leaders.changes[-1][1] not in ("", name), "another one leads", 40)
            until(lambda: _has_baseline(scene, each), "the other one has written", 30)
            (looking.empty_dir(pod, "chaos-hand") / "hold").unlink()
    time.sleep(5)  # whatever it still writes


def _has_baseline(scene: Scene, each: Watched) -> bool:
    """All is there that comes before the components: those the bug would be refused on its own."""
    found = scene.traffic.environment(each)
    ready = found.status.condition("BaselineReady") if found and found.status else None
    return ready is not None and ready.status == "True"


def closed(scene: Scene) -> None:
    scene.opened().pull.close()


@dataclass(frozen=True)
class Plan:
    """`found`: words of what the checks have to find with the bug."""

    service: str
    aim: Callable[[Scene], None]
    found: str


PLANS: Final[Mapping[str, Plan]] = {
    "ack-before-effect": Plan("env-controller", killed_before_the_environment, "no Environment"),
    "publish-without-id": Plan("webhook-ingest", killed_before_the_answer, "is in SCM 2 times"),
    "no-uid-precondition": Plan("env-controller", anothers_namespace, "of somebody else was deleted"),
    "no-fence": Plan("env-controller", woken_leader, "led"),
    "finalizer-first": Plan("env-controller", closed, "its namespace is there"),
}


def main(names: Sequence[str]) -> int:
    """All plans, or these: with the bug and without. 0: each bug was found, and nothing else."""
    if unknown := [name for name in names if name not in PLANS]:
        sys.stderr.write(f"no bug {unknown[0]!r}: expected {', '.join(PLANS)}\n")
        return 2
    with struck_setting(sweep=NO_SWEEP) as on:
        chosen = [*(names or PLANS)]
        tries = [*((name, "") for name in chosen), *((name, name) for name in chosen)]
        failed = [f"{name} {'planted' if bug else 'clean'}" for name, bug in tries if not _as_expected(on, name, bug)]
    sys.stdout.write(f"FAILED: {', '.join(failed)}\n" if failed else "every bug was found, and nothing without it\n")
    return int(bool(failed))


def _as_expected(on: Setting, name: str, bug: str) -> bool:
    plan = PLANS[name]
    findings = run(on, plan, bug)
    good = any(plan.found in each for each in findings) if bug else not findings
    say(f"{'ok    ' if good else 'FAILED'} {name} {'planted' if bug else 'clean'}: {findings or 'nothing found'}")
    return good


def run(on: Setting, plan: Plan, bug: str) -> list[str]:
    """What the checks find."""
    if bug:
        plant(on, plan.service, bug)
    settle(on)
    try:
        with Leaders(on.looks) as leaders:
            site = on.product.team().site("given", example("hello"), given())
            scene = Scene(
                on, Traffic(on.product, on.looks, 1, {"given": site}), leaders, {}, frozenset(on.streams().facts)
            )
            mark = on.audit_log.stat().st_size
            plan.aim(scene)
            return [*_findings(scene), *checks.second_writers(on.audit_log, mark, leaders.changes), *_tidied(scene)]
    finally:
        if bug:
            plant(on, plan.service, "")


def _findings(scene: Scene) -> Iterator[str]:
    ends = time.monotonic() + WITHIN
    others = {each.name for each in scene.traffic.watched if each.pull.namespace in scene.known}
    while True:
        wrong = {name: why for name, why in _unsettled(scene).items() if name not in others}
        if not wrong or time.monotonic() > ends:
            break
        time.sleep(0.5)
    yield from (f"{name}: {why}" for name, why in wrong.items())
    yield from checks.bystanders(scene.looks, scene.known)
    streams, stored = scene.on.streams(), checks.stored_webhooks(scene.on.product.github)
    facts = {fact: count for fact, count in streams.facts.items() if fact not in scene.before}
    own = {guid: what for guid, what in stored.items() if guid not in scene.before}
    yield from checks.acknowledged(own, replace(streams, facts=facts))


def _unsettled(scene: Scene) -> dict[str, str]:
    try:
        return scene.traffic.unsettled()
    except Away as error:
        return {"the cluster": str(error)}


def _tidied(scene: Scene) -> Iterator[str]:
    """What a bug left would be in the next plan's way. Finds nothing."""
    for each in scene.traffic.watched:
        each.pull.close()
    for each in scene.traffic.watched:
        scene.looks.send("DELETE", f"/api/v1/namespaces/{each.pull.namespace}")
    yield from ()


def plant(on: Setting, service: str, bug: str) -> None:
    """The service's pods have this bug from now on; "": none."""
    container = {"name": service, "env": [{"name": "PLANT", "value": bug}]}
    change = {"spec": {"template": {"spec": {"containers": [container]}}}}
    on.product.system.run("patch", f"deployment/{service}", "--type=strategic", f"--patch={json.dumps(change)}")


def settle(on: Setting) -> None:
    """Every service's pods are as they were told last."""
    for service in SERVICES:
        on.product.system.run("rollout", "status", f"deployment/{service}", "--timeout=120s", within=130)
    setting.wait_for_all(on.looks, 90)
