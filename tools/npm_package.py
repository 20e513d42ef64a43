"""One pinned npm package as files in a folder of tests/data: fetched by npm's own configuration, its hash checked.

    sys.exit(Package("@scope/name", "1.2.3", "sha512-…").main(FOLDER, contents, __doc__))

`contents` makes the folder's files from the package's; VERSION is added, and says whether there is anything to do.
"""

import argparse
import base64
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parent.parent / "tests" / "data"


class Files:
    """The files of a package. Ends the program when one is missing."""

    def __init__(self, package: "Package", archive: tarfile.TarFile) -> None:
        self._package = package
        self._archive = archive

    def text(self, name: str) -> str:
        """A file's text."""
        try:
            member = self._archive.extractfile(f"package/{name}")
        except KeyError:
            member = None
        if member is None:
            sys.exit(f"{self._package} has no {name}")
        return member.read().decode()

    def json(self, name: str) -> Any:
        """A file's JSON."""
        return json.loads(self.text(name))


@dataclass(frozen=True)
class Package:
    """`integrity` as npm writes it: `sha512-` and base64."""

    name: str
    version: str
    integrity: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    def main(self, folder: Path, contents: Callable[[Files], dict[str, str]], doc: str | None) -> int:
        """Make `folder` what the package gives; with `--check` only say whether it is."""
        parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--check", action="store_true", help="fail unless the folder is what would be fetched")
        check = parser.parse_args().check
        if not check and _is(folder / "VERSION", self._version_text()):
            print(f"{self} is already there")
            return 0
        files = self._made(folder, contents)
        if check:
            stale = [name for name, text in files.items() if not _is(folder / name, text)]
            for name in stale:
                print(f"{folder / name} is not what {self} gives: delete VERSION and run `make generate`")
            return 1 if stale else 0
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
        print(f"{self}: {', '.join(sorted(files))}")
        return 0

    def _made(self, folder: Path, contents: Callable[[Files], dict[str, str]]) -> dict[str, str]:
        with tarfile.open(fileobj=io.BytesIO(self._fetched(folder))) as archive:
            return {**contents(Files(self, archive)), "VERSION": self._version_text()}

    def _fetched(self, kept: Path) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            command = ["npm", "pack", f"{self.name}@{self.version}", "--silent", "--pack-destination", folder]
            try:
                subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
            except FileNotFoundError:
                sys.exit(f"npm is missing: install Node.js with npm, or keep the committed tests/data/{kept.name}")
            except subprocess.CalledProcessError as exc:
                sys.exit(f"npm could not fetch {self}: {exc.stderr.strip() or exc}")
            (archive,) = Path(folder).glob("*.tgz")
            packed = archive.read_bytes()
        found = "sha512-" + base64.b64encode(hashlib.sha512(packed).digest()).decode()
        if found != self.integrity:
            sys.exit(f"{self} is not what was pinned: expected {self.integrity}, found {found}")
        return packed

    def _version_text(self) -> str:
        return f"{self.name} {self.version}\n{self.integrity}\n"


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text
