"""The demo's pieces without a cluster: git, the table, the way, GitHub's double as a process."""

import asyncio
import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from catalyst.local import certs
from catalyst.local.demo import forward, places, source
from catalyst.local.demo.forge import MARK, Comment
from catalyst.local.demo.places import DemoFailed, Places, Story
from catalyst.local.demo.source import MAIN, Source
from catalyst.local.demo.stages import Stages
from catalyst.local.demo.visitor import Steady, Visitor
from catalyst.local.process import Part, free_ports
from catalyst.local.supervisor import ROOT
from catalyst.model.clock import utc_now

DOCKERFILE = "FROM python:3-slim\nCOPY . .\n"


def git(folder: Path, *words: str) -> str:
    person = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    return subprocess.run(["git", *person, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def at(tmp_path: Path) -> Places:
    made = Places(tmp_path / "demo")
    made.make()
    return made


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Somebody's repository, on a branch with one commit more than its main branch."""
    folder = tmp_path / "My Shop"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=master")
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "app.py").write_text("print(1)\n")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=First")
    git(folder, "switch", "--quiet", "--create", "feature/x")
    (folder / "app.py").write_text("print(2)\n")
    git(folder, "commit", "--quiet", "--all", "--message=Second")
    return folder


# The repository


def test_the_current_branch_of_ones_own_repository_is_brought(at: Places, own: Path) -> None:
    there = Source(at, source.name_of(own))
    branch = there.from_own(own, "acme/my-shop")
    assert (branch.name, branch.title) == ("feature/x", "Second")
    assert branch.base == git(own, "rev-parse", "master").strip()
    assert there.head == git(own, "rev-parse", "HEAD").strip()


def test_on_the_main_branch_the_last_commit_is_brought(at: Places, own: Path) -> None:
    git(own, "branch", "--quiet", "--delete", "--force", "master")
    git(own, "branch", "--move", MAIN)
    branch = Source(at, "mine").from_own(own, "acme/mine")
    assert (branch.name, branch.base) == (f"{MAIN}-as-a-change", git(own, "rev-parse", "HEAD~1").strip())


def test_a_single_commit_is_brought_to_nothing(at: Places, own: Path) -> None:
    git(own, "switch", "--quiet", "master")
    git(own, "branch", "--quiet", "--delete", "--force", "feature/x")
    there = Source(at, "mine")
    branch = there.from_own(own, "acme/mine")
    assert there.git("ls-tree", branch.base) == ""


@pytest.mark.parametrize("what", ["nowhere", "detached", "no repository"])
def test_what_is_no_branch_of_a_repository_is_refused(at: Places, own: Path, tmp_path: Path, what: str) -> None:
    git(own, "switch", "--quiet", "--detach")
    (tmp_path / "plain").mkdir()
    folder = {"nowhere": tmp_path / "nowhere", "detached": own, "no repository": tmp_path / "plain"}[what]
    with pytest.raises(DemoFailed):
        Source(at, "mine").from_own(folder, "acme/mine")


def test_a_change_is_one_line_and_a_broken_dockerfile_is_mended(at: Places, own: Path) -> None:
    there = Source(at, "mine")
    base = there.from_own(own, "acme/mine").base
    assert there.change() == there.change() == "app.py"
    assert (there.folder / "app.py").read_text() == "print(2)\n# change 2 of the demo\n"
    assert there.spoil("build") == "Dockerfile"
    assert "exit 1" in (there.folder / "Dockerfile").read_text()
    there.commit("Break it")
    there.mend(base)
    assert (there.folder / "Dockerfile").read_text() == DOCKERFILE
    there.follow_own(own)
    assert there.head == git(own, "rev-parse", "HEAD").strip()
    assert git(own, "status", "--porcelain") == ""


@pytest.mark.parametrize(("folder", "name"), [("My Shop", "my-shop"), ("a--b", "a-b"), ("…", "mine")])
def test_a_project_is_named_after_the_folder(folder: str, name: str) -> None:
    assert source.name_of(Path("/x") / folder) == name


# Files


def test_a_story_is_found_again_until_it_is_forgotten(at: Places) -> None:
    story = Story("shop", "acme/shop", "x", "0" * 40, 1, "shop")
    assert at.story() is None
    at.write_story(story)
    assert at.story() == at.story("shop") == story
    at.forget()
    assert at.story() is None


def test_private_files_are_private(at: Places) -> None:
    source.sign_in(at, "ghp_x")
    assert at.credentials.stat().st_mode & 0o777 == 0o600
    assert at.private.stat().st_mode & 0o777 == 0o700


# The table


def test_stages_are_plain_lines_where_there_is_no_terminal(tmp_path: Path) -> None:
    console = Console(file=(tmp_path / "out").open("w"), soft_wrap=True)
    log = tmp_path / "told.log"
    with Stages("a title", console, log=log) as stages:
        with stages.stage("One") as row:
            print("built\nsomething", file=stages.out)
            row.says("all of it")
        stages.passed("Two", began=time.time() - 2, ended=time.time(), said="by hand")
        with pytest.raises(DemoFailed), stages.stage("Three"):
            raise DemoFailed("no")
    console.file.close()
    lines = (tmp_path / "out").read_text().splitlines()
    begins = ("a title", "▸ One", "    built", "    something", "✓ One", "✓ Two", "▸ Three", "✗ Three")
    assert all(line.startswith(begin) for line, begin in zip(lines, begins, strict=True)), lines
    assert "all of it" in lines[4]
    assert "2.0 s" in lines[5]
    assert "built" in log.read_text()


def test_a_live_table_shows_what_runs_last() -> None:
    console = Console(width=100)
    stages = Stages("t", console, live=True)
    with stages.stage("Running"):
        stages.passed("Passed", began=0, ended=1)
        with console.capture() as shown:
            console.print(stages)
    assert shown.get().index("Passed") < shown.get().index("Running")


def test_a_comments_first_line() -> None:
    comment = Comment(1, f"{MARK}\n\n### 🟢 Environment ready\n\nmore", utc_now())
    assert (comment.title(), comment.first_line()) == ("### 🟢 Environment ready", "🟢 Environment ready")


# The way


async def test_the_way_leads_where_the_file_says_now(tmp_path: Path) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.read()
        writer.write(b"you said " + asked)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    target = "{}:{}".format(*server.sockets[0].getsockname())
    (port,) = free_ports(1)
    way, stop = tmp_path / "way.json", asyncio.Event()
    serving = asyncio.create_task(forward.serve(way, [f"127.0.0.1:{port}"], stop))
    await asyncio.sleep(0.1)

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello")
        writer.write_eof()
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()
            with contextlib.suppress(ConnectionResetError):
                await writer.wait_closed()

    try:
        assert await ask() == b""
        way.write_text(json.dumps({f"127.0.0.1:{port}": target}))
        assert await ask() == b"you said hello"
        with pytest.raises(OSError, match="something else has that port"):
            await forward.serve(way, [f"127.0.0.1:{port}"], stop)
    finally:
        stop.set()
        await serving
        server.close()
        await server.wait_closed()


# GitHub's double as a process


@pytest.fixture
def double(at: Places) -> Iterator[Part]:
    (port,) = free_ports(1)
    one = {"empty": True, "collaborators": {"lisa": "read"}}
    places.write(at.setup, json.dumps({"repositories": {"acme/one": one}, "installations": ["acme"]}))
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "doubles.github",
        "--folder",
        at.github,
        "--setup",
        at.setup,
        "--port",
        str(port),
    ]
    command += ["--app-key", at.app_key]
    part = Part("double", command, at.folder / "github.log", env={"PYTHONPATH": str(ROOT / "tests"), "PORT": str(port)})
    part.start()
    part.wait_until(at.people.exists, within=30)
    yield part
    part.stop()


def test_the_double_makes_what_is_new_in_its_setup(at: Places, double: Part) -> None:
    key = at.app_key.read_text()
    setup = json.loads(at.setup.read_text())
    setup["repositories"]["acme/two"] = {"empty": True, "private": True, "collaborators": {"mona": "write"}}
    places.write(at.setup, json.dumps(setup))
    assert double.pid is not None
    os.kill(double.pid, signal.SIGHUP)
    double.wait_until(lambda: "mona" in at.people.read_text(), within=10)
    token = json.loads(at.people.read_text())["mona"]
    base = f"http://127.0.0.1:{double.env['PORT']}/api/v3"
    for name in ("one", "two"):
        answer = httpx.get(f"{base}/repos/acme/{name}", headers={"authorization": f"Bearer {token}"}, trust_env=False)
        assert answer.status_code == 200
    assert (at.github / "app.pem").read_text() == key == at.app_key.read_text()


# Those who ask for the URL again and again


class Served:
    """A site with TLS: 502 at /bad, else 200; `connections`: how many requests came by each."""

    def __init__(self, folder: Path) -> None:
        self.connections: Counter[int] = Counter()
        authority = certs.Authority.new()
        (folder / "ca.crt").write_bytes(authority.certificate)
        self.authority = folder / "ca.crt"
        files = authority.server("site", dns=["site.catalyst.localhost"], ips=[]).write(folder, "site")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever).start()

    @property
    def visitor(self) -> Visitor:
        port = self._server.server_address[1]
        return Visitor(f"https://site.catalyst.localhost:{port}/", self.authority)

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        connections = self.connections

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                connections[self.client_address[1]] += 1
                status, body = (502, b"<style>p {}</style><p>api is\n away</p>") if self.path == "/bad" else (200, b"")
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        return Handler


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    try:
        yield made
    finally:
        made.end()


def test_steady_visitors_keep_every_other_connection(site: Served) -> None:
    with Steady(site.visitor, rate=40, connections=4) as steady:
        time.sleep(1.2)
    counted = steady.counted
    assert counted.failed == 0, str(counted)
    assert counted.requests == sum(site.connections.values())
    assert 20 < counted.rate < 45
    kept = [count for count in site.connections.values() if count > 1]
    assert len(kept) == 2
    assert abs(sum(kept) - counted.requests / 2) <= 3, "half of the requests come by the two that are kept"


def test_a_steady_visitor_says_what_went_wrong(site: Served) -> None:
    with Steady(site.visitor, rate=40, path="/bad") as steady:
        time.sleep(0.3)
    assert set(steady.counted.failures) == {"status 502: api is away"}
    assert steady.counted.failed == steady.counted.requests
    visitor = site.visitor
    site.end()
    with Steady(visitor, rate=40) as steady:
        time.sleep(0.3)
    assert steady.counted.failed == steady.counted.requests > 0
    assert "Connect" in next(iter(steady.counted.failures))
