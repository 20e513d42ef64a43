"""A signed example webhook: a published payload of GitHub's (tests/data), moved to the present. Pure but for `send`."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import httpx

PAYLOADS: Final = Path(__file__).resolve().parents[5] / "tests" / "data" / "github-webhooks" / "payloads.jsonl"

Action = Literal["opened", "synchronize", "closed", "reopened"]


def published(event: str = "pull_request", action: str = "opened") -> dict[str, Any]:
    """The payload as it was published. Raises LookupError when the file has none like it."""
    with PAYLOADS.open() as lines:
        for line in lines:
            example = json.loads(line)
            if example["event"] == event and example["payload"].get("action") == action:
                payload: dict[str, Any] = example["payload"]
                return payload
    raise LookupError(f"{PAYLOADS} holds no {event} with action {action}")


def pull_request(base: Mapping[str, Any], number: int, action: Action, commit: str, now: datetime) -> dict[str, Any]:
    """`base` as what GitHub sends now about pull request `number` of the same repository, whose head is `commit` (40
    hex).
    """
    payload = copy.deepcopy(dict(base))
    closed, stamp = action == "closed", f"{now:%Y-%m-%dT%H:%M:%SZ}"
    payload |= {"action": action, "number": number}
    payload["pull_request"] |= {
        "number": number,
        "state": "closed" if closed else "open",
        "merged": closed,
        "updated_at": stamp,
        "closed_at": stamp if closed else None,
    }
    payload["pull_request"]["head"]["sha"] = commit
    return payload


def send(url: str, secret: str, payload: Mapping[str, Any], event: str = "pull_request") -> httpx.Response:
    """Deliver it as GitHub does: raw body, its HMAC, a delivery id of its own. Raises httpx.HTTPStatusError."""
    body = json.dumps(payload).encode()
    headers = {
        "content-type": "application/json",
        "x-github-event": event,
        "x-github-delivery": str(uuid.uuid4()),
        "x-hub-signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
    }
    return httpx.post(url, content=body, headers=headers, timeout=15, trust_env=False).raise_for_status()
