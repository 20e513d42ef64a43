"""One command, from options to an exit code: connect, ask, print, and say in one sentence what went wrong.

| Code | Means |
|---|---|
| 0 | done |
| 1 | done, and something is unwell: `status` or `doctor` found a problem, `why` a trouble, `audit verify` a fault; \
`explain`: no environment, or not yet |
| 2 | the command line or the context is wrong |
| 3 | it does not exist: an environment, a time before history, a message |
| 4 | the bus or the cluster cannot be reached or does not answer |
| 5 | refused: the credential has no right to it, or it would do harm; `explain`: what decides may not be read |
| 70 | a bug in catalyst |
| 130 | interrupted |
"""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final

from catalyst.cli.context import BadContext, Context, Options, context
from catalyst.cli.core.times import point
from catalyst.cli.operations import NotThere, Refused
from catalyst.cli.show import Printer
from catalyst.events.bus import Bus, BusSettings
from catalyst.events.errors import BusError, Reject, Unpublished
from catalyst.model.clock import utc_now
from catalyst.model.names import Identity, InvalidName

OK: Final = 0
UNWELL: Final = 1
USAGE: Final = 2
NOT_THERE: Final = 3
AWAY: Final = 4
REFUSED: Final = 5
INTERRUPTED: Final = 130

CONNECT_PATIENCE: Final = 3.0


class Usage(Exception):
    """An argument is wrong; the message says what was expected."""


Command = Callable[[Bus, Printer], Awaitable[int]]


def run(command: Command, options: Options, output: str) -> int:
    """Runs a command on the bus, printing as table, json or yaml; its exit code."""
    printer = Printer(output)
    return coded(lambda: asyncio.run(on_the_bus(command, context(options, os.environ), printer)))


def coded(work: Callable[[], int]) -> int:
    """The exit code of what the work gives, or of what kept it from that, which is said."""
    logging.getLogger().addHandler(logging.NullHandler())  # the bus's own log is for services
    try:
        return work()
    except (BadContext, Usage, InvalidName) as exc:
        return failed(USAGE, str(exc))
    except NotThere as exc:
        return failed(NOT_THERE, str(exc))
    except (Refused, Reject) as exc:
        return failed(REFUSED, str(exc))
    except BusError as exc:
        return failed(AWAY, exc.reason)
    except KeyboardInterrupt:
        return INTERRUPTED


def run_offline(command: Callable[[Printer], int], output: str) -> int:
    """Runs a command that needs no bus; its exit code."""
    try:
        return command(Printer(output))
    except Usage as exc:
        return failed(USAGE, str(exc))
    except KeyboardInterrupt:
        return INTERRUPTED


def identity(text: str) -> Identity:
    """`acme/shop/pr-42`. Raises `Usage`."""
    try:
        return Identity.parse(text)
    except InvalidName as exc:
        raise Usage(str(exc)) from exc


def time(text: str | None, now: datetime | None = None) -> datetime | None:
    """A point in time, None for None. Raises `Usage`."""
    try:
        return point(text, now or utc_now()) if text is not None else None
    except ValueError as exc:
        raise Usage(str(exc)) from exc


def place(text: str, *, default: str | None = None) -> tuple[str, int]:
    """`EVENTS/17` → stream and sequence; `17` alone where there is a `default`. Raises `Usage`."""
    stream, slash, number = text.rpartition("/")
    if not slash and default:
        stream = default
    if not stream or not number.isdecimal() or (default and stream.upper() != default):
        raise Usage(f"{text!r}: expected {default or 'EVENTS'}/17" + (", or the number alone" if default else ""))
    return stream.upper(), int(number)


async def on_the_bus(command: Command, chosen: Context, printer: Printer) -> int:
    """Runs the command until it ends, or until the server refuses something: that it says beside the request, which
    itself would only run into its timeout.
    """
    refused: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def told(subject: str) -> None:
        if not refused.done():
            refused.set_result(subject)

    settings = BusSettings(
        chosen.url, chosen.seed, chosen.inbox_prefix, CONNECT_PATIENCE, drain_patience=1.0, ca_file=chosen.ca
    )
    bus = await Bus.connect(settings, name="catalyst", clock=utc_now, spans=False, on_refused=told)
    work = asyncio.ensure_future(command(bus, printer))
    watched: list[asyncio.Future[Any]] = [work, refused]
    try:
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        if refused.done() and (not work.done() or isinstance(work.exception(), Unpublished)):
            raise Refused(f"the credential has no right to {refused.result()}: {_who(chosen)}")
        return await work
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await work
        await bus.drain()


def _who(chosen: Context) -> str:
    who = f"seed {chosen.seed}" if chosen.seed else "no seed was given; --seed, or nkey in the context"
    return f"{who}{f', context {chosen.name}' if chosen.name else ''}"


def failed(code: int, sentence: str) -> int:
    """Says it on standard error; the code."""
    sys.stderr.write(f"catalyst: {sentence}\n")
    return code
