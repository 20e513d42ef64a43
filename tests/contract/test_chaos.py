"""The pure part of a run of chaos: the plan, the ledger, the comparison; and that what was changed goes back."""

from __future__ import annotations

import copy
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import pytest

from catalyst.events.topology import MAX_DELIVERIES
from catalyst.local.supervisor import ROOT
from chaos import checks, comparison, ledger
from chaos.bus import Streams
from chaos.ledger import Ledger, Struck
from chaos.plan import MOMENTS, NATS, PARTS, SERVICES, Fault, deck, group, plan
from chaos.undo import Undo

# The plan


def test_a_seed_is_a_plan() -> None:
    assert list(islice(plan(7), 300)) == list(islice(plan(7), 300))
    assert list(islice(plan(7), 50)) != list(islice(plan(8), 50))


def test_two_hundred_faults_hold_every_kind_of_every_victim() -> None:
    """And of the expensive ones some, too: a run that passed has struck all of them."""
    dealt = Counter((fault.kind, fault.victim) for fault in islice(plan(1), 200))
    assert set(dealt) == set(deck())
    struck = Counter(fault.victim for fault in islice(plan(1), 200))
    assert all(struck[victim] >= 3 for victim in (*SERVICES, *NATS, "edge", "kube-apiserver", "kubelet", "registry"))
    assert {fault.moment for fault in islice(plan(1), 200)} == {None, *MOMENTS}


def test_only_clocks_jump_and_only_services_wait_for_a_moment() -> None:
    for fault in islice(plan(3), 400):
        assert bool(fault.jump) == (fault.kind == "clock")
        assert bool(fault.seconds) == (fault.kind != "kill")
        assert fault.moment is None or fault.victim in SERVICES


def test_one_nats_server_at_a_time() -> None:
    assert {group(victim) for victim in NATS} == {"nats"}
    assert {group(victim) for victim in PARTS} == {"node"}
    assert len({group(victim) for victim in SERVICES}) == len(SERVICES)


# The ledger


def _struck(number: int, *, evidence: str = "", missed: str = "", ended: float = 2.0) -> Struck:
    return Struck(
        Fault(number, "kill", "builder", 1, 0), 1.0, ended, "builder-1 (pid 7)", evidence, missed, "at random"
    )


def test_only_what_left_evidence_counts() -> None:
    found = Ledger()
    found.add(_struck(1, evidence="ended with exit code 137"))
    found.add(_struck(2, missed="its pod was replaced", ended=9.0))
    assert [each.fault.number for each in found.hits] == [1]
    assert found.counts() == {"builder": {"kill": 1}}
    assert found.last_end == 9.0  # what missed may have had an effect all the same: nothing is well before it is over


def test_the_report_names_each_fault_and_what_it_hit() -> None:
    found = Ledger([_struck(1, evidence="code 137 | again"), _struck(2, missed="replaced")])
    report = ledger.document(found, ["acme/shop/pr-1: no Environment"], {"seed": 7})
    assert (report["hits"], [each["hit"] for each in report["faults"]]) == (1, [True, False])
    told = ledger.markdown(report)
    assert "| 1 | 1.0 | kill builder-1 (pid 7) | 1.0 | at random | code 137 \\| again |" in told
    assert "missed: replaced" in told
    assert "- acme/shop/pr-1: no Environment" in told


# The comparison


def _environment(number: int, commit: str, *, host: str = "a") -> list[dict[str, Any]]:
    name, namespace = f"pr-{number}", f"acme--shop--pr-{number}"
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": namespace, "uid": f"{host}", "resourceVersion": f"{number}0", "labels": {"of": name}},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": namespace, "generation": number},
            "spec": {"replicas": 1, "template": {"env": [{"name": "CATALYST_COMMIT", "value": commit}]}},
            "status": {"readyReplicas": 1},
        },
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pull"}, "type": "Opaque", "data": {"a": commit}},
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"web-{commit[:5]}", "generateName": "web-6d4cf56db6-"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        },
    ]


def _picture(objects: list[dict[str, Any]], number: int, commit: str) -> dict[str, Any]:
    return comparison.picture(objects, comparison.names_of("acme", "shop", number, commit, f"change-{number}"))


def test_two_environments_of_a_kind_are_equal() -> None:
    one = _picture(_environment(1, "a" * 40), 1, "a" * 40)
    other = _picture(_environment(12, "b" * 40, host="b"), 12, "b" * 40)
    assert comparison.differences(one, other) == []
    assert "Deployment web" in one


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda objects: objects.pop(1), "/Deployment web: missing"),
        (lambda objects: objects[1]["spec"].update(replicas=2), "/Deployment web/spec/replicas: 2 instead of 1"),
        (lambda objects: objects[1]["spec"]["template"]["env"][0].update(value="c" * 40), "instead of '<commit>'"),
        (lambda objects: objects[0]["metadata"]["labels"].update(more="x"), "labels/more: not in an undisturbed one"),
        (lambda objects: objects[2]["data"].clear(), "/Secret pull/keys: [] instead of ['a']"),
        (lambda objects: objects.append(copy.deepcopy(objects[3])), "running pods of web: 2 instead of 1"),
        (lambda objects: objects[3]["metadata"].update(deletionTimestamp="now"), "running pods of web: 0 instead of 1"),
        (lambda objects: objects.append({"kind": "ConfigMap", "metadata": {"name": "x"}}), "/ConfigMap x: not in an"),
    ],
)
def test_what_differs_is_said(change: Any, said: str) -> None:
    objects = _environment(12, "b" * 40)
    change(objects)
    one, other = _picture(_environment(1, "a" * 40), 1, "a" * 40), _picture(objects, 12, "b" * 40)
    (line,) = comparison.differences(one, other)
    assert said in line


# What is found


def _streams(**changes: Any) -> Streams:
    nothing: dict[str, Any] = {
        "facts": {"a": 1, "b": 1}, "handled": frozenset({"a", "b"}), "chains": (), "states": {}, "routes": {},
        "audited": {"audit/a/acme/shop/pr-1": 1, "audit/b/acme/shop/pr-1": 1}, "dead": (), "waiting": {},
    }  # fmt: skip
    return Streams(**{**nothing, **changes})


def test_nothing_is_found_where_all_is_stored_and_handled() -> None:
    assert list(checks.acknowledged({"a": "pull_request opened"}, _streams())) == []
    assert list(checks.handled(_streams())) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"facts": {"b": 1}}, "webhook a (pull_request opened) was answered 202 and is in SCM 0 times"),
        ({"facts": {"a": 2, "b": 1}}, "webhook a (pull_request opened) was answered 202 and is in SCM 2 times"),
        ({"facts": {"a": 1, "b": 2}}, "fact b is in SCM 2 times"),
        ({"audited": {"audit/a/acme/shop/pr-1": 1}}, "fact b was handled without a record in the audit"),
        ({"handled": frozenset({"swept/1/2"})}, "fact swept/1/2 was handled without a record in the audit"),
        (
            {"audited": {"audit/a/acme/shop/pr-1": 2, "audit/b/acme/shop/pr-1": 1}},
            "audit record audit/a/acme/shop/pr-1 was written 2 times",
        ),
        ({"chains": ("a hole",)}, "audit: a hole"),
        ({"waiting": {"SCM/env-controller": "1 not handed out"}}, "consumer SCM/env-controller: 1 not handed out"),
        ({"dead": ("dead.builder: no",)}, "dead letter dead.builder: no"),
        (
            {"dead": (f"{MAX_DELIVERIES}.SCM.env-controller: {{}}",)},
            f"dead letter {MAX_DELIVERIES}.SCM.env-controller: {{}}",
        ),
    ],
)
def test_what_was_lost_is_said(changes: dict[str, Any], said: str) -> None:
    streams = _streams(**changes)
    assert [*checks.acknowledged({"a": "pull_request opened"}, streams), *checks.handled(streams)] == [said]


def test_news_that_were_given_up_are_counted() -> None:
    streams = _streams(dead=(f"{MAX_DELIVERIES}.EVENTS.notifier: {{}}",) * 2)
    assert checks.given_up(streams) == {"notifier": 2}
    assert list(checks.handled(streams)) == []


def _write(pod: str, at: float, code: int = 200, resource: str = "environments") -> str:
    event = {
        "verb": "patch",
        "user": {
            "username": "system:serviceaccount:catalyst-system:env-controller",
            "extra": {"authentication.kubernetes.io/pod-name": [pod]},
        },
        "objectRef": {"resource": resource, "namespace": "acme--shop", "name": "pr-1"},
        "responseStatus": {"code": code},
        "requestReceivedTimestamp": datetime.fromtimestamp(at, UTC).isoformat(),
    }
    return json.dumps(event) + "\n"


@pytest.mark.parametrize(
    ("write", "found"),
    [
        (_write("one", 95), False),
        (_write("two", 105), False),
        (_write("one", 105), True),
        (_write("one", 105, code=409), False),  # refused: that is how it is meant
        (_write("one", 105, resource="leases"), False),
        (_write("one", 100.5), False),  # within what the two clocks may differ
        (_write("one", 195), False),  # it leads again, which was seen a moment later
    ],
)
def test_a_write_while_another_one_led_is_found(tmp_path: Path, write: str, found: bool) -> None:
    log = tmp_path / "audit.log"
    log.write_text(write)
    assert bool(list(checks.second_writers(log, 0, [(90, "one"), (100, "two"), (200, "one")]))) == found


# What goes back


def test_a_guardian_undoes_what_a_killed_run_left(tmp_path: Path) -> None:
    """kill -9 of the run: what it froze goes on, what it filled is free again."""
    victim = subprocess.Popen(["sleep", "60"])
    filler, journal = tmp_path / "filler", tmp_path / "journal"
    filler.write_text("full")
    program = (
        "import os, psutil, signal, sys\nfrom pathlib import Path\nfrom chaos.undo import guarded\n"
        "with guarded(Path(sys.argv[1])) as undo:\n"
        "    undo.file(Path(sys.argv[2]))\n"
        "    with undo.frozen(psutil.Process(int(sys.argv[3]))):\n"
        "        print('frozen', flush=True)\n"
        "        signal.pause()\n"
    )
    command = [sys.executable, "-c", program, str(journal), str(filler), str(victim.pid)]
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert run.stdout is not None
        assert run.stdout.readline() == "frozen\n"
        _until(lambda: psutil.Process(victim.pid).status() == psutil.STATUS_STOPPED)
        run.send_signal(signal.SIGKILL)
        _until(lambda: psutil.Process(victim.pid).status() != psutil.STATUS_STOPPED)
        _until(lambda: not filler.exists())
    finally:
        for process in (run, victim):
            process.kill()
            process.wait()
        if run.stdout is not None:
            run.stdout.close()


def test_a_block_undoes_itself(tmp_path: Path) -> None:
    victim = subprocess.Popen(["sleep", "60"])
    try:
        with Undo(tmp_path / "journal").frozen(psutil.Process(victim.pid)):
            _until(lambda: psutil.Process(victim.pid).status() == psutil.STATUS_STOPPED)
        _until(lambda: psutil.Process(victim.pid).status() != psutil.STATUS_STOPPED)
    finally:
        victim.kill()
        victim.wait()


def _until(holds: Any, within: float = 20) -> None:
    ends = time.monotonic() + within
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.02)
