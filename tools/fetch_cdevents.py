"""Fetch the JSON Schemas of CDEvents 0.5 that we speak, pinned, into tests/data/cdevents. `make generate` calls it.

They are published with the specification; here they come out of the Go module of its SDK, which carries them whole.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "data" / "cdevents"
MODULE, VERSION = "github.com/cdevents/sdk-go", "v0.5.0"
SUM = "h1:DLEadQBBxSHAhdbSJL4LdM/ES4tAt8lmlGY1Rxqtt+Y="
SPOKEN = (
    *(f"change-{verb}" for verb in ("created", "updated", "merged", "abandoned")),
    *(f"environment-{verb}" for verb in ("created", "modified", "deleted")),
    *(f"service-{verb}" for verb in ("deployed", "upgraded", "removed")),
    "build-queued",
    "build-finished",
    "artifact-published",
)


def main() -> int:
    wanted = f"{MODULE} {VERSION} {SUM}\n"
    version = FOLDER / "VERSION"
    if version.exists() and version.read_text() == wanted:
        print(f"{MODULE} {VERSION} is already there")
        return 0
    with tempfile.TemporaryDirectory() as empty:
        command = ["go", "mod", "download", "-json", f"{MODULE}@{VERSION}"]
        found = json.loads(subprocess.run(command, cwd=empty, check=True, capture_output=True, text=True).stdout)
    if found["Sum"] != SUM:
        sys.exit(f"{MODULE} {VERSION} has the hash {found['Sum']}, expected {SUM}")
    module = Path(found["Dir"])
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, schema in _schemas((module / "pkg" / "api" / "schemas.go").read_text()).items():
        (FOLDER / f"{name}.schema.json").write_text(json.dumps(schema, indent=1) + "\n")
    (FOLDER / "LICENSE").write_text((module / "LICENSE").read_text())
    version.write_text(wanted)
    return 0


def _schemas(text: str) -> dict[str, object]:
    pattern = r'"https://cdevents\.dev/0\.5\.0/schema/([a-z-]+)-event": `(.*?)`,\n'
    found = {match[1]: match[2] for match in re.finditer(pattern, text, re.DOTALL)}
    return {name: json.loads(found[name]) for name in SPOKEN}


if __name__ == "__main__":
    sys.exit(main())
