"""A page that says which commit of which environment it is."""

import os
import signal
import threading
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GREETING = "Hello"
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{greeting}</title>
<style>
  body {{ font: 18px/1.6 system-ui, sans-serif; margin: 12vh auto; max-width: 36em; padding: 0 1em; color: #1f2328 }}
  h1 {{ font-size: 3em; margin: 0 }}
  dt {{ color: #656d76; font-size: .85em }}
  dd {{ margin: 0 0 .8em; font-family: ui-monospace, monospace; overflow-wrap: anywhere }}
</style>
<h1>{greeting}</h1>
<p>This page runs in an environment of its own, made from a pull request.</p>
<dl>
<dt>Environment</dt><dd>{environment}</dd>
<dt>Commit</dt><dd>{commit}</dd>
<dt>URL</dt><dd>{url}</dd>
</dl>
</html>
"""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        names = {"environment": "CATALYST_ENVIRONMENT", "commit": "CATALYST_COMMIT", "url": "CATALYST_URL"}
        values = {name: escape(os.environ.get(variable, "unknown")) for name, variable in names.items()}
        body = PAGE.format(greeting=GREETING, **values).encode()
        self.send_response(200)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """The edge logs requests already."""


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    """The library's own is five: more visitors at the same moment would wait a second for their next try."""


if __name__ == "__main__":
    server = Server(("", int(os.environ.get("PORT", "8080"))), Handler)
    # As process 1 it would ignore SIGTERM; requests that have begun are finished.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    server.server_close()
