"""Whatever somebody writes, a reader sees it as text: rendered by a real Markdown renderer."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it.common.normalize_url import normalizeLink
from snapshots import shown

from catalyst.notifier.core.text import ZERO_WIDTH, code, fenced, inline, is_address, link, printable

PIECES = (
    "@acme/admins", "@mona", "#7", "acme/shop#7", "GH-7", "https://evil.example/x", "www.evil.example",
    "ann@evil.example",
    "![x](https://evil.example/p.png)", "[click](javascript:alert(1))", "<img src=x onerror=alert(1)>", "<script>",
    "</details>", "<!--", "-->", "`", "``", "```", "~~~", "\n```\n", "\n\n", "\r\n", "|", "\\", "\\|", "&lt;",
    "&#64;mona", "***", "___", "~~", "$x$", "# ", "> ", "1. ", "- ", "---", "===", "\t", "\x1b[31m", "\u202e", "\u200b",
    "\x00", "a", "ü", "🙂",
)  # fmt: skip
HOSTILE = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=12).map("".join)


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", printable(text)).strip()


@given(HOSTILE)
@example("<b>\\`x`</b>")
@example("a\\")
def test_a_sentence_is_shown_as_it_is(text: str) -> None:
    page = shown(f"Before {inline(text)} after")
    assert set(page.tags) <= {"p"}, page.tags
    assert page.text.replace(ZERO_WIDTH, "").split() == f"Before {plain(text)} after".split()
    assert not re.search(r"@\w|#\d|(https?|ftp):|www\.|gh-\d", page.text, re.IGNORECASE)


@given(HOSTILE)
@example("`")
@example("a`` `b")
def test_a_word_is_one_piece_of_code(text: str) -> None:
    page = shown(f"| a | b |\n|---|---|\n| {code(text, 1000)} | after |")
    expected = plain(text).replace("|", "∣")
    assert page.tags.count("td") == 2
    assert [tag for tag in page.tags if tag not in ("table", "thead", "tbody", "tr", "th", "td")] == (
        ["code"] if expected else []
    )
    assert page.code == expected
    assert "after" in page.text


@given(HOSTILE)
@example("</details>\n\n```\n<img src=x>")
def test_a_log_stays_in_its_fold(text: str) -> None:
    block = fenced(text)
    page = shown(f"<details><summary>log</summary>\n\n{block}\n\n</details>\n\nafter")
    assert [tag for tag in page.tags if tag != "p"] == (
        ["details", "summary", "pre", "code"] if block else ["details", "summary"]
    )
    assert page.text.split() == ["log", "after"]
    assert "\x1b" not in page.code


def test_only_the_end_of_a_log_is_kept() -> None:
    log = "\n".join(f"line {number}" for number in range(1000))
    assert fenced(log, lines=2) == "```text\nline 998\nline 999\n```"
    assert len(fenced("x" * 70_000, limit=400)) < 420
    assert fenced(" \n\n") == fenced("x", limit=0) == ""


@given(HOSTILE)
@example("%")
def test_a_link_leads_to_a_plain_address_or_nowhere(text: str) -> None:
    for url in (text, f"https://{text}", f"https://shop.example/{text}"):
        page = shown(f"see {link(url)}")
        assert page.links == ([normalizeLink(url)] if is_address(url) else [])  # a lone "%" becomes "%25"
        assert set(page.tags) <= {"p", "a", "code"}


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("https://pr-42--shop--acme.catalyst.localhost:8443/", "pr-42--shop--acme.catalyst.localhost:8443"),
        ("http://a.example/start", "a.example/start"),
    ],
)
def test_a_link_shows_where_it_leads(url: str, label: str) -> None:
    page = shown(link(url))
    assert (page.links, page.text.strip()) == ([url], label)


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "https://x/)", "https://x y", "//x", "ftp://x", "https://a@b/", f"https://x/{'a' * 3000}"],
)
def test_what_is_no_plain_address_is_shown_as_code(url: str) -> None:
    assert not is_address(url)
    assert shown(link(url)).links == []
