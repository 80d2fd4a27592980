"""Numbers and times as people read them, the same on every screen."""

from __future__ import annotations

import pytest

from cowrie_enrich_dagster.readable import duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, None),
        (0, "0 s"),
        (119, "119 s"),
        (1800, "30 min"),
        (86_400, "24.0 h"),
        (259_200, "3.0 days"),
    ],
)
def test_a_duration_is_told_in_fitting_units(seconds: float | None, words: str | None) -> None:
    """Seconds, minutes, hours or days."""
    assert duration(seconds) == words
