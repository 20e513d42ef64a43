"""The fold: any order and duplication of the deliveries of one pull request or branch give one state."""

from collections.abc import Sequence
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers import NOTHING, NOW, A, B, C, at, command, fact, push

from catalyst.env_controller.core.facts import (
    BranchFact,
    CommandFact,
    PullRequest,
    PullRequestFact,
    fold_branch,
    fold_pull_request,
)

# Golden cases: the tie rules of architecture.md, one by one


def head_of(folded: PullRequest | None) -> str:
    assert folded is not None
    return folded.state.head.sha


def test_no_facts_are_no_pull_request() -> None:
    assert fold_pull_request([]) is None
    assert fold_branch([]) is None


PULL_REQUEST_CASES: dict[str, tuple[list[PullRequestFact], tuple[str, str, str]]] = {
    "the newest updated_at wins": (
        [fact("z", head=A, updated_at=at(0)), fact("a", head=B, updated_at=at(1), action="synchronize", before=A)],
        ("open", B, "a"),
    ),
    "an older push that names a newer head as before is still older": (
        [
            fact("a", head=A, updated_at=at(0), action="synchronize", before=B),
            fact("b", head=B, updated_at=at(1), action="synchronize", before=A),
        ],
        ("open", B, "b"),
    ),
    "closed wins its second": (
        [
            fact("a", head=A, action="synchronize", before=B),
            fact("z", head=A, action="closed", state="closed"),
        ],
        ("closed", A, "z"),
    ),
    "closed wins its second against reopened": (
        [fact("z", action="closed", state="closed"), fact("a", action="reopened")],
        ("closed", A, "z"),
    ),
    "a late opened does not resurrect": (
        [fact("z", action="closed", state="closed", updated_at=at(9)), fact("a", updated_at=at(0))],
        ("closed", A, "z"),
    ),
    "reopened a second later is open": (
        [
            fact("a", action="closed", state="closed", updated_at=at(1)),
            fact("z", action="reopened", updated_at=at(2)),
        ],
        ("open", A, "z"),
    ),
    "within one second the head that another names as before is older": (
        [fact("a", head=A), fact("z", head=B, action="synchronize", before=A)],
        ("open", B, "z"),
    ),
    "a chain of pushes within one second ends at its end": (
        [
            fact("a", head=A),
            fact("b", head=B, action="synchronize", before=A),
            fact("c", head=C, action="synchronize", before=B),
        ],
        ("open", C, "c"),
    ),
    "the same head twice in one second: the smallest delivery id": (
        [fact("b", labels=("b",)), fact("a", labels=("a",), action="labeled")],
        ("open", A, "a"),
    ),
    "a push there and back within one second cannot be told: the smallest delivery id": (
        [
            fact("b", head=A, action="synchronize", before=B),
            fact("a", head=B, action="synchronize", before=A),
        ],
        ("open", B, "a"),
    ),
    "a before that is the head itself replaces nothing": (
        [fact("a", head=A, action="synchronize", before=A), fact("b", head=B)],
        ("open", A, "a"),
    ),
    "two closings within one second: the smallest delivery id": (
        [fact("b", action="closed", state="closed"), fact("a", action="labeled", state="closed")],
        ("closed", A, "a"),
    ),
}


@pytest.mark.parametrize("name", PULL_REQUEST_CASES)
def test_tie_rules_of_a_pull_request(name: str) -> None:
    facts, expected = PULL_REQUEST_CASES[name]
    for order in permutations(facts):
        folded = fold_pull_request([*order, *order])
        assert folded is not None
        assert (folded.state.state, folded.state.head.sha, folded.evidence) == expected


def test_opened_at_is_the_last_opening() -> None:
    opened, closed = fact("a", updated_at=at(1)), fact("b", action="closed", state="closed", updated_at=at(5))
    reopened = fact("c", action="reopened", updated_at=at(9))
    pushed = fact("d", head=B, action="synchronize", before=A, updated_at=at(20))
    for facts, expected in (
        ([opened], at(1)),
        ([opened, closed], at(1)),
        ([opened, closed, reopened], at(9)),
        ([opened, closed, reopened, pushed], at(9)),
        ([pushed], NOW),  # its opening was never delivered: when the pull request was made
    ):
        folded = fold_pull_request(facts)
        assert folded is not None
        assert folded.opened_at == expected


# Any six deliveries, in any order, any of them twice; compared with an oracle that keeps a sorted history

ACTIONS = (
    ("opened", "open"),
    ("synchronize", "open"),
    ("labeled", "open"),
    ("converted_to_draft", "open"),
    ("closed", "closed"),
    ("reopened", "open"),
)


@st.composite
def deliveries(draw: st.DrawFn) -> list[PullRequestFact]:
    ids = draw(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6, unique=True))
    facts = []
    for id_ in ids:
        action, state = draw(st.sampled_from(ACTIONS))
        fields = {
            "action": action,
            "state": state,
            "head": draw(st.sampled_from((A, B, C))),
            "updated_at": at(draw(st.integers(0, 2))),
            "draft": action == "converted_to_draft",
            "labels": (id_,) if action == "labeled" else (),
        }
        if action == "synchronize":
            fields["before"] = draw(st.sampled_from((A, B, C)))
        facts.append(fact(id_, **fields))
    return facts


def oracle(facts: Sequence[PullRequestFact]) -> tuple[str, object]:
    """The rules of architecture.md read aloud: sort everything, then strike out what loses."""
    line = sorted({item.id: item for item in facts}.values(), key=lambda item: (item.data.updated_at, item.id))
    last = [item for item in line if item.data.updated_at == line[-1].data.updated_at]
    if any(item.data.state == "closed" for item in last):
        left = [item for item in last if item.data.state == "closed"]
    else:
        left = list(last)
        for item in last:
            if item.data.before is None or item.data.before == item.data.head.sha:
                continue
            left = [other for other in left if other.data.head.sha != item.data.before]
        left = left or last
    openings = [item.data.updated_at for item in line if item.data.action in ("opened", "reopened")]
    return left[0].id, openings[-1] if openings else left[0].data.created_at


@given(deliveries(), st.data())
def test_order_and_duplication_do_not_matter(facts: list[PullRequestFact], data: st.DataObject) -> None:
    repeats = data.draw(st.lists(st.sampled_from(facts), max_size=4))
    shuffled = data.draw(st.permutations([*facts, *repeats]))
    folded = fold_pull_request(shuffled)
    assert folded is not None
    assert folded == fold_pull_request(facts)
    assert (folded.evidence, folded.opened_at) == oracle(facts)
    assert folded.state in [item.data for item in facts]


@given(deliveries())
def test_every_permutation_of_up_to_four(facts: list[PullRequestFact]) -> None:
    assert len({repr(fold_pull_request(order)) for order in permutations(facts[:4])}) == 1


def test_all_orders_of_a_whole_life_of_six() -> None:
    life = [
        fact("f", head=A, updated_at=at(0)),
        fact("e", head=B, action="synchronize", before=A, updated_at=at(0)),
        fact("d", head=B, action="labeled", updated_at=at(1)),
        fact("c", head=B, action="converted_to_draft", draft=True, updated_at=at(1)),
        fact("b", head=B, action="closed", state="closed", updated_at=at(2)),
        fact("a", head=B, action="reopened", updated_at=at(3)),
    ]
    for order in permutations(life):
        folded = fold_pull_request(order)
        assert folded is not None
        assert (folded.evidence, folded.is_open, folded.opened_at, head_of(folded)) == ("a", True, at(3), B)


@given(deliveries())
def test_what_is_older_than_a_closing_brings_nothing_back(facts: list[PullRequestFact]) -> None:
    closed = fact("zz", action="closed", state="closed", updated_at=at(3))
    folded = fold_pull_request([*facts, closed])
    assert folded is not None
    assert not folded.is_open


# Commands

COMMAND_CASES: dict[str, tuple[list[CommandFact], tuple[str | None, str | None]]] = {
    "nothing said": ([], (None, None)),
    "the newest order counts": ([command("a", given_at=at(1)), command("b", "stop", given_at=at(2))], ("b", None)),
    "stop wins its second": ([command("a", given_at=at(1)), command("b", "stop", given_at=at(1))], ("b", None)),
    "the smallest id of one second": ([command("b", given_at=at(1)), command("a", given_at=at(1))], ("a", None)),
    "an opening voids what was said before it": ([command("a", "stop", given_at=at(-1))], (None, None)),
    "an approval of the head": ([command("a", "approve"), command("b", "approve", given_at=at(1))], (None, "a")),
    "an approval of another commit": ([command("a", "approve", head_sha=B)], (None, None)),
    "an approval outlives an opening": ([command("a", "approve", given_at=at(-1))], (None, "a")),
    "help is no order": ([command("a", "help")], (None, None)),
}


@pytest.mark.parametrize("name", COMMAND_CASES)
def test_rules_of_commands(name: str) -> None:
    commands, (order, approval) = COMMAND_CASES[name]
    folded = fold_pull_request([fact("d", action="opened")], commands)
    assert folded is not None
    assert (folded.order and folded.order.id, folded.approval and folded.approval.id) == (order, approval)


def test_commands_alone_are_no_pull_request() -> None:
    assert fold_pull_request([], [command("a")]) is None


def test_all_orders_of_a_life_with_commands() -> None:
    life = [fact("f", action="opened"), fact("e", head=B, action="synchronize", before=A, updated_at=at(3))]
    said = [
        command("a", "approve"),
        command("b", "stop", given_at=at(1)),
        command("c", given_at=at(2)),
        command("d", "approve", head_sha=B, given_at=at(4)),
    ]
    for facts in permutations([*life, life[0]]):
        for commands in permutations([*said, said[1]]):
            folded = fold_pull_request(facts, commands)
            assert folded is not None
            assert folded.deploy is not None
            assert folded.approval is not None
            assert (folded.deploy.id, folded.approval.id, folded.cause) == ("c", "d", "d")


# Branches

BRANCH_CASES: dict[str, tuple[list[BranchFact], tuple[bool, str]]] = {
    "created": ([push("a", before=NOTHING, after=A, created=True)], (True, A)),
    "the newest push wins": (
        [push("a", before=A, after=B, pushed_at=at(1)), push("z", before=B, after=C, pushed_at=at(2))],
        (True, C),
    ),
    "created and pushed within one second": (
        [push("a", before=NOTHING, after=A, created=True), push("z", before=A, after=B)],
        (True, B),
    ),
    "forced within the second of a push": (
        [push("a", before=A, after=B), push("z", before=B, after=C, forced=True)],
        (True, C),
    ),
    "forced back within one second cannot be told: the smallest id": (
        [push("b", before=A, after=B), push("a", before=B, after=A, forced=True)],
        (True, A),
    ),
    "deleted": (
        [
            push("a", before=A, after=B, pushed_at=at(1)),
            push("z", before=B, after=NOTHING, deleted=True, pushed_at=at(2)),
        ],
        (False, NOTHING),
    ),
    "pushed and deleted within one second": (
        [push("a", before=A, after=B), push("z", before=B, after=NOTHING, deleted=True)],
        (False, NOTHING),
    ),
    "deleted and made again within one second": (
        [
            push("a", before=A, after=NOTHING, deleted=True),
            push("z", before=NOTHING, after=B, created=True),
        ],
        (True, B),
    ),
    "a whole life and a new one within one second": (
        [
            push("e", before=NOTHING, after=A, created=True),
            push("d", before=A, after=B),
            push("c", before=B, after=NOTHING, deleted=True),
            push("z", before=NOTHING, after=C, created=True),
        ],
        (True, C),
    ),
    "made and deleted within one second, at the same commit: deleted": (
        [
            push("a", before=NOTHING, after=A, created=True),
            push("z", before=A, after=NOTHING, deleted=True),
        ],
        (False, NOTHING),
    ),
    "deleted in the second of a push whose chain has a gap: deleted": (
        [push("a", before=A, after=B), push("z", before=C, after=NOTHING, deleted=True)],
        (False, NOTHING),
    ),
}


@pytest.mark.parametrize("name", BRANCH_CASES)
def test_tie_rules_of_a_branch(name: str) -> None:
    facts, expected = BRANCH_CASES[name]
    for order in permutations(facts):
        folded = fold_branch([*order, *order])
        assert folded is not None
        assert (folded.exists, folded.state.after) == expected


@st.composite
def lives(draw: st.DrawFn) -> list[BranchFact]:
    """A real history: each push continues from where the branch was, many of them within one second."""
    present, second, facts = NOTHING, 0, []
    commits = iter(f"{number:040x}" for number in range(1, 20))
    for id_ in draw(st.permutations("abcdef"))[: draw(st.integers(1, 6))]:
        deletes = present != NOTHING and draw(st.booleans())
        after = NOTHING if deletes else next(commits)
        second += draw(st.integers(0, 1))
        facts.append(
            push(id_, before=present, after=after, created=present == NOTHING, deleted=deletes, pushed_at=at(second))
        )
        present = after
    return facts


@given(lives(), st.data())
def test_a_branch_is_what_its_history_made_of_it(life: list[BranchFact], data: st.DataObject) -> None:
    """No commit appears twice, so that every second has one end; deletions all look alike."""
    folded = fold_branch(data.draw(st.permutations([*life, *life])))
    assert folded is not None
    assert (folded.exists, folded.state.after) == (not life[-1].data.deleted, life[-1].data.after)
    assert folded == fold_branch(life)
