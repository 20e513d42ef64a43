"""docs/runbooks and docs/incidents.md, as somebody on call types them: each command of each ```sh block, one by one.

    @runbook("Quota")                                          # this test follows docs/runbooks/Quota.md
    def test_…():
        …                                                      # the thing that the page is about is there
        follow("Quota", terminal, "exceeded quota", TEAM="acme", PROJECT="shop", ENVIRONMENT="pr-42")

A test that bears a page's name and does not follow it fails; tests/contract/test_runbooks.py looks that each page is
borne by exactly one test.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

DOCS: Final = Path(__file__).parents[2] / "docs"
RUNBOOKS: Final = DOCS / "runbooks"
INCIDENTS: Final = DOCS / "incidents.md"
STANDS_FOR: Final = ("TEAM", "PROJECT", "ENVIRONMENT", "COMPONENT", "SERVICE", "INIT", "SECRET", "FILE", "REPOSITORY")
"""Words of the pages that stand for names."""
_BLOCK: Final = re.compile(r"^( *)```sh\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_WORD: Final = re.compile(rf"\b({'|'.join(STANDS_FOR)})\b")
_SAYS_WHAT_IS_UNWELL: Final = re.compile(r"catalyst (why|status) ?")
"""May end with 1: then something is unwell (docs/reference/cli.md)."""

Answers = Sequence[tuple[str, str]]
"""Commands, and what each printed."""

runbook = pytest.mark.runbook
"""Of a test that follows these pages."""


@dataclass(frozen=True)
class Terminal:
    """A shell in one folder with the variables that docs/runbooks/README.md has exported. It has no memory."""

    folder: Path
    environ: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path, keys: Path, *, kubectl: Path | None = None, **environ: str) -> Terminal:
        """With `keys/nkeys`, the folder of seeds, and the programs that the pages name."""
        there = folder / "keys" / "nkeys"
        there.parent.mkdir(exist_ok=True)
        there.unlink(missing_ok=True)
        there.symlink_to(keys)
        path = [str(Path(sys.executable).parent), *([str(kubectl.parent)] if kubectl else []), os.environ["PATH"]]
        own = {"PATH": os.pathsep.join(path), "HOME": str(folder), "USER": "hubot"}
        own["CATALYST_NATS_SEED_FILE"] = "keys/nkeys/oncall.seed"
        return cls(folder, {**own, **environ})

    def types(self, command: str) -> str:
        """What it printed. Raises AssertionError when it failed, with what it said."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=150,
            check=False,
        )
        said = done.stdout
        allowed = (0, 1) if _SAYS_WHAT_IS_UNWELL.match(command) else (0,)
        assert done.returncode in allowed, f"`{command}` ended with {done.returncode}:\n{said}"
        assert "Traceback" not in said, f"`{command}`:\n{said}"
        return said

    def types_all(self, commands: Sequence[str]) -> Answers:
        """One after the other."""
        return [(command, self.types(command)) for command in commands]


_followed: set[str] = set()


def commands(page: str) -> list[str]:
    """What this page of docs/runbooks says to type in a shell."""
    return commands_in((RUNBOOKS / f"{page}.md").read_text(encoding="utf-8"))


def commands_in(text: str) -> list[str]:
    """Those of a page's blocks, in order; a line that ends with a backslash goes on."""
    blocks = [block.replace("\\\n", " ") for _, block in _BLOCK.findall(text)]
    return [" ".join(line.split()) for block in blocks for line in block.splitlines() if line.strip()]


def filled(command: str, names: Mapping[str, str]) -> str:
    """The command about these. Raises AssertionError for a word that stands for something and has no name."""
    missing = {word for word in _WORD.findall(command) if word not in names}
    assert not missing, f"`{command}`: nobody says what {', '.join(sorted(missing))} is here"
    return _WORD.sub(lambda found: names[found[1]], command)


def follow(page: str, terminal: Terminal, *shows: str, **names: str) -> str:
    """Types all its commands, in order; what they said. `shows`: what must be among it, as the page promises."""
    typed = commands(page)
    assert typed, f"docs/runbooks/{page}.md has no command in a block ```sh"
    try:
        answers = terminal.types_all([filled(command, names) for command in typed])
    except AssertionError as error:
        raise AssertionError(f"docs/runbooks/{page}.md: {error}") from error
    missing = [text for text in shows if text not in flat(answers)]
    assert missing == [], f"docs/runbooks/{page}.md does not show {missing}:\n{seen(answers)}"
    _followed.add(page)
    return seen(answers)


def seen(answers: Answers) -> str:
    """What stands in the terminal: commands and answers."""
    return "\n".join(f"$ {command}\n{answer}" for command, answer in answers)


def flat(answers: Answers) -> str:
    """The answers alone, in one line: how wide the columns are is no matter."""
    return " ".join(" ".join(answer for _, answer in answers).split())


_WALK: Final = re.compile(
    r"^<!-- walk: (\S+) -->\n(```sh\n.*?^```)$(?:\n\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Told:
    """docs/incidents.md, told in one terminal. `blocks`: mark → what is typed below it, and the answers' shape."""

    terminal: Terminal
    blocks: Mapping[str, tuple[list[str], list[str]]]

    @classmethod
    def at(cls, terminal: Terminal, text: str | None = None) -> Told:
        text = text or INCIDENTS.read_text(encoding="utf-8")
        blocks = {name: (commands_in(block), shape.splitlines()) for name, block, shape in _WALK.findall(text)}
        return cls(terminal, blocks)

    def types(self, name: str, names: Mapping[str, str]) -> str:
        """Each command of the block; what the terminal shows. `names`: what is called otherwise here than in the page.

        Raises AssertionError when a command fails, or the answers have another shape.
        """
        typed, shape = self.blocks[name]
        answers = self.terminal.types_all(_renamed(typed, names))
        rest = flat(answers)
        for line in _renamed(shape, names):
            found = re.search(".*?".join(re.escape(" ".join(part.split())) for part in line.split("…")), rest)
            said = f"docs/incidents.md, {name}: {line!r} is not answered, or not in this order:\n{seen(answers)}"
            assert found, said
            rest = rest[found.end() :]
        return seen(answers)


def _renamed(lines: Sequence[str], names: Mapping[str, str]) -> list[str]:
    known = re.compile("|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)) or "$^")
    return [known.sub(lambda found: names[found[0]], line) for line in lines]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    _followed.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """A test that bears a page and passes without that it, or a fixture made for it, followed it, fails."""
    result = yield
    mark = item.get_closest_marker("runbook")
    if mark and (forgotten := sorted(set(mark.args) - _followed)):
        pytest.fail(f"{item.name} bears the runbook {', '.join(forgotten)} and did not follow it")
    return result
