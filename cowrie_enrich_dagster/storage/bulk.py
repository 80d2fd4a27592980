"""Bulk writes: COPY on PostgreSQL, one prepared statement on SQLite; no row is handled by an ORM."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql

from cowrie_enrich_dagster.storage.chunks import chunks
from cowrie_enrich_dagster.storage.copy_text import Plain, line_of, list_text, plain_end, plain_line, utc_text
from cowrie_enrich_dagster.storage.json_text import to_json
from cowrie_enrich_dagster.storage.packed_rows import ATTACHED, CHUNK_ROWS, SHORT, WHOLE

_COPY_BYTES = 1 << 18

_FEW = 50
"""So many rows are no reason for a table to copy them into: PostgreSQL makes and drops it in its catalogs."""

Row = Sequence[Any]


def insert_rows(connection: Connection, table: Table, columns: Sequence[str], rows: Iterable[Row]) -> int:
    """Insert rows (values in the order of `columns`); returns how many. Any conflict is an error."""
    return _write(connection, table, columns, rows, conflict="")


def insert_plain_rows(
    connection: Connection,
    table: Table,
    columns: Sequence[str],
    rows: Iterable[Row],
    usual_end: tuple[Plain, ...] = (),
) -> None:
    """Insert many rows of plain values (see `Plain`). Any conflict is an error.

    Rows may lack the `usual_end`: they end with it all the same.
    """
    name, column_list = _names(table, columns)
    cursor: Any = connection.connection.cursor()
    short = len(columns) - len(usual_end)
    try:
        if connection.dialect.name == "postgresql":
            end = plain_end(usual_end)
            for chunk in chunks(rows, CHUNK_ROWS):
                lines = [plain_line(row, end if len(row) == short else "") for row in chunk]
                cursor.copy_expert(_copy_plain(name, column_list), io.StringIO("".join(lines)), _COPY_BYTES)
        else:
            # What every row would bind takes a third of the time.
            insert = f"INSERT INTO {name} ({column_list}) VALUES "
            marks, values = ["?"] * short, map(_literal, usual_end)
            with_end = f"{insert}({', '.join([*marks, *values])})"
            for chunk in chunks(rows, CHUNK_ROWS):
                cursor.executemany(with_end, [row for row in chunk if len(row) == short])
                whole = [row for row in chunk if len(row) > short] if usual_end else []
                cursor.executemany(f"{insert}({', '.join('?' * len(columns))})", whole)
    finally:
        cursor.close()


def insert_packed_rows(
    connection: Connection,
    table: Table,
    columns: Sequence[str],
    packed: Path,
    usual_end: tuple[Plain, ...] = (),
) -> None:
    """As `insert_plain_rows`, from a file that `pack_rows` has written; on SQLite `write` attaches it."""
    name, column_list = _names(table, columns)
    cursor: Any = connection.connection.cursor()
    try:
        if connection.dialect.name == "postgresql":
            with packed.open("rb") as file:
                cursor.copy_expert(_copy_plain(name, column_list), file, _COPY_BYTES)
        else:
            for part, end in ((SHORT, usual_end), (WHOLE, ())):
                values = ", ".join(["*", *map(_literal, end)])
                cursor.execute(f"INSERT INTO {name} ({column_list}) SELECT {values} FROM {ATTACHED}.{part}")
    finally:
        cursor.close()


def _copy_plain(name: str, column_list: str) -> str:
    return f"COPY {name} ({column_list}) FROM STDIN (NULL '')"


def _literal(value: Plain) -> str:
    if value is None:
        return "NULL"
    return str(value) if type(value) is int else "'" + str(value).replace("'", "''") + "'"


def upsert_rows(
    connection: Connection,
    table: Table,
    columns: Sequence[str],
    rows: Iterable[Row],
    *,
    key: Sequence[str],
    keep: Sequence[str] = (),
    only_if: str = "",
) -> int:
    """Insert rows, replacing those with the same `key` atomically; returns how many rows were sent.

    Columns in `keep` stay as they are on replacement. `only_if` is an SQL condition on the table's name (old
    row) and `excluded` (new row), such as `excluded.fetched_at > enrichment_cache.fetched_at`. A batch must
    not hold one key twice.
    """
    changed = [name for name in columns if name not in key and name not in keep]
    update = ", ".join(f"{name} = excluded.{name}" for name in changed)
    where = f" WHERE {only_if}" if only_if else ""
    action = f"DO UPDATE SET {update}{where}" if changed else "DO NOTHING"
    return _write(connection, table, columns, rows, conflict=f" ON CONFLICT ({', '.join(key)}) {action}")


def _write(
    connection: Connection, table: Table, columns: Sequence[str], rows: Iterable[Row], *, conflict: str
) -> int:
    write = _copy_chunk if connection.dialect.name == "postgresql" else _execute_chunk
    total = 0
    for chunk in chunks(rows, CHUNK_ROWS):
        write(connection, table, columns, chunk, conflict)
        total += len(chunk)
    return total


def _names(table: Table, columns: Sequence[str]) -> tuple[str, str]:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    quote = dialect.identifier_preparer.quote
    return quote(table.name), ", ".join(quote(name) for name in columns)


def _copy_chunk(
    connection: Connection, table: Table, columns: Sequence[str], rows: list[Row], conflict: str
) -> None:
    name, column_list = _names(table, columns)
    cursor = connection.connection.cursor()
    try:
        if conflict and len(rows) <= _FEW:
            marks = ", ".join([f"({', '.join(['%s'] * len(columns))})"] * len(rows))
            insert = f"INSERT INTO {name} ({column_list}) VALUES {marks}{conflict.replace('%', '%%')}"
            cursor.execute(insert, [value for row in rows for value in _encoded(row, _AS_LITERALS)])
            return
        lines = "\n".join(map(line_of, rows)) + "\n"
        if not conflict:
            cursor.copy_expert(f"COPY {name} ({column_list}) FROM STDIN", io.StringIO(lines))
            return
        cursor.execute("DROP TABLE IF EXISTS pg_temp.bulk_rows")
        cursor.execute(
            f"CREATE TEMP TABLE bulk_rows ON COMMIT DROP AS SELECT {column_list} FROM {name} WHERE false"
        )
        cursor.copy_expert(f"COPY bulk_rows ({column_list}) FROM STDIN", io.StringIO(lines))
        cursor.execute(f"INSERT INTO {name} ({column_list}) SELECT {column_list} FROM bulk_rows{conflict}")
    finally:
        cursor.close()


def _execute_chunk(
    connection: Connection, table: Table, columns: Sequence[str], rows: list[Row], conflict: str
) -> None:
    name, column_list = _names(table, columns)
    marks = ", ".join("?" * len(columns))
    cursor = connection.connection.cursor()
    try:
        insert = f"INSERT INTO {name} ({column_list}) VALUES ({marks}){conflict}"
        cursor.executemany(insert, [_encoded(row, _ENCODERS) for row in rows])
    finally:
        cursor.close()


_ENCODERS: dict[type, Callable[[Any], Any]] = {
    str: lambda value: value.replace("\x00", "") if "\x00" in value else value,
    datetime: utc_text,  # the text that SQLAlchemy's own DateTime writes and reads
    date: date.isoformat,
    dict: to_json,
    list: list_text,
    tuple: list_text,
}
# In PostgreSQL the column, not we, says what a text means; a moment has its zone, as in COPY.
_AS_LITERALS = {**_ENCODERS, datetime: lambda value: utc_text(value) + "+00"}


def _encoded(row: Row, encoders: Mapping[type, Callable[[Any], Any]]) -> list[Any]:
    encoder_of = encoders.get
    return [encode(value) if (encode := encoder_of(type(value))) else value for value in row]
