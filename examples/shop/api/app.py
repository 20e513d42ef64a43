"""GET /items: what is for sale, and whether `web` answers, which it asks by its Service's name."""

import json
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen

ITEMS = [{"name": "Basket", "price": 12}, {"name": "Lamp", "price": 30}, {"name": "Kettle", "price": 25}]
WEB = os.environ.get("WEB_URL", "http://web:8080")


def greeting() -> str:
    try:
        with urlopen(f"{WEB}/greeting", timeout=5) as answer:
            return answer.read(1000).decode()
    except OSError as error:
        return f"web does not answer: {error}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = self.path == "/items"
        commit = os.environ.get("CATALYST_COMMIT", "unknown")
        body = json.dumps({"items": ITEMS, "commit": commit, "web": greeting()} if found else {}).encode()
        self.send_response(200 if found else 404)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("", int(os.environ.get("PORT", "8081"))), Handler)
    # As process 1 it would ignore SIGTERM; requests that have begun are finished.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    server.server_close()
