"""docs/capacity.md says what was measured, and its first row is the part that gives first."""

import json
from typing import Any

from bench import capacity, results


def scaling() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capacity.SCALING.read_text())
    return found


def test_the_page_is_of_the_figures_that_are_kept() -> None:
    text = capacity.DOCUMENT.read_text()
    assert capacity.page(text, results.load(), scaling()) == text, "run: python -m bench.capacity"


def test_the_tightest_part_comes_first_and_every_part_is_one_row_of_what_was_measured() -> None:
    rows = {row["name"]: row for row in results.load()}
    found = capacity.bounds(rows, scaling()["pull-request"])
    assert [bound.hourly for bound in found] == sorted(bound.hourly for bound in found)
    named = {word for bound in found for word in bound.measured.split("`")[1::2] if word.islower()}
    assert named <= {*rows, *scaling()}, "each name leads to a row"
    assert {"ten-at-once", "burst", "ingest-fsync", "pull-request"} <= named
