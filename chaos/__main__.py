"""`python -m chaos`: see docs/chaos.md."""

import argparse
import json
import random
import signal
import sys
from itertools import islice
from pathlib import Path
from typing import Any

from bench.on_node import why_not_here
from bench.results import ROOT, commit, machine
from chaos import ledger
from chaos.plan import plan


def main() -> int:
    """0: everything held. 1: something was found. 2: there can be no node on this machine."""
    options = _options()
    if options.plan:
        for fault in islice(plan(options.seed), options.faults):
            sys.stdout.write(f"{fault.number:4} {fault.name}{f' at: {fault.moment}' if fault.moment else ''}\n")
        return 0
    if why := why_not_here():
        sys.stderr.write(f"{why}\n")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))  # all that lasts is undone on the way out
    if options.planted is not None:
        from chaos import planted

        return planted.main(options.planted)
    from chaos.run import chaos

    result = chaos(options.seed, options.faults, ROOT / ".run" / "chaos")
    facts = {"commit": commit(), "machine": machine(), **result.facts}
    report = ledger.document(result.ledger, result.findings, facts)
    _show(report)
    if options.report:
        _write(options.report, report)
    return int(bool(result.findings))


def _show(report: dict[str, Any]) -> None:
    told = ledger.markdown({**report, "faults": []})
    sys.stdout.write(told.partition("## Every fault")[0])
    sys.stdout.write("FAILED\n" if report["findings"] else "everything held\n")


def _write(place: Path, report: dict[str, Any]) -> None:
    """<place>.json and <place>.md."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.with_suffix(".json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    place.with_suffix(".md").write_text(ledger.markdown(report))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m chaos",
        description="Strikes the whole product on the node while pull requests come and go, and compares in the end.",
        epilog="Nothing else should use this machine's node meanwhile. Ctrl-C undoes every fault.",
    )
    parser.add_argument("--faults", type=int, default=200, metavar="N", help="how many have to hit (default: 200)")
    parser.add_argument("--seed", type=int, default=None, help="of the plan and of what people do (default: by chance)")
    parser.add_argument("--plan", action="store_true", help="print the first N faults of the seed and end")
    parser.add_argument("--report", type=Path, metavar="PATH", help="write PATH.json and PATH.md")
    parser.add_argument(
        "--planted", nargs="*", metavar="BUG", help="instead: plant five bugs, or these, and find each of them"
    )
    options = parser.parse_args()
    if options.faults < 1:
        parser.error(f"--faults {options.faults}: expected at least 1")
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(10**6)
    return options


if __name__ == "__main__":
    sys.exit(main())
