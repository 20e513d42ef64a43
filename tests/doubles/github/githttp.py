"""Git over smart HTTP by git's own `http-backend`: clone, fetch, push. Who pushed what is told afterwards."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from doubles.github.git import environment
from doubles.github.state import Repository, User
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

PIECE = 64 * 1024

Refs = dict[str, str]
Pushed = Callable[[Repository, User, Refs, Refs], None]


@dataclass(frozen=True)
class GitRequest:
    """What is asked of a repository. `service` is upload-pack (read) or receive-pack (write)."""

    repository: Repository
    path: str
    service: str

    @property
    def writes(self) -> bool:
        return self.service == "git-receive-pack"


class GitHttp:
    """Runs one process for each request; pushes to one repository come one after the other."""

    def __init__(self, pushed: Pushed) -> None:
        self._pushed = pushed
        self._pushing: dict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def answer(self, request: Request, asked: GitRequest, user: User | None) -> Response:
        """`user` pushes; None only reads."""
        if not (asked.writes and request.method == "POST"):
            process, feeding = await _started(request, asked, user)
            status, headers = await _head(process)
            return StreamingResponse(_pieces(process, feeding), status_code=status, headers=headers)
        if user is None:
            raise RuntimeError("nobody pushes")
        async with self._pushing[asked.repository.id]:
            before = asked.repository.git.refs()
            process, feeding = await _started(request, asked, user)
            status, headers = await _head(process)
            body = b"".join([piece async for piece in _pieces(process, feeding)])
            self._pushed(asked.repository, user, before, asked.repository.git.refs())
        return Response(body, status, headers)


async def _started(
    request: Request, asked: GitRequest, user: User | None
) -> tuple[asyncio.subprocess.Process, asyncio.Task[None]]:
    process = await asyncio.create_subprocess_exec(
        "git",
        "http-backend",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=_cgi(request, asked, user),
    )
    return process, asyncio.create_task(_feed(process, request))


async def _pieces(process: asyncio.subprocess.Process, feeding: asyncio.Task[None]) -> AsyncIterator[bytes]:
    assert process.stdout is not None
    try:
        while piece := await process.stdout.read(PIECE):
            yield piece
    finally:
        if process.returncode is None and not process.stdout.at_eof():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        feeding.cancel()
        await asyncio.gather(feeding, process.wait(), return_exceptions=True)


def challenge() -> Response:
    """Git asks its user, or its helper, after this."""
    return PlainTextResponse("Authentication required\n", 401, {"www-authenticate": 'Basic realm="GitHub"'})


def _cgi(request: Request, asked: GitRequest, user: User | None) -> dict[str, str]:
    git = asked.repository.git.path
    given = {
        **environment(),
        "GIT_PROJECT_ROOT": str(git),
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": asked.path,
        "REQUEST_METHOD": request.method,
        "QUERY_STRING": request.url.query,
        "CONTENT_TYPE": request.headers.get("content-type", ""),
        "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
        "GIT_PROTOCOL": request.headers.get("git-protocol", ""),
        "REMOTE_ADDR": request.client.host if request.client else "",
    }
    if user is not None:
        given["REMOTE_USER"] = user.login
    if length := request.headers.get("content-length"):
        given["CONTENT_LENGTH"] = length
    return given


async def _feed(process: asyncio.subprocess.Process, request: Request) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        async for piece in request.stream():
            process.stdin.write(piece)
            await process.stdin.drain()
        process.stdin.close()
        await process.stdin.wait_closed()


async def _head(process: asyncio.subprocess.Process) -> tuple[int, dict[str, str]]:
    """What a CGI program says before its body."""
    assert process.stdout is not None
    status, headers = 200, {}
    while line := (await process.stdout.readline()).decode().strip():
        name, _, value = line.partition(":")
        if name.lower() == "status":
            status = int(value.split()[0])
        else:
            headers[name.lower()] = value.strip()
    return status, headers
