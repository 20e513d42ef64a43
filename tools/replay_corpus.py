"""`make replay`: the committed corpus of decisions, decided again by this code, and how much of the rules it passes.

python tools/replay_corpus.py              0: nothing differs and every branch of `decide` is passed
python tools/replay_corpus.py --accept     what differs is meant: the recorded results are replaced
python tools/replay_corpus.py --record             recorded anew, from all stories (five minutes, real servers)
python tools/replay_corpus.py --record --node      from the deployments on the node: real pods, each way to fail
python tools/replay_corpus.py --record TEST…       from these test files

Each test file has its own file in the corpus; those of files that were not run stay as they are.
Only what changes something is recorded, so no record passes the rules that say "leave it as it is".
"""

from __future__ import annotations

import argparse
import inspect
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import coverage

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "data" / "decisions"
STORIES, NODE = "tests/stories", "tests/e2e/test_deploying.py"
FOLDER = "CATALYST_CORPUS"
RULES = "catalyst.env_controller.core"
FOLDED = ("requests.py", "triggers.py")
"""What becomes of a pull request or branch: mostly "leave it", which is not recorded. Their own tests guard that."""
BESIDE = ("recorded.py", "unreadable.py", "__init__.py")
"""Of the core, what decides nothing: the form of the records, and what is said of a resource that cannot be read."""


def main() -> int:
    options = _options()
    if options.record:
        return record(*(options.tests or [NODE if options.node else STORIES]))
    if options.accept:
        return accept()
    return replay()


def replay() -> int:
    """The corpus, decided again under the eyes of coverage."""
    measured = coverage.Coverage(branch=True, data_file=None, source_pkgs=[RULES])
    measured.start()
    from catalyst.env_controller.core.environment import decide
    from catalyst.env_controller.replay.command import main as command

    status = command(["replay", *map(str, files())])
    measured.stop()
    missed = told(measured)
    lines, first = inspect.getsourcelines(decide)
    path = Path(inspect.getfile(decide))
    unpassed = sorted(line for line in missed[path] if first <= line < first + len(lines))
    if unpassed:
        print(
            f"decide: not every branch is passed, see {path.relative_to(ROOT)}, lines {', '.join(map(str, unpassed))}"
        )
    else:
        print("decide: every branch is passed")
    for path in sorted(missed):
        if path.name in FOLDED and missed[path]:
            lines_of = ", ".join(map(str, sorted(missed[path])))
            print(f"{path.stem}: not guarded by this corpus, lines {lines_of}")
    return status or int(bool(unpassed))


def told(measured: coverage.Coverage) -> dict[Path, set[int]]:
    """Prints how much of each module was passed. Gives the lines that were missed, or left in one direction only."""
    print(f"\n{'rules':<16}{'lines':>7}{'passed':>9}{'branches':>10}{'passed':>9}   missed")
    missed: dict[Path, set[int]] = {}
    totals = [0, 0, 0, 0]
    for name in sorted(measured.get_data().measured_files()):
        path = Path(name)
        if path.name in BESIDE:
            continue
        _, statements, _, missing, shown = measured.analysis2(name)
        exits = measured.branch_stats(name)
        missed[path] = {*missing, *(line for line, (there, taken) in exits.items() if taken < there)}
        counts = (
            len(statements),
            len(statements) - len(missing),
            sum(there for there, _ in exits.values()),
            sum(taken for _, taken in exits.values()),
        )
        totals = [total + count for total, count in zip(totals, counts, strict=True)]
        print(_row(path.name, counts, shown))
    print(_row("all", totals, ""))
    return missed


def _row(name: str, numbers: Iterable[int], missing: str) -> str:
    lines, passed, branches, taken = numbers
    shown = missing if len(missing) <= 60 else f"{missing[:60]} …"
    counts = f"{lines:>7}{_percent(passed, lines):>9}{branches:>10}{_percent(taken, branches):>9}"
    return f"{name:<16}{counts}   {shown}".rstrip()


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "–"


def accept() -> int:
    """Says what differs, and takes it for right."""
    from catalyst.env_controller.core.recorded import Record
    from catalyst.env_controller.replay import file
    from catalyst.env_controller.replay.again import Question, here
    from catalyst.env_controller.replay.command import main as command

    status = command(["replay", *map(str, files())])
    if status == 2:
        return status

    def decided(records: Iterable[Record]) -> Iterator[Record]:
        for each in records:
            (answer,) = here([Question(each.head.rule, each.inputs)])
            if "result" not in answer:
                raise SystemExit(f"{each.head.subject}: {answer}")
            yield Record(each.head, each.inputs, answer["result"])

    for path in files():
        file.write(path, decided(list(file.read(path))))
    print(
        "accepted: look at `git diff --stat`, commit the corpus with the rule"
        if status
        else "there is nothing to accept"
    )
    return 0


def record(*told: str) -> int:
    """These tests, with recording on; what each module decided becomes one file of the corpus, the others stay."""
    from catalyst.env_controller.replay import file

    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, FOLDER: folder}
        done = subprocess.run([sys.executable, "-m", "pytest", "-q", *told], cwd=ROOT, env=environment)
        if done.returncode:
            print("a test failed: the corpus stays as it is", file=sys.stderr)
            return done.returncode
        modules: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(Path(folder).glob("*.jsonl.gz")):
            modules[path.name.partition(".")[0]].append(path)
        CORPUS.mkdir(parents=True, exist_ok=True)
        for module, parts in modules.items():
            records = [each for part in parts for each in file.read(part)]
            header = file.write(CORPUS / f"{module.removeprefix('test_')}.jsonl.gz", records)
            print(f"{header.records:>5} decisions of {module}", flush=True)
    # In a process of its own: what is imported here already, coverage would not see run.
    return subprocess.run([sys.executable, __file__], cwd=ROOT).returncode


def files() -> list[Path]:
    return sorted(CORPUS.glob("*.jsonl.gz"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accept", action="store_true", help="replace the recorded results by what is decided now")
    parser.add_argument("--record", action="store_true", help="record anew, from the stories")
    parser.add_argument("--node", action="store_true", help="with --record: from the node instead (root on Linux)")
    parser.add_argument("tests", nargs="*", metavar="TEST", help="with --record: from these test files instead")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
