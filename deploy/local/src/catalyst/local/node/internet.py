"""Plays the internet, and a cloud's metadata service, in a network namespace that leads nowhere else.

GET anything on port 80 answers 200 and says in JSON which address was asked, and as whom the asker came. What a pod
is refused and what it may reach is thereby provable without a packet that leaves the machine.
"""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Answer(BaseHTTPRequestHandler):
    server_version = "catalyst-internet"
    sys_version = ""

    def do_GET(self) -> None:
        body = json.dumps(
            {
                "asked": self.request.getsockname()[0],
                "host": self.headers.get("host", ""),
                "path": self.path,
                "asker": self.client_address[0],
            }
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    with ThreadingHTTPServer(("0.0.0.0", 80), Answer) as server:  # noqa: S104 -- all addresses of its own namespace
        server.serve_forever()


if __name__ == "__main__":
    main()
