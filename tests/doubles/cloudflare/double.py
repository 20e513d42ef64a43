"""A double of the part of Cloudflare's API that Catalyst uses: tunnels, their configuration, DNS records.

    async with CloudflareDouble() as cloudflare:
        cloudflare.url, cloudflare.token, cloudflare.state.account, cloudflare.state.zone
        cloudflare.fail(500, method="DELETE", times=3)

Requests are validated (token, its permissions, account, zone, body); what the double lacks is answered 501 and named.
Answers have the envelope and the fields of the API's description: the official SDK takes them with strict validation.
"""

import re
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import orjson
from doubles.cloudflare.state import Json, Refused, State
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from catalyst.service.http import serving

EVERYTHING: Final = frozenset({"tunnel:read", "tunnel:edit", "dns:read", "dns:edit"})
PREFIX: Final = "/client/v4"
MAX_PER_PAGE: Final = 1000

Answer = Callable[["CloudflareDouble", Request, dict[str, str]], Awaitable[Any]]


@dataclass
class Fault:
    """What goes wrong: the next `times` requests that match are answered `status`. `after`: the effect takes place."""

    status: int
    method: str
    path: re.Pattern[str]
    times: int
    after: bool = False


class CloudflareDouble:
    """One Cloudflare. `requests` holds `METHOD path` of everything that was asked."""

    def __init__(self, state: State | None = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.state = state or State()
        self.token = self.mint(EVERYTHING)
        self.requests: list[str] = []
        self._host, self._port = host, port
        self._faults: list[Fault] = []
        self._stack = AsyncExitStack()

    @property
    def url(self) -> str:
        """The base for the SDK."""
        return f"http://{self._host}:{self._port}{PREFIX}"

    def mint(self, permissions: frozenset[str]) -> str:
        """A token that may do this."""
        token = secrets.token_urlsafe(30)
        self.state.tokens[token] = permissions
        return token

    def fail(self, status: int, *, method: str = ".*", path: str = ".*", times: int = 1, after: bool = False) -> None:
        """The next `times` requests whose method and path match err; with `after` they take effect all the same."""
        self._faults.append(Fault(status, method, re.compile(path), times, after))

    def heal(self) -> None:
        """No more faults."""
        self._faults.clear()

    async def __aenter__(self) -> Self:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await self._serve(scope, receive, send)

        self._port = await self._stack.enter_async_context(serving(app, host=self._host, port=self._port))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        self.requests.append(f"{request.method} {request.url.path}")
        fault = next((one for one in self._faults if self._hits(one, request)), None)
        if fault is not None:
            fault.times -= 1
            if fault.after:
                await self._answered(request)
            answer = failure(Refused(fault.status, 10000 + fault.status, "Injected fault"))
        else:
            answer = await self._answered(request)
        await answer(scope, receive, send)

    def _hits(self, fault: Fault, request: Request) -> bool:
        matches = re.fullmatch(fault.method, request.method) and fault.path.search(request.url.path)
        return fault.times > 0 and bool(matches)

    async def _answered(self, request: Request) -> Response:
        try:
            permission, answer, names = _route(request)
            self._admit(request, permission, names)
            return success(await answer(self, request, names))
        except Refused as refused:
            return failure(refused)
        except NotImplementedError as lacking:
            return failure(Refused(501, 1, f"the double lacks: {lacking}"))

    def _admit(self, request: Request, permission: str, names: dict[str, str]) -> None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or token not in self.state.tokens:
            raise Refused(403 if token else 400, 9109, "Invalid access token")
        if permission not in self.state.tokens[token]:
            raise Refused(403, 10000, "Authentication error")
        if names.get("account", self.state.account) != self.state.account:
            raise Refused(403, 10000, "Authentication error")
        if names.get("zone", self.state.zone) != self.state.zone:
            raise Refused(403, 7003, "Could not route to the zone, perhaps your object identifier is invalid?")


def _route(request: Request) -> tuple[str, Answer, dict[str, str]]:
    """What the token must be allowed, who answers, and the names in the path."""
    for method, pattern, permission, answer in ROUTES:
        found = re.fullmatch(PREFIX + pattern, request.url.path)
        if found and method == request.method:
            return permission, answer, found.groupdict()
    raise NotImplementedError(f"{request.method} {request.url.path}")


@dataclass(frozen=True)
class Page:
    """Some of many."""

    items: list[Json]
    page: int
    per_page: int
    total: int


def success(result: Any) -> Response:
    """The envelope of everything that worked."""
    info: Json = {}
    if isinstance(result, Page):
        info = {
            "result_info": {
                "page": result.page,
                "per_page": result.per_page,
                "count": len(result.items),
                "total_count": result.total,
                "total_pages": -(-result.total // result.per_page),
            }
        }
        result = result.items
    return _json({"success": True, "errors": [], "messages": [], "result": result, **info}, 200)


def failure(refused: Refused) -> Response:
    """The envelope of everything that did not."""
    errors = [{"code": refused.code, "message": refused.message}]
    return _json({"success": False, "errors": errors, "messages": [], "result": None}, refused.status)


def _json(body: Json, status: int) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


async def _body(request: Request) -> Json:
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise Refused(415, 9000, "Content-Type must be application/json")
    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError as exc:
        raise Refused(400, 9207, "Content is not JSON") from exc
    if not isinstance(body, dict):
        raise Refused(400, 9207, "Content is not an object")
    return body


def _page(request: Request, items: list[Json], known: set[str]) -> Page:
    if lacking := set(request.query_params) - known - {"page", "per_page"}:
        raise NotImplementedError(f"query parameters {sorted(lacking)}")
    page, per_page = int(request.query_params.get("page", 1)), int(request.query_params.get("per_page", 20))
    if page < 1 or not 1 <= per_page <= MAX_PER_PAGE:
        raise Refused(400, 9207, "page or per_page is out of range")
    return Page(items[(page - 1) * per_page : page * per_page], page, per_page, len(items))


async def list_tunnels(double: CloudflareDouble, request: Request, names: dict[str, str]) -> Page:
    query, found = request.query_params, list(double.state.tunnels.values())
    if "name" in query:
        found = [tunnel for tunnel in found if tunnel["name"] == query["name"]]
    if "is_deleted" in query:
        found = [tunnel for tunnel in found if bool(tunnel["deleted_at"]) == (query["is_deleted"] == "true")]
    return _page(request, found, {"name", "is_deleted"})


async def create_tunnel(double: CloudflareDouble, request: Request, names: dict[str, str]) -> Json:
    return double.state.create_tunnel(await _body(request))


async def get_tunnel(double: CloudflareDouble, request: Request, names: dict[str, str]) -> Json:
    return double.state.tunnel(names["tunnel"])


async def delete_tunnel(double: CloudflareDouble, request: Request, names: dict[str, str]) -> Json:
    return double.state.delete_tunnel(names["tunnel"])


async def tunnel_token(double: CloudflareDouble, request: Request, names: dict[str, str]) -> str:
    return double.state.token(names["tunnel"])


async def get_configuration(double: CloudflareDouble, request: Request, names: dict[str, str]) -> Json:
    return double.state.configuration(names["tunnel"])


async def put_configuration(double: CloudflareDouble, request: Request, names: dict[str, str]) -> Json:
    return double.state.configure(names["tunnel"], await _body(request))


async def list_records(double: CloudflareDouble, request: Request, names: dict[str, str]) -> Page:
    query, found = request.query_params, list(double.state.records.values())
    filters: dict[str, Callable[[str, str], bool]] = {
        "name": lambda name, text: name == text,
        "name.exact": lambda name, text: name == text,
        "name.endswith": lambda name, text: name.endswith(text),
        "name.startswith": lambda name, text: name.startswith(text),
        "name.contains": lambda name, text: text in name,
    }
    for key, holds in filters.items():
        if key in query:
            found = [record for record in found if holds(record["name"], query[key].lower())]
    if "type" in query:
        found = [record for record in found if record["type"] == query["type"]]
    return _page(request, found, {*filters, "type"})


async def create_record(double: CloudflareDouble, request: Request, names: dict[str, str]) -> Json:
    return double.state.create_record(await _body(request))


async def get_record(double: CloudflareDouble, request: Request, names: dict[str, str]) -> Json:
    return double.state.record(names["record"])


async def edit_record(double: CloudflareDouble, request: Request, names: dict[str, str]) -> Json:
    return double.state.edit_record(names["record"], await _body(request))


async def delete_record(double: CloudflareDouble, request: Request, names: dict[str, str]) -> Json:
    return double.state.delete_record(names["record"])


_TUNNELS: Final = r"/accounts/(?P<account>[^/]+)/cfd_tunnel"
_TUNNEL: Final = _TUNNELS + r"/(?P<tunnel>[^/]+)"
_RECORDS: Final = r"/zones/(?P<zone>[^/]+)/dns_records"
_RECORD: Final = _RECORDS + r"/(?P<record>[^/]+)"

ROUTES: Final[tuple[tuple[str, str, str, Answer], ...]] = (
    ("GET", _TUNNELS, "tunnel:read", list_tunnels),
    ("POST", _TUNNELS, "tunnel:edit", create_tunnel),
    ("GET", _TUNNEL, "tunnel:read", get_tunnel),
    ("DELETE", _TUNNEL, "tunnel:edit", delete_tunnel),
    ("GET", _TUNNEL + "/token", "tunnel:edit", tunnel_token),
    ("GET", _TUNNEL + "/configurations", "tunnel:read", get_configuration),
    ("PUT", _TUNNEL + "/configurations", "tunnel:edit", put_configuration),
    ("GET", _RECORDS, "dns:read", list_records),
    ("POST", _RECORDS, "dns:edit", create_record),
    ("GET", _RECORD, "dns:read", get_record),
    ("PATCH", _RECORD, "dns:edit", edit_record),
    ("DELETE", _RECORD, "dns:edit", delete_record),
)
"""Method, path, what the token must be allowed, who answers. PUT of a record is left out: Catalyst does not use it."""
