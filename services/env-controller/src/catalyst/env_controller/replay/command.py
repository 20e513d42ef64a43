"""`python -m catalyst.env_controller replay` and `export`: what was decided, decided again; and history to take along.

Exit status: 0 nothing differs; 1 something does; 2 it could not be told, and why.
"""

import argparse
import asyncio
import difflib
import sys
import tempfile
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any, Final

from catalyst.env_controller.core.recorded import NotARecord, Record, records
from catalyst.env_controller.replay import file
from catalyst.env_controller.replay.again import Answers, CannotAsk, Tree, compared, here
from catalyst.env_controller.replay.file import Damaged
from catalyst.env_controller.replay.telling import Count, summary, tell
from catalyst.events.bus import Bus, BusSettings
from catalyst.events.errors import BusError
from catalyst.events.stored import Stored
from catalyst.events.subjects import InvalidSubject, decision_subject
from catalyst.events.topology import DECISIONS
from catalyst.events.users import OPERATOR, inbox_prefix
from catalyst.model.clock import utc_now
from catalyst.model.names import Identity, InvalidName
from catalyst.service.run import keep_boot_memory
from catalyst.service.version import code_version

COMMANDS: Final = ("replay", "export")
EVERYTHING: Final = "decision.>"
STORED_WITHIN: Final = timedelta(minutes=1)
"""After it was decided; also by how much the clocks of env-controller and the bus may differ."""
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
LIMITS: Final = """\
What replay cannot tell:
  It decides again what was decided, from what was seen then. It does not act: whether another decision would have led
  to another world, and so to other questions later, nobody knows. So only the first difference of an environment is
  certain to be what you would have seen.
  Only decisions that changed something are recorded. A rule that would now act where nothing was done then, or would be
  asked at another time, does not show. Recording drops what it cannot keep up with (catalyst_decisions_dropped_total).
  What an older tree does not know in a record it leaves out, as it leaves it out of a resource.
  The API server, the bus, other services and the work queue are not replayed, nor what is written after a refused
  write, nor answers of builder and dns-proxy as they are taken into the status. Passwords are made when they are
  written, and are in no record. A value that somebody wrote into a Project in the open is in its records as well."""


class Unknown(Exception):
    """Nothing was recorded of what was asked for; the message says what there is."""


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of the history: bounds inclusive, None: open. `subject`: of one environment, or a filter for all."""

    subject: str = EVERYTHING
    begins: datetime | None = None
    ends: datetime | None = None

    def holds(self, record: Record) -> bool:
        at = datetime.fromisoformat(record.head.at)
        return (
            self.subject in (EVERYTHING, record.head.subject)
            and (self.begins is None or self.begins <= at)
            and (self.ends is None or at <= self.ends)
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit status."""
    options = _parser().parse_args(arguments)
    keep_boot_memory()
    try:
        return _export(options) if options.command == "export" else _replay(options)
    except (Damaged, CannotAsk, Unknown, BusError, InvalidSubject, InvalidName) as exc:
        reason = str(exc)
    except OSError as exc:
        reason = f"{exc.filename or ''}: {exc.strerror or exc}".removeprefix(": ")
    sys.stderr.write(f"{options.command}: {reason}\n")
    return 2


def _export(options: argparse.Namespace) -> int:
    header = asyncio.run(_exported(options, options.file))
    sys.stdout.write(f"{options.file}: {_described(header)}\n")
    return 0


def _replay(options: argparse.Namespace) -> int:
    with ExitStack() as stack:
        files, part = list(options.files), Part(_subject(options.environment), options.begins, options.ends)
        if not files:
            files = [Path(stack.enter_context(tempfile.TemporaryDirectory())) / "history"]
            asyncio.run(_exported(options, files[0]))
            part = Part()  # it holds no more
        headers = [file.header(path) for path in files]
        answers: Answers = stack.enter_context(Tree(options.checkout)) if options.checkout else here
        code = str(options.checkout) if options.checkout else f"this code ({code_version('env-controller')})"
        numbered = enumerate(chain.from_iterable(map(file.read, files)), 1)
        chosen = ((number, record) for number, record in numbered if part.holds(record))
        count = tell(compared(chosen, answers), sys.stdout, most=options.most, as_json=options.json)
    if not count.records:
        raise Unknown(f"none of {_described(file.together(headers))}, is what was asked for")
    told = summary(count, _described(file.together(headers)), code)
    (sys.stderr if options.json else sys.stdout).write(f"{told}\n{_left_out(count, options.most, options.json)}")
    return count.status


def _left_out(count: Count, most: int, as_json: bool) -> str:
    hidden = 0 if as_json else max(0, len(count.differ) + len(count.unread) - most)
    return f"{hidden:,} of them are not shown: --most shows more\n" if hidden else ""


def _described(header: file.Header) -> str:
    code = f", taken by {', '.join(header.code)}" if header.code else ""
    when = f", {header.begins} to {header.ends}" if header.records else ""
    return f"{header.records:,} decisions{when}{code}"


# From the bus


async def _exported(options: argparse.Namespace, path: Path) -> file.Header:
    part = Part(_subject(options.environment), options.begins, options.ends)
    settings = BusSettings(options.url, options.seed, inbox_prefix=inbox_prefix(OPERATOR))
    bus = await Bus.connect(settings, name=OPERATOR, clock=utc_now)
    try:
        with file.Writer(path) as writer:
            async for stored in _history(bus, part):
                for record in filter(part.holds, _records(stored)):
                    writer.add(record)
            if not writer.header.records:
                raise Unknown(await _nothing(bus, part, options.environment))
    finally:
        await bus.drain()
    return writer.header


def _subject(environment: str | None) -> str:
    if environment is None:
        return EVERYTHING
    names = environment.split("/")
    if len(names) != 3:
        raise Unknown(f"--environment {environment}: expected team/project/environment, such as acme/shop/pr-42")
    identity = Identity(*names)
    return decision_subject(identity.team, identity.project, identity.environment)


async def _history(bus: Bus, part: Part) -> AsyncIterator[Stored]:
    """The messages that may hold it: a record is stored a moment after it was decided, with others."""
    begins = part.begins and max(part.begins, _EPOCH) - STORED_WITHIN
    async for stored in bus.replay(DECISIONS, part.subject, start_time=begins):
        if part.ends is not None and stored.time - STORED_WITHIN > part.ends:
            return
        yield stored


def _records(stored: Stored) -> list[Record]:
    try:
        return list(records(zlib.decompress(stored.data)))
    except (zlib.error, NotARecord) as exc:
        raise Damaged(f"stream {stored.stream}, message {stored.sequence} ({stored.subject}): {exc}") from exc


async def _nothing(bus: Bus, part: Part, environment: str | None) -> str:
    """Why there is nothing, and what there is."""
    async for stored in bus.replay(DECISIONS, part.subject):
        about = f" about {environment}" if environment else ""
        return f"nothing was decided{about} in that time: the oldest decision that is kept is from {stored.time:%FT%TZ}"
    if environment is None:
        return "no decision is recorded"
    kept = {"/".join(subject.split(".")[1:]) for subject in await bus.subjects(DECISIONS, "decision.*.*.*")}
    near = difflib.get_close_matches(environment, sorted(kept), 3, 0.5)
    hint = f"; near it are {', '.join(near)}" if near else ""
    return f"no decision about {environment} is kept{hint}"


# Arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m catalyst.env_controller", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    shape: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "epilog": LIMITS}
    replay = commands.add_parser(
        "replay", help="decide again, and say what differs", description=_REPLAY.strip(), **shape
    )
    replay.add_argument("files", nargs="*", type=Path, metavar="FILE", help="exported histories; without: the bus")
    replay.add_argument("--checkout", type=Path, metavar="PATH", help="ask the code of this tree instead of this one")
    replay.add_argument("--json", action="store_true", help="a line of JSON for each decision that differs")
    replay.add_argument("--most", type=int, default=50, help="how many differing decisions are shown (50)")
    export = commands.add_parser("export", help="write history to a file, for a replay elsewhere")
    export.add_argument("file", type=Path, metavar="FILE")
    for command in (replay, export):
        command.add_argument("--from", dest="begins", type=_time, metavar="TIME", help="such as 2026-11-27T22:00:00Z")
        command.add_argument("--to", dest="ends", type=_time, metavar="TIME")
        command.add_argument("--environment", metavar="TEAM/PROJECT/NAME", help="of this one only")
        command.add_argument("--url", default="nats://127.0.0.1:4222", help="of the bus")
        command.add_argument("--seed", type=Path, help="the operator's seed file")
    return parser


_REPLAY: Final = """
Feeds recorded inputs to the rules, with the recorded results taken away, and prints where the decisions differ from
what was decided then. Nothing is written anywhere but to standard output.
Exit status: 0 nothing differs; 1 something does; 2 it could not be told, and why.
"""


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a time such as 2026-11-27T22:00:00Z") from exc
    return time if time.tzinfo else time.replace(tzinfo=UTC)
