"""The door behind the edge where friendly pages are served: any path, any method, by the host that was asked for."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import jinja2
import orjson
from opentelemetry import metrics
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from catalyst.dns_proxy.core.caddy import ERROR_HEADER, Layout
from catalyst.dns_proxy.core.pages import Page, by_host, host_of, page
from catalyst.dns_proxy.mirror import Mirror
from catalyst.model.snapshot import Snapshot

shown = metrics.get_meter("catalyst.dns_proxy").create_counter("catalyst_pages", description="pages shown, by mood")

HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
    "Vary": "Accept",
}


class Pages:
    """Knows whose page a host shows; made anew when the mirror changed."""

    def __init__(self, mirror: Mirror, layout: Layout) -> None:
        self._mirror = mirror
        self._layout = layout
        self._at = -1
        self._hosts: dict[str, Snapshot] = {}

    def page(self, host: str, error: str) -> Page:
        """The page for a Host header; `error`: what the edge ran into, or ""."""
        if self._at != self._mirror.changes:
            self._hosts, self._at = by_host(self._mirror.snapshots(), self._layout.zone), self._mirror.changes
        return page(host_of(host, self._layout.zone, self._layout.alias_zones), error, self._hosts)


def pages_app(pages: Callable[[str, str], Page]) -> Starlette:
    """`pages(host, error)` says what to show. Browsers get HTML, programs JSON or a line of text."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        found = pages(headers.get("host", ""), headers.get(ERROR_HEADER, ""))
        shown.add(1, {"mood": found.mood})
        await response(found, headers.get("accept", ""))(scope, receive, send)

    app = Starlette()
    app.mount("/", answer)
    return app


def response(found: Page, accept: str) -> Response:
    """The page in the form its reader asked for."""
    headers = {**HEADERS, **({"Retry-After": str(found.refresh)} if found.refresh else {})}
    if "text/html" in accept:
        return Response(html(found), found.status, headers, "text/html")
    if "json" in accept:
        told: dict[str, Any] = {name: getattr(found, name) for name in ("title", "text", "environment", "reason")}
        return Response(orjson.dumps({"status": int(found.status), **told}), found.status, headers, "application/json")
    lines = [found.title, found.text, *([f"Reason: {found.reason}"] if found.reason else [])]
    return Response("\n".join(lines) + "\n", found.status, headers, "text/plain")


def html(found: Page) -> str:
    """The page for people. Everything from outside is escaped by the template."""
    return _template().render(page=found)


@lru_cache(maxsize=1)
def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("catalyst.dns_proxy")
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined).get_template(
        "page.html"
    )
