"""Ids, subjects and the binding: pure."""

from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from catalyst.events import subjects, tracing
from catalyst.events.binding import CONTENT_TYPE, decode, encode
from catalyst.events.catalogue import CATALOGUE, BuildFinished, PullRequestChanged
from catalyst.events.errors import Reject
from catalyst.events.event import Event, caused_by
from catalyst.events.examples import changed, examples, pull_request, push
from catalyst.events.payload import VERBATIM_LIMIT, Verbatim, carried
from catalyst.model.environment import Phase
from catalyst.model.names import Identity

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(TEXTS)
def test_any_text_becomes_one_token_and_comes_back(text: str) -> None:
    token = subjects.escape(text)
    assert subjects.unescape(token) == text
    assert not set(token) & set(". *>\t\r\n")
    assert token.isascii()


@given(TEXTS, TEXTS)
def test_different_texts_have_different_tokens(one: str, other: str) -> None:
    assert (subjects.escape(one) == subjects.escape(other)) == (one == other)


@pytest.mark.parametrize("text", ["", "\ud800"])
def test_what_cannot_be_a_token_is_refused(text: str) -> None:
    with pytest.raises(subjects.InvalidSubject):
        subjects.escape(text)


@pytest.mark.parametrize("token", ["", "a.b", "%2e", "%zz", "a%", "%C3", "é", "%61"])
def test_what_escape_never_gives_is_refused(token: str) -> None:
    with pytest.raises(subjects.InvalidSubject):
        subjects.unescape(token)


def test_subjects_read_as_documented_and_back() -> None:
    identity = Identity("acme", "shop", "pr-42")
    table = {
        subjects.pull_request_subject("github", "Acme/Shop", 42): (
            "scm.github.acme.shop.pull_request.42",
            subjects.ScmSubject("github", "acme/shop", "pull_request", "42"),
        ),
        subjects.branch_subject("github", "acme/shop.js", "feature/Foo *"): (
            "scm.github.acme.shop%2Ejs.branch.feature%2FFoo%20%2A",
            subjects.ScmSubject("github", "acme/shop.js", "branch", "feature/Foo *"),
        ),
        subjects.command_subject("gitlab", "acme/web/shop", 7): (
            "scm.gitlab.acme%2Fweb.shop.command.7",
            subjects.ScmSubject("gitlab", "acme/web/shop", "command", "7"),
        ),
        subjects.environment_subject(identity, "build", "requested"): (
            "env.acme.shop.pr-42.build.requested",
            subjects.EnvironmentSubject(identity, "build", "requested"),
        ),
        subjects.audit_subject("acme", "shop", "pr-42"): (
            "audit.acme.shop.pr-42",
            subjects.AuditSubject("acme", "shop", "pr-42"),
        ),
        subjects.audit_subject("acme", "shop"): ("audit.acme.shop", subjects.AuditSubject("acme", "shop")),
        subjects.dead_subject("env-controller"): ("dead.env-controller", subjects.DeadSubject("env-controller")),
    }
    for subject, (text, parsed) in table.items():
        assert subject == text
        assert subjects.parse_subject(subject) == parsed


@pytest.mark.parametrize(
    "subject", ["", "scm.a.b", "env.Acme.shop.pr-1.a.b", "scm.github.a.b.issue.1", "dead", "env.a--b.c.d.e.f"]
)
def test_foreign_subjects_are_refused(subject: str) -> None:
    with pytest.raises(subjects.InvalidSubject):
        subjects.parse_subject(subject)


def test_a_repository_without_owner_is_refused() -> None:
    with pytest.raises(subjects.InvalidSubject, match="expected owner/name"):
        subjects.pull_request_subject("github", "shop", 1)


@pytest.mark.parametrize("event", examples().values(), ids=examples())
def test_every_event_comes_back_equal(event: Event) -> None:
    body, headers = encode(event)
    assert decode(body, headers, subject=event.subject) == event
    assert subjects.parse_subject(event.subject)
    assert headers["Nats-Msg-Id"] == f"{event.source}/{event.id}"
    assert orjson.loads(body)["dataschema"] == event.data.dataschema()


def test_there_is_an_example_of_every_event() -> None:
    assert set(examples()) == set(CATALOGUE)


def test_ids() -> None:
    ids = {type_.split(".", 2)[2]: event.id for type_, event in examples().items()}
    assert ids == {
        "scm.pull_request.changed.v1": "d-1",
        "scm.branch.pushed.v1": "d-2",
        "scm.command.given.v1": "d-3",
        "scm.comment.written.v1": "d-4",
        "environment.changed.v1": "u-1/1",
        "build.requested.v1": "u-1/web/9f8e7d6c/1/requested",
        "build.finished.v1": "u-1/web/9f8e7d6c/1/succeeded",
        "build.cleaned.v1": "u-1/u-1/1/cleaned",
        "route.changed.v1": "u-1/pr-42--shop--acme.example.org/u-1/1/live",
        "session.opened.v1": "u-1/s-1/opened",
        "session.closed.v1": "u-1/s-1/closed",
        "audit.recorded.v1": "op-1",
        "dead.letter.v1": "env-controller/SCM/17",
        "dead.settled.v1": "env-controller/SCM/17/dropped",
    }
    assert changed(7).id == "u-1/7"
    assert changed(7, again=2).id == "u-1/7/again-2"
    assert changed(8, phase=Phase.GONE).id == "u-1/gone"


def test_a_cause_is_passed_on() -> None:
    cause = caused_by(pull_request())
    assert (cause.correlation_id, cause.causation_id, cause.actor) == (
        "webhook-ingest/d-1",
        "webhook-ingest/d-1",
        "mona",
    )
    answer = examples()["dev.catalyst.route.changed.v1"]
    assert (answer.correlation_id, answer.causation_id) == ("env-controller/u-1/1", "env-controller/u-1/1")


def test_the_payload_rides_verbatim() -> None:
    raw = b'{"number": 1.10, "twice": 1, "twice": 2}'
    body, headers = encode(pull_request(payload=raw))
    assert raw in body
    data = decode(body, headers).data
    assert isinstance(data, PullRequestChanged)
    assert data.payload == Verbatim(raw)


def test_a_payload_beyond_the_limit_leaves_size_and_digest() -> None:
    fits, large = b'{"a":"' + b"x" * (VERBATIM_LIMIT - 8) + b'"}', b'{"a":"' + b"x" * (VERBATIM_LIMIT - 7) + b'"}'
    assert carried(fits)["payload"].raw == fits
    body, headers = encode(pull_request(payload=large))
    data = decode(body, headers).data
    assert isinstance(data, PullRequestChanged)
    assert data.payload is None
    assert data.payload_omitted is not None
    assert data.payload_omitted.size == VERBATIM_LIMIT + 1
    assert len(data.payload_omitted.sha256) == 64


def test_readers_ignore_unknown_fields() -> None:
    document = orjson.loads(encode(push())[0])
    document["data"]["somethingNew"] = document["data"]["repository"]["topics"] = ["x"]
    document["newattribute"] = "x"
    assert decode(orjson.dumps(document)) == push()


def tampered(**change: object) -> bytes:
    document = orjson.loads(encode(pull_request())[0])
    for path, value in change.items():
        *parents, last = path.split("__")
        target = document
        for parent in parents:
            target = target[parent]
        if value is None:
            del target[last]
        else:
            target[last] = value
    return orjson.dumps(document)


REFUSED = {
    "no JSON": (b"{", "the message is not JSON"),
    "no UTF-8": (b'{"id": "\xff"}', "the message is not JSON"),
    "no object": (b"[]", "not a CloudEvent 1.0: expected a JSON object, found list"),
    "no id": (tampered(id=None), "missing required attribute 'id'"),
    "no source": (tampered(source=None), "missing required attribute 'source'"),
    "no type": (tampered(type=None), "missing required attribute 'type'"),
    "no time": (tampered(time=None), "missing required attribute 'time'"),
    "no specversion": (tampered(specversion=None), "missing required attribute 'specversion'"),
    "another specversion": (tampered(specversion="0.3"), "Attribute 'specversion' must be '1.0'"),
    "an empty id": (tampered(id=""), "'id' must not be None or empty"),
    "an id that is no text": (tampered(id=5), "'id' must be a"),
    "time without zone": (tampered(time="2026-11-23T20:00:00"), "'time' must be timezone aware"),
    "time that is none": (tampered(time="yesterday"), "Invalid isoformat string: 'yesterday'"),
    "an unknown type": (tampered(type="dev.catalyst.nope.v1"), "type 'dev.catalyst.nope.v1' is not in the catalogue"),
    "no data": (tampered(data=None), "data: Input should be"),
    "a missing field": (
        tampered(data__number=None),
        "dev.catalyst.scm.pull_request.changed.v1: data.number: Field required",
    ),
    "a wrong nested field": (tampered(data__head__sha="xyz"), "data.head.sha: String should match pattern"),
    "a wrong word": (tampered(data__state="ajar"), "data.state: Input should be 'open' or 'closed'"),
    "an extension that is no text": (tampered(actor=5), "attribute 'actor': expected text, found int"),
}


@pytest.mark.parametrize(("body", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_decode_says_why(body: bytes, reason: str) -> None:
    with pytest.raises(Reject) as refusal:
        decode(body)
    assert reason in refusal.value.reason


@pytest.mark.parametrize("content_type", [None, "application/json", "text/plain"])
def test_another_content_type_is_refused(content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    body, _ = encode(pull_request())
    with pytest.raises(Reject, match=f"content-type {content_type!r}: expected {CONTENT_TYPE.replace('+', '.')}"):
        decode(body, headers)
    assert decode(body, {"Content-Type": f"{CONTENT_TYPE}; charset=utf-8"}) == pull_request()


def test_an_event_on_a_foreign_subject_is_refused() -> None:
    body, headers = encode(pull_request())
    with pytest.raises(Reject, match=r"arrived on scm\.github\.evil\.shop\.pull_request\.42 but its data belongs on"):
        decode(body, headers, subject="scm.github.evil.shop.pull_request.42")


def test_a_finished_build_says_what_came_of_it() -> None:
    data = examples()["dev.catalyst.build.finished.v1"].data
    assert isinstance(data, BuildFinished)
    with pytest.raises(ValueError, match="digest: expected one when outcome is succeeded"):
        BuildFinished.model_validate({**data.model_dump(), "digest": None})
    with pytest.raises(ValueError, match="reason: expected one when outcome is failed"):
        BuildFinished.model_validate({**data.model_dump(), "outcome": "failed"})


def test_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="expected an aware datetime"):
        replace(pull_request(), time=datetime(2026, 1, 1))  # noqa: DTZ001
    assert replace(pull_request(), time=datetime(2026, 1, 1, tzinfo=UTC)).time.year == 2026


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_TRACER", provider.get_tracer("test"))
    return exporter


def test_the_trace_goes_through_a_hop(spans: InMemorySpanExporter) -> None:
    with tracing.publishing(pull_request()) as event:
        body, headers = encode(event)
    assert event.traceparent is not None
    assert headers["traceparent"] == event.traceparent == orjson.loads(body)["traceparent"]
    received = decode(body, headers)
    with tracing.handling(received, "SCM/env-controller", 1):
        pass
    with tracing.handling(received, "SCM/env-controller", 2):
        pass
    published, first, second = spans.get_finished_spans()
    assert first.parent is not None
    assert first.parent.span_id == published.context.span_id
    assert first.context.trace_id == published.context.trace_id
    assert second.parent is None
    assert second.context.trace_id != published.context.trace_id
    assert [link.context.span_id for link in second.links] == [published.context.span_id]


def test_without_a_trace_nothing_is_added() -> None:
    with tracing.publishing(pull_request()) as event:
        assert event == pull_request()
