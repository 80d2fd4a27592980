"""Rows that one process makes ready and another one writes: in a file that the database takes whole.

For SQLite it is a database, with those that lack the usual end in a table of their own; for PostgreSQL, text
that COPY reads. Binding the values takes as long as writing the rows: so it is done where they are made.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from cowrie_enrich_dagster.storage.chunks import chunks
from cowrie_enrich_dagster.storage.copy_text import Plain, plain_end, plain_line

SHORT, WHOLE = "short", "whole"
ATTACHED = "packed"
"""The schema by whose name SQLite knows the file, where it is attached."""
CHUNK_ROWS = 5_000

Row = tuple[Any, ...]


def pack_rows(
    path: Path, rows: Iterable[Row], width: int, usual_end: tuple[Plain, ...], *, for_sqlite: bool
) -> None:
    """Write rows of `width` plain values, and those that lack the `usual_end`, to a new file.

    Raises OSError, and sqlite3.Error, where it cannot be written.
    """
    short = width - len(usual_end)
    if not for_sqlite:
        end = plain_end(usual_end)
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(plain_line(row, end if len(row) == short else "") for row in rows)
        return
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # Nobody needs what a crash leaves of it.
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("BEGIN")
        insert_short, insert_whole = _made(connection, SHORT, short), _made(connection, WHOLE, width)
        for chunk in chunks(rows, CHUNK_ROWS):
            connection.executemany(insert_short, [row for row in chunk if len(row) == short])
            connection.executemany(insert_whole, [row for row in chunk if len(row) == width])
        connection.execute("COMMIT")


def _made(connection: sqlite3.Connection, name: str, width: int) -> str:
    """Make a table of columns without types, which keep what is put in; the statement that puts it in."""
    columns = ", ".join(f"c{number}" for number in range(width))
    connection.execute(f"CREATE TABLE {name} ({columns})")
    return f"INSERT INTO {name} VALUES ({', '.join('?' * width)})"
