"""Each page of docs/runbooks is followed by exactly one test, command by command: the test bears the page's name in
`@runbook(…)`, and fails when it does not type it (tests/support/runbooks.py).
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from runbooks import INCIDENTS, RUNBOOKS, STANDS_FOR, Terminal, Told, commands, commands_in, filled, follow

TESTS = Path(__file__).parents[1]
PAGES = sorted(page.stem for page in RUNBOOKS.glob("*.md") if page.stem != "README")
FOLLOWED_BY_NOBODY: dict[str, str] = {}
"""Page → why no test can follow it."""


def borne() -> Counter[str]:
    """How many tests bear each page's name, by their source."""
    found: Counter[str] = Counter()
    for path in sorted(TESTS.glob("*/test_*.py")):
        found.update(_borne_in(ast.parse(path.read_text(encoding="utf-8"))))
    return found


def _borne_in(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "runbook":
            for argument in node.args:
                assert isinstance(argument, ast.Constant), f"line {node.lineno}: expected the names of pages"
                yield str(argument.value)


def test_each_page_is_followed_by_one_test() -> None:
    found = borne()
    assert {page: count for page, count in found.items() if count > 1} == {}
    assert sorted([*found, *FOLLOWED_BY_NOBODY]) == PAGES


@pytest.mark.parametrize("page", PAGES)
def test_each_page_has_commands_that_can_be_typed(page: str) -> None:
    typed = commands(page)
    assert typed
    for command in typed:
        filled(command, dict.fromkeys(STANDS_FOR, "x"))
        assert command.split()[0] in ("catalyst", "kubectl", "python", "curl"), command
    text = (RUNBOOKS / f"{page}.md").read_text(encoding="utf-8")
    assert text.count("```") == 2 * text.count("```sh"), "a block without `sh` is typed by nobody"
    assert f"]({page}.md)" in (RUNBOOKS / "README.md").read_text(encoding="utf-8")


def test_each_block_of_the_incidents_is_typed() -> None:
    text = INCIDENTS.read_text(encoding="utf-8")
    blocks = Told.at(Terminal(TESTS, {})).blocks
    walked = re.findall(r'told\.types\("([^"]+)"', (TESTS / "e2e" / "test_incidents.py").read_text(encoding="utf-8"))
    assert sorted(walked) == sorted(blocks)
    assert len(blocks) == text.count("```sh"), "a block without a mark is typed by nobody"
    assert [name for name, (_, shape) in blocks.items() if not shape] == [], "a block without an answer"


def test_an_answer_of_another_shape_is_found(tmp_path: Path) -> None:
    page = "<!-- walk: one -->\n```sh\necho a b c\n```\n\n```text\na … c\n```\n"
    terminal = Terminal.of(tmp_path, tmp_path)
    assert Told.at(terminal, page).types("one", {}) == "$ echo a b c\na b c\n"
    assert Told.at(terminal, page).types("one", {"a b c": "c b a c"}), "names are those of the place"
    with pytest.raises(AssertionError, match=r"incidents\.md, one: 'a … c' is not answered"):
        Told.at(terminal, page.replace("a b c", "a b")).types("one", {})


def test_a_page_is_typed_as_it_stands(tmp_path: Path) -> None:
    """A command that fails, an answer that does not show it, a word without a name: each is said."""
    terminal = Terminal.of(tmp_path, tmp_path)
    assert commands_in("- text\n\n  ```sh\n  echo one \\\n    two\n\n  true\n  ```\n") == ["echo one two", "true"]
    assert terminal.types("echo seen") == "seen\n"
    with pytest.raises(AssertionError, match="`false` ended with 1"):
        terminal.types("false")
    with pytest.raises(AssertionError, match="nobody says what PROJECT is here"):
        filled("catalyst why TEAM/PROJECT", {"TEAM": "acme"})
    with pytest.raises(AssertionError, match=r"docs/runbooks/DockerfileInvalid\.md: `catalyst why a/b/c` ended with"):
        follow("DockerfileInvalid", terminal, TEAM="a", PROJECT="b", ENVIRONMENT="c")
