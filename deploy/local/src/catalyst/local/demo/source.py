"""The repository whose branch becomes the pull request: a git repository of the demo's own, made from an example or
cloned from yours. Yours is only read. Everything is done by git, as a person would.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from catalyst.local.demo import places
from catalyst.local.demo.places import EXAMPLES, FORGE, FORGE_HOST, FORGE_PORT, PERSON, DemoFailed, Places

MAIN: Final = "main"
_EMPTY_TREE: Final = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
_NOT_SOURCE: Final = shutil.ignore_patterns("project.yaml", "README.md")
_BROKEN: Final = {
    "build": 'RUN echo "make demo-break added this line: it fails on purpose" && exit 1\n',
    "app": 'ENTRYPOINT []\nCMD ["sh", "-c", "echo make demo-break: this program ends at once, on purpose; exit 3"]\n',
}
KINDS: Final = tuple(_BROKEN)
"""Ways to break it."""


@dataclass(frozen=True, slots=True)
class Branch:
    """What there is to push: `base` to MAIN, HEAD to this branch."""

    name: str
    base: str
    title: str


class Source:
    """One repository. Every method raises DemoFailed with git's words."""

    def __init__(self, at: Places, name: str) -> None:
        self.folder = at.source(name)
        self._at = at

    def from_example(self, name: str, repository: str) -> Branch:
        """The example as the first commit of MAIN, and a branch with a change."""
        example = EXAMPLES / name
        if not (example / "project.yaml").is_file():
            known = ", ".join(examples())
            raise DemoFailed(f"EXAMPLE={name}: there is no such example; expected one of {known}")
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(example, self.folder, ignore=_NOT_SOURCE)
        self.git("init", "--quiet", f"--initial-branch={MAIN}")
        self._configure(repository)
        base = self.commit(f"Begin {name}")
        self.git("switch", "--quiet", "--create", "greeting")
        self.change()
        self.commit("Greet people better")
        return Branch("greeting", base, "Greet people better")

    def from_own(self, own: Path, repository: str) -> Branch:
        """A clone of somebody's repository; its current branch is what the pull request brings."""
        branch = self.branch_of(own)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self._git(
            self.folder.parent, "clone", "--quiet", "--no-hardlinks", f"--branch={branch}", str(own), str(self.folder)
        )
        self.git("remote", "rename", "origin", "own")
        self._configure(repository)
        title = self.git("log", "-1", "--format=%s") or branch
        return Branch(branch if branch != MAIN else f"{MAIN}-as-a-change", self._base(branch), title)

    def branch_of(self, own: Path) -> str:
        """The branch that is checked out there."""
        if not own.is_dir():
            raise DemoFailed(f"REPO={own}: expected the folder of a git repository")
        branch = self._git(own, "branch", "--show-current")
        if not branch or not self._git(own, "log", "-1", "--format=%H", missing=""):
            raise DemoFailed(f"REPO={own}: expected a branch with a commit; check one out")
        return branch

    def follow_own(self, own: Path) -> None:
        """HEAD becomes the commit that is checked out there."""
        self.git("fetch", "--quiet", "own", f"+{self.branch_of(own)}:refs/remotes/own/now")
        self.git("reset", "--quiet", "--hard", "refs/remotes/own/now")

    @property
    def head(self) -> str:
        """The commit that is checked out."""
        return self.git("rev-parse", "HEAD")

    def commit(self, message: str) -> str:
        """Everything; gives the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", f"--message={message}")
        return self.head

    def push(self, *refs: str) -> None:
        """To the forge, as PERSON; `source:branch`. A branch that went another way is replaced."""
        self.git("push", "--quiet", "--force", "origin", *(_whole(ref) for ref in refs))

    def change(self) -> str:
        """One source file, in a way that can be seen; gives its path."""
        path = self._changeable()
        text = path.read_text()
        count = int(found[1]) + 1 if (found := re.search(r"change (\d+) of the demo", text)) else 1
        line = _comment(path, f"change {count} of the demo")
        kept = "".join(each for each in text.splitlines(keepends=True) if "of the demo" not in each)
        path.write_text(f"{kept}{line}")
        return str(path.relative_to(self.folder))

    def spoil(self, kind: str) -> str:
        """Make the build or the program fail; gives the file."""
        path = self._dockerfile()
        path.write_text(f"{path.read_text().rstrip()}\n{_BROKEN[kind]}")
        return str(path.relative_to(self.folder))

    def mend(self, base: str) -> None:
        """The Dockerfile of MAIN's first commit again."""
        self.git("checkout", "--quiet", base, "--", str(self._dockerfile().relative_to(self.folder)))

    def git(self, *words: str) -> str:
        return self._git(self.folder, *words)

    def _changeable(self) -> Path:
        """The program: the first source file, the shallowest before others."""
        found = [
            path
            for ending in ("py", "js", "html", "css")
            for path in sorted(self.folder.rglob(f"*.{ending}"), key=lambda each: (len(each.parts), each))
            if ".git" not in path.parts
        ]
        return found[0] if found else self._dockerfile()

    def _dockerfile(self) -> Path:
        found = sorted(self.folder.rglob("Dockerfile"), key=lambda each: (len(each.parts), each))
        if not found:
            raise DemoFailed(f"{self.folder}: there is no Dockerfile to change")
        return found[0]

    def _base(self, branch: str) -> str:
        """What MAIN is at the forge: the repository's own main branch, else the commit before, else nothing yet."""
        for name in (MAIN, "master"):
            found = self._git(self.folder, "rev-parse", "--verify", "--quiet", f"own/{name}", missing="")
            if found and name != branch and self.git("rev-list", "--count", f"{found}..HEAD") != "0":
                return found
        before = self._git(self.folder, "rev-parse", "--verify", "--quiet", "HEAD~1", missing="")
        return before or self.git("commit-tree", _EMPTY_TREE, "-m", "Nothing yet")

    def _configure(self, repository: str) -> None:
        """So that `git push` works in this folder for people, too."""
        self.git("remote", "add", "origin", f"{FORGE}/{repository}.git")
        for name, value in {
            "user.name": PERSON,
            "user.email": f"{PERSON}@users.noreply.{FORGE_HOST}",
            "credential.helper": f"store --file={self._at.credentials}",
            "http.proxy": "",
        }.items():
            self.git("config", name, value)

    def _git(self, folder: Path, *words: str, missing: str | None = None) -> str:
        """`missing`: what it gives instead of failing."""
        trusted = places.write(self._at.private / "gitconfig", "[safe]\n\tdirectory = *\n", 0o600)
        env = {
            **os.environ, "GIT_CONFIG_GLOBAL": str(trusted), "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0",
            "LC_ALL": "C",
        }  # fmt: skip
        done = subprocess.run(
            ["git", *words], cwd=folder, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        if done.returncode == 0:
            return done.stdout.strip()
        if missing is not None:
            return missing
        raise DemoFailed(f"git {words[0]} failed in {folder}:\n{done.stderr.strip()}")


def examples() -> list[str]:
    """Those there are."""
    return sorted(path.parent.name for path in EXAMPLES.glob("*/project.yaml"))


def name_of(own: Path) -> str:
    """A name for the Project, from the folder's."""
    name = re.sub(r"[^a-z0-9]+", "-", own.resolve().name.lower()).strip("-")[:40].strip("-")
    return name or "mine"


def sign_in(at: Places, token: str) -> None:
    """PERSON's, for git."""
    places.write(at.credentials, f"http://{PERSON}:{token}@{FORGE_HOST}:{FORGE_PORT}\n", 0o600)


def _whole(ref: str) -> str:
    source, _, branch = ref.partition(":")
    return f"{source}:refs/heads/{branch}"


def _comment(path: Path, text: str) -> str:
    forms = {".js": "// {}\n", ".html": "<!-- {} -->\n", ".css": "/* {} */\n"}
    return forms.get(path.suffix, "# {}\n").format(text)
