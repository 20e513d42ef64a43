"""Which events somebody wants to see, and where those are found. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Final

from catalyst.cli.core.history import Moment
from catalyst.events.catalogue import CATALOGUE, Data, DeadLetter, DeadSettled, EnvironmentChanged, ScmData
from catalyst.events.subjects import escape
from catalyst.events.topology import AUDIT, DEAD, EVENTS, SCM
from catalyst.model.names import Identity

WHOLE: Final = {SCM: "scm.>", EVENTS: "env.>", AUDIT: "audit.>", DEAD: ">"}


@dataclass(frozen=True, slots=True)
class Selection:
    """All that is given must hold. `type`: a short type such as `build.finished`, `*` stands for anything. `until`: the
    last moment, by the bus's clock.
    """

    environment: Identity | None = None
    team: str | None = None
    service: str | None = None
    type: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def filters(self) -> Iterator[tuple[str, str]]:
        """Stream and subject filter: as narrow as subjects allow. Facts of forges and dead letters name no environment
        in their subjects, so who asks for one environment or team does not get them here.
        """
        types = [data for data in CATALOGUE.values() if self.type is None or fnmatchcase(data.short_type(), self.type)]
        streams = dict.fromkeys(_stream(data) for data in types)
        if self.type is None:
            streams |= dict.fromkeys(WHOLE)
        for stream in streams:
            if self.environment is None and self.team is None:
                yield stream, WHOLE[stream]
            elif stream in (EVENTS, AUDIT):
                yield stream, self._below("env" if stream == EVENTS else "audit", deeper=stream == EVENTS)

    def has(self, one: Moment) -> bool:
        """Whether it is among those wanted."""
        if self.until is not None and one.at > self.until:
            return False
        if self.service is not None and one.source != self.service:
            return False
        return self.type is None or fnmatchcase(one.type, self.type)

    def _below(self, root: str, *, deeper: bool) -> str:
        if self.environment is not None:
            names = (self.environment.team, self.environment.project, self.environment.environment)
            subject = ".".join((root, *map(escape, names)))
            return f"{subject}.>" if deeper else subject
        return f"{root}.{escape(self.team or '')}.>"


def _stream(data: type[Data]) -> str:
    if issubclass(data, ScmData):
        return SCM
    if issubclass(data, DeadLetter | DeadSettled):
        return DEAD
    if issubclass(data, EnvironmentChanged) or hasattr(data, "NOUN"):
        return EVENTS
    return AUDIT
