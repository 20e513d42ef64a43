"""How long the stages of a pull request take, as one histogram: `catalyst_stage_seconds{stage, team, project}`.

Each stage is measured by the service that knows its end. An environment or a commit is no label: there would be one
series for each that ever was. Which pull request was slow is told by the exemplar, whose trace leads there.

| Stage | From | To | Measured by |
|---|---|---|---|
| `webhook-to-namespace` | the webhook came | the namespace exists | env-controller |
| `build-queue` | builder made the Job | it was let go | builder |
| `build` | the Job was let go | it ended | builder |
| `deploy` | the images are known | every pod is ready | env-controller |
| `route` | the hosts were handed out | every host answers | env-controller |
| `webhook-to-ready` | the webhook came | the environment is Ready | env-controller |
| `webhook-to-comment` | the webhook came | the comment speaks of it | notifier |
| `close-to-gone` | the webhook that closes came | nothing is left | env-controller |
"""

from typing import Final, Literal, get_args

from opentelemetry import metrics

Stage = Literal[
    "webhook-to-namespace",
    "build-queue",
    "build",
    "deploy",
    "route",
    "webhook-to-ready",
    "webhook-to-comment",
    "close-to-gone",
]
STAGES: Final[tuple[Stage, ...]] = get_args(Stage)

BUCKETS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 1800.0)
"""Seconds. The product's promises are edges: 30 (cached), 180 (a URL), 300 (gone)."""

_seconds = metrics.get_meter("catalyst.service").create_histogram(
    "catalyst_stage_seconds",
    unit="s",
    description="time that a stage of a pull request took",
    explicit_bucket_boundaries_advisory=BUCKETS,
)


def measure(stage: Stage, seconds: float, *, team: str, project: str) -> None:
    """A stage has ended. Within the trace that it belongs to, that trace becomes its exemplar."""
    _seconds.record(max(0.0, seconds), {"stage": stage, "team": team, "project": project})
