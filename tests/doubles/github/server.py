"""The double's door: API requests, git, and pages.

An API request goes through: fault → who asks → limits → what is asked → may they → is it as described → do it → is the
answer as described → ETag. What the double lacks is answered 501.
"""

import asyncio
import contextlib
import hashlib
import re
import secrets
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

import orjson
from doubles.github import page
from doubles.github.api import HANDLERS, Answer, Ask
from doubles.github.description import Operation
from doubles.github.githttp import GitHttp, GitRequest, challenge
from doubles.github.problem import Problem
from doubles.github.signin import Anonymous, AsInstallation, AsUser, SignIn, require
from doubles.github.state import Repository, User
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from doubles.github.double import GitHubDouble

VERSIONS: Final = frozenset(("2022-11-28", "2026-03-10"))
ACCEPTED: Final = frozenset(
    ("*/*", "application/json", "application/vnd.github+json", "application/vnd.github.v3+json")
)
GIT: Final = re.compile(
    r"/(?P<owner>[^/]+)/(?P<repo>[^/]+?)(?:\.git)?(?P<path>/info/refs|/git-upload-pack|/git-receive-pack)"
)


def app(github: "GitHubDouble") -> Starlette:
    """Everything that it answers."""
    api, git = _Api(github), _Git(github)

    async def conversation(request: Request) -> Response:
        with github.lock:
            repository = github.state.repository(f"{request.path_params['owner']}/{request.path_params['repo']}")
            pull = repository.pulls.get(request.path_params["number"]) if repository else None
            return page.pull_request(pull) if pull else page.missing()

    async def index(_request: Request) -> Response:
        with github.lock:
            return page.index(github.state)

    async def other(request: Request) -> Response:
        if GIT.fullmatch(request.url.path):
            return await git(request)
        return page.missing()

    return Starlette(
        routes=[
            Route("/api/v3/{path:path}", api, methods=["GET", "POST", "PATCH", "PUT", "DELETE"]),
            Route("/", index),
            Route("/{owner}/{repo}/pull/{number:int}", conversation),
            Route("/{path:path}", other, methods=["GET", "POST"]),
        ]
    )


class _Api:
    def __init__(self, github: "GitHubDouble") -> None:
        self._github = github

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        await (await self._answer(request))(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        github = self._github
        path = request.url.path.removeprefix("/api/v3")
        body = await request.body()
        if fault := github.fault_for(request.method, path):
            await asyncio.sleep(fault.delay)
            if fault.status is None:
                github.requests.append((request.method, path, 0))
                return StreamingResponse(_broken(), headers={"content-length": "1000"})
            if fault.status:
                github.requests.append((request.method, path, fault.status))
                return _json(fault.status, fault.body, fault.headers)
        with github.lock:
            response = self._respond(request, path, body)
        github.requests.append((request.method, path, response.status_code))
        return response

    def _respond(self, request: Request, path: str, body: bytes) -> Response:
        github, now = self._github, self._github.clock()
        signin: SignIn = Anonymous()
        headers: dict[str, str] = {"x-github-request-id": secrets.token_hex(8)}
        operation: Operation | None = None
        try:
            signin = github.signins.of(request.headers.get("authorization"), now)
            github.limits.spend(signin.key, now, writes=request.method != "GET")
            ask = self._asked(request, path, body, signin)
            operation = ask.operation
            answer = self._done(ask)
        except Problem as problem:
            answer = Answer(problem.status, problem.body(), problem.headers)
        answer.headers = {**headers, **github.limits.headers(signin.key, now), **answer.headers}
        if operation is not None:
            wrong = github.description.wrong_answer(operation, answer.status, answer.body)
            if wrong:
                github.defects.append(f"answer of {operation.id} {answer.status}: {wrong.field}: {wrong.message}")
                return _json(500, {"message": github.defects[-1]}, headers)
        return self._conditional(request, signin, answer)

    def _asked(self, request: Request, path: str, body: bytes, signin: SignIn) -> Ask:
        """Which operation, and that the request is well formed."""
        if not request.headers.get("user-agent"):
            raise Problem(
                403, "Request forbidden by administrative rules. Please make sure your request has a User-Agent header."
            )
        if request.headers.get("accept", "*/*") not in ACCEPTED:
            raise Problem(415, f"Unsupported 'Accept' header: {request.headers['accept']!r}.")
        version = request.headers.get("x-github-api-version", "2022-11-28")
        if version not in VERSIONS:
            raise Problem(400, f"{version} is not a supported API version")
        found = self._github.description.operation(request.method, path)
        if found is None:
            raise Problem(501, f"this double of GitHub lacks {request.method} {path}")
        operation, parameters = found
        try:
            document = orjson.loads(body) if body else None
        except orjson.JSONDecodeError as exc:
            raise Problem(400, "Problems parsing JSON") from exc
        query = dict(request.query_params)
        return Ask(self._github, operation, signin, parameters, query, document, self._github.now())

    def _done(self, ask: Ask) -> Answer:
        rule = HANDLERS[ask.operation.id]
        rule.check(ask)
        wrong = self._github.description.wrong_request(ask.operation, ask.path, ask.query, ask.body)
        if wrong:
            error = {"resource": ask.operation.id, "field": wrong.field, "code": "invalid", "message": wrong.message}
            raise Problem(422, "Validation Failed", errors=[error])
        return rule.handler(ask)

    def _conditional(self, request: Request, signin: SignIn, answer: Answer) -> Response:
        if request.method != "GET" or answer.status != 200:
            return _json(answer.status, answer.body, answer.headers)
        content = orjson.dumps(answer.body)
        etag = f'W/"{hashlib.sha256(content).hexdigest()}"'
        headers = {**answer.headers, "etag": etag, "cache-control": "private, max-age=60, s-maxage=60"}
        if etag in request.headers.get("if-none-match", ""):
            if not isinstance(signin, Anonymous):
                self._github.limits.give_back(signin.key, self._github.clock())
            return Response(status_code=304, headers=headers)
        return Response(content, 200, headers, "application/json; charset=utf-8")


class _Git:
    def __init__(self, github: "GitHubDouble") -> None:
        self._github = github
        self._http = GitHttp(github.pushed)

    async def __call__(self, request: Request) -> Response:
        found = GIT.fullmatch(request.url.path)
        assert found is not None
        service = request.query_params.get("service", "") if found["path"] == "/info/refs" else found["path"][1:]
        with self._github.lock:
            repository = self._github.state.repository(f"{found['owner']}/{found['repo']}")
            try:
                signin = self._github.signins.of(request.headers.get("authorization"), self._github.clock())
                asked = _git_request(repository, found["path"], service, signin)
            except Problem as problem:
                # Whoever did not sign in may have a credential: git asks for it only when told so.
                if isinstance(request.headers.get("authorization"), str) and problem.status != 401:
                    return Response(problem.message, problem.status, media_type="text/plain")
                return challenge()
        return await self._http.answer(request, asked, _pusher(self._github, signin))


def _git_request(repository: Repository | None, path: str, service: str, signin: SignIn) -> GitRequest:
    if repository is None or service not in ("git-upload-pack", "git-receive-pack"):
        raise Problem(404, "Repository not found.")
    asked = GitRequest(repository, path, service)
    require(signin, repository, {"contents": "write" if asked.writes else "read"})
    return asked


def _pusher(github: "GitHubDouble", signin: SignIn) -> User | None:
    match signin:
        case AsUser(user=user):
            return user
        case AsInstallation():
            return github.app.bot
        case _:
            return None


def _json(status: int, body: Any, headers: Any) -> Response:
    if body is None:
        return Response(status_code=status, headers=dict(headers))
    return Response(orjson.dumps(body), status, dict(headers), "application/json; charset=utf-8")


async def _broken() -> AsyncIterator[bytes]:
    """A body that ends too early: the connection is closed."""
    with contextlib.suppress(GeneratorExit):
        yield b"{"
