"""Points in time as people write them. Pure: now is an argument."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

EXPECTED: Final = "expected 2026-11-23T20:00:00Z, 2026-11-23, 20:15 (today, UTC), or 10m, 2h, 3d (ago)"
_AGO = re.compile(r"-?(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d|w)(?: ago)?\Z")
_UNIT: Final = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}(?:\.\d{1,6})?))?\Z")


def point(text: str, now: datetime) -> datetime:
    """An aware time. Without a zone it is UTC. Raises ValueError, which says what was expected."""
    words = text.strip()
    if words == "now":
        return now
    try:
        if found := _AGO.match(words):
            return now - timedelta(seconds=float(found[1]) * _UNIT[found[2]])
        if found := _CLOCK.match(words):
            today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            if int(found[1]) < 24 and int(found[2]) < 60:
                return today + timedelta(hours=int(found[1]), minutes=int(found[2]), seconds=float(found[3] or 0))
        parsed = datetime.fromisoformat(words)
    except (ValueError, OverflowError) as exc:
        raise ValueError(f"{text!r} is no time: {EXPECTED}") from exc
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def took(seconds: float) -> str:
    """`3 ms`, `0.4 s`, `12 s`, `2 min 5 s`, `1 h 3 min`, `2 d 4 h`."""
    seconds = max(0.0, seconds)
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"
