"""What a release left in a cluster and on a bus, as small files that tests of upgrades start from.

    python tools/freeze_release.py COMMIT

writes tests/data/releases/COMMIT/: `base.yaml.gz` (deploy/k8s/base as kubectl renders it: types, rights, policies) and
`bus.json` (streams, consumers, what the server was told, one event of every type, a Project, an Environment), with that
commit's own code.
"""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from catalyst.local import components

ROOT = Path(__file__).resolve().parent.parent
TOLD = """
import json, dataclasses
from catalyst.events.binding import encode
from catalyst.events.examples import examples
from catalyst.events.server import nats_server_config
from catalyst.events.topology import Budget, consumers, streams
from catalyst.events.users import users
from catalyst.model.examples import EXAMPLES

def message(event):
    body, headers = encode(event)
    return {"subject": event.subject, "headers": headers, "body": body.decode()}

names = {user.name: f"<{user.name}>" for user in users()}
print(json.dumps({
    "streams": [config.as_dict() for config in streams()],
    "consumers": [{"stream": one.stream, "config": one.config().as_dict()} for one in consumers()],
    "server": json.loads(nats_server_config(store_dir="<store>", port=0, public_keys=names)),
    "objects": EXAMPLES,
    "events": [message(event) for event in examples().values()],
}, indent=1, sort_keys=True))
"""


def main(commit: str) -> None:
    target = ROOT / "tests" / "data" / "releases" / commit
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as whole:
            whole.extractall(folder, filter="data")
        kubectl = components.binaries()["kubectl"]
        base = _said(str(kubectl), "kustomize", f"{folder}/deploy/k8s/base")
        (target / "base.yaml.gz").write_bytes(gzip.compress(base, 9, mtime=0))
        path = os.pathsep.join(f"{folder}/libs/{name}/src" for name in ("model", "events"))
        (target / "bus.json").write_bytes(_said(sys.executable, "-c", TOLD, path=path))


def _said(*command: str, path: str = "") -> bytes:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}).stdout


if __name__ == "__main__":
    main(sys.argv[1])
