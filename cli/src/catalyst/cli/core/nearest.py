"""Names that were perhaps meant. Pure."""

import difflib
from collections.abc import Iterable

SHOWN = 3


def nearest(text: str, names: Iterable[str]) -> list[str]:
    """At most three of the names, the most similar first; those that differ in one part only count as near, too."""
    known = sorted(set(names))
    alike = difflib.get_close_matches(text, known, n=SHOWN, cutoff=0.6)
    parts = text.split("/")
    sharing = [name for name in known if sum(a == b for a, b in zip(parts, name.split("/"), strict=False)) >= 2]
    return list(dict.fromkeys([*alike, *difflib.get_close_matches(text, sharing, n=SHOWN, cutoff=0.0)]))[:SHOWN]
