"""What the shop sells, as JSON, with the commit that says so."""

import json
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ARTICLES = [{"name": "Tea", "price": 4}, {"name": "Cup", "price": 9}]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"articles": ARTICLES, "commit": os.environ.get("CATALYST_COMMIT", "unknown")}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    """The library's own is five: more visitors at the same moment would wait a second for their next try."""


if __name__ == "__main__":
    server = Server(("", int(os.environ.get("PORT", "8000"))), Handler)
    # As process 1 it would ignore SIGTERM; requests that have begun are finished.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    server.server_close()
