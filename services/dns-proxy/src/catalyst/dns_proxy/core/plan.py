"""wanted − current = changes; pure, and the only place that decides that something goes.

**Absence deletes nothing.** A host goes only when its environment itself says so:

| The newest snapshot under the environment's name | The host |
|---|---|
| says `Terminating` or `Gone` | goes |
| is of another uid: the name has another life | goes |
| no longer lists the host, or its claim was refused | goes |
| is not there (STATE could not be read whole, or was lost) | stays, and keeps its claim |
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from catalyst.dns_proxy.core.routes import Entry, Wanted
from catalyst.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Plan:
    """The table as it should be, what has to change for that, and who is refused because of what stays."""

    table: Mapping[str, Entry]
    put: tuple[Entry, ...] = ()
    remove: tuple[Entry, ...] = ()
    kept: tuple[Entry, ...] = ()
    refused: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @property
    def changes(self) -> bool:
        """Whether anything is to be done."""
        return bool(self.put or self.remove)


def plan(current: Mapping[str, Entry], aim: Wanted, snapshots: Iterable[Snapshot]) -> Plan:
    """How `current`, by host, becomes what is wanted without taking away what nobody gave up."""
    known = {str(snapshot.key): snapshot for snapshot in snapshots}
    kept = {host: entry for host, entry in current.items() if host not in aim.entries and not _given_up(entry, known)}
    table: dict[str, Entry] = dict(kept)
    refused: dict[tuple[str, str], str] = {}
    for host, entry in aim.entries.items():
        holder = current.get(host)
        if holder is None or holder.environment == entry.environment or _given_up(holder, known, entry):
            table[host] = entry
        else:
            table[host] = kept[host] = holder
            refused[entry.uid, host] = (
                f"host {host}: held by {holder.environment}, of which no state is known; it is not taken away."
            )
    return Plan(
        table=table,
        put=tuple(entry for host, entry in sorted(table.items()) if current.get(host) != entry),
        remove=tuple(entry for host, entry in sorted(current.items()) if host not in table),
        kept=tuple(kept[host] for host in sorted(kept)),
        refused=refused,
    )


def _given_up(entry: Entry, known: Mapping[str, Snapshot], successor: Entry | None = None) -> bool:
    """Whether there is evidence that the host is no longer this environment's. To be known is enough: what is wanted
    of a known environment is in `Wanted`, and a successor there has the older claim of the two.
    """
    return entry.environment in known or (successor is not None and successor.uid == entry.uid)
