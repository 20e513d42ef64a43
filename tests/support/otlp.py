"""A receiver of traces: OTLP over HTTP on loopback, as any collector takes it. What came is kept as values."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    """One span. `links`: (trace id, span id)."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    start: float
    end: float
    links: tuple[tuple[str, str], ...]
    attributes: dict[str, Any] = field(hash=False)


@dataclass
class Receiver:
    """What has been exported so far."""

    url: str
    spans: list[Span] = field(default_factory=list)

    def of_trace(self, trace: str) -> list[Span]:
        return [span for span in tuple(self.spans) if span.trace == trace]

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        for resource in request.resource_spans:
            about = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [_span(about["service.name"], span) for span in scope.spans]


def _span(service: str, span: Any) -> Span:
    return Span(
        service,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano / 1e9,
        span.end_time_unix_nano / 1e9,
        tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        {each.key: getattr(each.value, each.value.WhichOneof("value") or "string_value") for each in span.attributes},
    )


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a free port of loopback."""

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == "/v1/traces":
                receiver.take(body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
