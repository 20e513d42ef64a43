"""A token realm in the test's own process, where builder will be: signs with the key that the registry trusts.

It answers as distribution's specification wants it: GET with Basic (go-containerregistry, everyone), POST with a form
(containerd). An answer grants only what was asked and is allowed; who asks for more gets less.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey

from catalyst.local.node import layout


@contextmanager
def realm(key_file: Path, jwks: Path, passwords: Mapping[str, str], grants: Mapping[str, str]) -> Iterator[int]:
    """The port on the node's address. `grants`: repository → actions, comma separated, of whoever knows a password."""
    key = ECKey.import_key(key_file.read_bytes())
    kid = json.loads(jwks.read_text())["keys"][0]["kid"]

    class Realm(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            kind, _, encoded = self.headers.get("authorization", "").partition(" ")
            user, _, password = base64.b64decode(encoded if kind == "Basic" else "").decode().partition(":")
            self._answer(user, password, asked)

        def do_POST(self) -> None:
            asked = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
            self._answer(asked.get("username", [""])[0], asked.get("password", [""])[0], asked)

        def _answer(self, user: str, password: str, asked: Mapping[str, list[str]]) -> None:
            if not user or passwords.get(user) != password:
                self.send_error(401)
                return
            token = _token(user, [scope for text in asked.get("scope", []) for scope in text.split()])
            body = json.dumps({"token": token, "access_token": token, "expires_in": 300}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *words: object) -> None:  # noqa: A002 -- the base class's name
            return

    def _token(user: str, scopes: list[str]) -> str:
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            allowed = [action for action in actions.split(",") if action in grants.get(name, "").split(",")]
            access.append({"type": kind, "name": name, "actions": allowed})
        now = int(time.time())
        claims = {
            "iss": layout.REALM_ISSUER, "aud": layout.REGISTRY, "sub": user, "jti": str(time.monotonic_ns()),
            "iat": now, "nbf": now - 5, "exp": now + 300, "access": access,
        }  # fmt: skip
        return jwt.encode({"alg": "ES256", "kid": kid, "typ": "JWT"}, claims, key)

    server = ThreadingHTTPServer((layout.ADDRESS, 0), Realm)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
