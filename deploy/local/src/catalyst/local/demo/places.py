"""Names, ports and files of the demo.

.run/demo/
  supervisor.json   its processes; there only while they run
  supervisor.log, github.log, way.log
  setup.json        what GitHub's double is to have
  way.json          where the edge is in the cluster
  private/          mode 0700: the App's key, tokens
  github/           the double's repositories
  ca.crt            the root certificate of the edge
  told.log          all that was on the screen
  pulls/<name>/     one pull request: story.json, source/ (a git repository to work in)
  current           the name of the one that push, break and close are about
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from catalyst.local.supervisor import ROOT

FOLDER: Final = ROOT / ".run" / "demo"
EXAMPLES: Final = ROOT / "examples"

TEAM: Final = "acme"
OWNER: Final = "acme"
"""The account at the forge."""
PERSON: Final = "mona"
"""Who opens the pull request."""

FORGE_HOST: Final = "github.catalyst.test"
FORGE_PORT: Final = 8900
FORGE: Final = f"http://{FORGE_HOST}:{FORGE_PORT}"
APP_ID: Final = 4711
LOOPBACK: Final = "127.0.0.1"
HTTPS_PORT: Final = 8443
HTTP_PORT: Final = 8080
ZONE: Final = "catalyst.localhost"
SYSTEM: Final = "catalyst-system"


class DemoFailed(RuntimeError):
    """The demo cannot go on. The text says why, and what to do."""


class NotNow(DemoFailed):
    """Nothing is wrong but what was asked for: no log would say more."""


@dataclass(frozen=True, slots=True)
class Story:
    """One pull request of the demo. `own`: the folder of somebody's repository; None for an example."""

    name: str
    repository: str
    branch: str
    base: str
    number: int
    project: str
    own: str | None = None

    @property
    def namespace(self) -> str:
        """Which holds the Environment."""
        return f"{TEAM}--{self.project}"

    @property
    def environment(self) -> str:
        return f"pr-{self.number}"


class Places:
    """The files; see above."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder.absolute()
        self.private = self.folder / "private"
        self.setup = self.folder / "setup.json"
        self.way = self.folder / "way.json"
        self.authority = self.folder / "ca.crt"
        self.github = self.folder / "github"
        self.people = self.github / "people.json"
        self.app_key = self.private / "app.pem"
        self.credentials = self.private / "git-credentials"

    def make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.private.mkdir(mode=0o700, exist_ok=True)

    def source(self, name: str) -> Path:
        return self.folder / "pulls" / name / "source"

    def write_story(self, story: Story) -> None:
        """Whole or not at all; it becomes the current one."""
        write(self.folder / "pulls" / story.name / "story.json", json.dumps(asdict(story), indent=2))
        write(self.folder / "current", story.name)

    def story(self, name: str | None = None) -> Story | None:
        """The one of that name, or the current one; None when there is none."""
        try:
            name = name or (self.folder / "current").read_text().strip()
            content: dict[str, Any] = json.loads((self.folder / "pulls" / name / "story.json").read_text())
        except FileNotFoundError:
            return None
        return Story(**content)

    def forget(self) -> None:
        """No pull request is known any more: the forge that knew them has ended."""
        for file in self.folder.glob("pulls/*/story.json"):
            file.unlink()
        (self.folder / "current").unlink(missing_ok=True)


def write(file: Path, text: str, mode: int = 0o644) -> Path:
    """Whole or not at all, readable by whom `mode` says from the first byte on."""
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f"{file.name}.new")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(text)
    scratch.rename(file)
    return file
