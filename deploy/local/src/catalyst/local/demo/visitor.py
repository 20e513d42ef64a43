"""What a visitor of the URL sees. Connects to 127.0.0.1, whatever the machine's resolver says of `.localhost`, and
trusts only the edge's own root certificate.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import httpx

from catalyst.local.demo.places import LOOPBACK

PATIENCE: Final = 10.0


class Visitor:
    """Of one URL, `https://<host>:<port>/`. `edge`: the address, with its port, that is asked; else the demo's way."""

    def __init__(self, url: str, authority: Path, edge: str | None = None) -> None:
        parts = urlsplit(url)
        self.url = url
        self.host = parts.hostname or ""
        self._netloc = parts.netloc
        self._base = f"{parts.scheme}://{edge or f'{LOOPBACK}:{parts.port or 443}'}"
        self._trust = ssl.create_default_context(cafile=str(authority))

    def client(self) -> httpx.Client:
        """Connections of its own."""
        return httpx.Client(
            base_url=self._base,
            verify=self._trust,
            headers={"host": self._netloc, "accept": "*/*"},
            timeout=PATIENCE,
            trust_env=False,
        )

    def get(self, path: str = "/", client: httpx.Client | None = None) -> httpx.Response:
        """The certificate must be for the host, and from our authority. Raises httpx.TransportError."""
        with contextlib.ExitStack() as stack:
            client = client or stack.enter_context(self.client())
            return client.get(path, extensions={"sni_hostname": self.host})

    def looks(self, path: str = "/") -> tuple[int, str]:
        """Status and body; (0, why) when nothing answers."""
        try:
            answer = self.get(path)
        except httpx.TransportError as error:
            return 0, str(error)
        return answer.status_code, answer.text


@dataclass
class Counted:
    """Requests of a steady visitor. `failures`: what went wrong → how often."""

    requests: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    def __str__(self) -> str:
        what = "".join(f", {count}× {text}" for text, count in self.failures.most_common(3))
        return f"{self.failed} of {self.requests} requests failed{what}"


class Steady:
    """Asks for the URL again and again while the block runs: by kept connections and by new ones in turn."""

    def __init__(self, visitor: Visitor, *, rate: float = 20.0, path: str = "/") -> None:
        self.counted = Counted()
        self._visitor = visitor
        self._path = path
        self._pause = 1 / rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="steady visitor")

    def _ask(self) -> None:
        with self._visitor.client() as kept:
            begun = time.monotonic()
            while not self._stop.wait(max(0.0, begun + self.counted.requests * self._pause - time.monotonic())):
                client = kept if self.counted.requests % 2 else None
                try:
                    answer = self._visitor.get(self._path, client)
                    if answer.status_code != httpx.codes.OK:
                        self.counted.failures[f"status {answer.status_code}"] += 1
                except httpx.TransportError as error:
                    self.counted.failures[f"{type(error).__name__}: {error}"[:80]] += 1
                self.counted.requests += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
