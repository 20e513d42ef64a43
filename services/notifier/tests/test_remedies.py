"""Every reason leads to a page that exists, and every page is listed."""

from pathlib import Path

from snapshots import shown

from catalyst.model.remedies import REMEDIES, UNKNOWN, remedy

RUNBOOKS = Path(__file__).parents[3] / "docs" / "runbooks"


def test_each_reason_has_its_runbook_and_each_runbook_a_reason() -> None:
    linked = {each.runbook for each in (*REMEDIES.values(), UNKNOWN)}
    pages = {page.stem for page in RUNBOOKS.glob("*.md")} - {"README"}
    assert linked == pages


def test_all_runbooks_are_listed_and_begin_with_their_name() -> None:
    index = shown((RUNBOOKS / "README.md").read_text())
    assert set(index.links) == {page.name for page in RUNBOOKS.glob("*.md")} - {"README.md"}
    for page in RUNBOOKS.glob("*.md"):
        text = page.read_text()
        assert text.startswith("# Runbooks\n" if page.stem == "README" else f"# {page.stem}\n\n")
        assert page.stem == "README" or "## What to do" in text


def test_what_has_no_entry_gets_the_general_answer() -> None:
    assert remedy("SomethingNew") == UNKNOWN
    assert remedy("CrashLoop").runbook == "CrashLoop"
