"""Every reason leads to a page that exists, and every page is listed."""

import re
from pathlib import Path

from snapshots import shown

from catalyst.model.remedies import REMEDIES, UNKNOWN, remedy

ROOT = Path(__file__).parents[3]
RUNBOOKS = ROOT / "docs" / "runbooks"
ALERTS = ROOT / "deploy" / "k8s" / "monitoring"


def test_each_reason_and_alert_has_its_runbook_and_each_runbook_a_reason() -> None:
    linked = {each.runbook for each in (*REMEDIES.values(), UNKNOWN)}
    texts = [rules.read_text() for rules in ALERTS.rglob("*.yaml")]
    linked |= {page for text in texts for page in re.findall(r"docs/runbooks/(\w+)\.md", text)}
    pages = {page.stem for page in RUNBOOKS.glob("*.md")} - {"README"}
    assert linked == pages


def test_each_reason_of_a_build_says_what_to_do() -> None:
    """builder's reasons, as its source names them: no service imports another."""
    source = ROOT / "services" / "builder" / "src"
    texts = [path.read_text() for path in source.rglob("*") if path.suffix in (".py", ".sh")]
    found = {reason for text in texts for reason in re.findall(r'(?:Broken|Refusal)\(\s*"(\w+)"', text)}
    found |= {reason for text in texts for reason in re.findall(r"\bfail ([A-Z]\w+)", text)}
    assert {"BuildFailed", "SourceNotReadable", "CommitNotFound"} <= found
    assert found - set(REMEDIES) == set()


def test_all_runbooks_are_listed_and_begin_with_their_name() -> None:
    index = shown((RUNBOOKS / "README.md").read_text())
    assert {link for link in index.links if "/" not in link} == {page.name for page in RUNBOOKS.glob("*.md")} - {
        "README.md"
    }
    for page in RUNBOOKS.glob("*.md"):
        text = page.read_text()
        assert text.startswith("# Runbooks\n" if page.stem == "README" else f"# {page.stem}\n\n")
        assert page.stem == "README" or "## What to do" in text


def test_what_has_no_entry_gets_the_general_answer() -> None:
    assert remedy("SomethingNew") == UNKNOWN
    assert remedy("CrashLoop").runbook == "CrashLoop"
