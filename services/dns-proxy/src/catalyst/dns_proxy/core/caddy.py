"""The table of routes as Caddy's configuration, and back. Pure.

```
/config/apps/http/servers/public/routes
  [0]  /.well-known/catalyst/edge    says which table this is (its revision) and by whose leave (the writer's token)
  [n]  one host: /.well-known/catalyst/route says whose it is; all else goes to its Service
  [-1] any other host: a friendly page
```

The array is written whole, in one request, under the condition that it is still the one that was read (If-Match). Caddy
swaps configurations atomically, so the revision that an edge answers in public proves the table it serves.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from catalyst.dns_proxy.core.routes import Entry

EDGE_PATH: Final = "/.well-known/catalyst/edge"
ROUTE_PATH: Final = "/.well-known/catalyst/route"
REVISION_HEADER: Final = "Catalyst-Edge"
WRITER_HEADER: Final = "Catalyst-Writer"
ROUTE_HEADER: Final = "Catalyst-Route"
ERROR_HEADER: Final = "Catalyst-Edge-Error"
"""Tells the friendly pages which error the edge ran into; a visitor's own is thrown away."""

CONNECT_WITHIN: Final = "2s"
TRY_FOR: Final = "1s"
"""A Service without an endpoint for a blink is tried again; a visitor of one that is not there yet waits this long."""
STREAMS_LIVE: Final = "24h"
"""Caddy closes WebSockets at every change of its configuration unless told to wait: another pull request's route is no
reason to cut somebody's shell."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """What the table is built with. `services`: how a Service is addressed; `pages`: `host:port` of the pages."""

    zone: str
    alias_zones: tuple[str, ...] = ()
    services: str = "{service}.{namespace}.svc.cluster.local"
    pages: str = "dns-proxy.catalyst-system.svc.cluster.local:8080"


@dataclass(frozen=True, slots=True)
class Table:
    """What an edge has: `entries` by host, its revision and its writer's token; 0 and "" before the first table."""

    entries: Mapping[str, Entry]
    revision: str = ""
    token: int = 0


def routes(entries: Iterable[Entry], layout: Layout, *, token: int) -> list[Json]:
    """The whole array. `token`: of the leader that writes it."""
    body = [*(_host(entry, layout) for entry in sorted(entries)), _unknown(layout)]
    return [_which(digest(json.dumps(body, sort_keys=True)), token), *body]


def revision(table: list[Json]) -> str:
    """Which table this is, whoever wrote it."""
    return str(table[0]["handle"][0]["headers"][REVISION_HEADER][0])


def read(table: list[Json] | None) -> Table:
    """The table in an array that an edge told us. What is not ours, or broken, is left out: it will be overwritten."""
    entries: dict[str, Entry] = {}
    mark, token = "", 0
    for route in table or []:
        kind, _, _ = str(route.get("@id", "")).partition("/")
        try:
            if kind == "edge":
                headers = route["handle"][0]["headers"]
                mark, token = str(headers[REVISION_HEADER][0]), int(headers[WRITER_HEADER][0])
            elif kind == "route":
                entry = Entry(**json.loads(route["handle"][0]["routes"][0]["handle"][0]["catalyst"]))
                entries[entry.host] = entry
        except (KeyError, IndexError, TypeError, ValueError):
            mark = ""  # whatever it is, it is not what we wrote
    return Table(entries, mark, token)


def aliases(host: str, layout: Layout) -> list[str]:
    """All names of a host: `x.catalyst.localhost` and `x.catalyst.test`."""
    label = host.removesuffix(f".{layout.zone}")
    return [host, *(f"{label}.{zone}" for zone in layout.alias_zones)]


def whose(entry: Entry) -> str:
    """What the edge answers at ROUTE_PATH: proves which environment is served, and says nothing to a stranger."""
    return digest(f"{entry.uid}/{entry.host}")


def digest(text: str) -> str:
    """32 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def upstream(entry: Entry, layout: Layout) -> str:
    """`web.acme--shop--pr-42.svc.cluster.local:8080`: whole, so that no search list is tried."""
    return f"{layout.services.format(service=entry.service, namespace=entry.namespace)}:{entry.port}"


def _which(mark: str, token: int) -> Json:
    answer = _said({REVISION_HEADER: [mark], WRITER_HEADER: [str(token)]})
    return {"@id": "edge", "match": [{"path": [EDGE_PATH]}], "handle": [answer], "terminal": True}


def _host(entry: Entry, layout: Layout) -> Json:
    told = {name: getattr(entry, name) for name in ("host", "environment", "uid", "service", "namespace", "port")}
    inside = [
        {"handle": [{"handler": "vars", "catalyst": json.dumps(told, sort_keys=True)}]},
        {"match": [{"path": [ROUTE_PATH]}], "handle": [_said({ROUTE_HEADER: [whose(entry)]})], "terminal": True},
        {"handle": [proxy(upstream(entry, layout))]},
    ]
    return {
        "@id": f"route/{entry.uid}/{entry.host}",
        "match": [{"host": aliases(entry.host, layout)}],
        "handle": [{"handler": "subroute", "routes": inside}],
        "terminal": True,
    }


def proxy(dial: str) -> Json:
    """To an application: unbuffered both ways, streams kept over changes, a refused connection tried again."""
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": dial}],
        "transport": {"protocol": "http", "dial_timeout": CONNECT_WITHIN},
        "load_balancing": {"try_duration": TRY_FOR, "try_interval": "100ms"},
        "stream_close_delay": STREAMS_LIVE,
    }


def page(pages: str, error: str) -> Json:
    """To the friendly pages, as a GET without the visitor's body; `error`: the edge's own, "" for none."""
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": pages}],
        "transport": {"protocol": "http", "dial_timeout": CONNECT_WITHIN},
        "rewrite": {"method": "GET", "uri": "/?"},
        "headers": {"request": {"set": {ERROR_HEADER: [error]}, "delete": ["Cookie", "Authorization"]}},
    }


def _unknown(layout: Layout) -> Json:
    return {"@id": "unknown", "handle": [page(layout.pages, "")], "terminal": True}


def _said(headers: Mapping[str, list[str]]) -> Json:
    return {
        "handler": "static_response",
        "status_code": 200,
        "headers": {"Cache-Control": ["no-store"], **headers},
        "close": False,
    }
