"""One environment's life, and all environments: read from STATE and from history."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Final

from catalyst.cli.core.difference import Changed, difference
from catalyst.cli.core.history import Moment, burial, causal, moment
from catalyst.cli.core.nearest import nearest
from catalyst.cli.core.timeline import Line, Telling, subjects_of_facts
from catalyst.cli.core.why import Why
from catalyst.cli.core.why import why as why_of
from catalyst.cli.operations import NotThere
from catalyst.events.bus import Bus
from catalyst.events.catalogue import DeadSettled, EnvironmentChanged
from catalyst.events.dead import dead
from catalyst.events.errors import Reject
from catalyst.events.stored import Stored
from catalyst.events.subjects import (
    EnvironmentSubject,
    audit_subject,
    branch_subject,
    command_subject,
    comment_subject,
    environment_subject,
    escape,
    parse_subject,
    pull_request_subject,
)
from catalyst.events.topology import AUDIT, DEAD, EVENTS, SCM, STATE, STATE_FILTER
from catalyst.model.environment import Phase
from catalyst.model.names import Identity
from catalyst.model.snapshot import Snapshot

SETTLES: Final = 0.05
"""Seconds after news until it is surely stored: the server hands it on and stores it side by side."""
LOOKS: Final = 1.0
"""Seconds after which a follower looks without news: a reconnect may have swallowed some."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A state, and where it stands: `at` is when the bus stored it."""

    snapshot: Snapshot
    at: datetime
    ref: str


async def listed(
    bus: Bus, *, team: str | None = None, project: str | None = None, phase: str | None = None, gone: bool = False
) -> list[Shown]:
    """The last state of every environment, by name. `gone`: also of those that are gone, for 90 days."""
    below = f"env.{escape(team) if team else '*'}.{escape(project) if project else '*'}.*.environment.changed"
    found = [shown for shown in [_shown(stored) async for stored in bus.states(below)] if shown]
    wanted = [
        one
        for one in found
        if (gone or one.snapshot.phase != Phase.GONE or phase == Phase.GONE) and phase in (None, one.snapshot.phase)
    ]
    return sorted(wanted, key=lambda one: one.snapshot.key)


async def show(bus: Bus, identity: Identity, at: datetime | None = None) -> Shown:
    """The state now, from STATE; or at a time, from history alone.

    Raises:
        NotThere: unknown, with the nearest names; or before history, with the oldest that can be shown.
    """
    subject = environment_subject(identity, "environment", "changed")
    if at is None:
        stored = await bus.state(subject)
    else:
        stored = next(iter(await bus.lasts(EVENTS, [subject], at=at)), None)
    if stored is None:
        raise await _missing(bus, identity, at)
    found = _shown(stored)
    if found is None:
        raise NotThere(f"the state of {identity} in {stored.stream}/{stored.sequence} cannot be read by this version")
    return found


async def timeline(bus: Bus, identity: Identity) -> list[Line]:
    """Every line, in causal order. Raises `NotThere`."""
    return Telling().lines(causal(await history(bus, identity)))


async def followed(bus: Bus, identity: Identity) -> AsyncIterator[list[Line]]:
    """The lines so far, then the next ones as they come, until cancelled. Raises `NotThere`."""
    telling = Telling()
    known: set[tuple[str, int]] = set()
    root = _root(identity)
    subjects = _facts(await history(bus, identity))
    async with bus.news([f"{root}.>", *subjects, _audit_of(identity), "dead.>"]) as news:
        while True:
            news.clear()
            found = causal(one for one in await history(bus, identity) if one.position not in known)
            known |= {one.position for one in found}
            if found:
                yield telling.lines(found)
            await _news(news)


async def _news(news: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(LOOKS):
            await news.wait()
    except TimeoutError:
        return
    await asyncio.sleep(SETTLES)


async def diff(bus: Bus, identity: Identity, since: datetime, until: datetime) -> list[Changed]:
    """What differs between two times, and why. Before the environment was made there was none, which is no error.

    Raises:
        NotThere: unknown, or a time of its life that history does not reach back to.
    """
    found = causal(await history(bus, identity))
    first = next((one for one in found if one.event and isinstance(one.event.data, EnvironmentChanged)), None)
    if first is None or until < first.at:
        raise await _missing(bus, identity, until)
    created = _created(first)
    if since < first.at and created is not None and created <= since:
        raise await _missing(bus, identity, since)
    return difference(found, since, until)


def _created(one: Moment) -> datetime | None:
    data = one.event.data if one.event else None
    return data.snapshot.created_at if isinstance(data, EnvironmentChanged) else None


async def why(bus: Bus, identity: Identity, now: datetime) -> Why:
    """The first cause of what is wrong, or what takes long. Raises `NotThere`."""
    found = why_of(await history(bus, identity), now)
    if found is None:
        raise await _missing(bus, identity, None)
    return found


async def history(bus: Bus, identity: Identity) -> list[Moment]:
    """All that the streams hold about an environment, in no order: its news, the facts of its pull request or branch,
    its audit records, and what nobody could handle of all these. Raises `NotThere`.
    """
    root = _root(identity)
    news, audit = await asyncio.gather(_all(bus, EVENTS, f"{root}.>"), _all(bus, AUDIT, _audit_of(identity)))
    if not news:
        raise await _missing(bus, identity, None)
    subjects = _facts(news)
    facts = chain.from_iterable(await asyncio.gather(*(_all(bus, SCM, subject) for subject in subjects)))
    known = [*news, *facts, *audit]
    return [*known, *await _dead(bus, known, subjects, root)]


async def _all(bus: Bus, stream: str, subject: str) -> list[Moment]:
    return [moment(stored) async for stored in bus.messages(stream, subject)]


def _facts(news: Sequence[Moment]) -> list[str]:
    """The subjects on which facts about the environment's pull request or branch are found."""
    found: list[str] = []
    for forge, repository, number, branch in subjects_of_facts(news):
        if number is not None:
            of_one = (pull_request_subject, comment_subject, command_subject)
            found += [subject(forge, repository, number) for subject in of_one]
        elif branch is not None:
            found.append(branch_subject(forge, repository, branch))
    return sorted(set(found))


async def _dead(bus: Bus, known: Sequence[Moment], subjects: Iterable[str], root: str) -> list[Moment]:
    """Dead letters, advisories, and what somebody did about them, as far as they are about what is known."""
    since = min(one.at for one in known)
    entries = [stored async for stored in bus.messages(DEAD, ">", since=since)]
    positions, about = {one.position for one in known}, set(subjects)
    buried = [
        burial(one)
        for one in dead(entries)
        if (one.stream, one.sequence) in positions
        or (one.letter and (one.letter.original_subject in about or one.letter.original_subject.startswith(f"{root}.")))
    ]
    places = {(one.dead.stream, one.dead.sequence) for one in buried if one.dead}
    settled = [
        one
        for one in map(moment, entries)
        if one.event
        and isinstance(one.event.data, DeadSettled)
        and (one.event.data.stream, one.event.data.sequence) in places
    ]
    return [*buried, *settled]


async def _missing(bus: Bus, identity: Identity, at: datetime | None) -> NotThere:
    """Why there is nothing to show, with what comes nearest."""
    subject = environment_subject(identity, "environment", "changed")
    if at is not None and (oldest := await anext(bus.messages(EVENTS, subject), None)) is not None:
        return NotThere(
            f"history of {identity} does not reach back to {_text(at)}: the oldest that can be shown is of "
            f"{_text(oldest.time)}"
        )
    if await bus.state(subject) is not None:
        return NotThere(f"history of {identity} is not kept any more: it can be shown without a time only")
    names = await known_environments(bus)
    near = nearest(str(identity), names)
    hint = f"did you mean {' or '.join(near)}?" if near else f"{len(names)} are known; `catalyst env list` names them."
    # Projects are not on the bus, so whether one wants it cannot be known here.
    hint += f" Whether its Project is accepted: `kubectl -n {identity.team} describe project {identity.project}`."
    unhandled = [one for one in dead([stored async for stored in bus.messages(DEAD, ">")]) if one.settled is None]
    if unhandled:  # the fact that would have made it may be among them
        hint += f" What nobody could handle may be why: `catalyst dead list` ({len(unhandled)})."
    return NotThere(f"no environment {identity}: {hint}")


async def known_environments(bus: Bus) -> list[str]:
    """Every environment that STATE or history knows, as team/project/environment."""
    found = await asyncio.gather(bus.subjects(STATE, STATE_FILTER), bus.subjects(EVENTS, STATE_FILTER))
    parsed = map(parse_subject, sorted({*chain.from_iterable(found)}))
    return [str(one.identity) for one in parsed if isinstance(one, EnvironmentSubject)]


def _shown(stored: Stored) -> Shown | None:
    try:
        data = stored.event().data
    except Reject:
        return None
    if not isinstance(data, EnvironmentChanged):
        return None
    return Shown(data.snapshot, stored.time, f"{stored.stream}/{stored.sequence}")


def _root(identity: Identity) -> str:
    return environment_subject(identity, "x", "x").removesuffix(".x.x")


def _text(at: datetime) -> str:
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _audit_of(identity: Identity) -> str:
    return audit_subject(identity.team, identity.project, identity.environment)
