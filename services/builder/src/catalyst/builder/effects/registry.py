"""The registry: is an image there, what does it say about itself, and away with it.

A digest that a build names is believed only after the registry has shown it.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import httpx
import orjson

from catalyst.builder.core.access import Access
from catalyst.builder.core.registry_names import DIGEST
from catalyst.builder.core.tokens import Signer
from catalyst.model.clock import Clock

MANIFESTS: Final = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MAX_DOCUMENT: Final = 4 * 1024 * 1024
_CHALLENGE = re.compile(r'([a-z]+)="([^"]*)"')


class RegistryUnavailable(Exception):
    """No usable answer now: asking again later may help."""


class BadImage(Exception):
    """The registry has something under this digest that is no image we can run."""


@dataclass(frozen=True, slots=True)
class Image:
    """What an image says about itself. `user` None: root."""

    ports: tuple[int, ...]
    user: str | None


class Authority(Protocol):
    """Where builder's own right at the registry comes from."""

    async def header(self, repository: str, actions: tuple[str, ...], challenge: str | None) -> str | None:
        """The Authorization header; `challenge`: what the registry said when it refused the one before."""


class OwnTokens:
    """builder is the realm: it signs for itself."""

    def __init__(self, signer: Signer, clock: Clock) -> None:
        self._signer = signer
        self._clock = clock

    async def header(self, repository: str, actions: tuple[str, ...], challenge: str | None) -> str | None:
        if challenge is not None:
            return None
        token = self._signer.token("builder", [Access(repository, actions)], self._clock(), "builder")
        return f"Bearer {token}"


class GivenCredential:
    """The one credential of an external registry: sent as Basic, or exchanged where the registry's realm wants it."""

    def __init__(self, client: httpx.AsyncClient, username: str, password: str) -> None:
        self._client = client
        self._basic = f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"

    async def header(self, repository: str, actions: tuple[str, ...], challenge: str | None) -> str | None:
        if challenge is None:
            return None
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic":
            return self._basic
        parameters = dict(_CHALLENGE.findall(rest))
        realm = parameters.get("realm", "")
        if scheme.lower() != "bearer" or not realm.startswith(("https://", "http://")):
            raise RegistryUnavailable(f"the registry asks for {scheme or 'nothing'}: expected Basic or Bearer")
        query = {"service": parameters.get("service", ""), "scope": f"repository:{repository}:{','.join(actions)}"}
        answer = await _asked(self._client, "GET", realm, params=query, headers={"authorization": self._basic})
        if answer.status_code != httpx.codes.OK:
            raise RegistryUnavailable(f"the registry's realm answered {answer.status_code}")
        document = answer.json()
        return f"Bearer {document.get('token') or document.get('access_token')}"


class Registry:
    """One registry. `url` with scheme and host."""

    def __init__(self, client: httpx.AsyncClient, url: str, authority: Authority) -> None:
        self._client = client
        self._url = url
        self._authority = authority

    async def image(self, repository: str, digest: str) -> Image | None:
        """What the registry has under this digest; None when it has nothing. Raises RegistryUnavailable, BadImage."""
        manifest = await self._document(f"{repository}/manifests/{digest}", repository, digest)
        if manifest is None:
            return None
        if "manifests" in manifest:  # an index: of the first platform, which is the only one we build
            first = _digest_of(next(iter(manifest["manifests"]), {}))
            manifest = await self._document(f"{repository}/manifests/{first}", repository, first)
        config_digest = _digest_of((manifest or {}).get("config", {}))
        config = await self._document(f"{repository}/blobs/{config_digest}", repository, config_digest)
        if config is None:
            raise BadImage(f"{repository}@{digest}: its configuration is missing")
        return _image(config)

    async def delete(self, repository: str, digest: str) -> None:
        """Take the manifest and its tags away; nothing there is as good. Raises RegistryUnavailable."""
        answer = await self._send("DELETE", f"{repository}/manifests/{digest}", repository, ("delete", "pull"))
        if answer.status_code not in (httpx.codes.ACCEPTED, httpx.codes.NOT_FOUND):
            raise RegistryUnavailable(f"deleting {repository}@{digest} was answered {answer.status_code}")

    async def _document(self, path: str, repository: str, digest: str) -> dict[str, Any] | None:
        answer = await self._send("GET", path, repository, ("pull",))
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if answer.status_code != httpx.codes.OK:
            raise RegistryUnavailable(f"{path} was answered {answer.status_code}")
        if f"sha256:{hashlib.sha256(answer.content).hexdigest()}" != digest:
            raise BadImage(f"{path}: its content has another digest")
        try:
            document = orjson.loads(answer.content)
        except orjson.JSONDecodeError as exc:
            raise BadImage(f"{path}: expected JSON") from exc
        if not isinstance(document, dict):
            raise BadImage(f"{path}: expected a JSON object")
        return document

    async def _send(self, method: str, path: str, repository: str, actions: tuple[str, ...]) -> httpx.Response:
        challenge: str | None = None
        for _ in range(2):
            authorization = await self._authority.header(repository, actions, challenge)
            headers = {"accept": ", ".join(MANIFESTS)} | ({"authorization": authorization} if authorization else {})
            answer = await _asked(self._client, method, f"{self._url}/v2/{path}", headers=headers)
            if answer.status_code != httpx.codes.UNAUTHORIZED or challenge is not None:
                return answer
            challenge = answer.headers.get("www-authenticate", "")
        return answer


async def _asked(client: httpx.AsyncClient, method: str, url: str, **options: Any) -> httpx.Response:
    """With blobs' redirects (to an object store, without our credential) followed, and nothing endless read."""
    try:
        async with client.stream(method, url, follow_redirects=True, **options) as answer:
            body = b""
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > MAX_DOCUMENT:
                    raise BadImage(f"{httpx.URL(url).path}: more than {MAX_DOCUMENT} bytes")
    except httpx.HTTPError as exc:
        raise RegistryUnavailable(f"{httpx.URL(url).host}: {type(exc).__name__} {exc}") from exc
    kept = [(key, value) for key, value in answer.headers.items() if key not in ("content-encoding", "content-length")]
    return httpx.Response(answer.status_code, headers=kept, content=body, request=answer.request)


def _digest_of(descriptor: Mapping[str, Any]) -> str:
    digest = str(descriptor.get("digest", ""))
    if not DIGEST.match(digest):
        raise BadImage(f"digest {digest[:100]!r}: expected sha256")
    return digest


def _image(config: Mapping[str, Any]) -> Image:
    """The image was made by whoever wrote the Dockerfile: nothing in it has to be what it should."""
    inner = config.get("config")
    inner = inner if isinstance(inner, dict) else {}
    exposed = inner.get("ExposedPorts")
    names = [str(name).partition("/") for name in exposed] if isinstance(exposed, dict) else []
    numbers = {int(number) for number, _, protocol in names if number.isdecimal() and protocol in ("", "tcp")}
    user = inner.get("User")
    text = user[:128] if isinstance(user, str) and user.isprintable() else None
    return Image(tuple(sorted(port for port in numbers if 1 <= port <= 65535))[:32], text or None)


def given_credential(path: Path, registry: str) -> tuple[str, str]:
    """Username and password of `registry` in a docker `config.json`. Raises ValueError saying what is wrong."""
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))["auths"][registry]
        encoded = entry.get("auth")
        if encoded is None:
            return str(entry["username"]), str(entry["password"])
        username, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (OSError, KeyError, TypeError, AttributeError, binascii.Error, ValueError) as exc:
        raise ValueError(f"the file {path} holds no login for {registry} ({type(exc).__name__})") from exc
    if not colon or not username:
        raise ValueError(f"the file {path} holds no login for {registry}: expected username:password in auth")
    return username, password


def docker_config(registry: str, username: str, password: str) -> str:
    """A `config.json` that signs in at one registry."""
    auth = base64.b64encode(f"{username}:{password}".encode()).decode()
    return json.dumps({"auths": {registry: {"auth": auth}}})
