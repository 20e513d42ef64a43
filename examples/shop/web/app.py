"""A page of what the component `api` offers, and the commits of both."""

import json
import os
import signal
import threading
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen

API_URL = os.environ.get("API_URL", "http://api:8000")


def page() -> tuple[int, str]:
    """Status and HTML."""
    try:
        with urlopen(API_URL, timeout=3) as answer:
            offer = json.load(answer)
    except (OSError, ValueError) as error:
        return 502, f"<h1>Shop</h1><p>api does not answer at {escape(API_URL)}: {escape(str(error))}</p>"
    articles = "".join(f"<li>{escape(one['name'])}: {one['price']}</li>" for one in offer["articles"])
    commit = escape(os.environ.get("CATALYST_COMMIT", "unknown"))
    return 200, f"<h1>Shop</h1><ul>{articles}</ul><p>web is {commit}, api is {escape(offer['commit'])}</p>"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, html = page()
        body = f"<!doctype html><meta charset=utf-8><title>Shop</title>{html}".encode()
        self.send_response(status)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    """The library's own is five: more visitors at the same moment would wait a second for their next try."""


if __name__ == "__main__":
    server = Server(("", int(os.environ.get("PORT", "8080"))), Handler)
    # As process 1 it would ignore SIGTERM; requests that have begun are finished.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    server.server_close()
