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
from bench.environments import CONTROLLER, quiet, webhooks
from bench.results import ROOT, Row
from bench.run import Run
from bench.servers import Service, installation, service, tool
from bench.stats import Runs
from bench.world import World
from catalyst.env_controller.core.recorded import Record
from catalyst.env_controller.effects.decisions import HELD
from catalyst.env_controller.replay import file
from catalyst.local.installation import Installation

CORPUS: Final = ROOT / "tests" / "data" / "decisions"
REPLAYED: Final = 10_000
NEVER: Final = 3600.0
"""Seconds between pull requests: nobody else comes meanwhile."""


def recording(run: Run) -> Sequence[Row]:
    """What recording every decision costs env-controller, in processor time an environment."""
    count, pairs = (40, 2) if run.quick else (150, 2 * run.runs)
    used: dict[bool, list[float]] = {True: [], False: []}
    rates: dict[bool, list[float]] = {True: [], False: []}
    records: list[float] = []
    with run.folder() as folder, installation(folder) as found, webhooks(folder, found) as url:
        World(found).arrange()
        for number in range(pairs):
            for is_recorded in (True, False) if number % 2 else (False, True):
                prefix = f"{'with' if is_recorded else 'without'}-{number:02}"
                names = [f"{prefix}-{one:03}" for one in range(count)]
                rate, seconds, kept = _burst(folder, found, url, names, is_recorded)
                rates[is_recorded].append(rate)
                used[is_recorded].append(seconds * 1e3)
                records += [kept] if is_recorded else []
            run.say(
                f"{number + 1}/{pairs}: {used[True][-1]:.2f} ms with {records[-1]:.0f} records, "
                f"{used[False][-1]:.2f} ms without; {rates[True][-1]:.1f} and {rates[False][-1]:.1f}/s"
            )
    pace = {is_recorded: Runs(tuple(values)).median for is_recorded, values in rates.items()}
    return [
        Row(
            "recording", "recording", "ms", Runs(tuple(used[True])), 1.05, "ratio<=", Runs(tuple(used[False])),
            note=f"env-controller's processor time for each of {count:,} environments at once, {2 * pairs} times, in "
            f"turn with every decision recorded ({Runs(tuple(records)).median / count:.1f} an environment) and, the "
            "limit, with none, each time by a process of its own on the same control plane; "
            f"{pace[True]:.1f} and {pace[False]:.1f} environments/s",
            details={"rates": rates[True], "rates_without": rates[False], "records": records},
        )
    ]  # fmt: skip


def _burst(
    folder: Path, found: Installation, webhooks_: str, names: list[str], is_recorded: bool
) -> tuple[float, float, float]:
    """Environments/s, seconds of env-controller's processor time an environment, records. What a process does when it
    starts among those of former bursts is not counted, nor what it does at rest: a busy machine takes longer.
    """
    settings = {**found.settings(CONTROLLER), "CATALYST_RECORD_DECISIONS": str(is_recorded)}
    with service(CONTROLLER, folder, settings) as controller:
        World(found).projects_ready()
        quiet(controller)
        rest = _at_rest(controller)
        began, before = time.monotonic(), controller.processor_seconds()
        seconds, _ = uvloop.run(drive.all_at_once(found.control_plane.admin_kubeconfig, names, webhooks_, NEVER))
        quiet(controller)
        time.sleep(HELD)  # the last records are written, too
        quiet(controller)
        used = controller.processor_seconds() - before - rest * (time.monotonic() - began)
        kept = controller.metric("catalyst_decisions_recorded_total")
        lost = controller.metric("catalyst_decisions_dropped_total")
    if bool(kept) != is_recorded or lost:
        raise RuntimeError(f"{kept:.0f} decisions were recorded and {lost:.0f} dropped")
    return len(names) / seconds, used / len(names), kept


def _at_rest(controller: Service) -> float:
    """Seconds of processor time a second, asked for its metrics as `quiet` does."""
    began, before = time.monotonic(), controller.processor_seconds()
    quiet(controller)
    time.sleep(3)
    return (controller.processor_seconds() - before) / (time.monotonic() - began)


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
