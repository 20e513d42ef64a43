"""The shop's page: asks `api` for what is for sale, by its Service's name. GET /greeting is for `api`."""

import json
import os
import signal
import threading
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen

API = os.environ.get("API_URL", "http://api:8081")
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Shop</title>
<style>body {{ font: 18px/1.6 system-ui, sans-serif; margin: 12vh auto; max-width: 36em; padding: 0 1em }}</style>
<h1>Shop</h1>
<ul>{items}</ul>
<p>api, at commit {api_commit}, heard from web: {heard}</p>
<p>Environment {environment}, commit {commit}</p>
</html>
"""


def page() -> tuple[int, str, str]:
    try:
        with urlopen(f"{API}/items", timeout=8) as answer:
            told = json.load(answer)
    except OSError as error:
        return 502, "text/plain; charset=utf-8", f"api does not answer: {error}\n"
    items = "".join(f"<li>{escape(item['name'])}, {item['price']} €</li>" for item in told["items"])
    return (
        200,
        "text/html; charset=utf-8",
        PAGE.format(
            items=items,
            api_commit=escape(told["commit"]),
            heard=escape(told["web"]),
            environment=escape(os.environ.get("CATALYST_ENVIRONMENT", "unknown")),
            commit=escape(os.environ.get("CATALYST_COMMIT", "unknown")),
        ),
    )


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        greets = self.path == "/greeting"
        status, kind, text = (200, "text/plain; charset=utf-8", "hello from web") if greets else page()
        body = text.encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """The edge logs requests already."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), Handler)
    # As process 1 it would ignore SIGTERM; requests that have begun are finished.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    server.server_close()
