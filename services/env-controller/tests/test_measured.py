"""Which stages a change of the status ends."""

from datetime import UTC, datetime, timedelta

import pytest

from catalyst.env_controller.core.measured import measured
from catalyst.model.environment import EnvironmentStatus, Phase, Stage

T0 = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def status(phase: Phase, **stages: tuple[float, float | None]) -> EnvironmentStatus:
    runs = (
        Stage(name=name, started_at=at(began), finished_at=None if ended is None else at(ended))
        for name, (began, ended) in stages.items()
    )
    return EnvironmentStatus(phase=phase, stages=tuple(runs))


NEW = status(Phase.PROVISIONING, Namespace=(1, None))
DEPLOYING = status(Phase.DEPLOYING, Namespace=(1, 2), Deploy=(10, None), Route=(11, None))
READY = status(Phase.READY, Namespace=(1, 2), Deploy=(10, 14), Route=(11, 15))
DEGRADED = READY.model_copy(update={"phase": Phase.DEGRADED})
PUSHED = status(Phase.DEPLOYING, Namespace=(1, 2), Deploy=(110, None), Route=(11, 15))
AGAIN = status(Phase.READY, Namespace=(1, 2), Deploy=(110, 130), Route=(11, 15))


@pytest.mark.parametrize(
    ("before", "after", "triggered", "expected"),
    [
        (None, NEW, 0, {}),
        (NEW, DEPLOYING, 0, {"webhook-to-namespace": 2.0}),
        (DEPLOYING, READY, 0, {"deploy": 4.0, "route": 4.0, "webhook-to-ready": 15.0}),
        (READY, READY, 0, {}),
        (READY, DEGRADED, 0, {}),
        (DEGRADED, READY, 0, {}),
        (READY, PUSHED, 100, {}),
        (PUSHED, AGAIN, 100, {"deploy": 20.0, "webhook-to-ready": 30.0}),
        (DEPLOYING, READY, 60, {"deploy": 4.0, "route": 4.0, "webhook-to-ready": 0.0}),
    ],
)
def test_a_stage_is_measured_when_it_ends_and_once(
    before: EnvironmentStatus | None, after: EnvironmentStatus, triggered: float, expected: dict[str, float]
) -> None:
    assert dict(measured(before, after, at(triggered))) == expected
