"""The registry's token realm: who signs in gets a token of minutes for the repositories they may use, and no others.

    GET  /token?service=…&scope=repository:acme/shop/web:pull     Basic, or nobody in particular
    POST /token    grant_type=password&service=…&scope=…&username=…&password=…     (containerd asks so first)

A scope that is not granted is left out of the token: that is how distribution's protocol says no. A login that does
not count is 401, whoever it claims to be, and costs the same.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import parse_qs

import structlog
from opentelemetry import metrics
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from catalyst.builder.core import job as jobs
from catalyst.builder.core.access import ANYBODY, Access, Principal, granted, of_environment, scopes
from catalyst.builder.core.judgement import is_over
from catalyst.builder.core.signing_in import BadLogin, BuildLogin, EnvironmentLogin, Login, basic, login
from catalyst.builder.core.tokens import LIFETIME, BadCredential, Signer
from catalyst.builder.effects.cluster import Cluster
from catalyst.builder.effects.states import Snapshots
from catalyst.events.errors import BusError
from catalyst.kube.errors import KubeError
from catalyst.model.clock import Clock

MAX_BODY: Final = 64 * 1024

log = structlog.get_logger()
given = metrics.get_meter("catalyst.builder").create_counter(
    "catalyst_realm_tokens", description="tokens asked for at the realm, by who asked and what came of it"
)


class Directory(Protocol):
    """Who somebody is."""

    async def principal(self, presented: Login, asked: Sequence[Access]) -> Principal:
        """Raises BadLogin; BusError or KubeError when it cannot be found out now."""


class LiveDirectory:
    """Builds by their Jobs, environments by their last snapshots."""

    def __init__(self, signer: Signer, cluster: Cluster, snapshots: Snapshots, clock: Clock) -> None:
        self._signer = signer
        self._cluster = cluster
        self._snapshots = snapshots
        self._clock = clock

    async def principal(self, presented: Login, asked: Sequence[Access]) -> Principal:
        match presented:
            case BuildLogin(text):
                return await self._build(text)
            case EnvironmentLogin(uid, password):
                return await self._environment(uid, password, asked)

    async def _build(self, text: str) -> Principal:
        try:
            credential = self._signer.read_credential(text, self._clock())
        except BadCredential as exc:
            raise BadLogin(str(exc)) from exc
        found = self._cluster.jobs.store.get(credential.namespace, credential.job)
        if found is None:  # the mirror may be behind
            found = await self._cluster.job(credential.namespace, credential.job)
        if found is None or found["metadata"]["uid"] != credential.uid or not jobs.is_alive(found):
            raise BadLogin("the build is over")
        return Principal(f"build:{credential.namespace}/{credential.job}", credential.rights)

    async def _environment(self, uid: str, password: str, asked: Sequence[Access]) -> Principal:
        """The scope says which project to look in: a password is good for its own environment's project only."""
        digest = hashlib.sha256(password.encode()).hexdigest()
        for team, project in sorted({(name[0], name[1]) for each in asked if len(name := each.name.split("/")) >= 3}):
            for snapshot in await self._snapshots.of_project(team, project):
                if snapshot.uid != uid or is_over(snapshot) or snapshot.pull is None:
                    continue
                if hmac.compare_digest(snapshot.pull.sha256, digest):
                    return of_environment(snapshot)
        raise BadLogin("no living environment with this password in the asked project")


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request, whichever way it came."""

    service: str
    scopes: Sequence[str]
    login: Login | None


class BadRequest(Exception):
    """The request is not what the protocol says; the text says what was expected."""


class Realm:
    """The two doors of the protocol. `public`: patterns of repositories that anybody may pull."""

    def __init__(self, signer: Signer, directory: Directory, clock: Clock, *, public: Sequence[str]) -> None:
        self._signer = signer
        self._directory = directory
        self._clock = clock
        self._public = tuple(public)

    async def get(self, request: Request) -> Response:
        header = request.headers.get("authorization")
        query = request.query_params
        try:
            presented = basic(header) if header else None
        except BadLogin as exc:
            return self._refused(exc)
        return await self._answer(_Asked(query.get("service", ""), query.getlist("scope"), presented))

    async def post(self, request: Request) -> Response:
        try:
            form = await _form(request)
            grant = _one(form, "grant_type")
            if grant != "password":
                raise BadRequest("grant_type: expected password")  # noqa: TRY301 - one place answers
            presented = login(f"{_one(form, 'username')}:{_one(form, 'password')}")
            asked = _Asked(_one(form, "service"), form.get("scope", []), presented)
        except BadLogin as exc:
            return self._refused(exc)
        except BadRequest as exc:
            return JSONResponse({"error": "invalid_request", "error_description": str(exc)}, 400)
        return await self._answer(asked)

    async def _answer(self, asked: _Asked) -> Response:
        if asked.service != self._signer.service:
            text = f"service: expected {self._signer.service}"
            return JSONResponse({"error": "invalid_request", "error_description": text}, 400)
        wanted = scopes(asked.scopes)
        try:
            principal = await self._directory.principal(asked.login, wanted) if asked.login else ANYBODY
        except BadLogin as exc:
            return self._refused(exc)
        except (BusError, KubeError) as exc:
            log.warning("realm cannot tell who asks", error=str(exc))
            return JSONResponse({"error": "temporarily_unavailable"}, 503, {"retry-after": "2"})
        access = granted(principal, wanted, self._public)
        now = self._clock()
        token = self._signer.token(principal.subject, access, now, secrets.token_hex(16))
        given.add(1, {"who": principal.subject.partition(":")[0] or "anybody", "result": "given"})
        body = {
            "token": token,
            "access_token": token,
            "expires_in": int(LIFETIME.total_seconds()),
            "issued_at": f"{now:%Y-%m-%dT%H:%M:%SZ}",
            "scope": " ".join(f"{a.type}:{a.name}:{','.join(a.actions)}" for a in access),
        }
        return JSONResponse(body, headers={"cache-control": "no-store"})

    def _refused(self, error: BadLogin) -> Response:
        given.add(1, {"who": "unknown", "result": "refused"})
        log.info("realm refused a login", reason=str(error))
        headers = {"www-authenticate": 'Basic realm="catalyst"', "cache-control": "no-store"}
        return JSONResponse({"error": "invalid_grant", "error_description": "this login is not known"}, 401, headers)


async def _form(request: Request) -> Mapping[str, list[str]]:
    """Raises BadRequest."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise BadRequest(f"body: expected at most {MAX_BODY} bytes")
    try:
        return parse_qs(body.decode(), strict_parsing=True, max_num_fields=64)
    except ValueError as exc:
        raise BadRequest("body: expected application/x-www-form-urlencoded") from exc


def _one(form: Mapping[str, list[str]], name: str) -> str:
    values = form.get(name, [])
    if len(values) != 1:
        raise BadRequest(f"{name}: expected exactly one")
    return values[0]


def app(realm: Realm) -> Starlette:
    """The HTTP door."""
    return Starlette(
        routes=[Route("/token", realm.get, methods=["GET"]), Route("/token", realm.post, methods=["POST"])]
    )
