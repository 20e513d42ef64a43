"""Names at a registry, as text."""

import re
from typing import Final

DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}\Z")
REPOSITORY: Final = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*\Z")
"""As the distribution specification writes a repository's name."""
MAX_REPOSITORY: Final = 255


def digest_in(text: str) -> str | None:
    """The digest that a tool wrote: alone, or behind `repository@`. None when it is anything else."""
    word = text.strip().rpartition("@")[2]
    return word if DIGEST.match(word) else None


def is_repository(text: str) -> bool:
    return len(text) <= MAX_REPOSITORY and REPOSITORY.match(text) is not None
