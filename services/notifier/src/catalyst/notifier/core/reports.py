"""What the forge is told beside the comment: a deployment with its status, and a check, for each environment. Pure.

| Phase | Deployment status | Check |
|---|---|---|
| Pending | – | queued |
| Waiting (fork) | – | completed: action_required |
| Waiting (else) | – | completed: neutral |
| Provisioning, Provisioned, Building, Deploying | in_progress | in_progress |
| Ready | success | completed: success |
| Degraded, Failed | failure | completed: failure |
| Terminating, Gone | inactive, if there was one | completed: cancelled, if it was not completed |

Both speak of the commit of the snapshot. A new commit begins another deployment and another check; the deployment of
the commit before becomes inactive when the new one succeeds, and its check is cancelled if nothing had come of it.
"""

from dataclasses import dataclass

from catalyst.forge.protocol import CheckStatus, Conclusion, DeploymentState
from catalyst.model.environment import Phase
from catalyst.model.remedies import remedy
from catalyst.model.snapshot import Snapshot
from catalyst.notifier.core import progress
from catalyst.notifier.core.comment import WORDS, headline, waits_for
from catalyst.notifier.core.text import code, inline, is_address, printable

_DEPLOYMENT: dict[Phase, DeploymentState] = {
    Phase.PROVISIONING: "in_progress",
    Phase.PROVISIONED: "in_progress",
    Phase.BUILDING: "in_progress",
    Phase.DEPLOYING: "in_progress",
    Phase.READY: "success",
    Phase.DEGRADED: "failure",
    Phase.FAILED: "failure",
    Phase.TERMINATING: "inactive",
    Phase.GONE: "inactive",
}
_CHECK: dict[Phase, tuple[CheckStatus, Conclusion | None]] = {
    Phase.PENDING: ("queued", None),
    Phase.WAITING: ("completed", "neutral"),
    Phase.PROVISIONING: ("in_progress", None),
    Phase.PROVISIONED: ("in_progress", None),
    Phase.BUILDING: ("in_progress", None),
    Phase.DEPLOYING: ("in_progress", None),
    Phase.READY: ("completed", "success"),
    Phase.DEGRADED: ("completed", "failure"),
    Phase.FAILED: ("completed", "failure"),
    Phase.TERMINATING: ("completed", "cancelled"),
    Phase.GONE: ("completed", "cancelled"),
}


@dataclass(frozen=True, slots=True)
class DeploymentReport:
    """How a deployment is to stand. `description`: at most 140 characters of plain text."""

    sha: str
    environment: str
    state: DeploymentState
    url: str | None
    description: str

    @property
    def ends(self) -> bool:
        """Whether it only closes what was begun, and begins nothing."""
        return self.state == "inactive"

    @property
    def decided(self) -> bool:
        """Whether something came of the commit: those before it are looked for then."""
        return self.state != "in_progress"


@dataclass(frozen=True, slots=True)
class CheckReport:
    """How a check is to stand. `summary` is Markdown."""

    sha: str
    name: str
    external_id: str
    status: CheckStatus
    conclusion: Conclusion | None
    title: str
    summary: str
    url: str | None

    @property
    def ends(self) -> bool:
        """Whether it only closes what was begun, and begins nothing."""
        return self.conclusion == "cancelled"


def deployment(snapshot: Snapshot) -> DeploymentReport | None:
    """None: nothing is deployed, and nothing to say about it."""
    state = _DEPLOYMENT.get(snapshot.phase)
    if state is None or snapshot.commit is None:
        return None
    return DeploymentReport(
        sha=snapshot.commit,
        environment=environment_name(snapshot),
        state=state,
        url=snapshot.url if state == "success" and is_address(snapshot.url) else None,
        description=_plain(snapshot)[:140],
    )


def check(snapshot: Snapshot) -> CheckReport | None:
    """None without a commit: a check is one commit's."""
    if snapshot.source.commit is None and snapshot.commit is None:
        return None
    status, conclusion = _CHECK[snapshot.phase]
    if snapshot.phase == Phase.WAITING and snapshot.reason == "Fork":
        conclusion = "action_required"
    return CheckReport(
        sha=snapshot.commit or snapshot.source.commit or "",
        name=check_name(environment_name(snapshot)),
        external_id=snapshot.uid,
        status=status,
        conclusion=conclusion,
        title=_plain(snapshot)[:140],
        summary=_summary(snapshot),
        url=snapshot.url if is_address(snapshot.url) else None,
    )


def replaced(report: CheckReport, sha: str) -> CheckReport:
    """How the check of a former commit stands beside this one, if nothing had come of it."""
    return CheckReport(
        sha=sha,
        name=report.name,
        external_id=report.external_id,
        status="completed",
        conclusion="cancelled",
        title="Replaced by a newer commit",
        summary="A newer commit was pushed before this one was ready.",
        url=None,
    )


def check_name(environment: str) -> str:
    """Of a deployment environment's check."""
    return f"catalyst: {environment}"


def environment_name(snapshot: Snapshot) -> str:
    """`acme/shop/pr-42`: unique among all that share a repository."""
    return f"{snapshot.identity.team}/{snapshot.identity.project}/{snapshot.identity.environment}"


def _plain(snapshot: Snapshot) -> str:
    """One line without Markdown. The forge escapes it, and calls nobody from there."""
    trouble = next(iter(progress.troubles(snapshot)), None)
    word = WORDS[snapshot.phase][1].capitalize()
    if trouble is None:
        return word
    where = f"{trouble.component}: " if trouble.component else ""
    return printable(f"{word}: {where}{trouble.reason}")


def _summary(snapshot: Snapshot) -> str:
    lines = [headline(snapshot), waits_for(snapshot)]
    for trouble in progress.troubles(snapshot):
        where = f"{code(trouble.component)}: " if trouble.component else ""
        lines.append(f"{where}{code(trouble.reason)} {inline(trouble.sentence)}")
        lines.append(remedy(trouble.reason).advice)
    lines.append("The comment in the pull request says more.")
    return "\n\n".join(line for line in lines if line)
