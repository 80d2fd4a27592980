"""Figures for the UI. What attackers wrote is shown as text, never as Markdown or HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dagster import MetadataValue

_SPECIAL = re.compile(r"[^\w\s.,/@%=-]")
_MAX_CELL = 80


def escape(value: object) -> str:
    """One line of plain text that Markdown and HTML leave as it is, at most 80 characters of the original."""
    text = "" if value is None else str(value)
    text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:_MAX_CELL])
    # Entities are text to a Markdown renderer: no link, emphasis, code, table cell or tag can come of them.
    return _SPECIAL.sub(lambda match: f"&#{ord(match[0])};", text).replace("_", "&#95;")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> MetadataValue[Any]:
    """A Markdown table with every cell escaped."""
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(escape(cell) for cell in row) for row in rows]
    return MetadataValue.md("\n".join(f"| {line} |" for line in lines))


def counts_table(name: str, counts: Mapping[str, Mapping[str, int]]) -> MetadataValue[Any]:
    """A table of service x status -> number."""
    return table([name, "status", "number"], [
        (service, status, number)
        for service, by_status in counts.items()
        for status, number in sorted(by_status.items())
    ])  # fmt: skip


def percent(share: float | None) -> str:
    """A share as people read it; a dash where there is nothing to share."""
    return "–" if share is None else f"{share:.1%}"
