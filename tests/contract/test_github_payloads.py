"""What every payload of `@octokit/webhooks-examples` becomes: `github_payloads.yaml` says it, people review it.

A payload that is not listed fails. After fetching another version, read the draft that
`python tests/contract/test_github_payloads.py` prints against the committed table, before it replaces it.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from catalyst.events.catalogue import ScmData
from catalyst.forge import BadPayload, Delivery, GitHub, Ignored, Ping

PAYLOADS = Path(__file__).parent.parent / "data" / "github-webhooks" / "payloads.jsonl"
TABLE = Path(__file__).parent / "github_payloads.yaml"

Payload = dict[str, Any]


def payloads() -> Iterator[Payload]:
    with PAYLOADS.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def becomes(payload: Payload) -> dict[str, Any]:
    """One entry of the table."""
    body = orjson.dumps(payload["payload"])
    try:
        told = GitHub().translate(Delivery("00000000-0000-0000-0000-000000000000", payload["event"]), body)
    except BadPayload as exc:
        return {"refused": str(exc)}
    match told:
        case Ping():
            return {"answered": "pong"}
        case Ignored(reason):
            return {"ignored": reason}
        case ScmData():
            assert told.payload is not None
            assert told.payload.raw == body, "the forge's payload rides along verbatim"
            fields = told.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"payload"})
            return {"subject": told.nats_subject(), "type": told.TYPE, "fields": fields}


def table() -> dict[str, Any]:
    listed = yaml.load(TABLE.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    assert isinstance(listed, dict)
    return listed


def test_every_payload_is_listed_and_nothing_else() -> None:
    names = [payload["name"] for payload in payloads()]
    assert len(names) == len(set(names)), "names are unique"
    listed = table()
    assert [name for name in names if name not in listed] == [], "not listed: see this file's docstring"
    assert [name for name in listed if name not in names] == [], "listed, but not in the package"


def test_the_table_is_not_trivial() -> None:
    kinds = [next(iter(entry)) for entry in table().values()]
    assert kinds.count("subject") >= 30
    assert {"subject", "ignored", "answered"} <= set(kinds)


@pytest.mark.parametrize("payload", [pytest.param(p, id=p["name"]) for p in payloads()])
def test_becomes_what_the_table_says(payload: Payload, listed: dict[str, Any]) -> None:
    assert becomes(payload) == listed.get(payload["name"]), (
        f"{payload['name']} is not listed, or becomes something else"
    )


@pytest.fixture(scope="module", name="listed")
def _listed() -> dict[str, Any]:
    return table()


if __name__ == "__main__":
    draft = {payload["name"]: becomes(payload) for payload in payloads()}
    yaml.safe_dump(draft, sys.stdout, sort_keys=False, width=120, allow_unicode=True)
