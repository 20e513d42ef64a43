"""What every benchmark is given, and what it gives back."""

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.results import ROOT, Row


@dataclass(frozen=True, slots=True)
class Run:
    """`runs` alternating runs; `quick`: shorter and smaller, for trying out."""

    runs: int
    quick: bool

    def say(self, text: str) -> None:
        """Progress, on standard error."""
        sys.stderr.write(f"  {text}\n")
        sys.stderr.flush()

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """For servers and files; on the file system of this repository. Removed afterwards."""
        parent = ROOT / ".run" / "bench"
        parent.mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(dir=parent))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


Benchmark = Callable[[Run], Sequence[Row]]
