"""Chains: whatever is changed in one is found, by the chain itself or by a checkpoint kept elsewhere."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalyst.events.binding import encode
from catalyst.events.catalogue import AuditRecord, Principal
from catalyst.events.chain import Head, Link, digest, number_of, verify
from catalyst.events.event import audit_recorded
from catalyst.events.examples import NOW

SUBJECTS = ("pr-1", "pr-2")


def chain(*environments: str) -> list[Link]:
    """A stream: one record for each, in this order."""
    heads: dict[str, Link] = {}
    links: list[Link] = []
    for sequence, environment in enumerate(environments, 1):
        last = heads.get(environment)
        data = AuditRecord(
            team="acme",
            project="shop",
            environment=environment,
            principal=Principal(kind="forge", name="mona"),
            door="command",
            operation="deploy",
            target=f"github/acme/shop/pull/{sequence}",
            outcome="done",
            at=NOW,
            number=(number_of(last.body) or 0) + 1 if last else 1,
            previous=digest(last.body) if last else None,
        )
        event = audit_recorded(data, operation=f"op-{sequence}", time=NOW, source="env-controller")
        link = heads[environment] = Link(sequence, event.subject, encode(event)[0])
        links.append(link)
    return links


streams = st.lists(st.sampled_from(SUBJECTS), min_size=2, max_size=12).map(lambda names: chain(*names))


def renumbered(links: list[Link]) -> list[Link]:
    """As somebody would hide it who writes the stream anew: without a gap in the sequences."""
    return [replace(link, sequence=sequence) for sequence, link in enumerate(links, 1)]


@given(streams)
def test_what_was_written_is_as_it_was_written(links: list[Link]) -> None:
    found = verify(links, whole=True)
    assert (found.records, found.faults) == (len(links), ())
    assert verify(links, whole=True, against=found.heads).faults == ()
    for length in range(len(links)):  # an older checkpoint holds as the chains grow
        assert verify(links, against=verify(links[:length]).heads).faults == ()


@given(streams, st.data())
def test_one_changed_byte_is_found(links: list[Link], data: st.DataObject) -> None:
    heads, at = verify(links).heads, data.draw(st.integers(0, len(links) - 1))
    body = bytearray(links[at].body)
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    changed = [*links[:at], replace(links[at], body=bytes(body)), *links[at + 1 :]]
    assert verify(changed, against=heads).faults
    if any(link.subject == links[at].subject for link in links[at + 1 :]):
        assert verify(changed).faults, "the record after it names another digest"


@given(streams, st.data())
def test_one_removed_record_is_found(links: list[Link], data: st.DataObject) -> None:
    heads, at = verify(links).heads, data.draw(st.integers(0, len(links) - 1))
    left = renumbered([*links[:at], *links[at + 1 :]])
    assert verify(left, against=heads).faults
    if any(link.subject == links[at].subject for link in links[at + 1 :]):
        assert verify(left).faults
    if at < len(links) - 1:
        assert verify([*links[:at], *links[at + 1 :]], whole=True).faults, "its sequence is missing"


@given(streams, st.data())
def test_one_record_put_in_is_found(links: list[Link], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(links) - 1))
    copied = links[data.draw(st.integers(0, len(links) - 1))]
    assert verify(renumbered([*links[:at], copied, *links[at:]])).faults


@given(streams, st.data())
def test_two_records_that_changed_places_are_found(links: list[Link], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(links) - 2))
    second = data.draw(st.integers(first + 1, len(links) - 1))
    moved = list(links)
    moved[first], moved[second] = moved[second], moved[first]
    assert verify(moved).faults


def test_a_chain_written_anew_needs_a_checkpoint() -> None:
    links = chain("pr-1", "pr-1", "pr-1")
    forged = chain("pr-1", "pr-1", "pr-1", "pr-1")[:2] + chain("pr-2", "pr-1", "pr-1")[2:]
    assert verify(links[:2]).faults == (), "a cut end does not show by itself"
    (fault,) = verify(links[:2], against=verify(links).heads).faults
    assert "3 records, 2 are left: the end was cut off" in fault.problem
    (fault,) = verify(links, against={links[0].subject: Head(3, "0" * 64)}).faults
    assert "written anew" in fault.problem
    assert verify(forged).faults


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data": 1}', b'{"data": {"number": true}}', b"\xff"])
def test_what_is_no_record_is_a_fault_and_no_crash(body: bytes) -> None:
    assert number_of(body) is None
    assert verify([Link(1, "audit.acme.shop.pr-1", body)]).faults
