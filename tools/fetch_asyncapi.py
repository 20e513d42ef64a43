"""Fetch the JSON Schema of AsyncAPI, pinned, into tests/data/asyncapi. `make generate` calls it."""

import argparse
import base64
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "@asyncapi/specs"
VERSION = "6.11.1"
INTEGRITY = "sha512-A3WBLqAKGoJ2+6FWFtpjBlCQ1oFCcs4GxF7zsIGvNqp/klGUHjlA3aAcZ9XMMpLGE8zPeYDz2x9FmO6DSuKraQ=="
SCHEMA = "schemas/3.1.0.json"

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "data" / "asyncapi"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail unless the folder is what would be fetched")
    check = parser.parse_args().check
    version_file = FOLDER / "VERSION"
    if not check and version_file.is_file() and version_file.read_text(encoding="utf-8") == version_text():
        print(f"{PACKAGE} {VERSION} is already there")
        return 0
    files = contents(fetch())
    stale = [name for name, text in files.items() if not _is(FOLDER / name, text)]
    if check:
        for name in stale:
            print(f"{FOLDER / name} is not what {PACKAGE} {VERSION} gives: delete VERSION and run `make generate`")
        return 1 if stale else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    print(f"{PACKAGE} {VERSION}: {SCHEMA}")
    return 0


def fetch() -> bytes:
    """The package, found by npm's own configuration, its integrity checked. Ends the program with the reason."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", folder]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
        except FileNotFoundError:
            sys.exit("npm is missing: install Node.js with npm, or keep the committed tests/data/asyncapi")
        except subprocess.CalledProcessError as exc:
            sys.exit(f"npm could not fetch {PACKAGE} {VERSION}: {exc.stderr.strip() or exc}")
        (archive,) = Path(folder).glob("*.tgz")
        packed = archive.read_bytes()
    found = "sha512-" + base64.b64encode(hashlib.sha512(packed).digest()).decode()
    if found != INTEGRITY:
        sys.exit(f"{PACKAGE} {VERSION} is not what was pinned: expected {INTEGRITY}, found {found}")
    return packed


def contents(packed: bytes) -> dict[str, str]:
    """File name → text of everything in the folder."""
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        schema = json.loads(_text(archive, SCHEMA))
        return {
            "asyncapi-3.1.0.schema.json": json.dumps(schema, indent=1, ensure_ascii=False) + "\n",
            "LICENSE": _text(archive, "LICENSE"),
            "NOTICE": _text(archive, "NOTICE"),
            "VERSION": version_text(),
        }


def version_text() -> str:
    return f"{PACKAGE} {VERSION}\n{INTEGRITY}\n"


def _text(archive: tarfile.TarFile, name: str) -> str:
    member = archive.extractfile(f"package/{name}")
    if member is None:
        sys.exit(f"{PACKAGE} {VERSION} has no {name}")
    return member.read().decode()


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
