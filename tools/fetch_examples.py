"""Fetch GitHub's example webhooks, pinned, into tests/data/github-webhooks. `make generate` calls it.

The npm package has an edition for github.com and one for each GitHub Enterprise Server; most payloads are the same in
several, so each is kept once, a line each:

    {"event": "push", "name": "push/1", "editions": ["api.github.com"], "payload": {…}}
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGE = "@octokit/webhooks-examples"
VERSION = "7.6.1"
INTEGRITY = "sha512-De6U3XB6O3DtCa7bKgCMzTHdeopqqZ6SNivMYJnK65ierKL1AnNIA0tkRYCRS7lwGT792d+Ps1WbfHlso6MynQ=="
EDITIONS = ("api.github.com", "ghes-31", "ghes-32", "ghes-33", "ghes-34", "ghes-35")

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "data" / "github-webhooks"

LICENSE = """\
The payloads in this folder come from the npm package {package} {version}
(https://github.com/octokit/webhooks), by {author} and the contributors of octokit/webhooks.
The package declares the license {license} and ships no text of it; this is the text of that license.

MIT License

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without
limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the
Software, and to permit persons to whom the Software is furnished to do so, subject to the following
conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions
of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED
TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL
THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF
CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER
DEALINGS IN THE SOFTWARE.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    print(f"{PACKAGE} {VERSION}: {files['payloads.jsonl'].count(chr(10))} payloads")
    return 0


def fetch() -> bytes:
    """The package, found by npm's own configuration, its integrity checked. Ends the program with the reason."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", folder]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
        except FileNotFoundError:
            sys.exit("npm is missing: install Node.js with npm, or keep the committed tests/data/github-webhooks")
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
        package = _json(archive, "package.json")
        editions = {edition: _json(archive, f"{edition}/index.json") for edition in EDITIONS}
    if package["license"] != "MIT":
        sys.exit(f"{PACKAGE} {VERSION} is licensed {package['license']}, expected MIT: read it before you use it")
    author = package["author"].partition(" (")[0]
    return {
        "payloads.jsonl": "".join(_compact(line) + "\n" for line in payloads(editions)),
        "LICENSE": LICENSE.format(package=PACKAGE, version=VERSION, license=package["license"], author=author),
        "VERSION": version_text(),
    }


def payloads(editions: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every different payload once, named after its event and action, in the package's order."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    names: dict[str, int] = {}
    for edition, events in editions.items():
        for event in events:
            for payload in event["examples"]:
                key = (event["name"], json.dumps(payload, sort_keys=True))
                if key not in found:
                    stem = "/".join(part for part in (event["name"], payload.get("action")) if part)
                    names[stem] = names.get(stem, 0) + 1
                    found[key] = {
                        "event": event["name"],
                        "name": f"{stem}/{names[stem]}",
                        "editions": [],
                        "payload": payload,
                    }
                if edition not in found[key]["editions"]:
                    found[key]["editions"].append(edition)
    yield from found.values()


def version_text() -> str:
    return f"{PACKAGE} {VERSION}\n{INTEGRITY}\n"


def _json(archive: tarfile.TarFile, name: str) -> Any:
    member = archive.extractfile(f"package/{name}")
    if member is None:
        sys.exit(f"{PACKAGE} {VERSION} has no {name}")
    return json.load(member)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
