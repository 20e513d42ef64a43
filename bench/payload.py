"""The webhook of the benchmarks: a published example payload of GitHub, and the event that becomes of it."""

import functools
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any

from bench.results import ROOT
from catalyst.events.binding import encode
from catalyst.events.event import Event, scm_event
from catalyst.forge import GitHub
from catalyst.forge.protocol import Delivery, Ignored, Ping

SECRET = "a secret of the benchmarks"
SIZE = 26_000
"""Bytes. The example nearest to it is taken as it is."""


@functools.cache
def _examples() -> list[dict[str, Any]]:
    lines = (ROOT / "tests" / "data" / "github-webhooks" / "payloads.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [example["payload"] for example in found if example["event"] == "pull_request"]


def body() -> bytes:
    """A real payload of about 26 KB, as GitHub sends it."""
    texts = [json.dumps(payload, separators=(",", ":")).encode() for payload in _examples()]
    return min(texts, key=lambda text: abs(len(text) - SIZE))


def opened(repository: str, number: int) -> bytes:
    """A pull request of this repository, opened now."""
    payload = json.loads(json.dumps(next(p for p in _examples() if p.get("action") == "opened")))
    owner, name = repository.split("/")
    stamp = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    pull_request = payload["pull_request"]
    payload["repository"] |= {"full_name": repository, "name": name}
    payload["repository"]["owner"] |= {"login": owner}
    payload["number"] = pull_request["number"] = number
    pull_request |= {"updated_at": stamp, "created_at": stamp, "draft": False, "state": "open", "merged": False}
    for side in ("head", "base"):
        pull_request[side]["repo"] |= {"full_name": repository, "id": payload["repository"]["id"]}
    return json.dumps(payload).encode()


def headers(signed: bytes) -> dict[str, str]:
    """GitHub's, without X-GitHub-Delivery."""
    return {
        "content-type": "application/json",
        "x-github-event": "pull_request",
        "x-hub-signature-256": "sha256=" + hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest(),
    }


def event(told: bytes, delivery: str = "delivery") -> Event:
    """What webhook-ingest makes of a body."""
    data = GitHub().translate(Delivery(delivery, "pull_request"), told)
    if isinstance(data, Ignored | Ping):
        raise TypeError(f"expected a fact, found {data!r}")
    return scm_event(data, delivery=delivery, time=datetime.now(UTC), actor="github:bench")


def encoded(of: Event) -> tuple[bytes, dict[str, str]]:
    """Body and headers on the bus, without the message's id."""
    text, names = encode(of)
    return text, {name: value for name, value in names.items() if name != "Nats-Msg-Id"}
