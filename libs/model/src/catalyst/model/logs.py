"""The end of a log, fit for an event and a public comment: short, printable, and without anything that looks like a
secret. Whoever writes a Dockerfile can print what the build's container holds; this is the net below the fact that it
holds little.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Final

MAX_LINES: Final = 60
MAX_CHARACTERS: Final = 6000
MAX_LINE: Final = 1000
REDACTED: Final = "[redacted]"

_SECRETS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
        r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?",
        r"\b(?:gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,})",
        r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
        r"\b(?:xox[abprs]-[A-Za-z0-9-]{10,}|sk-[A-Za-z0-9_-]{20,}|npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{20,})",
    )
)
_LABELLED: Final = (
    re.compile(r"(?i)(\b(?:authorization|proxy-authorization)\b\W{1,4}(?:basic|bearer|token)\s+)\S+"),
    re.compile(
        r"(?i)(\"?\b(?:auth|identitytoken|registrytoken|password|passwd|secret|token|api[_-]?key)\"?\s*[:=]\s*\"?)[^\s\"',}]{6,}"
    ),
    re.compile(r"((?:https?|ftp|postgres(?:ql)?|redis|mysql|amqp|mongodb(?:\+srv)?)://[^\s:/@]*:)[^\s@/]+(?=@)"),
)
_ENCODED: Final = re.compile(r"[A-Za-z0-9+/_-]{24,}={0,2}")
_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_READABLE: Final = re.compile(rb"[\x20-\x7e\r\n\t]{16,}\Z")


def tail(log: str, secrets: Iterable[str] = ()) -> str:
    """The last lines of a log. `secrets`: values that are known to be some, redacted raw and as base64."""
    text = _ESCAPES.sub("", log).replace("\r\n", "\n").replace("\r", "\n")
    text = "".join(character for character in text if character in "\n\t" or character.isprintable())
    text = scrubbed(text, secrets)
    lines = [_cut(line.rstrip()) for line in text.strip("\n").split("\n")][-MAX_LINES:]
    while len(lines) > 1 and sum(len(line) + 1 for line in lines) > MAX_CHARACTERS:
        lines.pop(0)
    return "\n".join(lines)[-MAX_CHARACTERS:].strip("\n")


def scrubbed(text: str, secrets: Iterable[str] = ()) -> str:
    """The text with everything replaced that is, or looks like, a secret; base64 of readable text counts as one."""
    for secret in secrets:
        for spelling in _spellings(secret):
            text = text.replace(spelling, REDACTED)
    for pattern in _SECRETS:
        text = re.sub(pattern.pattern, REDACTED, text, flags=re.DOTALL)
    for pattern in _LABELLED:
        text = pattern.sub(rf"\1{REDACTED}", text)
    return _ENCODED.sub(lambda match: REDACTED if _hides_text(match[0]) else match[0], text)


def _spellings(secret: str) -> set[str]:
    """Raw, and each base64 form at its three possible offsets, without the characters the neighbours decide."""
    if len(secret) < 6:
        return set()
    raw = secret.encode()
    found = {secret}
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + raw).decode().rstrip("=")
        middle = encoded[(0, 2, 3)[offset] : -1]
        if len(middle) >= 8:
            found |= {middle, middle.replace("+", "-").replace("/", "_")}
    return found


def _hides_text(word: str) -> bool:
    """Digests and hashes decode to binary, or are hexadecimal; a credential file decodes to something readable."""
    if re.fullmatch(r"[0-9a-f-]+|[0-9A-F-]+|[A-Za-z]+|[a-z_/-]+", word):
        return False
    body = word.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        decoded = base64.b64decode(body[: len(body) // 4 * 4], validate=True)
    except (binascii.Error, ValueError):
        return False
    return _READABLE.match(decoded) is not None


def _cut(line: str) -> str:
    return line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]} …"
