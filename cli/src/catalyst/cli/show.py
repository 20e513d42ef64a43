"""Results for eyes and for programs: a table, JSON or YAML. Prints; decides nothing.

Texts come from forges, logs and strangers: what could move a terminal's cursor is shown as a mark, never sent to it.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from catalyst.cli.core.difference import Changed
from catalyst.cli.core.health import Health
from catalyst.cli.core.history import Moment
from catalyst.cli.core.telling import is_bad, told
from catalyst.cli.core.timeline import Line
from catalyst.cli.core.times import took
from catalyst.cli.core.why import Trouble, Why
from catalyst.cli.documents import document
from catalyst.cli.operations.audit import Recorded
from catalyst.cli.operations.dead import Buried, Settled
from catalyst.cli.operations.environments import Shown
from catalyst.events.chain import Verified
from catalyst.events.dead import Dead
from catalyst.model.environment import Phase
from catalyst.model.snapshot import Snapshot

if TYPE_CHECKING:
    from catalyst.cli.core.doctor import Report
    from catalyst.cli.core.explain import Explanation

PIPED: Final = 100_000
"""Columns when nobody's terminal limits them: nothing is cut."""
_ANSWER: Final = {"yes": "green", "waits": "yellow", "no": "red", "unknown": "magenta"}
_STATUS: Final = {"ok": "green", "warning": "yellow", "failed": "red", "unknown": "magenta"}
_VERDICT: Final = {
    "yes": "would get an environment",
    "waits": "would get an environment that has to wait",
    "no": "would not get an environment",
    "unknown": "cannot be told",
}
_PHASE: Final = {"Ready": "green", "Failed": "red", "Degraded": "red", "Gone": "dim", "Terminating": "dim"}


class Printer:
    """Prints results in the form that was asked for, on standard output."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._console = Console(
            highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPED, emoji=False, markup=False
        )
        self._day = ""
        self._trace: str | None = None

    # What there is

    def environments(self, found: Sequence[Shown], now: datetime) -> None:
        if self._printed([{**document(one.snapshot), "storedAt": document(one.at), "ref": one.ref} for one in found]):
            return
        rows = [
            (
                _plain(one.snapshot.key),
                Text(one.snapshot.phase, _PHASE.get(one.snapshot.phase, "yellow")),
                _plain(_reason(one.snapshot)),
                _plain((one.snapshot.commit or "")[:7]),
                _plain(took((now - one.at).total_seconds())),
                _plain(one.snapshot.url or ""),
            )
            for one in found
        ]
        self._table(("ENVIRONMENT", "PHASE", "REASON", "COMMIT", "SINCE", "URL"), rows)
        if not found:
            self._console.print("no environments")

    def shown(self, one: Shown) -> None:
        if self._printed({**document(one.snapshot), "storedAt": document(one.at), "ref": one.ref}):
            return
        snapshot = one.snapshot
        self._fields(_about(snapshot), [("stored", f"{_time(one.at)}  {one.ref}")])
        self._table(
            ("COMPONENT", "READY", "REASON", "IMAGE"),
            [
                (
                    _plain(each.name),
                    Text("yes", "green") if each.ready else Text("no", "yellow"),
                    _plain(each.reason or ""),
                    _plain(each.digest or each.image or ""),
                )
                for each in snapshot.components
            ],
        )
        self._table(
            ("CONDITION", "STATUS", "REASON", "MESSAGE"),
            [
                (_plain(each.type), _plain(each.status), _plain(each.reason), _plain(_first_line(each.message)))
                for each in snapshot.conditions
            ],
        )
        self._table(
            ("STAGE", "BEGAN", "TOOK"),
            [
                (
                    _plain(each.name),
                    _plain(_time(each.started_at)),
                    _plain(took((each.finished_at - each.started_at).total_seconds()) if each.finished_at else "…"),
                )
                for each in snapshot.stages
            ],
        )

    # What happened

    def lines(self, found: Sequence[Line], *, stream: bool = False) -> None:
        """A timeline, or with `stream` its next lines."""
        if self._printed(document(list(found)), stream=stream):
            return
        for line in found:
            self._new_day(line.at)
            self._new_trace(line.trace)
            text = Text.assemble(
                (_clock(line.at), "dim"),
                (f"{f'+{took(line.gap)}' if line.gap is not None else '':>12}  ", "dim"),
                (f"{_clean(line.source):<15}", "cyan"),
                (_clean(line.text), "red" if line.bad else ""),
            )
            if line.took is not None:
                text.append(f"  [{took(line.took)}]", "magenta")
            if line.back is not None:
                text.append(f"  (stored {took(line.back)} before the line above: the streams' clocks differ)", "yellow")
            if line.clock is not None:
                text.append(f"  (its clock: {line.clock:+.1f} s)", "yellow")
            text.append(f"  {line.ref}{f' ← {line.cause}' if line.cause else ''}", "dim")
            self._console.print(text)

    def _new_trace(self, trace: str | None) -> None:
        """Said where another one begins: a webhook has one, so most lines follow from the same."""
        if trace is not None and trace != self._trace:
            self._trace = trace
            self._console.print(Text(f"trace {trace}", "dim"))

    def changed(self, found: Sequence[Changed]) -> None:
        if self._printed(document(list(found))):
            return
        rows = [
            (
                _plain(one.field),
                _plain(_value(one.before)),
                _plain(_value(one.after)),
                _plain(_time(one.at)),
                _plain(one.because),
            )
            for one in found
        ]
        self._table(("FIELD", "BEFORE", "AFTER", "AT", "BECAUSE"), rows)
        if not found:
            self._console.print("nothing differs")

    def why(self, one: Why) -> None:
        if self._printed(document(one)):
            return
        self._console.print(Text.assemble((one.environment, "bold"), "  ", _clean(one.verdict)))
        if one.first is not None:
            self._trouble("first cause", one.first)
        for trouble in one.also:
            where = f"{trouble.component}: " if trouble.component else ""
            self._console.print(_clean(f"also: {where}{trouble.reason}. {trouble.sentence}  {trouble.ref}"))
        for sentence in one.waits_for:
            self._console.print(Text(_clean(f"waits: {sentence}"), "yellow"))
        if one.late is not None:
            self._console.print(Text(_clean(f"late: {one.late}"), "yellow"))
        if one.trace is not None:
            self._console.print(Text(f"trace: {one.trace}", "dim"))
        if one.slowest:
            self._console.print()
            if one.total is not None:
                self._console.print(f"from the fact to Ready: {took(one.total)}")
            rows = [
                (_plain(stage.name), _plain(f"{took(stage.seconds)}{' so far' if stage.running else ''}"))
                for stage in one.slowest
            ]
            self._table(("SLOWEST STAGES", "TOOK"), rows)

    def explanation(self, one: "Explanation") -> None:
        """Each condition with its remedy, then what would be made."""
        if self._printed(document(one)):
            return
        verdict = Text(_VERDICT[one.answer], _ANSWER[one.answer])
        self._console.print(Text.assemble((one.environment, "bold"), "  ", verdict))
        for check in one.checks:
            answer = Text(f"{check.answer:<9}", _ANSWER[check.answer])
            self._console.print(Text.assemble("  ", answer, f"{check.name:<12}", _clean(check.found)))
            if check.remedy and check.answer != "yes":
                self._console.print(Text(_clean(f"{'':<23}→ {check.remedy}"), "bold"))
        plan = one.plan
        if plan is None:
            return
        self._console.print()
        self._fields(
            [
                ("namespace", plan.namespace),
                ("url", plan.url or ""),
                ("expires", _time(plan.expires_at) if plan.expires_at else ""),
                ("secrets", ", ".join(plan.secrets)),
                *(("note", note) for note in plan.notes),
            ]
        )
        self._table(
            ("MADE", "FROM", "URL"),
            [
                *(
                    (
                        _plain(each.name),
                        _plain(each.image or " ".join(f"{key}={value}" for key, value in each.build.items()) or "–"),
                        _plain(each.url or ""),
                    )
                    for each in plan.components
                ),
                *((_plain(each.name), _plain(each.image), _plain("")) for each in plan.services),
            ],
        )

    def report(self, one: "Report") -> None:
        """Each check with its remedy, and how many are of which status."""
        if self._printed({**document(one), "failed": one.failed}):
            return
        for each in one.findings:
            status = Text(f"{each.status:<9}", _STATUS[each.status])
            self._console.print(Text.assemble(status, f"{each.check:<17}", _clean(each.found)))
            if each.remedy and each.status != "ok":
                self._console.print(Text(_clean(f"{'':<26}→ {each.remedy}"), "bold"))
        counted = [f"{number} {name}" for name in _STATUS if (number := sum(f.status == name for f in one.findings))]
        self._console.print(", ".join(counted))

    def moments(self, found: Iterable[Moment], *, stream: bool = False) -> None:
        """Events, one a line."""
        kept = list(found)
        if self._printed([document(one) for one in kept], stream=stream):
            return
        for one in kept:
            self._new_day(one.at)
            data = one.event.data if one.event else None
            self._console.print(
                Text.assemble(
                    (f"{_clock(one.at)}  ", "dim"),
                    (f"{_clean(one.source):<15}", "cyan"),
                    f"{one.type:<24}",
                    (f"{_clean(data.about()) if data else ''}  ", "bold"),
                    (_clean(told(data) if data else one.problem), "red" if data is None or is_bad(data) else ""),
                    (f"  {one.ref}", "dim"),
                )
            )

    def moment(self, one: Moment) -> None:
        """One message whole; as a table, its document as YAML."""
        found = document(one)
        if not self._printed(found):
            self._yaml(found)

    # How it is

    def health(self, one: Health) -> None:
        if self._printed({**document(one), "well": one.well}):
            return
        self._table(
            ("STREAM", "MESSAGES", "MIB", "FILL", "LAST", ""),
            [
                (
                    _plain(each.name),
                    _plain(f"{each.messages:,}"),
                    _plain(f"{each.bytes / 2**20:,.1f}"),
                    _plain(f"{each.fill:.0%}"),
                    _plain((each.last or "")[:19]),
                    Text(each.problem, "red"),
                )
                for each in one.streams
            ],
        )
        self._table(
            ("SERVICE", "READS", "LAG", "UNANSWERED", "AGAIN", "PULLS", ""),
            [
                (
                    _plain(each.service),
                    _plain(each.stream),
                    *(_plain("–" if n is None else f"{n:,}") for n in (each.lag, each.unanswered, each.again)),
                    _plain("–" if each.pulls is None else str(each.pulls)),
                    Text(each.problem, "red"),
                )
                for each in one.consumers
            ],
        )
        self._table(
            ("LEADER OF", "IS", ""),
            [(_plain(each.service), _plain(each.holder or "–"), Text(each.problem, "red")) for each in one.leaders],
        )
        self._table(
            ("VERSION OF", "BUILT FROM", "STARTED"),
            [
                (_plain(service), _plain(last.version if last else "–"), _plain(_time(last.at) if last else ""))
                for service, last in one.versions.items()
            ],
        )
        for problem in one.problems:
            self._console.print(Text(_clean(problem), "red"))
        if one.server is None:
            self._console.print("the server's disk was not asked for: --monitoring http://127.0.0.1:8222")
        self._console.print("all is well" if one.well else f"problems: {len(one.problems)}")

    # What nobody could handle

    def dead(self, found: Sequence[Dead]) -> None:
        if self._printed([document(one) for one in found]):
            return
        rows = [
            (
                _plain(f"{one.entry.stream}/{one.entry.sequence}"),
                _plain(_time(one.entry.time)),
                _plain(one.letter.service if one.letter else one.consumer),
                _plain(f"{one.stream}/{one.sequence}" if one.consumer else ""),
                _plain(one.settled.outcome if one.settled else ""),
                _plain(_first_line(one.reason)),
            )
            for one in found
        ]
        self._table(("LETTER", "AT", "SERVICE", "MESSAGE", "DEALT WITH", "REASON"), rows)
        if not found:
            self._console.print("no dead letters")

    def buried(self, one: Buried) -> None:
        found = document(one)
        if not self._printed(found):
            self._yaml(found)

    def settled(self, one: Settled) -> None:
        if self._printed(document(one)):
            return
        already = "had been " if one.again else ""
        what = f"sent again, as {one.resent}" if one.resent else "dropped"
        self._console.print(f"{one.ref} {already}{what}")

    # Forms

    def _printed(self, found: Any, *, stream: bool = False) -> bool:
        """Whether it was printed for programs. A stream is one JSON document a line, or YAML documents."""
        if self._output == "json":
            documents = found if stream else [found]
            for one in documents:
                sys.stdout.write(json.dumps(one, ensure_ascii=False, indent=None if stream else 2) + "\n")
            sys.stdout.flush()
            return True
        if self._output == "yaml":
            for one in found if stream else [found]:
                if stream:
                    sys.stdout.write("---\n")
                self._yaml(one)
            return True
        return False

    def _yaml(self, found: Any) -> None:
        import yaml

        yaml.safe_dump(found, sys.stdout, sort_keys=False, allow_unicode=True, width=120)
        sys.stdout.flush()

    def _table(self, heads: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
        if not rows:
            return
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for head in heads:
            table.add_column(head, overflow="fold")
        for row in rows:
            table.add_row(*row)
        self._console.print(table, soft_wrap=False)

    def _fields(self, *groups: Iterable[tuple[str, str]]) -> None:
        for group in groups:
            for name, value in group:
                if value:
                    self._console.print(Text.assemble((f"{name:<13}", "dim"), _clean(value)))

    def _trouble(self, head: str, one: Trouble) -> None:
        self._fields(
            [
                (head, f"{f'{one.component}: ' if one.component else ''}{one.reason}, {_time(one.at)}  {one.ref}"),
                ("after", one.after or ""),
                ("says", one.sentence),
                ("remedy", one.remedy),
                ("runbook", one.runbook),
            ]
        )
        for line in one.log.splitlines():
            self._console.print(Text(f"  │ {_clean(line)}", "dim"))

    # The audit

    def recorded(self, found: Sequence[Recorded]) -> None:
        if self._printed([_audited(one) for one in found]):
            return
        self._table(("RECORD", "AT", "WHO", "DOOR", "WHAT", "ON", "RESULT"), [_row(one) for one in found])
        if not found:
            self._console.print("no records")

    def record(self, one: Recorded) -> None:
        if self._printed(_audited(one)):
            return
        told = _audited(one)
        self._fields([(name, str(value)) for name, value in told.items() if not isinstance(value, dict)])
        self._fields([(f"principal {name}", str(value)) for name, value in told.get("principal", {}).items()])

    def verified(self, found: Verified) -> None:
        if self._printed(document(found)):
            return
        for fault in found.faults:
            where = f"AUDIT/{fault.sequence}" if fault.sequence else "AUDIT"
            self._console.print(Text(_clean(f"{where}  {fault.subject}  {fault.problem}"), "red"))
        chains = f"{found.records} records in {len(found.heads)} chains"
        what = f"{len(found.faults)} faults" if found.faults else "all as they were written"
        self._console.print(f"{chains}: {what}")

    def said(self, sentence: str) -> None:
        self._console.print(_clean(sentence))

    def said_json(self, told: dict[str, Any]) -> None:
        """One document, whatever was asked for: it goes into a file."""
        sys.stdout.write(json.dumps(told, indent=1, sort_keys=True) + "\n")

    def _new_day(self, at: datetime) -> None:
        day = at.astimezone(UTC).strftime("%Y-%m-%d")
        if day != self._day:
            self._console.print(Text(f"{day}, UTC", "bold"))
            self._day = day


def _audited(one: Recorded) -> dict[str, Any]:
    head = {"ref": one.ref, "subject": one.stored.subject, "storedAt": document(one.stored.time)}
    if one.record is None:
        return {**head, "problem": one.problem}
    told: dict[str, Any] = document(one.record)
    return {**head, **told}


def _row(one: Recorded) -> tuple[Text, ...]:
    record = one.record
    if record is None:
        return (_plain(one.ref), _plain(_time(one.stored.time)), Text(_clean(f"unreadable: {one.problem}"), "red"))
    principal = record.principal
    who = f"{principal.name} as {principal.acting_as}" if principal.acting_as else principal.name
    result = f"{record.outcome}{f': {record.reason}' if record.reason else ''}"
    style = {"done": "green", "held": "yellow"}.get(record.outcome, "red")
    cells = (one.ref, _time(record.at), who, record.door, record.operation, record.target)
    return (*map(_plain, cells), Text(_clean(result), style))


def _about(snapshot: Snapshot) -> list[tuple[str, str]]:
    source, pull_request = snapshot.source, snapshot.source.pull_request
    why = f" ({reason})" if (reason := _reason(snapshot)) else ""
    return [
        ("environment", f"{snapshot.key}  {snapshot.type}, uid {snapshot.uid}"),
        ("phase", f"{snapshot.phase}{why}"),
        ("says", _first_line(snapshot.message)),
        ("url", snapshot.url or ""),
        ("commit", snapshot.commit or ""),
        ("source", " ".join(part for part in (source.forge, source.repository, source.branch) if part)),
        ("pull request", f"#{pull_request.number} {pull_request.title or ''}" if pull_request else ""),
        ("owner", snapshot.owner or ""),
        ("goes because", f"{snapshot.deletion.reason}: {snapshot.deletion.evidence}" if snapshot.deletion else ""),
        ("expires", _time(snapshot.expires_at) if snapshot.expires_at else ""),
    ]


def _reason(snapshot: Snapshot) -> str:
    """Why it is so, in one word: of what goes, why it goes."""
    if snapshot.phase in (Phase.TERMINATING, Phase.GONE) and snapshot.deletion:
        return snapshot.deletion.reason
    return snapshot.reason if snapshot.reason != snapshot.phase else ""


def _clean(text: str) -> str:
    """One line that moves no cursor."""
    return "".join(letter if letter.isprintable() else " " if letter in "\n\t" else "�" for letter in text)


def _plain(text: object) -> Text:
    return Text(_clean(str(text)))


def _value(value: Any) -> str:
    return "–" if value is None else _first_line(str(value))


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _clock(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%H:%M:%S.%f")[:-3]
