"""Decides again inside another tree: run as a script, with that tree's sources first on its path.

    python -P elsewhere.py <our core/recorded.py>

First it prints where it found `decide`. Then it reads lines {"rule", "inputs"} up to an empty one, answers each by a
line {"result"}, {"failed"} or {"unread"}, and so on until its input ends. It is given no recorded result, and nothing
of ours but that one file.
"""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import orjson


def main() -> None:
    recorded = _loaded(Path(sys.argv[1]))
    _say({"decide": sys.modules[recorded.decide.__module__].__file__})
    sys.stdout.flush()
    asked: list[dict[str, Any]] = []
    for line in sys.stdin:
        if line.strip():
            asked.append(orjson.loads(line))
            continue
        for question in asked:
            _say(answer(recorded, question["rule"], question["inputs"]))
        asked.clear()
        sys.stdout.flush()


def answer(recorded: Any, rule: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """`recorded`: the module core/recorded.py. Whatever a rule does, the next record is asked."""
    try:
        given = recorded.read_inputs(rule, inputs)
    except ValueError as error:
        return {"unread": " ".join(str(error).split())}
    try:
        return {"result": recorded.decided_json(given)}
    except Exception as error:  # noqa: BLE001 - the rule that is tried may raise anything: that is its answer
        return {"failed": f"{type(error).__name__}: {error}"}


def _loaded(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("recorded_beside", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _say(told: dict[str, Any]) -> None:
    sys.stdout.write(orjson.dumps(told).decode() + "\n")


if __name__ == "__main__":
    main()
