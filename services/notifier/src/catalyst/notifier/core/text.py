"""Text from outside, made harmless for a forge's Markdown.

Branches, titles, reasons and logs are written by whoever pushes. Shown as they are they would call people
(`@org/team`), leave marks in other issues (`#7`), load images, link anywhere, or close our own folds and fences.

```
inline(text)   a sentence: every character that means something is escaped, references are broken by a space of no width
code(text)     a word: in a code span nothing means anything, and no reference is made
fenced(text)   a log: a fence longer than any inside
link(url)      only a plain http(s) address becomes a link; anything else is shown as code
```
"""

import re
import unicodedata
from typing import Final, TypeGuard

ZERO_WIDTH: Final = "\u200b"
"""Put between the parts of a reference, so that the forge does not see one."""

_ANSI: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]()#+\-.!|~=$^:>])")
_BREAKS: Final = re.compile(r"\s+")
_BACKTICKS: Final = re.compile(r"`+")
_ADDRESS: Final = re.compile(
    r"https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9._~/%-]*)?", re.IGNORECASE
)
_REFERENCES: Final = (
    (re.compile(r"@"), f"@{ZERO_WIDTH}"),
    (re.compile(r"#(?=\d)"), f"#{ZERO_WIDTH}"),
    (re.compile(r"(?i)(gh)-(?=\d)"), rf"\1{ZERO_WIDTH}-"),
    (re.compile(r"(?i)(https?|ftp|mailto|xmpp):"), rf"\1{ZERO_WIDTH}:"),
    (re.compile(r"(?i)www\."), f"www{ZERO_WIDTH}."),
)


def printable(text: str, *, keep_lines: bool = False) -> str:
    """Without terminal colours, control characters, invisible and direction-changing ones, and lone surrogates."""
    text = _ANSI.sub("", text)
    return "".join(c for c in text if (keep_lines and c in "\n\t") or (c.isspace() and not keep_lines) or _visible(c))


def inline(text: str, limit: int = 500) -> str:
    """One line of plain text that a renderer shows as it is, at most `limit` characters of the original."""
    line = _cut(_BREAKS.sub(" ", printable(text)).strip(), limit)
    for pattern, broken in _REFERENCES:
        line = pattern.sub(broken, line)
    line = line.replace("&", "&amp;").replace("<", "&lt;")
    return _SPECIAL.sub(r"\\\1", line)


def code(text: str, limit: int = 120) -> str:
    """A code span, also within a table; at most `limit` characters of the original. Empty text gives `–`."""
    line = _cut(_BREAKS.sub(" ", printable(text)).strip(), limit)
    if not line:
        return "–"
    fence = "`" * (_longest_run(line) + 1)
    padding = " " if line[0] == "`" or line[-1] == "`" else ""
    # A bar would end a table's cell even here, and whether a backslash saves it depends on the text before.
    return fence + padding + line.replace("|", "∣") + padding + fence


def fenced(text: str, *, lines: int = 60, limit: int = 4000) -> str:
    """The end of a log as a code block: at most so many lines and characters. Empty when nothing is left."""
    kept = printable(text.replace("\r\n", "\n").replace("\r", "\n"), keep_lines=True).strip("\n")
    end = "\n".join(line.rstrip() for line in kept.split("\n")[-lines:])[-limit:] if limit > 0 else ""
    if not end.strip():
        return ""
    fence = "`" * max(3, _longest_run(end) + 1)
    return f"{fence}text\n{end}\n{fence}"


def link(url: str, label: str | None = None) -> str:
    """`[host](url)`. What is not a plain http or https address is shown as code and leads nowhere."""
    if not _ADDRESS.fullmatch(url) or len(url) > 2000:
        return code(url)
    shown = label if label is not None else url.partition("://")[2].rstrip("/")
    return f"[{inline(shown, 260)}]({url})"


def is_address(url: str | None) -> TypeGuard[str]:
    """Whether `link` would make a link of it."""
    return url is not None and len(url) <= 2000 and _ADDRESS.fullmatch(url) is not None


def _visible(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _longest_run(text: str) -> int:
    return max((len(run) for run in _BACKTICKS.findall(text)), default=0)
