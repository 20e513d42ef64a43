"""Bare repositories on disk, by git itself: what the double knows of commits, it asks git."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

ZERO: Final = "0" * 40
_CONFIG: Final = {
    "http.receivepack": "true",
    "http.getanyfile": "false",
    "uploadpack.allowAnySHA1InWant": "true",  # as GitHub does: any commit can be fetched by its name
    "uploadpack.allowFilter": "true",
    "receive.hideRefs": "refs/pull",
    "receive.denyDeleteCurrent": "ignore",
    "gc.auto": "0",
}


class GitFailed(Exception):
    """git did not do it; the message is git's."""


@dataclass(frozen=True)
class Commit:
    """What a push tells of a commit."""

    sha: str
    tree: str
    author: str
    email: str
    time: str
    message: str


def environment() -> dict[str, str]:
    """For every git process: nobody's configuration but the repository's own, and never a question."""
    return {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }


class GitRepository:
    """One bare repository."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self, default_branch: str) -> None:
        """Make it, empty."""
        self.path.mkdir(parents=True)
        self._git("init", "--quiet", "--bare", f"--initial-branch={default_branch}")
        for name, value in _CONFIG.items():
            self._git("config", name, value)

    def refs(self) -> dict[str, str]:
        """Ref → object, of all branches and tags."""
        told = self._git("for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/tags")
        return dict(line.split(" ", 1) for line in told.splitlines())

    def branch(self, name: str) -> str | None:
        """The commit that a branch is at."""
        return self.refs().get(f"refs/heads/{name}")

    def resolve(self, name: str) -> str | None:
        """The commit of a branch, a tag or a full SHA."""
        refs = self.refs()
        for ref in (f"refs/heads/{name}", f"refs/tags/{name}"):
            if ref in refs:
                return refs[ref]
        if len(name) == len(ZERO) and self._does("cat-file", "-e", f"{name}^{{commit}}"):
            return name
        return None

    def tree_of(self, commit: str) -> str | None:
        """The id of a commit's root folder; None when there is no such commit."""
        if not self._does("cat-file", "-e", f"{commit}^{{commit}}"):
            return None
        return self._git("rev-parse", f"{commit}^{{tree}}").strip()

    def tree(self, tree: str) -> list[tuple[str, str, str, str]] | None:
        """(mode, type, id, name) of what a folder holds; None when there is no such folder."""
        if not self._does("cat-file", "-e", f"{tree}^{{tree}}"):
            return None
        found = []
        for line in filter(None, self._git("ls-tree", "-z", tree).split("\0")):
            head, _, name = line.partition("\t")
            mode, kind, id_ = head.split(" ")
            found.append((mode, kind, id_, name))
        return found

    def parents(self, commit: str) -> list[str]:
        """The commits before it."""
        return self._git("rev-list", "--parents", "--max-count=1", commit).split()[1:]

    def point(self, ref: str, sha: str) -> None:
        """Move a ref."""
        self._git("update-ref", ref, sha)

    def delete(self, ref: str) -> None:
        """Remove a ref."""
        self._git("update-ref", "-d", ref)

    def fetch(self, other: "GitRepository", sha: str, ref: str) -> None:
        """Bring a commit here from another repository, under `ref`."""
        if other.path == self.path:
            self.point(ref, sha)
        else:
            self._git("fetch", "--quiet", "--no-tags", str(other.path), f"+{sha}:{ref}")

    def commit(
        self, branch: str, files: Mapping[str, str | bytes | None], *, message: str, author: str, time: datetime
    ) -> str:
        """Commit files (None removes one) onto a branch, which begins at nothing when it is new."""
        tip = self.branch(branch)
        person = f"{author} <{author}@users.noreply.github.com> {int(time.timestamp())} +0000"
        stream = [f"commit refs/heads/{branch}\ncommitter {person}\n".encode(), _data(message.encode())]
        if tip:
            stream.append(f"from {tip}\n".encode())
        for path, content in files.items():
            if content is None:
                stream.append(f"D {path}\n".encode())
                continue
            stream.append(f"M 100644 inline {path}\n".encode())
            stream.append(_data(content if isinstance(content, bytes) else content.encode()))
        self._git("fast-import", "--quiet", "--force", standard_input=b"".join(stream))
        made = self.branch(branch)
        if made is None:
            raise GitFailed(f"fast-import made no {branch}")
        return made

    def descends(self, commit: str, ancestor: str) -> bool:
        """Whether `ancestor` is in the history of `commit`."""
        return self._does("merge-base", "--is-ancestor", ancestor, commit)

    def log(self, commits: str, limit: int = 20) -> list[Commit]:
        """The commits of a range, newest first."""
        form = "%H%x00%T%x00%an%x00%ae%x00%cI%x00%B%x01"
        told = self._git("log", f"--max-count={limit}", f"--format={form}", commits)
        return [Commit(*each.lstrip("\n").split("\0")) for each in told.split("\1") if each.strip()]

    def changes(self, base: str, head: str) -> tuple[int, int, int, int]:
        """Additions, deletions, files and commits of `head` since it left `base`."""
        since = f"{base}...{head}" if self._does("merge-base", base, head) else f"{base}..{head}"
        lines = [line.split("\t") for line in self._git("diff", "--numstat", since).splitlines()]
        added, removed = (sum(int(line[at]) for line in lines if line[at] != "-") for at in (0, 1))
        return added, removed, len(lines), int(self._git("rev-list", "--count", f"{base}..{head}"))

    def merge(self, base: str, head: str, *, message: str, author: str, time: datetime) -> str:
        """A merge commit of both. Raises `GitFailed` when they conflict."""
        tree = self._git("merge-tree", "--write-tree", base, head).splitlines()[0]
        when = f"{int(time.timestamp())} +0000"
        who = {"NAME": author, "EMAIL": f"{author}@users.noreply.github.com", "DATE": when}
        person = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()}
        return self._git("commit-tree", tree, "-p", base, "-p", head, "-m", message, extra=person).strip()

    def _does(self, *words: str) -> bool:
        return self._run(words).returncode == 0

    def _git(self, *words: str, standard_input: bytes = b"", extra: Mapping[str, str] | None = None) -> str:
        done = self._run(words, standard_input, extra)
        if done.returncode:
            raise GitFailed(f"git {words[0]}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode(errors="replace")

    def _run(
        self, words: tuple[str, ...], standard_input: bytes = b"", extra: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        command = ["git", f"--git-dir={self.path}", *words]
        given = {**environment(), **(extra or {})}
        return subprocess.run(command, input=standard_input, capture_output=True, env=given, check=False)


def _data(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)
