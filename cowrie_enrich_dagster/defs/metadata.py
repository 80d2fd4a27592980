"""Figures for the UI. What attackers wrote is shown as text, never as Markdown or HTML."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from html import escape as html_escape
from typing import Any

from dagster import AssetExecutionContext, MetadataValue

from cowrie_enrich_dagster.enrichment.run_report import RunReport

_SPECIAL = re.compile(r"[^\w\s.,/%=-]|_")
_LINK = re.compile(r"://|www|@", re.IGNORECASE)
_WORD_JOINER = "\N{WORD JOINER}"
_MAX_CELL = 80


def tell(
    context: AssetExecutionContext, by_day: Mapping[date, Mapping[str, Any]], of_run: Mapping[str, Any]
) -> None:
    """Metadata of the partitions of these days: what is of the day, then what is of its whole run."""
    for day, of_day in by_day.items():
        context.add_asset_metadata({**of_day, **of_run}, partition_key=str(day))


def escape(value: object) -> str:
    """One line of plain text that Markdown and HTML leave as it is, at most 80 characters of the original."""
    if isinstance(value, datetime):  # UTC; wide tables are cut off
        value = f"{value:%Y-%m-%d %H:%M:%S}"
    text = "" if value is None else str(value)
    text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:_MAX_CELL])
    # Renderers make links of bare addresses, even of escaped ones; none with an (invisible) gap in it.
    text = _LINK.sub(lambda match: match[0] + _WORD_JOINER, text)
    # Entities are text to a Markdown renderer: no link, emphasis, code, table cell or tag can come of them.
    return _SPECIAL.sub(lambda match: f"&#{ord(match[0])};", text)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> MetadataValue[Any]:
    """A Markdown table with every cell escaped. Moments are UTC."""
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


def eta_metadata(report: RunReport) -> dict[str, Any]:
    """When what is pending will be answered: seconds where that can be said, words where it never will be."""
    never = sorted(name for name, eta in report.eta_by_service.items() if eta is None)
    words = {"never_at_this_pace": ", ".join(never)} if never else {}
    return {**words, **({} if report.eta_s is None else {"eta_seconds": round(report.eta_s, 1)})}


def bars(counts: Mapping[str, int]) -> MetadataValue[Any]:
    """A bar chart as an image: a line for each name (ours, not an attacker's) and its number."""
    longest = max(counts.values(), default=0) or 1
    lines = "".join(
        f'<text x="0" y="{y + 14}">{html_escape(name)}</text>'
        f'<rect x="90" y="{y + 3}" width="{300 * number / longest:.0f}" height="14" fill="#4f43dd"/>'
        f'<text x="{96 + 300 * number / longest:.0f}" y="{y + 14}">{number}</text>'
        for y, (name, number) in zip(range(0, 20 * len(counts), 20), counts.items(), strict=True)
    )
    picture = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="460" height="{20 * len(counts)}" '
        f'font-family="sans-serif" font-size="12">{lines}</svg>'
    )
    encoded = b64encode(picture.encode()).decode()
    return MetadataValue.md(f"![chart](data:image/svg+xml;base64,{encoded})")
