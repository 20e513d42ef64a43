"""The comment: what it says in each state, and that it says nothing that somebody else wrote."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snapshots import ACCEPTED, COMMIT, component, condition, crashing, fork, gone, ready, route, shown, snapshot, stage

from catalyst.model.environment import Phase
from catalyst.model.snapshot import Snapshot
from catalyst.notifier.core.comment import LIMIT, MARK, WORDS, Style, render
from catalyst.notifier.core.conversation import Conversation, PullRequestKey

KEY = PullRequestKey("github", "acme/shop", 42)


def told(*snapshots: Snapshot, **style: Any) -> str:
    return render(Conversation(KEY, snapshots), Style(**style))


def test_ready_in_full() -> None:
    assert told(ready()) == (
        "<!-- catalyst:environments -->\n"
        "\n"
        "### 🟢 Environment ready\n"
        "\n"
        "**[pr\\-42\\-\\-shop\\-\\-acme\\.catalyst\\.localhost\\:8443]"
        "(https://pr-42--shop--acme.catalyst.localhost:8443/)** · commit `0123456789ab`\n"
        "\n"
        "| Component | State | Build | Deploy | Commit | URL |\n"
        "|---|---|---|---|---|---|\n"
        "| `api` | 🟢 ready | 1 min 5 s | 5.0 s | `0123456789ab` | – |\n"
        "| `web` | 🟢 ready | 12 s | 4.0 s | `0123456789ab` "
        "| [open](https://pr-42--shop--acme.catalyst.localhost:8443/) |\n"
        "\n"
        "Accepted 0.1 s · Namespace 0.4 s\n"
        "\n"
        "<sub>Every push updates it. `/catalyst help` lists the commands.</sub>\n"
    )


def test_a_failure_says_why_shows_the_log_and_what_to_do() -> None:
    text = told(crashing(), runbooks="https://docs.example/runbooks")
    page = shown(text)
    assert "### 🔴 Environment failed" in text
    assert "web: exit code 1, restarted 4 times" in page.text
    assert "KeyError: 'DATABASE_URL'" in page.code
    assert "The end of its log says why" in page.text
    assert "https://docs.example/runbooks/CrashLoop.md" in page.links
    assert page.tags[page.tags.index("details") :][:4] == ["details", "summary", "pre", "code"]
    assert "| `api` | 🟢 ready" in text, "what is well is shown as well"


def test_a_failure_before_any_component_is_told_from_the_conditions() -> None:
    refused = condition("Accepted", False, "UnsafeEgress", "spec.development.egress[0].cidr: 10.0.0.0/8 is closed")
    failed = snapshot(Phase.FAILED, conditions=(refused,), reason="UnsafeEgress", message=refused["message"])
    page = shown(told(failed))
    assert "UnsafeEgress" in page.code
    assert "10.0.0.0/8 is closed" in page.text
    assert "Name a smaller network" in page.text


def test_an_unknown_reason_gets_the_general_advice() -> None:
    failed = snapshot(Phase.FAILED, reason="SomethingNew", message="what is known")
    assert "the next push tries again" in told(failed)


@pytest.mark.parametrize(
    ("held", "says"),
    [
        (fork(), ("from a fork", "/catalyst approve 0123456789ab", "the next push needs another")),
        (
            snapshot(Phase.WAITING, conditions=(ACCEPTED, condition("Approved", False, "Draft"))),
            ("draft is ready for review", "/catalyst deploy"),
        ),
        (
            snapshot(Phase.WAITING, conditions=(ACCEPTED, condition("Approved", False, "Manual", "ask ann"))),
            ("held", "ask ann"),
        ),
        (
            snapshot(
                Phase.WAITING, conditions=(ACCEPTED, condition("Admitted", False, "Paused", "Team acme; ask ann"))
            ),
            ("It waits", "Paused", "Team acme; ask ann"),
        ),
        (
            snapshot(
                Phase.WAITING,
                conditions=(ACCEPTED, condition("Admitted", False, "MaximumReached", "Position 12 of 88; the maximum")),
            ),
            ("It waits", "MaximumReached", "Position 12 of 88; the maximum"),
        ),
    ],
)
def test_what_waits_says_for_what(held: Snapshot, says: tuple[str, ...]) -> None:
    page = shown(told(held))
    assert "Environment waiting" in page.text
    for words in says:
        assert words in page.text + page.code


def test_what_runs_while_something_new_waits_keeps_its_link() -> None:
    held = condition("Admitted", False, "Paused", "Team acme is paused.")
    serving = snapshot(
        Phase.WAITING,
        conditions=(ACCEPTED, held),
        components=(component("web"),),
        url="https://pr-42--shop--acme.example/",
    )
    assert "https://pr-42--shop--acme.example/" in shown(told(serving)).links
    starting = snapshot(Phase.WAITING, conditions=(ACCEPTED, held), url="https://pr-42--shop--acme.example/")
    assert "https://pr-42--shop--acme.example/" not in shown(told(starting)).links


def test_after_closing_a_short_line_is_left() -> None:
    assert told(gone()) == f"{MARK}\n\nEnvironment removed: the pull request was closed. Nothing of it is left.\n"


def test_several_projects_share_one_comment() -> None:
    text = told(ready(), snapshot(Phase.BUILDING, project="docs", builds={"docs": {"key": "k"}}))
    page = shown(text)
    assert text.count(MARK) == 1
    assert page.tags.count("h3") == 1
    assert page.tags.count("h4") == 2
    assert "Environments: 1 of 2 ready" in page.text
    assert "| `docs` | 🟡 building | – | – |" in text


def test_what_is_built_waits_for_the_others() -> None:
    half = snapshot(
        Phase.BUILDING, components=(component("web", ready=False),), builds={"web": {"key": "k"}, "api": {"key": "k"}}
    )
    text = told(half)
    assert "| `web` | 🟡 built |" in text
    assert "| `api` | 🟡 building |" in text


def test_one_of_several_is_gone() -> None:
    page = shown(told(ready(), snapshot(Phase.GONE, project="docs")))
    assert "Environment ready" in page.text
    assert "acme/docs/pr-42" in page.code
    assert page.text.count("Nothing of it is left.") == 1


def test_what_is_asked_for_and_not_implemented_is_said() -> None:
    lacking = condition("Supported", False, "NotImplemented", "Not implemented yet: Project spec.services.")
    assert "Project spec.services." in shown(told(snapshot(conditions=(ACCEPTED, lacking)))).text


def test_a_stage_that_runs_says_since_when() -> None:
    assert "Namespace … since 20:00:01 UTC" in told(snapshot(Phase.PROVISIONING, stages=(stage("Namespace", 1, None),)))


def test_one_component_may_use_the_stages_of_the_whole() -> None:
    one = snapshot(components=(component("web"),), stages=(stage("Build", 0, 3), stage("Deploy", 3, 1)))
    assert "| `web` | 🟢 ready | 3.0 s | 1.0 s |" in told(one)


def test_every_phase_has_a_word() -> None:
    assert set(WORDS) == set(Phase)
    for phase in Phase:
        assert told(snapshot(phase)).startswith(MARK)


def test_the_same_state_gives_the_same_text() -> None:
    assert told(ready()) == told(ready().model_copy(update={"resource_version": "2"}))


def test_seventy_kilobytes_of_log_are_cut_and_all_components_still_told() -> None:
    many = snapshot(
        Phase.FAILED,
        components=tuple(
            component(f"c{n}", ready=False, reason="CrashLoop", message=f"it ended\n{'ü@mona ' * 1000}")
            for n in range(64)
        ),
    )
    text = told(many)
    assert len(text.encode()) <= LIMIT
    assert all(f"| `c{n}` |" in text for n in range(64))


def test_more_environments_than_fit_are_told_in_a_line_each_and_then_cut() -> None:
    some = told(*(crashing_of(f"p{n}", 64) for n in range(40)))
    assert len(some.encode()) <= LIMIT
    assert some.count("🔴") == 40
    most = told(*(crashing_of(f"p{n}" * 10, 1) for n in range(3000)))
    assert len(most.encode()) <= LIMIT
    assert "There are more than fit here." in most


def crashing_of(project: str, components: int) -> Snapshot:
    broken = tuple(
        component(f"c{n}", ready=False, reason="CrashLoop", message="it ended\n" + "x" * 5000)
        for n in range(components)
    )
    return snapshot(Phase.FAILED, project=project, components=broken)


EVIL = st.lists(
    st.sampled_from(
        ("@acme/admins", "@mona ", "#7", "![x](https://evil.example/p)", "[a](https://evil.example)", "<img src=x>",
         "</details>", "<details>", "-->", "```", "`", "|", "\n", "\n\n", "\\", MARK, "<!-- ", "https://evil.example",
         "# ", "\x1b[31m", "\u202e", "x" * 300)
    ),
    max_size=10,
).map("".join)  # fmt: skip
OURS = {
    "h3", "h4", "p", "strong", "a", "code", "pre", "table", "thead", "tbody", "tr", "th", "td", "details", "summary",
    "sub",
}  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(EVIL, EVIL, EVIL, st.sampled_from([Phase.FAILED, Phase.DEGRADED, Phase.WAITING, Phase.READY, Phase.GONE]))
def test_nothing_that_somebody_wrote_acts(one: str, two: str, three: str, phase: Phase) -> None:
    hostile = snapshot(
        phase,
        branch=one or "x",
        reason=two,
        message=three,
        conditions=(
            ACCEPTED,
            condition("Approved", phase != Phase.WAITING, "Manual", one),
            condition("Supported", False, "NotImplemented", two),
        ),
        components=(component("web", ready=False, reason=(two or "x")[:256], message=f"{one}\n{three}"),),
        routes=(route(host=(three or "x")[:253]),),
        url=f"https://{one}",
        pull_request={"title": two, "author": (one or "x")[:200], "url": three},
    )
    text = told(hostile, ready())
    page = shown(text)
    assert len(text.encode()) <= LIMIT
    assert text.startswith(MARK)
    assert text.count(MARK) == 1 + page.code.count(MARK), "only ours is a comment of HTML"
    assert set(page.tags) <= OURS, set(page.tags) - OURS
    assert page.images == []
    assert not [link for link in page.links if "evil" in link]
    assert not re.search(r"@\w|#\d|https?:", page.text)
    assert COMMIT[:12] in page.code
