"""Notes in a database: GET / lists them, POST / adds one."""

import os
import signal
import threading
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

from database import begun, borrowed

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Notes</title>
<style>body {{ font: 18px/1.6 system-ui, sans-serif; margin: 12vh auto; max-width: 36em; padding: 0 1em }}</style>
<h1>Notes</h1>
<ul>{notes}</ul>
<form method="post"><input name="text" maxlength="200" required aria-label="A note"> <button>Add</button></form>
<p>Environment {environment}, commit {commit}</p>
</html>
"""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        with borrowed() as connection:
            notes = connection.run("SELECT text FROM note ORDER BY id")
        body = PAGE.format(
            notes="".join(f"<li>{escape(text)}</li>" for (text,) in notes or ()),
            environment=escape(os.environ.get("CATALYST_ENVIRONMENT", "unknown")),
            commit=escape(os.environ.get("CATALYST_COMMIT", "unknown")),
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        size = min(int(self.headers.get("content-length", "0")), 10_000)
        text = parse_qs(self.rfile.read(size).decode(errors="replace")).get("text", [""])[0][:200].replace("\0", "")
        if text.strip():
            with borrowed() as connection:
                connection.run("INSERT INTO note (text) VALUES (:text)", text=text)
        self.send_response(303)
        self.send_header("location", "/")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """The edge logs requests already."""


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    """The library's own is five: more visitors at the same moment would wait a second for their next try."""


if __name__ == "__main__":
    begun()
    server = Server(("", int(os.environ.get("PORT", "8080"))), Handler)
    # As process 1 it would ignore SIGTERM; requests that have begun are finished.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    server.server_close()
