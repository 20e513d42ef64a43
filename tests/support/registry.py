"""The node's registry, from three sides: as somebody with a login, who asks builder's realm; as its owner, who signs
tokens with the realm's key; and as the folder that it keeps everything in.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import secrets
import tarfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from joserfc import jwt
from joserfc.jwk import ECKey

from catalyst.local.node import layout

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
KINDS: Final = f"{MANIFEST}, application/vnd.docker.distribution.manifest.v2+json"
MOST: Final = 1000
"""Names that the registry lists at once."""
_KIND: Final = "application/vnd.oci.image"
_BASE: Final = f"http://{layout.REGISTRY}/v2"


@dataclass(frozen=True)
class Login:
    """A user's name and password."""

    user: str
    password: str

    @classmethod
    def of(cls, config: str) -> Login:
        """The one for this registry in a docker `config.json`."""
        entry = json.loads(config)["auths"][layout.REGISTRY]
        if "auth" not in entry:
            return cls(entry["username"], entry["password"])
        user, _, password = base64.b64decode(entry["auth"]).decode().rpartition(":")
        return cls(user, password)

    def asks(self, *scopes: str) -> httpx.Response:
        """The realm's answer."""
        query = {"service": layout.REGISTRY, "scope": list(scopes)}
        return httpx.get(layout.REALM_URL, params=query, auth=(self.user, self.password), timeout=10, trust_env=False)

    def token(self, repository: str, actions: str = "pull") -> str:
        """For what the realm grants of it, which may be nothing."""
        return str(self.asks(f"repository:{repository}:{actions}").raise_for_status().json()["token"])


@dataclass(frozen=True)
class Owner:
    """Who has the realm's key."""

    folder: Path

    def token(self, *access: tuple[str, str, str], seconds: float = 300) -> str:
        """`access`: (type, name, actions). Good for so many seconds; negative: it was until then."""
        key = ECKey.import_key((self.folder / "key.pem").read_bytes())
        kid = json.loads((self.folder / "jwks.json").read_text())["keys"][0]["kid"]
        now = int(time.time())
        claims = {
            "iss": layout.REALM_ISSUER,
            "aud": layout.REGISTRY,
            "sub": "owner",
            "jti": secrets.token_hex(8),
            "iat": now - 600,
            "nbf": now - 600,
            "exp": int(now + seconds),
            "access": [{"type": kind, "name": name, "actions": each.split(",")} for kind, name, each in access],
        }
        return jwt.encode({"alg": "ES256", "kid": kid, "typ": "JWT"}, claims, key)

    def tags(self) -> dict[str, dict[str, str]]:
        """Repository → tag → digest, of everything there is."""
        listed = _asked("GET", f"_catalog?n={MOST}", self.token(("registry", "catalog", "*"))).raise_for_status()
        assert "link" not in listed.headers, "there are more"
        return {name: self._tags_of(name) for name in listed.json()["repositories"]}

    def _tags_of(self, name: str) -> dict[str, str]:
        token = self.token(("repository", name, "pull"))
        listed = _asked("GET", f"{name}/tags/list?n={MOST}", token)
        assert "link" not in listed.headers, "there are more"
        found = (listed.json()["tags"] or []) if listed.status_code == httpx.codes.OK else []
        answers = {tag: _asked("HEAD", f"{name}/manifests/{tag}", token) for tag in found}
        return {t: a.headers["docker-content-digest"] for t, a in answers.items() if a.status_code == httpx.codes.OK}

    def push(self, repository: str, tag: str, content: str) -> None:
        """An image whose one layer has a file with this content."""
        token = self.token(("repository", repository, "pull,push"))
        assert push(repository, tag, content, token) == httpx.codes.CREATED


def push(repository: str, tag: str, content: str, token: str) -> int:
    """An image of one small file. The status of the last request: 201, or the first that was refused."""
    layer = _layer(content)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [_digest(gzip.decompress(layer))]},
    }
    described = []
    for kind, blob in (("config.v1+json", json.dumps(config).encode()), ("layer.v1.tar+gzip", layer)):
        begun = _asked("POST", f"{repository}/blobs/uploads/", token)
        if begun.status_code != httpx.codes.ACCEPTED:
            return begun.status_code
        url = httpx.URL(begun.headers["location"]).copy_merge_params({"digest": _digest(blob)})
        put = _asked("PUT", str(url), token, content=blob, headers={"content-type": "application/octet-stream"})
        if put.status_code != httpx.codes.CREATED:
            return put.status_code
        described.append({"mediaType": f"{_KIND}.{kind}", "digest": _digest(blob), "size": len(blob)})
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described[0], "layers": described[1:]}
    path, content_type = f"{repository}/manifests/{tag}", {"content-type": MANIFEST}
    return _asked("PUT", path, token, content=json.dumps(manifest).encode(), headers=content_type).status_code


def pull(repository: str, reference: str, token: str) -> int:
    """The status that the manifest is answered with."""
    return _asked("GET", f"{repository}/manifests/{reference}", token).status_code


def claims(token: str) -> dict[str, Any]:
    """What a signed token says, unchecked."""
    middle = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    return found


# Its folder


@dataclass(frozen=True)
class Storage:
    """Every blob that it keeps: layers, configurations and manifests, whether a tag leads to them or not."""

    folder: Path

    @property
    def _root(self) -> Path:
        return self.folder / "docker" / "registry" / "v2"

    def blobs(self) -> Iterator[tuple[str, Path]]:
        """(digest, file)"""
        for path in sorted(self._root.glob("blobs/sha256/*/*/data")):
            yield path.parent.name, path

    def holders(self) -> Mapping[str, set[str]]:
        """Digest → the repositories that have it."""
        found: dict[str, set[str]] = defaultdict(set)
        repositories = self._root / "repositories"
        for link in repositories.rglob("link"):
            name = str(link.relative_to(repositories)).partition("/_")[0]
            found[link.read_text().strip().removeprefix("sha256:")].add(name)
        return found


def _layer(content: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo("file")
        entry.size = len(content.encode())
        tar.addfile(entry, io.BytesIO(content.encode()))
    return gzip.compress(packed.getvalue())


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _asked(method: str, path: str, token: str, **more: Any) -> httpx.Response:
    url = path if path.startswith("http") else f"{_BASE}/{path}"
    headers = {"authorization": f"Bearer {token}", "accept": KINDS, **more.pop("headers", {})}
    return httpx.request(method, url, headers=headers, timeout=30, trust_env=False, **more)
