"""What was tried, and what it hit. A fault counts only with evidence that it took effect. Pure: times are given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from chaos.plan import Fault


@dataclass(frozen=True, slots=True)
class Struck:
    """One fault. `began`, `ended`: seconds since the run began; `ended` is when it was undone, of a kill when it was
    sent. `evidence`: what shows that it hit; empty when nothing does. `missed`: why it did not.
    """

    fault: Fault
    began: float
    ended: float
    what: str
    evidence: str = ""
    missed: str = ""
    moment: str = ""

    @property
    def hit(self) -> bool:
        """Whether it counts."""
        return bool(self.evidence)


@dataclass(slots=True)
class Ledger:
    """All that was tried, in the order in which it ended."""

    entries: list[Struck] = field(default_factory=list)

    def add(self, struck: Struck) -> None:
        self.entries.append(struck)

    @property
    def hits(self) -> list[Struck]:
        """Those that count."""
        return [each for each in self.entries if each.hit]

    @property
    def last_end(self) -> float:
        """When the last one was over, hit or not; 0 without any."""
        return max((each.ended for each in self.entries), default=0.0)

    def counts(self) -> dict[str, dict[str, int]]:
        """Victim → kind → how many hit."""
        found = Counter((each.fault.victim, each.fault.kind) for each in self.hits)
        return {
            victim: {kind: count for (who, kind), count in sorted(found.items()) if who == victim}
            for victim in sorted({who for who, _ in found})
        }


def document(ledger: Ledger, findings: Sequence[str], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The whole report as JSON has it."""
    entries = [
        {**asdict(each), "fault": asdict(each.fault), "hit": each.hit}
        for each in sorted(ledger.entries, key=lambda each: each.began)
    ]
    return {**facts, "hits": len(ledger.hits), "counts": ledger.counts(), "findings": list(findings), "faults": entries}


def markdown(report: Mapping[str, Any]) -> str:
    """Three tables: the sums, what was found, and every fault with what it hit."""
    kinds = ("kill", "freeze", "cut", "full", "clock")
    sums = [[victim, *(str(by.get(kind, "")) for kind in kinds)] for victim, by in report["counts"].items()]
    faults = [
        [
            str(each["fault"]["number"]),
            f"{each['began']:.1f}",
            f"{each['fault']['kind']} {each['what']}",
            f"{each['ended'] - each['began']:.1f}",
            each["moment"],
            each["evidence"] or f"missed: {each['missed']}",
        ]
        for each in report["faults"]
    ]
    told = {key: value for key, value in report.items() if key not in ("counts", "faults", "findings")}
    parts = [
        "# A run of chaos",
        _table(["What", "Value"], [[str(key), str(value)] for key, value in told.items()]),
        "Found: " + ("nothing." if not report["findings"] else ""),
        "\n".join(f"- {_cell(each)}" for each in report["findings"]),
        "## What was hit",
        _table(["Victim", *kinds], sums),
        "## Every fault",
        _table(["#", "at s", "What", "s", "Moment", "Evidence"], faults),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
