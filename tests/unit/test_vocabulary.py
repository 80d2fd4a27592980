"""The words that all parts share."""

from __future__ import annotations

from datetime import date

from cowrie_enrich_dagster.vocabulary import Days


def test_days_that_follow_one_another_are_one_range() -> None:
    """Whatever their order, each once; months and years do not part them."""
    days = [date(2026, 1, 1), date(2025, 12, 30), date(2025, 12, 31), date(2026, 1, 3), date(2025, 12, 31)]
    assert [str(days) for days in Days.stretches(days)] == ["2025-12-30..2026-01-01", "2026-01-03"]
    assert Days.stretches([]) == []
