"""Recorded decisions: what recording them costs, and how fast a history is decided again."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Final

import uvloop

from bench import drive
from bench.environments import CONTROLLER, webhooks
from bench.results import ROOT, Row
from bench.run import Run
from bench.servers import installation, service, tool
from bench.stats import Runs
from bench.world import World
from catalyst.env_controller.core.recorded import Record
from catalyst.env_controller.replay import file

CORPUS: Final = ROOT / "tests" / "data" / "decisions"
REPLAYED: Final = 10_000
NEVER: Final = 3600.0
"""Seconds between pull requests: nobody else comes meanwhile."""


def recording(run: Run) -> Sequence[Row]:
    """Environments at once, with every decision recorded and with none."""
    count = 100 if run.quick else 500
    rates: dict[bool, list[float]] = {True: [], False: []}
    processor: dict[bool, list[float]] = {True: [], False: []}
    records: list[float] = []
    for number in range(run.runs):
        for recorded in (True, False) if number % 2 else (False, True):
            rate, seconds, kept = _burst(run, count, recorded=recorded)
            rates[recorded].append(rate)
            processor[recorded].append(seconds)
            records += [kept] if recorded else []
        run.say(
            f"{number + 1}/{run.runs}: {rates[True][-1]:.1f}/s with {records[-1]:.0f} records, "
            f"{rates[False][-1]:.1f}/s without; "
            f"processor {processor[True][-1] * 1e3:.1f} and {processor[False][-1] * 1e3:.1f} ms an environment"
        )
    used, unrecorded = (Runs(tuple(processor[recorded])).median * 1e3 for recorded in (True, False))
    return [
        Row(
            "recording", "recording", "env/s", Runs(tuple(rates[True])), 0.95, "ratio>=", Runs(tuple(rates[False])),
            note=f"{count:,} environments at once, {Runs(tuple(records)).median / count:.1f} records each; limit: the "
            f"same without recording; env-controller's processor time an environment {used:.1f} ms with and "
            f"{unrecorded:.1f} ms without",
            details={"processor_s": processor[True], "processor_s_without": processor[False], "records": records},
        )
    ]  # fmt: skip


def _burst(run: Run, count: int, *, recorded: bool) -> tuple[float, float, float]:
    """Environments/s, seconds of env-controller's processor time an environment, records."""
    with run.folder() as folder, installation(folder) as found:
        world = World(found)
        world.arrange()
        settings = {**found.settings(CONTROLLER), "CATALYST_RECORD_DECISIONS": str(recorded)}
        with webhooks(folder, found) as url, service(CONTROLLER, folder, settings) as controller:
            world.projects_ready()
            idle = controller.processor_seconds()
            names = [f"ours-{number:05}" for number in range(count)]
            seconds, _ = uvloop.run(drive.all_at_once(found.control_plane.admin_kubeconfig, names, url, NEVER))
            used = controller.processor_seconds() - idle
            time.sleep(1)
            kept = controller.metric("catalyst_decisions_recorded_total")
            lost = controller.metric("catalyst_decisions_dropped_total")
    if bool(kept) != recorded or lost:
        raise RuntimeError(f"{kept:.0f} decisions were recorded and {lost:.0f} dropped")
    return count / seconds, used / count, kept


def replay(run: Run) -> Sequence[Row]:
    """Ten thousand recorded decisions, decided again by the command that people use."""
    count = 1_000 if run.quick else REPLAYED
    ours, limits = [], []
    with run.folder() as folder:
        history = folder / "history.jsonl.gz"
        header = file.write(history, islice(cycle(_corpus()), count))
        for number in range(run.runs):
            ours.append(_replayed(history) * REPLAYED / count)
            limits.append(float(tool("limits.history", file=history)["seconds"]) * REPLAYED / count)
            run.say(f"{number + 1}/{run.runs}: {ours[-1]:.2f} s, of which bare reading takes {limits[-1]:.2f} s")
        size = history.stat().st_size
    rules = ", ".join(f"{found:,} {rule}" for rule, found in sorted(header.rules.items()))
    return [
        Row(
            "replay-decisions", "replay-decisions", "s", Runs(tuple(ours)), 10, "ours<=", Runs(tuple(limits)),
            note=f"{REPLAYED:,} decisions ({rules} in {count:,}), the corpus of tests/data again and again, "
            f"{size / 1e6:.1f} MB; from starting the process; beside it gunzip and json of the same file",
        )
    ]  # fmt: skip


def _corpus() -> Iterator[Record]:
    for path in sorted(CORPUS.glob("*.jsonl.gz")):
        yield from file.read(path)


def _replayed(history: Path) -> float:
    """Seconds. Raises RuntimeError when a decision differs."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "catalyst.env_controller", "replay", str(history)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"replay ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - began
