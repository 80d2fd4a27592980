"""What an answer about a key is worth, figured out a second time, one key at a time."""

from __future__ import annotations

from cowrie_enrich_dagster.lookups.order import CLASS_STEP


def priority_of(*, sessions: int, sensors: int = 1, login_successes: int = 0, files: int = 0) -> int:
    """As `PRIORITY` in SQL: 2 classes for who got in, 1 for who left files; then how busy it was."""
    value_class = 2 * (login_successes > 0) + (files > 0)
    return value_class * CLASS_STEP + min(sessions * sensors, CLASS_STEP - 1)
