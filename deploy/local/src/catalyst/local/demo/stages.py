"""The table of stages: filled in while it happens on a terminal, plain lines elsewhere.

    ✓ Cluster                    12.4 s   12.4 s  Kubernetes 1.36, DNS, registry
    ▸ Images of the services               0.3 s

First how long it took, then when it was over, since the command began.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

MARKS: Final = {"waits": "·", "runs": "▸", "done": "✓", "failed": "✗"}
COLOURS: Final = {"waits": "dim", "runs": "yellow", "done": "green", "failed": "red"}


@dataclass(slots=True)
class Row:
    """One stage. `took` and `at` are seconds; `said`: what there is to know, and where it is from."""

    name: str
    state: str = "runs"
    began: float = 0.0
    took: float | None = None
    at: float | None = None
    said: str = ""
    tell: Callable[[str], None] = lambda text: None

    def says(self, text: str) -> None:
        """What there is to know in the end."""
        self.said = text

    def sees(self, text: str) -> None:
        """How it stands; where no table changes, each change is a line."""
        if text != self.said:
            self.said = text
            self.tell(text)


class Stages:
    """A context manager. `live` None: if the console is a terminal and nobody set CI."""

    def __init__(
        self, title: str, console: Console | None = None, *, live: bool | None = None, log: Path | None = None
    ) -> None:
        self.title = title
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._log = log
        self._began = time.monotonic()
        self._began_at = time.time()
        self.rows: list[Row] = []
        wanted = self.console.is_terminal and not os.environ.get("CI") if live is None else live
        self._live = Live(self, console=self.console, refresh_per_second=8, transient=False) if wanted else None

    @property
    def seconds(self) -> float:
        """Since the command began."""
        return time.monotonic() - self._began

    @contextmanager
    def stage(self, name: str, said: str = "") -> Iterator[Row]:
        """Something that is done now. An exception marks it as failed."""
        row = Row(name, began=self.seconds, said=said)
        if self._live is None:
            row.tell = self.say
        self.rows.append(row)
        self._plain(row)
        try:
            yield row
        except BaseException:
            self._ended(row, "failed", self.seconds)
            raise
        self._ended(row, "done", self.seconds)

    def passed(self, name: str, *, began: float, ended: float, said: str = "") -> None:
        """Something that was over already, by the clock: `began` and `ended` are seconds since the epoch."""
        row = Row(name, began=began - self._began_at, said=said)
        self.rows.append(row)
        self._ended(row, "done", ended - self._began_at)  # below zero: before this command

    def has(self, name: str) -> bool:
        return any(row.name == name for row in self.rows)

    @property
    def out(self) -> _Lines:
        """Where whoever does the work may write what they do."""
        return _Lines(self.say)

    def say(self, text: str) -> None:
        """A line above the table."""
        self.console.print(Text(f"  {text}" if self._live else f"    {text}", style="dim"))
        self._note(f"    {text}")

    def _ended(self, row: Row, state: str, at: float) -> None:
        row.state, row.at, row.took = state, at, max(0.0, at - row.began)
        self._plain(row)

    def _plain(self, row: Row) -> None:
        line = f"{MARKS[row.state]} {row.name:<26} {_seconds(row.took):>8} {_seconds(row.at):>8}  {row.said}".rstrip()
        self._note(line)
        if self._live is None:
            self.console.print(Text(line, style=COLOURS[row.state] if row.state in ("failed", "runs") else ""))

    def _note(self, line: str) -> None:
        if self._log is not None:
            with self._log.open("a") as log:
                print(line, file=log)

    def __rich__(self) -> Table:
        table = Table(title=self.title, title_justify="left", box=None, pad_edge=False)
        for column, right in (("", False), ("Stage", False), ("Took", True), ("At", True), ("", False)):
            table.add_column(column, justify="right" if right else "left", no_wrap=right)
        for row in sorted(self.rows, key=lambda each: each.state == "runs"):
            took = row.took if row.took is not None else self.seconds - row.began
            mark = Text(MARKS[row.state], style=COLOURS[row.state])
            table.add_row(mark, row.name, _seconds(took), _seconds(row.at), Text(row.said, style="dim"))
        return table

    def __enter__(self) -> Self:
        self._note(f"── {self.title}, {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} UTC")
        if self._live is not None:
            self._live.start()
        else:
            self.console.print(Text(self.title, style="bold"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()


class _Lines(io.StringIO):
    """A file that hands on whole lines."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                self._say(line.rstrip())
        return len(text)

    def isatty(self) -> bool:
        return False


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    if value < 0:
        return "before"
    if value < 60:
        return f"{value:.1f} s"
    return f"{int(value) // 60}:{int(value) % 60:02d} min"
