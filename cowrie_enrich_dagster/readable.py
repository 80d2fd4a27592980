"""Numbers, shares, spans of time and moments as people read them: on a terminal, a page, in Dagster's UI."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime


def number(value: int | float) -> str:
    """With thousands apart: `1,400`."""
    return f"{value:,.0f}"


def counted(value: int, one: str, many: str | None = None) -> str:
    """`1 session`, `1,400 sessions`."""
    return f"{number(value)} {one if value == 1 else many or one + 's'}"


def share(part: int, whole: int) -> str:
    """`34 %`; what is little, and not nothing, is `< 1 %`."""
    if not whole or not part:
        return "0 %"
    percent = 100 * part / whole
    if percent < 1:
        return "< 1 %"
    return f"{percent:.0f} %" if percent < 99.5 or part == whole else "> 99 %"


def percent(share: float | None) -> str:
    """`34.2%` of a share from 0 to 1; a dash where there is nothing to share."""
    return "–" if share is None else f"{share:.1%}"


def duration(seconds: float | None) -> str | None:
    """In the unit that people would choose, `90 s`, `5 min`, `2.5 h`, `3.0 days`; None of None."""
    if seconds is None:
        return None
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def moment(at: datetime | date | None) -> str:
    """`2025-11-02 14:03`; of a date `2025-11-02`; a dash where there is none. In UTC, as everywhere."""
    if at is None:
        return "–"
    return f"{at:%Y-%m-%d %H:%M}" if isinstance(at, datetime) else f"{at:%Y-%m-%d}"


def instant(at: datetime) -> str:
    """To the second: `2025-11-02 14:03:07 UTC`."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def clipped(text: str, chars: int) -> str:
    """The text, or its beginning and `…`."""
    return text if len(text) <= chars else f"{text[:chars]}…"
