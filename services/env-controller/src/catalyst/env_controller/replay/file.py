"""An exported history of decisions: one file, gzip, one JSON object a line; the first says what follows.

    {"format": "catalyst.decisions", "version": 1, "schema": 1, "records": 2, "begins": …, "ends": …, "code": […], …}
    {"schema": 1, "head": {…}, "inputs": {…}, "result": {…}}
    {"schema": 1, "head": {…}, "inputs": {…}, "result": {…}}

`version` is the file's, `schema` the records'. The count makes a cut file known as one.
"""

import gzip
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Self, cast

import orjson

from catalyst.env_controller.core.recorded import SCHEMA, NotARecord, Record

FORMAT: Final = "catalyst.decisions"
VERSION: Final = 1


class Damaged(Exception):
    """A file that cannot be replayed. The message says which record, and what was expected."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a file holds. `begins`, `ends`: the times of its earliest and latest decision; `code`: the commits that took
    them; `rules`: how many of which kind.
    """

    records: int
    begins: str = ""
    ends: str = ""
    code: tuple[str, ...] = ()
    rules: Mapping[str, int] = field(default_factory=dict)

    def line(self) -> bytes:
        told = {"format": FORMAT, "version": VERSION, "schema": SCHEMA, **asdict(self)}
        return orjson.dumps(told) + b"\n"


def together(headers: Sequence[Header]) -> Header:
    """What several files hold, at least one."""
    rules: Counter[str] = Counter()
    for each in headers:
        rules.update(each.rules)
    return Header(
        sum(each.records for each in headers),
        min(each.begins for each in headers),
        max(each.ends for each in headers),
        tuple(dict.fromkeys(code for each in headers for code in each.code)),
        dict(rules),
    )


def write(path: Path, records: Iterable[Record]) -> Header:
    """Writes them all. The same records give the same bytes."""
    with Writer(path) as writer:
        for record in records:
            writer.add(record)
    return writer.header


class Writer:
    """Writes one file, record by record; used as a context. The file is there whole when it ends well, else not at all.
    `header` then says what it holds.
    """

    def __init__(self, path: Path) -> None:
        self.header = Header(0)
        self._path = path
        self._folders, self._files = ExitStack(), ExitStack()

    def __enter__(self) -> Self:
        self._folder = Path(self._folders.enter_context(tempfile.TemporaryDirectory(dir=self._path.parent)))
        self._body = self._files.enter_context(_packed(self._folder / "body"))
        return self

    def add(self, record: Record) -> None:
        head = record.head
        self._body.write(record.text() + b"\n")
        one = Header(1, head.at, head.at, (head.code,), {head.rule: 1})
        self.header = together((self.header, one)) if self.header.records else one

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._folders:
            self._files.close()
            if kind is None:
                self._join()

    def _join(self) -> None:
        """gzip's members follow each other: the header first, though it is known last."""
        whole = self._folder / "whole"
        with _packed(whole) as packed:
            packed.write(self.header.line())
        with whole.open("ab") as beginning, (self._folder / "body").open("rb") as rest:
            shutil.copyfileobj(rest, beginning)
        whole.replace(self._path)


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
        told: Any = orjson.loads(line)
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
