"""The one comment of a pull request: a value in, Markdown out. Pure, and the same value gives the same text.

```
<!-- catalyst:environments -->        by this mark it is found again, if we are its author
### 🟢 Environment ready             one line that says it all, then the address and the commit
| Component | State | … |             per component: state, build, deploy, commit, URL
Accepted 0.1 s · Namespace 0.4 s      the stages that all components share
**`web`: CrashLoop** …                what went wrong, the log's end in a fold, what to do
```

Several Projects on one repository: a section each, the same text under smaller headings. GitHub takes 65,536
characters; what does not fit is cut in this order: logs, tables, all but the headlines.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from catalyst.model.environment import Phase, Stage
from catalyst.model.remedies import remedy
from catalyst.model.snapshot import Snapshot
from catalyst.notifier.core import progress
from catalyst.notifier.core.conversation import Conversation
from catalyst.notifier.core.text import code, fenced, inline, is_address, link

MARK: Final = "<!-- catalyst:environments -->"
LIMIT: Final = 60_000
"""Bytes of a comment; GitHub takes 65,536 characters."""
_LOGS: Final = (4000, 1500, 400, 0)
"""Characters of each log, from what one would like to what always fits."""

WORDS: Final = {
    Phase.PENDING: ("⚪", "pending"),
    Phase.WAITING: ("⏸️", "waiting"),
    Phase.PROVISIONING: ("🟡", "being prepared"),
    Phase.PROVISIONED: ("🟡", "prepared"),
    Phase.BUILDING: ("🟡", "building"),
    Phase.DEPLOYING: ("🟡", "deploying"),
    Phase.READY: ("🟢", "ready"),
    Phase.DEGRADED: ("🟠", "degraded"),
    Phase.FAILED: ("🔴", "failed"),
    Phase.TERMINATING: ("⚪", "being removed"),
    Phase.GONE: ("⚪", "removed"),
}
SERVING: Final = frozenset({Phase.READY, Phase.DEGRADED})
_STATES: Final = {"ready": "🟢", "failed": "🔴", "building": "🟡", "built": "🟡", "deploying": "🟡", "waiting": "⚪"}
_BECAUSE: Final = {
    "Closed": "the pull request was closed",
    "Expired": "its time was up",
    "Requested": "somebody asked for it",
    "TriggerWithdrawn": "the Project does not want it any more",
}


@dataclass(frozen=True, slots=True)
class Style:
    """What the text may link to. `runbooks`: where docs/runbooks is published, without a slash at its end."""

    runbooks: str | None = None


def render(told: Conversation, style: Style = Style()) -> str:
    """The whole comment, of at most `LIMIT` bytes."""
    attempts: list[Callable[[], str]] = [
        *(lambda log=log: _full(told, style, log) for log in _LOGS),
        lambda: _headlines(told),
    ]
    text = ""
    for attempt in attempts:
        text = attempt()
        if len(text.encode()) <= LIMIT:
            return text
    return _shortened(text)


def headline(snapshot: Snapshot) -> str:
    """`🟢 ready at https://…`: one line of Markdown for one environment."""
    icon, word = WORDS[snapshot.phase]
    if snapshot.phase == Phase.GONE:
        return f"removed{_because(snapshot)}. Nothing of it is left."
    if snapshot.phase == Phase.TERMINATING:
        return f"is being removed{_because(snapshot)}."
    if snapshot.phase in SERVING and is_address(snapshot.url):
        return f"{icon} **{word}** at {link(snapshot.url)}"
    return f"{icon} **{word}**"


def waits_for(snapshot: Snapshot) -> str:
    """What a held environment waits for and who can lift that; empty when nothing holds it."""
    failing = {c.type: c for c in snapshot.conditions if c.status == "False"}
    held = failing.get("Approved") or (failing.get("Admitted") if snapshot.phase == Phase.WAITING else None)
    if held is None or snapshot.phase in progress.GOING:
        return ""
    if held.type == "Admitted":
        serving = any(component.ready for component in snapshot.components) and is_address(snapshot.url)
        runs = f" What runs is at {link(snapshot.url)}." if serving and snapshot.url else ""
        return f"It waits ({code(held.reason)}): {inline(held.message, 700)}{runs}"
    head = (snapshot.source.commit or "")[:12]
    if held.reason == "Draft":
        return "It waits until this draft is ready for review. `/catalyst deploy` starts it before that."
    if held.reason == "Fork":
        approve = code(f"/catalyst approve {head}".strip())
        return (
            "It comes from a fork, so nothing is built before somebody with write access has looked at "
            f"{code(head)} and comments {approve}. The approval is for this commit only; the next push needs another."
        )
    return f"It is held ({code(held.reason)}): {inline(held.message)}"


def _full(told: Conversation, style: Style, log: int) -> str:
    return _joined(
        MARK, _title(told), *(_section(told, snapshot, style, log) for snapshot in told.snapshots), _foot(told)
    )


def _headlines(told: Conversation) -> str:
    lines = "\n".join(f"- {code(_name(snapshot))}: {headline(snapshot)}" for snapshot in told.snapshots)
    return _joined(MARK, _title(told), lines, _foot(told))


def _shortened(text: str) -> str:
    """More environments than fit even as a line each: whole lines, as many as there is room for."""
    kept, room = [], LIMIT - 100
    for line in text.split("\n"):
        room -= len(line.encode()) + 1
        if room < 0:
            break
        kept.append(line)
    return "\n".join(kept) + "\n\nThere are more than fit here.\n"


def _joined(*blocks: str) -> str:
    return "\n\n".join(block for block in blocks if block) + "\n"


def _title(told: Conversation) -> str:
    if not told.alive:
        return ""
    if len(told.alive) > 1:
        ready = sum(snapshot.phase == Phase.READY for snapshot in told.alive)
        return f"### Environments: {ready} of {len(told.alive)} ready"
    icon, word = WORDS[told.alive[0].phase]
    return f"### {icon} Environment {word}"


def _section(told: Conversation, snapshot: Snapshot, style: Style, log: int) -> str:
    several = len(told.snapshots) > 1
    if snapshot.phase in progress.GOING:
        return f"{code(_name(snapshot)) if several else 'Environment'} {headline(snapshot)}"
    icon, word = WORDS[snapshot.phase]
    return _joined(
        f"#### {icon} {code(_name(snapshot))} {word}" if several else "",
        _first_line(snapshot),
        waits_for(snapshot),
        _table(snapshot),
        _stages(snapshot),
        *_troubles(snapshot, style, log),
        _notes(snapshot),
    ).rstrip("\n")


def _first_line(snapshot: Snapshot) -> str:
    address = f"**{link(snapshot.url)}**" if snapshot.phase in SERVING and is_address(snapshot.url) else ""
    commit = f"{'commit' if address else 'Commit'} {code(snapshot.commit[:12])}" if snapshot.commit else ""
    return " · ".join(part for part in (address, commit) if part)


def _table(snapshot: Snapshot) -> str:
    rows = [
        "| "
        + " | ".join(
            (
                code(component.name),
                f"{_STATES[component.state]} {component.state}",
                progress.duration(component.build),
                progress.duration(component.deploy),
                code(component.commit[:12]) if component.commit else "–",
                link(component.url, "open") if is_address(component.url) else "–",
            )
        )
        + " |"
        for component in progress.components(snapshot)
    ]
    if not rows:
        return ""
    return "\n".join(["| Component | State | Build | Deploy | Commit | URL |", "|---|---|---|---|---|---|", *rows])


def _stages(snapshot: Snapshot) -> str:
    return " · ".join(_stage(stage) for stage in progress.shared_stages(snapshot))


def _stage(stage: Stage) -> str:
    running = "" if stage.finished_at else f" since {stage.started_at:%H:%M:%S} UTC"
    return f"{inline(stage.name)} {progress.duration(stage)}{running}"


def _troubles(snapshot: Snapshot, style: Style, log: int) -> Iterator[str]:
    for trouble in progress.troubles(snapshot):
        where = f"{code(trouble.component)}: " if trouble.component else ""
        yield f"**{where}{code(trouble.reason)}** {inline(trouble.sentence, 700)}".rstrip()
        block = fenced(trouble.log, limit=log)
        if block:
            yield f"<details><summary>The end of the log</summary>\n\n{block}\n\n</details>"
        advice = remedy(trouble.reason)
        more = f" ([more]({style.runbooks}/{advice.runbook}.md))" if style.runbooks else ""
        yield f"**What to do:** {advice.advice}{more}"


def _notes(snapshot: Snapshot) -> str:
    """What the Project asks for and nothing implements yet."""
    lacking = next((c for c in snapshot.conditions if c.type == "Supported" and c.status == "False"), None)
    return f"ℹ️ {inline(lacking.message)}" if lacking else ""


def _foot(told: Conversation) -> str:
    return "<sub>Every push updates it. `/catalyst help` lists the commands.</sub>" if told.alive else ""


def _name(snapshot: Snapshot) -> str:
    return f"{snapshot.identity.team}/{snapshot.identity.project}/{snapshot.identity.environment}"


def _because(snapshot: Snapshot) -> str:
    return f": {_BECAUSE[snapshot.deletion.reason]}" if snapshot.deletion else ""
