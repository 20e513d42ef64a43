"""Fetch GitHub's example webhooks, pinned, into tests/data/github-webhooks. `make generate` calls it.

The npm package has an edition for github.com and one for each GitHub Enterprise Server; most payloads are the same in
several, so each is kept once, a line each:

    {"event": "push", "name": "push/1", "editions": ["api.github.com"], "payload": {…}}
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

from npm_package import DATA, Files, Package

PACKAGE = Package(
    "@octokit/webhooks-examples",
    "7.6.1",
    "sha512-De6U3XB6O3DtCa7bKgCMzTHdeopqqZ6SNivMYJnK65ierKL1AnNIA0tkRYCRS7lwGT792d+Ps1WbfHlso6MynQ==",
)
EDITIONS = ("api.github.com", "ghes-31", "ghes-32", "ghes-33", "ghes-34", "ghes-35")

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


def contents(files: Files) -> dict[str, str]:
    """File name → text."""
    package = files.json("package.json")
    editions = {edition: files.json(f"{edition}/index.json") for edition in EDITIONS}
    if package["license"] != "MIT":
        sys.exit(f"{PACKAGE} is licensed {package['license']}, expected MIT: read it before you use it")
    author = package["author"].partition(" (")[0]
    return {
        "payloads.jsonl": "".join(_compact(line) + "\n" for line in payloads(editions)),
        "LICENSE": LICENSE.format(
            package=PACKAGE.name, version=PACKAGE.version, license=package["license"], author=author
        ),
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


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


if __name__ == "__main__":
    sys.exit(PACKAGE.main(DATA / "github-webhooks", contents, __doc__))
