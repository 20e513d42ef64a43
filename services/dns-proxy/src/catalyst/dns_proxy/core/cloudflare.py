"""The tunnel's rules and the DNS records, with marks of ownership. Pure.

- **The tunnel** is ours by its name. Its configuration is one document without a version, so it is written whole: our
  one rule (`*.<zone>` → the edge) is put in front of the last, all other rules stay as they are.
- **A record** is ours by its comment, `catalyst owner=<installation> uid=<environment>`. One without our mark is never
  changed or removed: whoever holds the name is told, and the host is refused with what to do.
- A record of a host goes when a known environment gave the host up; absence deletes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from catalyst.dns_proxy.core.answers import hosts
from catalyst.dns_proxy.core.routes import Entry
from catalyst.model.snapshot import Snapshot

MAX_COMMENT: Final = 100
"""Characters that every plan of Cloudflare allows."""
MAX_OWNER: Final = 32
"""Characters of an installation's name, so that the mark fits."""
WILDCARD: Final = "-"
"""In place of a uid, in the mark of the wildcard record."""
NOT_FOUND: Final = {"service": "http_status:404"}
"""The last rule must match everything; Cloudflare refuses a document without one."""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """What Cloudflare is to be. `account`, `zone_id`: ids; `name`: of the tunnel; `service`: URL of the edge."""

    account: str
    zone_id: str
    name: str
    zone: str
    service: str
    owner: str
    wildcard: bool = True

    @property
    def hostname(self) -> str:
        """What our rule matches, and what the wildcard record is named."""
        return f"*.{self.zone}"


@dataclass(frozen=True, slots=True)
class Record:
    """A DNS record as it is, or as it should be (`id` empty)."""

    name: str
    content: str
    comment: str
    type: str = "CNAME"
    proxied: bool = True
    id: str = ""


@dataclass(frozen=True, slots=True)
class RecordPlan:
    """What has to be done about records; `taken` says by name why one cannot be made."""

    create: tuple[Record, ...] = ()
    update: tuple[Record, ...] = ()
    delete: tuple[Record, ...] = ()
    taken: Mapping[str, str] = field(default_factory=dict)


def ingress(current: Sequence[Mapping[str, Any]], tunnel: Tunnel) -> list[dict[str, Any]]:
    """The tunnel's rules as they should be: ours once, the others unchanged and in order, one that matches all last."""
    others = [dict(rule) for rule in current if rule.get("hostname") != tunnel.hostname]
    mine = next((dict(rule) for rule in current if rule.get("hostname") == tunnel.hostname), {})
    ours = {**mine, "hostname": tunnel.hostname, "service": tunnel.service}
    if not others or others[-1].get("hostname") or others[-1].get("path"):
        others.append(dict(NOT_FOUND))
    return [*others[:-1], ours, others[-1]]


def mark(owner: str, uid: str) -> str:
    """The comment by which we know our own."""
    return f"catalyst owner={owner} uid={uid}"


def uid_in(comment: str, owner: str) -> str | None:
    """The uid of a mark of this installation; None for anything else."""
    prefix = f"catalyst owner={owner} uid="
    return comment.removeprefix(prefix) if comment.startswith(prefix) else None


def record_plan(
    current: Iterable[Record], table: Iterable[Entry], tunnel: Tunnel, target: str, snapshots: Iterable[Snapshot]
) -> RecordPlan:
    """How the records become what they should be. `target`: what ours point to, `<tunnel id>.cfargotunnel.com`."""
    wanted = _wanted(table, tunnel, target)
    by_name: dict[str, list[Record]] = {}
    for record in current:
        by_name.setdefault(record.name, []).append(record)
    create, update, taken = [], [], {}
    for name, record in wanted.items():
        # A name may carry records that do not conflict, such as TXT.
        holders = [one for one in by_name.get(name, []) if one.type in ("A", "AAAA", "CNAME", "NS")]
        mine = next((one for one in holders if _is_ours(one, tunnel)), None)
        foreign = next((one for one in holders if not _is_ours(one, tunnel)), None)
        if foreign is not None:
            taken[name] = (
                f"DNS name {name} is taken by a {foreign.type} record that is not ours; it is left alone. Remove it, "
                f"or give it the comment '{record.comment}'."
            )
        elif mine is None:
            create.append(record)
        elif (mine.content, mine.proxied, mine.comment, mine.type) != (
            record.content, record.proxied, record.comment, record.type,
        ):  # fmt: skip
            update.append(Record(name, record.content, record.comment, id=mine.id))
    known = list(snapshots)
    uids = {snapshot.uid for snapshot in known}
    given = {host for snapshot in known for host in hosts(snapshot)}
    delete = [
        record
        for name, records in by_name.items()
        for record in records
        if name not in wanted and _is_ours(record, tunnel) and _given_up(record, tunnel, uids, given)
    ]
    return RecordPlan(tuple(create), tuple(update), tuple(delete), taken)


def _wanted(table: Iterable[Entry], tunnel: Tunnel, target: str) -> dict[str, Record]:
    if tunnel.wildcard:
        return {tunnel.hostname: Record(tunnel.hostname, target, mark(tunnel.owner, WILDCARD))}
    return {entry.host: Record(entry.host, target, mark(tunnel.owner, entry.uid)) for entry in table}


def _is_ours(record: Record, tunnel: Tunnel) -> bool:
    return uid_in(record.comment, tunnel.owner) is not None


def _given_up(record: Record, tunnel: Tunnel, uids: set[str], given: set[str]) -> bool:
    """Whether a known environment once had this host and has it no longer. In wildcard mode a record of a host is left
    over from the other mode and covered by the wildcard; the wildcard itself stays until people remove it.
    """
    uid = uid_in(record.comment, tunnel.owner)
    return uid != WILDCARD and (uid in uids or record.name in given or tunnel.wildcard)
