"""Environments that live side by side: two of one Project, and one of another team."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from product import Files, Product, Pull, Site

from catalyst.model import labels
from catalyst.model.environment import Phase

SERVER: Final = """\
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ["CATALYST_COMMIT"].encode())


ThreadingHTTPServer(("", 8080), Page).serve_forever()
"""
FILES: Final[Files] = {
    "Dockerfile": 'FROM python:3-slim\nCOPY server.py /\nEXPOSE 8080\nCMD ["python3", "/server.py"]\n',
    "server.py": SERVER,
}


@dataclass(frozen=True)
class Neighbours:
    """`mine` and `sibling` are of one Project, `theirs` is of another team. All are Ready."""

    mine: Pull
    sibling: Pull
    theirs: Pull

    @property
    def all(self) -> tuple[Pull, ...]:
        return self.mine, self.sibling, self.theirs


def neighbours(product: Product) -> Neighbours:
    """Opened together."""
    first, second = product.team(), product.team()
    mine, theirs = (team.site("site", FILES) for team in (first, second))
    opened = Neighbours(_changed(mine, "one"), _changed(mine, "two"), _changed(theirs, "three"))
    for pull in opened.all:
        pull.until(Phase.READY)
    return opened


def _changed(site: Site, branch: str) -> Pull:
    return site.pull_request({"page": branch}, branch=branch)


def pod_of(pull: Pull, component: str = "web") -> str:
    """The name of a running pod of its component, which has python3."""
    found = pull.kubectl.get("pods", f"--selector={labels.COMPONENT}={component}")["items"]
    running = (p for p in found if p["status"]["phase"] == "Running" and "deletionTimestamp" not in p["metadata"])
    name: str = next(running)["metadata"]["name"]
    return name


def address_of(pull: Pull, component: str = "web") -> str:
    """Its pod's."""
    address: str = pull.kubectl.get("pod", pod_of(pull, component))["status"]["podIP"]
    return address
