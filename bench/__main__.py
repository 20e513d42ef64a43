"""`python -m bench [name…]`: measures; keeps bench/results.json and the figures in docs: benchmarks.md, capacity.md."""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

from bench import bus, capacity, decisions, environments, history, ingest, many, results
from bench.on_node import on_node, why_not_here
from bench.product import ON_NODE
from bench.run import Benchmark, Run

BENCHMARKS: Final[Mapping[str, Benchmark]] = {
    "ingest": ingest.ingest,
    "ingest-fsync": ingest.ingest_fsync,
    "publish-to-handler": bus.publish_to_handler,
    "resume": bus.resume,
    "replay": bus.replay,
    "timeline": history.timeline,
    "baseline": environments.baseline,
    "burst": environments.burst,
    "many": many.many,
    "recording": decisions.recording,
    "replay-decisions": decisions.replay,
}
RUNS: Final = 5


def main() -> int:
    """0: every goal holds. 1: one does not, or a limit is not credible."""
    arguments = _parser().parse_args()
    names = arguments.names or [*BENCHMARKS, *ON_NODE]
    run = Run(arguments.runs, arguments.quick)
    if why := why_not_here() if ON_NODE.keys() & set(names) else None:
        sys.stderr.write(f"{', '.join(name for name in names if name in ON_NODE)}: not measured. {why}\n")
        if arguments.names:
            return 1
        names = list(BENCHMARKS)
    commit, machine = results.commit(), results.machine()
    done = {row["benchmark"] for row in results.load() if _counts(row, commit, run)} if arguments.resume else set()
    rows = results.load()
    with _benchmarks(run) as benchmarks:
        for name in names:
            if name in done:
                sys.stderr.write(f"{name}: measured already at {commit}\n")
                continue
            began = time.monotonic()
            sys.stderr.write(f"{name}: {run.runs} alternating runs{', quick' if run.quick else ''}\n")
            found = benchmarks[name](run)
            of_run = {"commit": commit, "machine": machine, "runs": run.runs, "quick": run.quick}
            rows = results.merge([row.document(**of_run) for row in found])
            sys.stderr.write(f"{name}: {time.monotonic() - began:.0f} s\n")
    capacity.write()
    chosen = [row for row in rows if row["benchmark"] in names]
    sys.stdout.write(results.table(chosen))
    return 0 if all(row["holds"] for row in chosen) else 1


@contextmanager
def _benchmarks(run: Run) -> Iterator[Mapping[str, Benchmark]]:
    """All of them. The node and the product on it are there from the first benchmark that needs them."""
    with on_node(run) as product:

        def on_it(name: str, run: Run) -> Sequence[results.Row]:
            return ON_NODE[name](run, product())

        yield {**BENCHMARKS, **{name: partial(on_it, name) for name in ON_NODE}}


def _counts(row: Mapping[str, object], commit: str, run: Run) -> bool:
    return row["commit"] == commit and row["runs"] == run.runs and row["quick"] == run.quick


def _parser() -> argparse.ArgumentParser:
    every = {**BENCHMARKS, **ON_NODE}
    lines = [f"  {name:<20}{(benchmark.__doc__ or '').splitlines()[0]}" for name, benchmark in every.items()]
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Benchmarks, each beside its physical limit in the same run. Keeps bench/results.json (merged by "
        "benchmark) and the table in docs/benchmarks.md.",
        epilog="benchmarks:\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", choices=[*every, []], metavar="name", help="which; all of them")
    parser.add_argument("--runs", type=_runs, default=RUNS, help=f"alternating runs of ours and limit ({RUNS})")
    parser.add_argument("--quick", action="store_true", help="shorter and smaller, for trying out: rough figures")
    parser.add_argument("--resume", action="store_true", help="leave out what was measured at this commit already")
    return parser


def _runs(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected at least 1")
    return count


if __name__ == "__main__":
    sys.exit(main())
