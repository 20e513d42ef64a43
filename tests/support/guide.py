"""docs/install.md, onboarding.md and operations.md, as somebody reads them: the blocks that are typed, and the tables
of what is ticked at GitHub and Cloudflare. A block or table that is walked stands below `<!-- walk: name -->`.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

DOCS: Final = Path(__file__).parents[2] / "docs"
_BLOCK: Final = re.compile(r"^<!-- walk: (\S+) -->\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TABLE: Final = re.compile(r"^<!-- walk: (\S+) -->\n((?:\|.*\n)+)", re.MULTILINE)
_NAME: Final = re.compile(r"^export (\w+)=(.*)$", re.MULTILINE)


class StepFailed(AssertionError):
    """A block of the guide ended with an error; the text is its own."""


@dataclass(frozen=True)
class Guide:
    """A version of the page: `Guide.read()`, or another text to see whether a mistake is noticed."""

    text: str
    page: str = "install.md"

    @classmethod
    def read(cls, page: str = "install.md") -> Guide:
        return cls((DOCS / page).read_text(encoding="utf-8"), page)

    @property
    def blocks(self) -> dict[str, str]:
        """What is typed, by the mark's name, in the page's order."""
        return dict(_BLOCK.findall(self.text))

    def table(self, name: str) -> list[list[str]]:
        """The cells of each row, without the header."""
        (rows,) = (rows for mark, rows in _TABLE.findall(self.text) if mark == name)
        return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows.splitlines()[2:]]

    @property
    def permissions(self) -> dict[str, str]:
        """The App's, as GitHub's API names them."""
        levels = {"Read-only": "read", "Read and write": "write"}
        return {name.lower().replace(" ", "_"): levels[access] for name, access, _ in self.table("permissions")}

    @property
    def events(self) -> set[str]:
        """Which the App subscribes to, as webhooks name them."""
        return {name.lower().replace(" ", "_") for name, _ in self.table("events")}

    @property
    def token(self) -> frozenset[str]:
        """What the Cloudflare token may, as the double names it."""
        rights = {"Cloudflare Tunnel": "tunnel", "DNS": "dns"}
        levels = {"Edit": ("edit", "read"), "Read": ("read",)}
        return frozenset(
            f"{rights[name]}:{level}" for _, name, access in self.table("token") for level in levels[access]
        )


@dataclass
class Walk:
    """One shell, in one folder: a block sees what the blocks before it exported."""

    guide: Guide
    folder: Path
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    said: str = ""
    """By the last step."""

    def names(self, **own: str) -> None:
        """Step 1, with our values; each must be one that the page asks for."""
        block = self.guide.blocks["names"]
        asked = dict(_NAME.findall(block))
        assert own.keys() <= asked.keys(), f"the guide does not ask for {sorted(own.keys() - asked.keys())}"
        self._type(_NAME.sub(lambda found: f"export {found[1]}={own.get(found[1], found[2])}", block), "names")

    def step(self, name: str, *, replacing: Mapping[str, str] | None = None) -> None:
        """Types the block. Raises StepFailed with what it said."""
        block = self.guide.blocks[name]
        for old, new in (replacing or {}).items():
            assert old in block, f"step {name} says {old!r} no longer"
            block = block.replace(old, new)
        self._type(block, name)

    def shell(self, text: str) -> str:
        """What somebody types besides; what it says. Raises StepFailed."""
        self._type(text, "of our own")
        return self.said

    def _type(self, block: str, name: str) -> None:
        kept = self.folder / "environment"
        script = f"set -eu\n{block}\nset +u\nenv -0 > {kept}"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise StepFailed(f"step {name} of docs/{self.guide.page}:\n{done.stdout}{done.stderr}")
        self.said = done.stdout
        lines = kept.read_text().split("\0")
        self.environment = dict(line.split("=", 1) for line in lines if "=" in line)
