"""Deciding again what was recorded, with the results taken away: here, or inside another tree. No effects."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, Self, cast

import orjson

from catalyst.env_controller.core import recorded
from catalyst.env_controller.core.recorded import Record
from catalyst.env_controller.replay import elsewhere
from catalyst.env_controller.replay.differences import Difference, differences

AT_ONCE: Final = 200
"""Records that another tree is asked at a time."""


class CannotAsk(Exception):
    """The other tree cannot be asked; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Question:
    """All that is told of a record to the code that is tried."""

    rule: str
    inputs: dict[str, Any]


Answers = Callable[[Sequence[Question]], list[dict[str, Any]]]
"""Each question's {"result"}, {"failed": why} when the rule raised, or {"unread": why}."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One record, decided again. `unread`: why this code could not read its inputs; then nothing is known."""

    number: int
    record: Record
    differences: tuple[Difference, ...] = ()
    unread: str | None = None


def here(questions: Sequence[Question]) -> list[dict[str, Any]]:
    """By this code."""
    return [elsewhere.answer(recorded, question.rule, question.inputs) for question in questions]


def compared(numbered: Iterable[tuple[int, Record]], answers: Answers = here) -> Iterator[Compared]:
    """Every record, in order, beside what is decided from its inputs."""
    left = iter(numbered)
    while batch := list(islice(left, AT_ONCE)):
        told = answers([Question(record.head.rule, record.inputs) for _, record in batch])
        for (number, record), answer in zip(batch, told, strict=True):
            yield _compared(number, record, answer)


def _compared(number: int, record: Record, answer: dict[str, Any]) -> Compared:
    if "unread" in answer:
        return Compared(number, record, unread=answer["unread"])
    if "failed" in answer:
        return Compared(number, record, (Difference("$", record.result, f"raised {answer['failed']}"),))
    if orjson.dumps(record.result) == orjson.dumps(answer["result"]):  # most are: to walk through them takes ten times
        return Compared(number, record)
    return Compared(number, record, tuple(differences(record.result, answer["result"])))


class Tree:
    """Another checkout of this repository, asked in a process of its own with that tree's sources on its path; the
    packages from outside are ours. Used as a context.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Raises CannotAsk."""
        service = self._root / "services" / "env-controller" / "src"
        if not service.is_dir():
            raise CannotAsk(f"{self._root}: expected a checkout of this repository, with services/env-controller/src")
        path = [service, *sorted(self._root.glob("libs/*/src"))]
        environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.pathsep.join(map(str, path))}
        command = [sys.executable, "-B", "-P", str(elsewhere.__file__), str(recorded.__file__)]
        self._process = subprocess.Popen(  # noqa: S603 - the tree that we were asked to try
            command, cwd=self._root, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            self._check(Path(str(self._heard().get("decide"))))
        except CannotAsk:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def __call__(self, questions: Sequence[Question]) -> list[dict[str, Any]]:
        """Raises CannotAsk when its process ends."""
        stdin = cast(IO[str], self._running().stdin)
        try:
            for question in questions:
                stdin.write(orjson.dumps({"rule": question.rule, "inputs": question.inputs}).decode() + "\n")
            stdin.write("\n")
            stdin.flush()
        except BrokenPipeError as exc:
            raise CannotAsk(f"{self._root}: its process has ended") from exc
        return [self._heard() for _ in questions]

    def _check(self, found: Path) -> None:
        if not found.is_relative_to(self._root):
            raise CannotAsk(f"{self._root}: expected its own rules, found those of {found}")

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise CannotAsk(f"{self._root} is not asked yet: use it as a context")
        return self._process

    def _heard(self) -> dict[str, Any]:
        line = cast(IO[str], self._running().stdout).readline()
        if not line:
            status = self._running().wait()
            raise CannotAsk(f"{self._root}: its rules cannot be asked, the process ended with {status} (see above)")
        told: dict[str, Any] = orjson.loads(line)
        return told

    def _end(self) -> None:
        process = self._running()
        process.kill()
        with suppress(BrokenPipeError), process:
            pass
