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

from cowrie_enrich_dagster.export.fields import Wanted, fields_for, rows_of
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import to_json
from cowrie_enrich_dagster.vocabulary import Days

# The wide forms are what Japanese spreadsheets accept as well.
_RISKY = re.compile(r"(^|[;\t\r\n])(?=[\t\r\n]|\s*['=+\-@＝＋－＠])")


def write(database: Database, days: Days, stream: IO[bytes], wanted: Wanted) -> int:
    """Write a header and one line per session; returns how many sessions. Lists are JSON in their cell."""
    rows = 0
    fields = fields_for(wanted)
    cells = [_list_cell if field.items else _json_cell if field.is_json else _cell for field in fields]
    stream.write((",".join(field.name for field in fields) + "\r\n").encode())
    with rows_of(database, days, fields) as found:
        for batch in found:
            for row in batch:
                line = ",".join(cell(value) for cell, value in zip(cells, row, strict=True))
                stream.write(f"{line}\r\n".encode())
            rows += len(batch)
    return rows


def _list_cell(value: list[Any] | None) -> str:
    return _json_cell(None if value is None else to_json(value))


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
