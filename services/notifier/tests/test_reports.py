"""Deployments and checks: a table of phases, and values that a forge takes."""

import pytest
from snapshots import COMMIT, crashing, fork, gone, ready, shown, snapshot

from catalyst.model.environment import Phase
from catalyst.notifier.core import reports


@pytest.mark.parametrize(
    ("phase", "deployment", "check"),
    [
        (Phase.PENDING, None, ("queued", None)),
        (Phase.WAITING, None, ("completed", "neutral")),
        (Phase.PROVISIONING, "in_progress", ("in_progress", None)),
        (Phase.PROVISIONED, "in_progress", ("in_progress", None)),
        (Phase.BUILDING, "in_progress", ("in_progress", None)),
        (Phase.DEPLOYING, "in_progress", ("in_progress", None)),
        (Phase.READY, "success", ("completed", "success")),
        (Phase.DEGRADED, "failure", ("completed", "failure")),
        (Phase.FAILED, "failure", ("completed", "failure")),
        (Phase.TERMINATING, "inactive", ("completed", "cancelled")),
        (Phase.GONE, "inactive", ("completed", "cancelled")),
    ],
)
def test_each_phase(phase: Phase, deployment: str | None, check: tuple[str, str | None]) -> None:
    told = reports.deployment(snapshot(phase))
    assert (told.state if told else None) == deployment
    run = reports.check(snapshot(phase))
    assert run is not None
    assert (run.status, run.conclusion) == check
    assert (run.conclusion is not None) == (run.status == "completed"), "GitHub wants both or none"


def test_a_fork_wants_somebody_to_act() -> None:
    run = reports.check(fork())
    assert run is not None
    assert run.conclusion == "action_required"
    assert "/catalyst approve" in shown(run.summary).code


def test_ready_leads_to_the_address() -> None:
    told, run = reports.deployment(ready()), reports.check(ready())
    assert told is not None
    assert run is not None
    assert told.url == run.url == "https://pr-42--shop--acme.catalyst.localhost:8443/"
    assert (told.sha, told.environment, run.name) == (COMMIT, "acme/shop/pr-42", "catalyst: acme/shop/pr-42")


def test_a_failure_is_named_and_fits() -> None:
    told = reports.deployment(crashing())
    assert told is not None
    assert told.description == "Failed: web: CrashLoop"
    long = snapshot(Phase.FAILED, reason="X" * 500)
    assert len(reports.deployment(long).description) <= 140  # type: ignore[union-attr]


def test_without_a_commit_there_is_nothing_to_report_on() -> None:
    assert reports.deployment(snapshot(commit=None)) is None
    assert reports.check(snapshot(commit=None)) is None
    assert reports.deployment(gone()).ends  # type: ignore[union-attr]
