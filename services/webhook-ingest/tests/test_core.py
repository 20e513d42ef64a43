"""What each webhook is answered, as a table. No network, no bus."""

import hashlib
import hmac
from datetime import UTC, datetime
from http import HTTPStatus

import orjson
import pytest

from catalyst.forge import GitHub
from catalyst.webhook_ingest.core import Answer, Fact, event_label, reading, stored, too_large, unavailable

SECRET = b"a secret"
NOW = datetime(2026, 11, 1, tzinfo=UTC)
DELIVERY = "6b8c7b2e-0000-4000-8000-000000000001"
PUSH = orjson.dumps(
    {
        "ref": "refs/heads/main",
        "before": "a" * 40,
        "after": "b" * 40,
        "created": False,
        "deleted": False,
        "forced": False,
        "pusher": {"name": "mona"},
        "sender": {"login": "mona"},
        "repository": {
            "id": 7,
            "full_name": "acme/shop",
            "default_branch": "main",
            "clone_url": "https://github.com/acme/shop.git",
            "private": False,
            "fork": False,
            "pushed_at": 1_700_000_000,
        },
    }
)


def read(body: bytes, event: str = "push", *, secret: bytes = SECRET, delivery: str = DELIVERY) -> Fact | Answer:
    signed = {
        "x-hub-signature-256": "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest(),
        "x-github-event": event,
        "x-github-delivery": delivery,
    }
    return reading(GitHub(), signed, body, [SECRET], NOW)


def test_a_fact_is_published_under_the_delivery_before_it_is_answered() -> None:
    fact = read(PUSH)
    assert isinstance(fact, Fact)
    assert (fact.event.message_id, fact.event.time) == (f"webhook-ingest/{DELIVERY}", NOW)
    assert (fact.event.subject, fact.event.actor) == ("scm.github.acme.shop.branch.main", "github:mona")
    for duplicate, result in ((False, "published"), (True, "duplicate")):
        answer = stored(fact, duplicate=duplicate)
        assert answer.status == HTTPStatus.ACCEPTED
        assert orjson.loads(answer.body()) == {
            "delivery": DELIVERY,
            "result": result,
            "subject": "scm.github.acme.shop.branch.main",
            "reason": None,
        }


def test_an_event_the_bus_cannot_take_is_to_be_sent_again() -> None:
    fact = read(PUSH)
    assert isinstance(fact, Fact)
    answer = unavailable("no answer", fact)
    assert (answer.status, answer.result, answer.reason) == (503, "unavailable", "no answer")
    assert answer.retry_after is not None


@pytest.mark.parametrize(
    ("answer", "status", "result", "reason"),
    [
        (read(b'{"zen": ""}', "ping"), 200, "pong", None),
        (read(b"{}", "installation"), 202, "ignored", "installation events are not used yet"),
        (read(b"{}", secret=b"another"), 401, "refused", "none of ours"),
        (read(b"{", secret=b"another"), 401, "refused", "none of ours"),
        (read(b"{"), 400, "refused", "body: expected a JSON object"),
        (read(b"{}"), 400, "refused", "ref: expected a value, but it is missing"),
        (read(PUSH, delivery=""), 400, "refused", "header x-github-delivery: expected the GUID"),
        (too_large(), 413, "refused", "body: expected at most 26214400 bytes"),
    ],
)
def test_what_is_not_published(answer: Answer, status: int, result: str, reason: str | None) -> None:
    assert isinstance(answer, Answer)
    assert (answer.status, answer.result) == (status, result)
    assert (reason or "") in (answer.reason or "")


def test_invented_events_are_counted_as_one() -> None:
    for event, label in (("installation", "installation"), ("made-up-4711", "other")):
        answer = read(b"{}", event)
        assert isinstance(answer, Answer)
        assert event_label(GitHub(), answer) == label
