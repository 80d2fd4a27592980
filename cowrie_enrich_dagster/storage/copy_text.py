"""Values as the text that PostgreSQL's COPY reads: https://www.postgresql.org/docs/current/sql-copy.html."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, timezone
from typing import Any

from cowrie_enrich_dagster.storage.json_text import to_json

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\x00": None})

Plain = int | str | None
"""What both databases take as it is: None, whole numbers (also for truth: 1 or 0), and texts, none of them
empty (also for moments in UTC, days and JSON), without NUL."""


def line_of(row: Sequence[Any]) -> str:
    """A row of any values that we keep; None is `\\N`."""
    return "\t".join(map(_text, row))


def plain_end(values: Sequence[Plain]) -> str:
    """What follows the line of a row that lacks these values at its end."""
    return "".join(f"\t{_plain(value)}" for value in values)


def plain_line(row: Sequence[Plain], end: str = "") -> str:
    """A row of plain values, with line feed; None is nothing, as no text is."""
    line = "\t".join([value if type(value) is str else "" if value is None else str(value) for value in row])
    if "\\" in line or "\n" in line or "\r" in line or line.count("\t") >= len(row):
        line = "\t".join(map(_plain, row))
    return f"{line}{end}\n"


def utc_text(value: datetime) -> str:
    """A moment in UTC, without its zone."""
    utc = value if value.tzinfo is timezone.utc else value.astimezone(timezone.utc)
    return utc.isoformat(" ", "microseconds")[:26]


def list_text(value: Sequence[Any]) -> str:
    """A list as JSON."""
    return to_json(value) if value else "[]"


def _plain(value: Plain) -> str:
    return "" if value is None else _text(value)


def _text(value: Any) -> str:
    if value is None:
        return "\\N"
    encode = _ENCODERS.get(type(value))
    return encode(value) if encode else str(value).translate(_ESCAPES)


_ENCODERS: dict[type, Callable[[Any], str]] = {
    int: str,
    float: repr,
    bool: lambda value: "t" if value else "f",
    datetime: lambda value: utc_text(value) + "+00",
    date: date.isoformat,
    dict: lambda value: to_json(value).translate(_ESCAPES),
    list: lambda value: list_text(value).translate(_ESCAPES),
    tuple: lambda value: list_text(value).translate(_ESCAPES),
}
