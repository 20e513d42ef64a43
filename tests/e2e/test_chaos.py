"""A short run of chaos, so that it does not rot: `make chaos` is the long one. It takes four minutes, so it is left to
`make test-full`.
"""

from __future__ import annotations

import pytest

from chaos.plan import plan
from chaos.run import struck, struck_setting


@pytest.mark.full(sample=0)
def test_ten_faults(began_here: bool) -> None:
    """An installation of its own, given back as the other modules want it."""
    with struck_setting() as on:
        result = struck(on, 7, 10, plan(7))
    assert result.findings == [], result.ledger.entries
    assert len(result.ledger.hits) >= 10
