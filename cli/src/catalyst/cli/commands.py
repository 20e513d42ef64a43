"""Each command as a function of the bus: read the arguments, ask the operation, print, and the exit code."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from catalyst.cli.core import trail
from catalyst.cli.core.selection import Selection
from catalyst.cli.operations import audit, dead, environments, events
from catalyst.cli.operations import status as status_of
from catalyst.cli.running import OK, UNWELL, Command, Usage, identity, place, time
from catalyst.cli.show import Printer
from catalyst.events.bus import Bus
from catalyst.events.chain import Head, verify
from catalyst.events.topology import AUDIT, DEAD
from catalyst.model.clock import utc_now
from catalyst.model.environment import Phase
from catalyst.model.names import Identity, is_name


def env_list(team: str | None, project: str | None, phase: str | None, *, gone: bool) -> Command:
    async def command(bus: Bus, printer: Printer) -> int:
        wanted = _phase(phase)
        found = await environments.listed(
            bus, team=_name("team", team), project=_name("project", project), phase=wanted, gone=gone
        )
        printer.environments(found, utc_now())
        return OK

    return command


def env_show(environment: str, at: str | None) -> Command:
    async def command(bus: Bus, printer: Printer) -> int:
        printer.shown(await environments.show(bus, identity(environment), time(at)))
        return OK

    return command


def env_timeline(environment: str, *, follow: bool) -> Command:
    async def command(bus: Bus, printer: Printer) -> int:
        if not follow:
            printer.lines(await environments.timeline(bus, identity(environment)))
            return OK
        async for lines in environments.followed(bus, identity(environment)):
            printer.lines(lines, stream=True)
        return OK

    return command


def env_diff(environment: str, since: str, until: str) -> Command:
    async def command(bus: Bus, printer: Printer) -> int:
        now = utc_now()
        first, second = time(since, now) or now, time(until, now) or now
        if second < first:
            raise Usage(f"T1 {since} is after T2 {until}: expected the earlier time first")
        printer.changed(await environments.diff(bus, identity(environment), first, second))
        return OK

    return command


def why(environment: str) -> Command:
    async def command(bus: Bus, printer: Printer) -> int:
        found = await environments.why(bus, identity(environment), utc_now())
        printer.why(found)
        return UNWELL if found.first or found.waits_for else OK

    return command


def selection(
    environment: str | None,
    team: str | None,
    service: str | None,
    type_: str | None,
    since: str | None,
    until: str | None,
) -> Selection:
    """Raises `Usage`."""
    if environment and team:
        raise Usage("--environment and --team: expected at most one of the two")
    now = utc_now()
    found = Selection(
        environment=identity(environment) if environment else None,
        team=_name("team", team),
        service=service,
        type=type_,
        since=time(since, now),
        until=time(until, now),
    )
    if not list(found.filters()):
        where = " of one environment or team; `catalyst env timeline` shows them" if environment or team else ""
        raise Usage(f"--type {type_}: no such events{where}")
    return found


def events_tail(chosen: Selection, count: int, *, follow: bool) -> Command:
    async def command(bus: Bus, printer: Printer) -> int:
        if not follow:
            printer.moments(await events.tail(bus, chosen, count), stream=True)
            return OK
        async for found in events.follow(bus, chosen, count):
            printer.moments(found, stream=True)
        return OK

    return command


def events_show(message: str) -> Command:
    async def command(bus: Bus, printer: Printer) -> int:
        printer.moment(await events.show(bus, *place(message)))
        return OK

    return command


def events_replay(chosen: Selection) -> Command:
    async def command(bus: Bus, printer: Printer) -> int:
        async for one in events.replay(bus, chosen):
            printer.moments([one], stream=True)
        return OK

    return command


def status(monitoring: str | None = None) -> Command:
    async def command(bus: Bus, printer: Printer) -> int:
        found = await status_of.status(bus, utc_now(), monitoring)
        printer.health(found)
        return OK if found.well else UNWELL

    return command


def dead_list(service: str | None, *, settled: bool) -> Command:
    async def command(bus: Bus, printer: Printer) -> int:
        printer.dead(await dead.listed(bus, service=service, settled=settled))
        return OK

    return command


def dead_show(letter: str) -> Command:
    async def command(bus: Bus, printer: Printer) -> int:
        printer.buried(await dead.show(bus, _letter(letter)))
        return OK

    return command


def dead_resend(letters: Sequence[str], by: str) -> Command:
    async def command(bus: Bus, printer: Printer) -> int:
        for number in [_letter(letter) for letter in letters]:
            printer.settled(await dead.resend(bus, number, by=by, clock=utc_now))
        return OK

    return command


def dead_drop(letter: str, by: str, reason: str) -> Command:
    async def command(bus: Bus, printer: Printer) -> int:
        printer.settled(await dead.drop(bus, _letter(letter), by=by, reason=reason, clock=utc_now))
        return OK

    return command


def audit_list(environment: str | None, by: str | None, count: int) -> Command:
    async def command(bus: Bus, printer: Printer) -> int:
        printer.recorded(await audit.listed(bus, _identity(environment), principal=by, count=count))
        return OK

    return command


def audit_show(record: str) -> Command:
    async def command(bus: Bus, printer: Printer) -> int:
        printer.record(await audit.show(bus, place(record, default=AUDIT)[1]))
        return OK

    return command


def audit_verify(environment: str | None, against: Path | None) -> Command:
    async def command(bus: Bus, printer: Printer) -> int:
        subject = audit.subject_of(_identity(environment))
        heads = _heads(against, subject)
        links = [link async for link in audit.links(bus, subject)]
        found = verify(links, whole=subject == audit.WHOLE, against=heads)
        printer.verified(found)
        return UNWELL if found.faults else OK

    return command


def audit_verify_file(printer: Printer, file: Path, environment: str | None, against: Path | None) -> int:
    """Raises `Usage`."""
    if environment:
        raise Usage("--environment: an export is verified whole; expected FILE or --environment, not both")
    try:
        with file.open(encoding="utf-8") as lines:
            subject, links = trail.exported(lines)
            found = verify(links, whole=subject == audit.WHOLE, against=_heads(against, subject))
    except (OSError, UnicodeDecodeError, trail.Damaged) as error:
        raise Usage(f"{file}: {error}") from error
    printer.verified(found)
    return UNWELL if found.faults else OK


def audit_export(file: Path, environment: str | None) -> Command:
    async def command(bus: Bus, printer: Printer) -> int:
        subject = audit.subject_of(_identity(environment))
        with _new(file) as out:
            count = await _exported(bus, subject, out)
        printer.said(f"{count} records of {subject} in {file}")
        return OK

    return command


@contextmanager
def _new(file: Path) -> Iterator[TextIO]:
    """Whole or not at all: an export's missing end would not show. Raises `Usage`."""
    try:
        out = file.open("x", encoding="utf-8")
    except OSError as error:
        raise Usage(f"{file}: {error.strerror}; expected a file that is not there yet") from error
    with out:
        try:
            yield out
        except BaseException:
            file.unlink()
            raise


async def _exported(bus: Bus, subject: str, out: TextIO) -> int:
    out.write(f"{trail.heading(subject, utc_now())}\n")
    count = 0
    async for link in audit.links(bus, subject):
        out.write(f"{trail.line(link)}\n")
        count += 1
    return count


def audit_checkpoint() -> Command:
    async def command(bus: Bus, printer: Printer) -> int:
        found = verify([link async for link in audit.links(bus, audit.WHOLE)], whole=True)
        if found.faults:
            printer.verified(found)
            return UNWELL
        printer.said_json(trail.checkpoint(found, utc_now()))
        return OK

    return command


def audit_checkpoint_file(printer: Printer, file: Path) -> int:
    """Raises `Usage`."""
    try:
        with file.open(encoding="utf-8") as lines:
            subject, links = trail.exported(lines)
            found = verify(links, whole=subject == audit.WHOLE)
    except (OSError, UnicodeDecodeError, trail.Damaged) as error:
        raise Usage(f"{file}: {error}") from error
    if found.faults:
        printer.verified(found)
        return UNWELL
    printer.said_json(trail.checkpoint(found, utc_now()))
    return OK


def _heads(file: Path | None, subject: str) -> Mapping[str, Head]:
    """Those of a checkpoint that are among what is verified. Raises `Usage`."""
    if file is None:
        return {}
    try:
        heads = trail.heads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, trail.Damaged) as error:
        raise Usage(f"{file}: {error}") from error
    return heads if subject == audit.WHOLE else {name: head for name, head in heads.items() if name == subject}


def _identity(text: str | None) -> Identity | None:
    return identity(text) if text else None


def _letter(text: str) -> int:
    return place(text, default=DEAD)[1]


def _name(what: str, text: str | None) -> str | None:
    if text is not None and not is_name(text):
        raise Usage(f"--{what} {text[:200]!r}: expected a name of a-z, 0-9 and single '-' between them")
    return text


def _phase(text: str | None) -> str | None:
    if text is not None and text not in tuple(Phase):
        raise Usage(f"--phase {text!r}: expected one of {', '.join(Phase)}")
    return text
