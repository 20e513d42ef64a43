"""The configuration an edge starts with: its listeners, its certificates, who may program it; and no table yet. Pure.

Until dns-proxy has written a table every request is answered 503, also the one by which the kubelet asks whether the
edge is ready: an edge that was restarted gets no visitors before it was rebuilt.

The admin endpoint on the machine itself is off. The remote one wants a client certificate whose public key is listed
here, and lets it read and replace one thing: the array of routes (Caddy's `admin.remote.access_control`).
"""

from dataclasses import dataclass
from typing import Any, Final

from catalyst.dns_proxy.core.caddy import page

ADMIN_NAME: Final = "edge.catalyst.internal"
"""By which an edge identifies itself to dns-proxy."""
ROUTES_PATH: Final = "/config/apps/http/servers/public/routes"
AUTHORITY: Final = "catalyst"
PRIVATE_RANGES: Final = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "fc00::/7"]

_APOLOGY = (
    "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    "<meta http-equiv=refresh content=5><title>One moment</title>"
    "<style>:root{color-scheme:light dark}body{font:1.1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;"
    "padding:0 1rem}</style><main><h1>One moment</h1><p>%s This page reloads by itself.</p></main>"
)


@dataclass(frozen=True, slots=True)
class Setup:
    """What differs between installations. Files are PEM; paths as the edge sees them.

    `https_port` None: behind a tunnel that ends TLS, whose word about the visitor (X-Forwarded-For and -Proto) is
    believed. `client_key`: base64 of the DER certificate of dns-proxy.
    """

    zones: tuple[str, ...]
    client_key: str
    root: str = "/etc/catalyst/authority/root.crt"
    intermediate: str = "/etc/catalyst/authority/tls.crt"
    intermediate_key: str = "/etc/catalyst/authority/tls.key"
    pages: str = "dns-proxy.catalyst-system.svc.cluster.local:8080"
    address: str = ""
    http_port: int = 8080
    https_port: int | None = 8443
    admin_port: int = 2021
    storage: str = "/data"


def starting_config(setup: Setup) -> dict[str, Any]:
    """What `caddy run --config` is given."""
    return {
        "admin": _admin(setup),
        "storage": {"module": "file_system", "root": setup.storage},
        "logging": {"logs": {"default": {"level": "WARN"}}},
        "apps": {
            "pki": {"certificate_authorities": {AUTHORITY: _authority(setup), "local": {"install_trust": False}}},
            "tls": _tls(setup),
            "http": {
                "http_port": setup.http_port,
                "https_port": setup.https_port or setup.http_port + 1,
                "servers": {"public": _server(setup)},
            },
        },
    }


def _admin(setup: Setup) -> dict[str, Any]:
    allowed = [{"paths": [ROUTES_PATH], "methods": ["GET", "PATCH"]}]
    return {
        "disabled": True,
        "config": {"persist": False},
        "identity": {"identifiers": [ADMIN_NAME], "issuers": [{"module": "internal", "ca": AUTHORITY}]},
        "remote": {
            "listen": f"{setup.address}:{setup.admin_port}",
            "access_control": [{"public_keys": [setup.client_key], "permissions": allowed}],
        },
    }


def _authority(setup: Setup) -> dict[str, Any]:
    """The intermediate signs; the root's key is not here."""
    return {
        "name": "Catalyst edge",
        "install_trust": False,
        "root": {"certificate": setup.root},
        "intermediate": {"certificate": setup.intermediate, "private_key": setup.intermediate_key},
    }


def _tls(setup: Setup) -> dict[str, Any]:
    if setup.https_port is None:
        return {}
    names = [name for zone in setup.zones for name in (f"*.{zone}", zone)]
    issuer = {"module": "internal", "ca": AUTHORITY}
    return {
        "certificates": {"automate": names},
        "automation": {"policies": [{"subjects": names, "issuers": [issuer]}]},
    }


def _server(setup: Setup) -> dict[str, Any]:
    ports = [setup.http_port] + ([setup.https_port] if setup.https_port else [])
    server: dict[str, Any] = {
        "listen": [f"{setup.address}:{port}" for port in ports],
        "protocols": ["h1", "h2"],
        "automatic_https": {"disable": True},
        "read_header_timeout": "10s",
        "idle_timeout": "5m",
        "max_header_bytes": 65536,
        "routes": [{"@id": "starting", "handle": [_apology("The door was just opened.")]}],
        "errors": {"routes": _errors(setup)},
    }
    if setup.https_port is not None:
        return {**server, "tls_connection_policies": [{}]}
    trust = {"source": "static", "ranges": PRIVATE_RANGES}
    return {**server, "trusted_proxies": trust, "client_ip_headers": ["Cf-Connecting-Ip", "X-Forwarded-For"]}


def _errors(setup: Setup) -> list[dict[str, Any]]:
    """An application that cannot be reached gets the friendly page; if that cannot be reached either, an apology."""
    unreachable = {"expression": "{http.error.status_code} in [502, 503, 504]"}
    inside = {
        "handler": "subroute",
        "routes": [{"handle": [page(setup.pages, "{http.error.status_code}")]}],
        "errors": {"routes": [{"handle": [_apology("Nothing answers here at the moment.")]}]},
    }
    return [{"match": [unreachable], "handle": [inside], "terminal": True}]


def _apology(reason: str) -> dict[str, Any]:
    return {
        "handler": "static_response",
        "status_code": 503,
        "headers": {
            "Content-Type": ["text/html; charset=utf-8"],
            "Retry-After": ["5"],
            "Cache-Control": ["no-store"],
        },
        "body": _APOLOGY % reason,
    }
