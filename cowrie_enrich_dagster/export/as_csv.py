"""CSV (RFC 4180) that a spreadsheet cannot take for formulas, and that can be turned back exactly.

Texts are in double quotes, numbers, moments and truth values are not; an empty cell is null, `""` is the
empty text (as PostgreSQL's COPY reads them). In a text an apostrophe is put in front of what a spreadsheet
could run as a formula (https://owasp.org/www-community/attacks/CSV_Injection), and of an apostrophe that is
there already: at the start of the cell, and after each `;`, tab and line break in it, for a spreadsheet whose
separator is another one splits there. To undo it, delete one apostrophe at each of these places:
`re.sub(r"(^|[;\\t\\r\\n])'", r"\\1", text)`. JSON has no such place.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import IO, Any

from cowrie_enrich_dagster.export.fields import FIELDS, batches
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.vocabulary import Days

# The wide forms are what Japanese spreadsheets accept as well.
_RISKY = re.compile(r"(^|[;\t\r\n])(?=[\t\r\n]|\s*['=+\-@＝＋－＠])")


def write(database: Database, days: Days, stream: IO[bytes]) -> int:
    """Write a header and one line per session; returns how many sessions."""
    rows = 0
    stream.write((",".join(field.name for field in FIELDS) + "\r\n").encode())
    with batches(database, days, [field.source for field in FIELDS]) as found:
        for batch in found:
            stream.write("".join(map(_line, batch)).encode())
            rows += len(batch)
    return rows


def _line(row: Any) -> str:
    return ",".join(cell(value) for cell, value in zip(_CELLS, row, strict=True)) + "\r\n"


def _json_cell(value: str | None) -> str:
    # JSON has its own escape, so that what is in the cell stays JSON; `;` can only stand in its strings.
    return _cell(value.replace(";", "\\u003b") if value else value)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        safe = _RISKY.sub(r"\1'", value).replace('"', '""')
        return f'"{safe}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return str(value)


_CELLS = [_json_cell if field.is_json else _cell for field in FIELDS]
