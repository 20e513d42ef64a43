"""A comment's Markdown as HTML that cannot do anything: what GitHub shows of it, and whom it would call.

Like GitHub, raw HTML is allowed where it is harmless (`<details>`, tables, …) and taken out where it is not. The pages
forbid scripts and foreign content by their Content-Security-Policy on top.
"""

import re
from collections.abc import Iterator
from html import escape
from html.parser import HTMLParser
from urllib.parse import urlsplit

from markdown_it import MarkdownIt

ALLOWED = frozenset(
    (
        "a", "b", "blockquote", "br", "code", "dd", "del", "details", "div", "dl", "dt", "em", "h1", "h2", "h3", "h4",
        "h5", "h6", "hr", "i", "img", "kbd", "li", "ol", "p", "pre", "s", "small", "span", "strong", "sub", "summary",
        "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul",
    )
)  # fmt: skip
VOID = frozenset(("br", "hr", "img"))
SILENT = frozenset(
    ("script", "style", "iframe", "object", "textarea", "title", "xmp", "noscript", "template", "svg", "math")
)
"""What lies inside these is not shown either."""
ATTRIBUTES = {
    "a": ("href", "title"),
    "img": ("alt", "title"),
    "ol": ("start",),
    "td": ("align",),
    "th": ("align",),
    "details": ("open",),
}
SCHEMES = frozenset(("http", "https", "mailto", ""))
_MENTION = re.compile(r"(?<![\w/@`])@([a-z\d](?:[a-z\d-]{0,38})(?:/[\w.-]+)?)", re.IGNORECASE)

_markdown = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable(["table", "strikethrough"])


def html(text: str) -> str:
    """Safe HTML; `alt` stands for an image, which is never fetched."""
    cleaner = _Cleaner()
    cleaner.feed(_markdown.render(text))
    cleaner.close()
    return cleaner.result()


def mentions(text: str) -> list[str]:
    """Whom GitHub would notify: `@somebody` and `@org/team` outside code."""
    return [found[1] for piece in _prose(text) for found in _MENTION.finditer(piece)]


def _prose(text: str) -> Iterator[str]:
    for token in _markdown.parse(text):
        if token.type == "inline":
            yield "".join(
                child.content if child.type in ("text", "html_inline") else " " for child in token.children or ()
            )
        elif token.type == "html_block":
            yield re.sub(r"(?is)<(code|pre)\b.*?</\1>", " ", token.content)


class _Cleaner(HTMLParser):
    """Copies what is allowed and closes what was left open."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._made: list[str] = []
        self._open: list[str] = []
        self._silent: list[str] = []

    def result(self) -> str:
        return "".join([*self._made, *(f"</{tag}>" for tag in reversed(self._open))])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in SILENT:
            self._silent.append(tag)
        if self._silent or tag not in ALLOWED:
            return
        given = {name: value or "" for name, value in attrs if name in ATTRIBUTES.get(tag, ())}
        if "href" in given and not _harmless(given["href"]):
            del given["href"]
        words = "".join(f' {name}="{escape(value)}"' for name, value in given.items())
        rel = ' rel="nofollow noopener noreferrer"' if tag == "a" else ""
        self._made.append(f"<{tag}{words}{rel}>")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._silent:
            del self._silent[self._silent.index(tag) :]
            return
        if self._silent or tag not in self._open:
            return
        while (last := self._open.pop()) != tag:
            self._made.append(f"</{last}>")
        self._made.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._made.append(escape(data, quote=False))


def _harmless(address: str) -> bool:
    try:
        return urlsplit(re.sub(r"[\x00-\x20]", "", address)).scheme.lower() in SCHEMES
    except ValueError:
        return False
