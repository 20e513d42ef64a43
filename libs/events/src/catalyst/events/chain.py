"""Chains of audit records: each names the SHA-256 of the body of the record before it on its subject. Pure.

```
audit.acme.shop.pr-42   #1 ◀─previous─ #2 ◀─previous─ #3        head: SHA-256 of the body of #3
```

What is found, and by what:

| What was done | Found by |
|---|---|
| a record changed, put in, taken out, or moved | `previous` or `number` of the record after it |
| the last records cut off, a chain removed or written anew from somewhere on | a checkpoint kept elsewhere |
| a record or a whole chain removed from a stream that is looked at whole | its sequence is missing, if not the last |

The digest is over the bytes as stored, so nothing depends on how JSON is written.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from catalyst.events.binding import decode
from catalyst.events.catalogue import AuditRecord
from catalyst.events.errors import Reject


@dataclass(frozen=True, slots=True)
class Link:
    """One record as it is stored or was exported."""

    sequence: int
    subject: str
    body: bytes

    @property
    def digest(self) -> str:
        return digest(self.body)

    def record(self) -> AuditRecord:
        """What it says. Raises `Reject`."""
        data = decode(self.body, subject=self.subject).data
        if not isinstance(data, AuditRecord):
            raise Reject(f"{self.subject} holds {type(data).__name__}, expected AuditRecord")
        return data


@dataclass(frozen=True, slots=True)
class Head:
    """How far a chain goes: how many records, and the digest of the last."""

    count: int
    digest: str


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it was written. `sequence` 0: what should be there is not."""

    subject: str
    sequence: int
    problem: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found, and how far each chain goes."""

    records: int
    heads: Mapping[str, Head]
    faults: tuple[Fault, ...]


@dataclass
class _Chain:
    count: int = 0
    digest: str | None = None
    seen: dict[int, str] = field(default_factory=dict)


def digest(body: bytes) -> str:
    """SHA-256 of a record's body, as `previous` names it."""
    return hashlib.sha256(body).hexdigest()


def number_of(body: bytes) -> int | None:
    """A record's place in its chain, of whatever version the record is; None when it cannot be told."""
    told = _data(body).get("number")
    return told if type(told) is int and told > 0 else None


def verify(links: Iterable[Link], *, whole: bool = False, against: Mapping[str, Head] | None = None) -> Verified:
    """Follows every chain. `links` in the order of the stream; `whole`: they are all of it, so no sequence may be
    missing. `against`: heads known from elsewhere; each chain must pass through its own.
    """
    chains: dict[str, _Chain] = {}
    faults: list[Fault] = []
    wanted, last, records = against or {}, 0, 0
    for link in links:
        records += 1
        if link.sequence <= last:
            faults.append(Fault(link.subject, link.sequence, f"stands after {last}: the order was changed"))
        elif whole and link.sequence != last + 1:
            faults.append(Fault("audit.>", last + 1, f"missing: {last + 1} to {link.sequence - 1}"))
        last = max(last, link.sequence)
        chain = chains.setdefault(link.subject, _Chain())
        faults += [Fault(link.subject, link.sequence, problem) for problem in _problems(link, chain)]
        known = wanted.get(link.subject)
        chain.count, chain.digest = chain.count + 1, link.digest
        if known is not None and known.count == chain.count:
            chain.seen[chain.count] = link.digest
    faults += _against(chains, wanted)
    heads = {subject: Head(chain.count, chain.digest or "") for subject, chain in sorted(chains.items())}
    return Verified(records, heads, tuple(faults))


def _problems(link: Link, chain: _Chain) -> Iterable[str]:
    try:
        link.record()
    except Reject as error:
        yield f"unreadable: {error.reason}"
    data = _data(link.body)
    if data.get("previous") != chain.digest:
        before = f"record {chain.count}" if chain.count else "a record before it"
        yield f"does not follow {before}: that one was changed, removed or put in, or this one was"
    if data.get("number") != chain.count + 1:
        yield f"says it is number {data.get('number')}, and is number {chain.count + 1}"


def _against(chains: Mapping[str, _Chain], wanted: Mapping[str, Head]) -> Iterable[Fault]:
    for subject, head in wanted.items():
        chain = chains.get(subject, _Chain())
        if chain.count < head.count:
            problem = f"the checkpoint knew {head.count} records, {chain.count} are left: the end was cut off"
            yield Fault(subject, 0, problem)
        elif chain.seen.get(head.count) != head.digest:
            problem = f"record {head.count} is not the one the checkpoint knew: the chain was written anew"
            yield Fault(subject, 0, problem)


def _data(body: bytes) -> Mapping[str, Any]:
    try:
        told = json.loads(body)
    except ValueError:
        return {}
    data = told.get("data") if isinstance(told, dict) else None
    return data if isinstance(data, dict) else {}
