"""Each command as a function of the bus: read the arguments, ask the operation, print, and the exit code."""

from collections.abc import Sequence

from catalyst.cli.core.selection import Selection
from catalyst.cli.operations import dead, environments, events
from catalyst.cli.operations import status as status_of
from catalyst.cli.running import OK, UNWELL, Command, Usage, identity, place, time
from catalyst.cli.show import Printer
from catalyst.events.bus import Bus
from catalyst.events.topology import DEAD
from catalyst.model.clock import utc_now
from catalyst.model.environment import Phase
from catalyst.model.names import is_name


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


def status() -> Command:
    async def command(bus: Bus, printer: Printer) -> int:
        found = await status_of.status(bus, utc_now())
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
