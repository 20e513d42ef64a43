"""From what became of a build to the event that says so."""

from catalyst.builder.core.build import Refusal
from catalyst.builder.core.executor import Broken
from catalyst.builder.core.job import End
from catalyst.builder.core.records import Record
from catalyst.events.catalogue import BuildFinished, BuildRequested

MAX_MESSAGE = 1024


def succeeded(request: BuildRequested, record: Record, registry: str, seconds: float) -> BuildFinished:
    return BuildFinished(
        **_question(request),
        outcome="succeeded",
        image=f"{registry}/{record.repository}",
        digest=record.digest,
        ports=record.ports,
        user=record.user,
        duration_seconds=seconds,
    )


def failed(
    request: BuildRequested, broken: Broken | Refusal, seconds: float = 0.0, log_tail: str | None = None
) -> BuildFinished:
    return BuildFinished(
        **_question(request),
        outcome="failed",
        reason=broken.reason,
        message=broken.message[:MAX_MESSAGE],
        log_tail=log_tail or None,
        duration_seconds=seconds,
    )


def superseded(request: BuildRequested, seconds: float = 0.0) -> BuildFinished:
    return BuildFinished(
        **_question(request),
        outcome="superseded",
        reason="Superseded",
        message="A newer commit is built instead.",
        duration_seconds=seconds,
    )


def without_pod(end: End) -> Broken:
    """A Job whose pod is not there to be asked."""
    if end.reason == "DeadlineExceeded":
        return Broken(
            "BuildNotStarted",
            "the build's pod did not start in time. The platform's people look at the build images and the nodes.",
        )
    return Broken("BuildLost", "the build's pod is gone and told nothing. Build it again.")


def _question(request: BuildRequested) -> dict[str, object]:
    return {
        "environment": request.environment,
        "component": request.component,
        "key": request.key,
        "attempt": request.attempt,
    }
