"""Which hosts are wanted, and whose each is.

```
routes of the snapshots ──▶ a lawful host? ──▶ a lawful Service? ──▶ claims ──▶ the older wins ──▶ Wanted
                                └── refused, with a sentence for the person whose route it is ──┘
```

A snapshot is a hint, not authority: a host must be one label under our zone, and a Service must lie in the namespace
of the very environment that names it. Otherwise whoever could write one snapshot could take any name or reach any pod.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from catalyst.model.environment import Phase, Route
from catalyst.model.names import MAX_LABEL, workload_namespace
from catalyst.model.snapshot import Snapshot

LEAVING: Final = frozenset({Phase.TERMINATING, Phase.GONE})
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?\Z")
_BEGINNING = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One line of the table: a public host, and the Service behind it. `environment`: `acme/shop/pr-42`."""

    host: str
    environment: str
    uid: str
    service: str
    namespace: str
    port: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What should be served, by host; and what not, by (uid, host), each with the reason for people."""

    entries: Mapping[str, Entry] = field(default_factory=dict)
    refused: Mapping[tuple[str, str], str] = field(default_factory=dict)


def wanted(snapshots: Iterable[Snapshot], zone: str) -> Wanted:
    """Every route of every environment that is not going, the older claim first."""
    entries: dict[str, Entry] = {}
    refused: dict[tuple[str, str], str] = {}
    for snapshot in sorted(snapshots, key=_age):
        if snapshot.phase in LEAVING:
            continue
        for route in snapshot.routes:
            entry = _entry(snapshot, route)
            holder = entries.get(entry.host)
            reason = refusal(snapshot, route, zone) or (_taken(entry, holder) if holder else None)
            if reason is None:
                entries[entry.host] = entry
            else:
                refused[entry.uid, entry.host] = reason
    return Wanted(entries, refused)


def refusal(snapshot: Snapshot, route: Route, zone: str) -> str | None:
    """Why a route cannot be served whatever others claim; None when it can."""
    label, dot, rest = route.host.partition(".")
    if not dot or rest != zone or len(label) > MAX_LABEL or not _LABEL.match(label):
        return f"host {route.host!r}: expected one label of a-z, 0-9 and - under {zone}. Shorten or rename it."
    expected = workload_namespace(snapshot.key)
    if route.namespace != expected:
        return f"namespace {route.namespace!r}: expected {expected}: a route leads to its own environment only."
    if route.private:
        return f"host {route.host}: private URLs are not supported yet. It is not served, so that nobody sees it."
    return None


def _entry(snapshot: Snapshot, route: Route) -> Entry:
    return Entry(route.host, str(snapshot.key), snapshot.uid, route.service, route.namespace, route.port)


def _taken(entry: Entry, holder: Entry) -> str | None:
    if entry.uid == holder.uid:
        return None  # named twice by one environment: the last one counts, as in a resource
    return (
        f"host {entry.host}: claimed by {holder.environment} and by {entry.environment}; the older, "
        f"{holder.environment}, keeps it. Rename the environment or the component."
    )


def _age(snapshot: Snapshot) -> tuple[datetime, str]:
    """The older first; what does not say is as old as can be, so that knowledge takes nothing away."""
    return snapshot.created_at or _BEGINNING, snapshot.uid
