"""What a visitor of the URL sees. Connects to 127.0.0.1, whatever the machine's resolver says of `.localhost`, and
trusts only the edge's own root certificate.
"""

from __future__ import annotations

import contextlib
import re
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
_TAG: Final = re.compile(r"<style.*?</style>|<[^>]*>", re.DOTALL)


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
    """Requests of steady visitors. `failures`: what went wrong → how often. `seconds`: from the first to the last."""

    requests: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        what = "".join(f", {count}× {text}" for text, count in self.failures.most_common(3))
        return f"{self.failed} of {self.requests} requests failed{what}"


class Steady:
    """Asks for the URL again and again while the block runs, by so many connections at a time: every other one is kept,
    the rest are new for each request. One alone takes turns. `rate`: requests a second, of all together.
    """

    def __init__(self, visitor: Visitor, *, rate: float = 20.0, connections: int = 1, path: str = "/") -> None:
        self.counted = Counted()
        self._visitor = visitor
        self._path = path
        self._pause = connections / rate
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._begun = 0.0
        self._threads = [
            threading.Thread(target=self._ask, args=(number, connections), name=f"steady visitor {number}")
            for number in range(connections)
        ]

    def _ask(self, number: int, connections: int) -> None:
        """Evenly spread: each connection begins a little after the one before it."""
        first = self._begun + number / connections * self._pause
        with self._visitor.client() as kept:
            asked = 0
            while not self._stop.wait(max(0.0, first + asked * self._pause - time.monotonic())):
                keeps = number % 2 if connections > 1 else asked % 2
                self._count(self._failure(kept if keeps else None))
                asked += 1

    def _failure(self, client: httpx.Client | None) -> str | None:
        """What is wrong with one answer; None when nothing is."""
        try:
            answer = self._visitor.get(self._path, client)
        except httpx.TransportError as error:
            return f"{type(error).__name__}: {error}"[:80]
        if answer.status_code == httpx.codes.OK:
            return None
        text = " ".join(_TAG.sub(" ", answer.text[:2000]).split())
        return f"status {answer.status_code}: {text[:120]}"

    def _count(self, failure: str | None) -> None:
        with self._lock:
            self.counted.requests += 1
            self.counted.seconds = time.monotonic() - self._begun
            if failure is not None:
                self.counted.failures[failure] += 1

    def __enter__(self) -> Self:
        self._begun = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
