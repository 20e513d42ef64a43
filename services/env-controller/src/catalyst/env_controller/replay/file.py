"""An exported history of decisions: one file, gzip, one JSON object a line; the first says what follows.

    {"format": "catalyst.decisions", "version": 1, "schema": 1, "records": 2, "begins": …, "ends": …, "code": […], …}
    {"schema": 1, "head": {…}, "inputs": {…}, "result": {…}}
    {"schema": 1, "head": {…}, "inputs": {…}, "result": {…}}

`version` is the file's, `schema` the records'. The count makes a cut file known as one.
"""

import gzip
import json
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final, cast

from catalyst.env_controller.core.recorded import SCHEMA, NotARecord, Record

FORMAT: Final = "catalyst.decisions"
VERSION: Final = 1


class Damaged(Exception):
    """A file that cannot be replayed. The message says which record, and what was expected."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a file holds. `begins`, `ends`: the times of its first and last decision; `code`: the commits that took
    them; `rules`: how many of which kind.
    """

    records: int
    begins: str = ""
    ends: str = ""
    code: tuple[str, ...] = ()
    rules: Mapping[str, int] = field(default_factory=dict)

    def line(self) -> bytes:
        told = {"format": FORMAT, "version": VERSION, "schema": SCHEMA, **asdict(self)}
        return json.dumps(told).encode() + b"\n"


def write(path: Path, records: Iterable[Record]) -> Header:
    """Writes them all; the file is there whole or not at all. The same records give the same bytes."""
    counts: Counter[str] = Counter()
    times: list[str] = []
    code: dict[str, None] = {}
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        body, whole = Path(folder) / "body", Path(folder) / "whole"
        with _packed(body) as packed:
            for record in records:
                packed.write(record.text() + b"\n")
                counts[record.head.rule] += 1
                times = [*times[:1], record.head.at]
                code[record.head.code] = None
        begins, ends = (times[0], times[-1]) if times else ("", "")
        header = Header(counts.total(), begins, ends, tuple(code), dict(counts))
        with _packed(whole) as packed:
            packed.write(header.line())
        with whole.open("ab") as beginning, body.open("rb") as rest:  # gzip's members follow each other
            shutil.copyfileobj(rest, beginning)
        whole.replace(path)
    return header


@contextmanager
def _packed(path: Path) -> Iterator[IO[bytes]]:
    with path.open("wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
        yield cast(IO[bytes], packed)


def header(path: Path) -> Header:
    """Raises Damaged, and OSError for a file that is not there."""
    with path.open("rb") as file:
        return _header(path, next(_lines(path, file), b""))


def read(path: Path) -> Iterator[Record]:
    """Its records, in order. Raises Damaged when it comes to a record that is none, or to an end too early."""
    with path.open("rb") as file:
        lines = _lines(path, file)
        expected = _header(path, next(lines, b"")).records
        number = 0
        for number, line in enumerate(lines, 1):
            try:
                yield Record.parse(line)
            except NotARecord as exc:
                raise Damaged(f"{path.name}, record {number} of {expected}: {exc}") from exc
        if number != expected:
            raise Damaged(f"{path.name} ends after record {number}: expected {expected} records")


def _lines(path: Path, file: IO[bytes]) -> Iterator[bytes]:
    number = 0
    try:
        with gzip.GzipFile(fileobj=file) as packed:
            for line in packed:
                yield line
                number += 1
    except (EOFError, gzip.BadGzipFile, zlib.error) as exc:
        where = f"after record {number - 1}" if number else "from its beginning"
        raise Damaged(f"{path.name} cannot be read {where}: expected gzip ({exc})") from exc


def _header(path: Path, line: bytes) -> Header:
    try:
        told: Any = json.loads(line)
    except ValueError:
        told = None
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise Damaged(f'{path.name}: its first line is no header: expected {{"format": "{FORMAT}", …}}')
    if told.get("version") != VERSION:
        raise Damaged(f"{path.name} has version {told.get('version')!r}: expected {VERSION}")
    if told.get("schema") != SCHEMA:
        raise Damaged(f"{path.name} has records of schema {told.get('schema')!r}: expected {SCHEMA}")
    if not isinstance(told.get("records"), int):
        raise Damaged(f"{path.name}: its header counts no records: expected a number, found {told.get('records')!r}")
    return Header(
        told["records"],
        str(told.get("begins", "")),
        str(told.get("ends", "")),
        tuple(map(str, told.get("code") or ())),
        dict(told.get("rules") or {}),
    )
