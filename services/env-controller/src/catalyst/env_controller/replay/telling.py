"""The report: which recorded decisions would be others now, for people or as lines of JSON."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import TextIO

from catalyst.env_controller.replay.again import Compared
from catalyst.env_controller.replay.differences import NOTHING


@dataclass
class Count:
    """What came of a replay. `differ`, `unread`: the numbers of these records."""

    records: int = 0
    differ: list[int] = field(default_factory=list)
    unread: list[int] = field(default_factory=list)

    @property
    def status(self) -> int:
        """0: nothing differs. 1: something does. 2: of some records it cannot be told."""
        return 2 if self.unread else int(bool(self.differ))


def tell(found: Iterable[Compared], out: TextIO, *, most: int, as_json: bool) -> Count:
    """Writes of each record that differs, up to `most` for people; all as JSON."""
    count = Count()
    for one in found:
        count.records += 1
        if one.unread is not None:
            count.unread.append(one.number)
        elif one.differences:
            count.differ.append(one.number)
        else:
            continue
        if as_json:
            out.write(json.dumps(_document(one), ensure_ascii=False) + "\n")
        elif len(count.differ) + len(count.unread) <= most:
            out.write(_paragraph(one))
    return count


def _paragraph(one: Compared) -> str:
    head = one.record.head
    after = f", after {head.event or head.cause}" if head.event or head.cause else ""
    title = f"record {one.number}  {head.subject}  {head.at}  {head.rule} ({head.key}{after})"
    lines = [str(difference) for difference in one.differences]
    if one.unread is not None:
        lines = [f"cannot be read by this code: {one.unread}"]
    return "\n".join([title, *(f"  {line}" for line in lines), "", ""])


def _document(one: Compared) -> dict[str, object]:
    told = [
        {"path": d.path} | {name: v for name, v in (("before", d.before), ("after", d.after)) if v is not NOTHING}
        for d in one.differences
    ]
    unread = {"unread": one.unread} if one.unread is not None else {"differences": told}
    return {"record": one.number, "head": asdict(one.record.head), **unread}


def summary(count: Count, header: str, code: str) -> str:
    """One line, or three. `header`: what was replayed; `code`: what decided again."""
    whole = f"{header}; decided again by {code}:"
    if not count.differ and not count.unread:
        return f"{whole} none of {count.records:,} differs"
    unread = f"; of {len(count.unread):,} it cannot be told" if count.unread else ""
    return f"{whole} {len(count.differ):,} of {count.records:,} differ{unread}"
