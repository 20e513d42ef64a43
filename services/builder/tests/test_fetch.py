"""The fetching container's script, run by a real `sh` with real git against a real git server over HTTP."""

import base64
import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import pytest

SCRIPT = files("catalyst.builder.core").joinpath("fetch.sh").read_text(encoding="utf-8")
TOKEN = "ghs_canary0123456789canary"


@dataclass
class Forge:
    """git http-backend behind a little server that demands a password, redirects, and notes every Authorization."""

    root: Path
    port: int = 0
    password: str | None = None
    redirect: str | None = None
    seen: list[tuple[str, str | None]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/acme/shop.git"


def handler(forge: Forge) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.serve()

        def do_POST(self) -> None:
            self.serve()

        def serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            authorization = self.headers.get("authorization")
            forge.seen.append((self.path, authorization))
            if forge.redirect is not None:
                self.send_response(301)
                self.send_header("location", forge.redirect + self.path)
                self.end_headers()
                return
            if forge.password is not None:
                wanted = f"Basic {base64.b64encode(f'x-access-token:{forge.password}'.encode()).decode()}"
                if authorization != wanted:
                    self.send_response(401)
                    self.send_header("www-authenticate", 'Basic realm="forge"')
                    self.end_headers()
                    return
            self.backend(body)

        def backend(self, body: bytes) -> None:
            path, _, query = self.path.partition("?")
            environment = {
                **os.environ,
                "GIT_PROJECT_ROOT": str(forge.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("content-type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("content-encoding", ""),
                "GIT_PROTOCOL": self.headers.get("git-protocol", ""),
            }
            done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True)
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
            self.send_response(int(fields.pop("Status", "200").split()[0]))
            for name, value in fields.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def git(where: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=x", "-c", "user.email=x@x", "-C", where, *words],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def serving(forge: Forge) -> http.server.ThreadingHTTPServer:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(forge))
    forge.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    found = Forge(tmp_path / "forge")
    server = serving(found)
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def work(forge: Forge, tmp_path: Path) -> Path:
    """A working copy, pushed by `push`."""
    bare = forge.root / "acme" / "shop.git"
    bare.mkdir(parents=True)
    git(bare, "init", "--quiet", "--bare", "-b", "main")
    git(bare, "config", "uploadpack.allowAnySHA1InWant", "true")
    folder = tmp_path / "work"
    folder.mkdir()
    git(folder, "init", "--quiet", "-b", "main")
    git(folder, "remote", "add", "origin", str(bare))
    (folder / "Dockerfile").write_text("FROM scratch\n")
    (folder / "apps" / "web").mkdir(parents=True)
    (folder / "apps" / "web" / "main.py").write_text("print(1)\n")
    (folder / "apps" / "api").mkdir()
    (folder / "apps" / "api" / "main.py").write_text("print(2)\n")
    return folder


def push(work: Path, message: str = "x") -> str:
    git(work, "add", "-A")
    git(work, "commit", "--quiet", "--allow-empty", "-m", message)
    git(work, "push", "--quiet", "--force", "origin", "HEAD")
    return git(work, "rev-parse", "HEAD")


@dataclass
class Fetched:
    code: int
    result: str
    log: str
    source: Path
    workspace: Path


def fetch(tmp_path: Path, url: str, commit: str, *, token: str = "", known: str = "", **fields: str) -> Fetched:
    workspace, result, secret = tmp_path / "workspace", tmp_path / "result", tmp_path / "token"
    workspace.mkdir(exist_ok=True)
    workspace.chmod(0o2770)  # as a volume with fsGroup is
    result.write_text("")
    secret.write_text(token)
    environment = {
        "PATH": os.environ["PATH"],
        "SOURCE_URL": url,
        "SOURCE_COMMIT": commit,
        "DOCKERFILE": "Dockerfile",
        "CONTEXT": ".",
        "INPUTS": "inputs",
        "KNOWN": known,
        "TOKEN_FILE": str(secret),
        "WORKSPACE": str(workspace),
        "RESULT": str(result),
        **fields,
    }
    done = subprocess.run(["/bin/sh", "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=60)
    return Fetched(done.returncode, result.read_text(), done.stdout + done.stderr, workspace / "source", workspace)


def test_the_exact_commit_and_nothing_else(forge: Forge, work: Path, tmp_path: Path) -> None:
    first = push(work)
    (work / "later").write_text("later")
    push(work)
    found = fetch(tmp_path, forge.url, first)
    assert (found.code, found.result.split(" ")[0]) == (0, "source"), found.log
    assert (found.source / "Dockerfile").exists()
    assert not (found.source / "later").exists()
    assert not (found.source / ".git").exists()
    modes = {name: (found.source / name).stat().st_mode & 0o7777 for name in ("Dockerfile", "apps", "apps/web/main.py")}
    assert modes == {"Dockerfile": 0o644, "apps": 0o755, "apps/web/main.py": 0o644}, "as every other builder has them"
    assert {each.name for each in found.workspace.iterdir()} == {"source"}


def test_a_ref_that_looks_like_the_commit_is_not_taken(forge: Forge, work: Path, tmp_path: Path) -> None:
    wanted = push(work)
    (work / "evil").write_text("evil")
    evil = push(work)
    bare = forge.root / "acme" / "shop.git"
    for name in (f"refs/heads/{wanted}", f"refs/tags/{wanted}", f"refs/heads/refs/heads/{wanted}"):
        git(bare, "update-ref", name, evil)
    found = fetch(tmp_path, forge.url, wanted)
    assert found.code == 0, found.log
    assert not (found.source / "evil").exists()
    # A commit that exists under a name only, and not as an object, is not there.
    gone = "0123456789" * 4
    git(bare, "update-ref", f"refs/heads/{gone}", evil)
    found = fetch(tmp_path, forge.url, gone)
    assert found.code == 1
    assert found.result.startswith("CommitNotFound: ")


def test_a_private_repository(forge: Forge, work: Path, tmp_path: Path) -> None:
    commit = push(work)
    forge.password = TOKEN
    assert fetch(tmp_path, forge.url, commit, token=TOKEN).code == 0
    for wrong in ("", "another"):
        found = fetch(tmp_path, forge.url, commit, token=wrong)
        assert found.code == 1
        assert found.result.startswith("SourceNotReadable: ")
        assert TOKEN not in found.result + found.log
    leftovers = subprocess.run(["grep", "-rl", TOKEN, tmp_path / "workspace"], capture_output=True, text=True).stdout
    assert leftovers == ""


def test_a_redirect_to_another_host_gets_no_credential(forge: Forge, work: Path, tmp_path: Path) -> None:
    commit = push(work)
    other = Forge(forge.root, password=TOKEN)
    server = serving(other)
    try:
        forge.redirect = f"http://127.0.0.1:{other.port}"
        found = fetch(tmp_path, forge.url, commit, token=TOKEN)
        assert found.code == 1
        assert found.result.startswith("SourceMoved: ")
        assert other.seen == []
    finally:
        server.shutdown()
        server.server_close()


def test_a_submodule_is_never_asked_for(forge: Forge, work: Path, tmp_path: Path) -> None:
    other = Forge(forge.root, password=TOKEN)
    server = serving(other)
    try:
        (work / ".gitmodules").write_text(
            f'[submodule "x"]\n\tpath = x\n\turl = http://127.0.0.1:{other.port}/acme/other.git\n'
        )
        git(work, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},x")
        commit = push(work)
        found = fetch(tmp_path, forge.url, commit, token=TOKEN)
        assert found.code == 0, found.log
        assert other.seen == []
    finally:
        server.shutdown()
        server.server_close()


def test_hooks_and_filters_of_the_repository_do_not_run(forge: Forge, work: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (work / ".gitattributes").write_text("* filter=evil\n")
    (work / ".gitconfig").write_text(f'[filter "evil"]\n\tsmudge = touch {marker}\n')
    (work / "hooks").mkdir()
    hook = work / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {marker}\n")
    hook.chmod(0o755)
    found = fetch(tmp_path, forge.url, push(work))
    assert found.code == 0, found.log
    assert not marker.exists()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"DOCKERFILE": "missing"}, "DockerfileNotFound"),
        ({"DOCKERFILE": "apps"}, "DockerfileNotFound"),
        ({"DOCKERFILE": "link"}, "DockerfileNotFound"),
        ({"DOCKERFILE": "Docker*"}, "DockerfileNotFound"),
        ({"DOCKERFILE": ":(top)Dockerfile"}, "DockerfileNotFound"),
        ({"CONTEXT": "missing"}, "ContextNotFound"),
        ({"CONTEXT": "Dockerfile"}, "ContextNotFound"),
        ({"CONTEXT": "folder"}, "ContextNotFound"),
    ],
)
def test_what_is_missing_is_named(
    forge: Forge, work: Path, tmp_path: Path, fields: dict[str, str], reason: str
) -> None:
    (work / "link").symlink_to("/etc/passwd")
    (work / "folder").symlink_to("/")
    found = fetch(tmp_path, forge.url, push(work), **fields)
    assert found.code == 1
    assert found.result.startswith(f"{reason}: "), found.result
    assert next(iter(fields.values())) in found.result


def test_what_is_unchanged_is_said(forge: Forge, work: Path, tmp_path: Path) -> None:
    """Of two components in one repository, only the one whose folder changed is built again."""
    web = {"CONTEXT": "apps/web"}
    first = fetch(tmp_path, forge.url, push(work), **web).result.removeprefix("source ")
    (work / "apps" / "api" / "main.py").write_text("print(3)\n")
    commit = push(work)
    found = fetch(tmp_path, forge.url, commit, known=f"a.b.c.d {first}", **web)
    assert (found.code, found.result) == (10, f"unchanged {first}")
    assert fetch(tmp_path, forge.url, commit, known=first, CONTEXT="apps/api").code == 0
    assert fetch(tmp_path, forge.url, commit, known=first, **web, INPUTS="others").code == 0
    assert fetch(tmp_path, forge.url, commit, known=first[:-1], **web).code == 0
    (work / "Dockerfile").write_text("FROM debian\n")
    assert fetch(tmp_path, forge.url, push(work), known=first, **web).code == 0


def test_names_with_odd_characters(forge: Forge, work: Path, tmp_path: Path) -> None:
    odd = "a b/$(touch x) `id` 'q' \"d\""
    (work / odd).mkdir(parents=True)
    (work / odd / "Dockerfile").write_text("FROM scratch\n")
    found = fetch(tmp_path, forge.url, push(work), CONTEXT=odd, DOCKERFILE=f"{odd}/Dockerfile")
    assert found.code == 0, found.log
