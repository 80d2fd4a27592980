"""Bulk writes: COPY on PostgreSQL, one prepared statement on SQLite; no row is handled by an ORM."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime, timezone
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql

from cowrie_enrich_dagster.storage.json_text import to_json

CHUNK_ROWS = 5_000
_COPY_BYTES = 1 << 18
_COPY_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\x00": None})

Row = Sequence[Any]


def insert_rows(connection: Connection, table: Table, columns: Sequence[str], rows: Iterable[Row]) -> int:
    """Insert rows (values in the order of `columns`); returns how many. Any conflict is an error."""
    return _write(connection, table, columns, rows, conflict="")


def insert_plain_rows(
    connection: Connection,
    table: Table,
    columns: Sequence[str],
    rows: Iterable[Row],
    usual_end: tuple[int | str | None, ...] = (),
) -> None:
    """Insert many rows whose values both databases take as they are. Any conflict is an error.

    They are None, whole numbers (also for truth: 1 or 0), and texts, none of them empty (also for moments in
    UTC, days and JSON), without NUL. Rows may lack the `usual_end`: they end with it all the same.
    """
    name, column_list = _names(table, columns)
    cursor: Any = connection.connection.cursor()
    short = len(columns) - len(usual_end)
    try:
        if connection.dialect.name == "postgresql":
            copy = f"COPY {name} ({column_list}) FROM STDIN (NULL '')"
            end = "".join(f"\t{_copy_plain(value)}" for value in usual_end)
            for chunk in _chunks(rows):
                lines = [_copy_line(row, end if len(row) == short else "") for row in chunk]
                cursor.copy_expert(copy, io.StringIO("".join(lines)), _COPY_BYTES)
        else:
            # What every row would bind takes a third of the time.
            insert = f"INSERT INTO {name} ({column_list}) VALUES "
            marks, values = ["?"] * short, [_literal(value) for value in usual_end]
            for chunk in _chunks(rows):
                whole = [row for row in chunk if len(row) > short]
                if len(whole) < len(chunk):
                    with_end = f"{insert}({', '.join([*marks, *values])})"
                    cursor.executemany(with_end, [row for row in chunk if len(row) == short])
                cursor.executemany(f"{insert}({', '.join('?' * len(columns))})", whole)
    finally:
        cursor.close()


def _literal(value: int | str | None) -> str:
    if value is None:
        return "NULL"
    return str(value) if type(value) is int else "'" + str(value).replace("'", "''") + "'"


def _copy_plain(value: int | str | None) -> str:
    return "" if value is None else _copy_text(value)


def _copy_line(row: Row, end: str) -> str:
    line = "\t".join([value if type(value) is str else "" if value is None else str(value) for value in row])
    if "\\" in line or "\n" in line or "\r" in line or line.count("\t") >= len(row):
        line = "\t".join(map(_copy_plain, row))
    return f"{line}{end}\n"


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
    for chunk in _chunks(rows):
        write(connection, table, columns, chunk, conflict)
        total += len(chunk)
    return total


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while chunk := list(islice(iterator, CHUNK_ROWS)):
        yield chunk


def _names(table: Table, columns: Sequence[str]) -> tuple[str, str]:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    quote = dialect.identifier_preparer.quote
    return quote(table.name), ", ".join(quote(name) for name in columns)


def _copy_chunk(
    connection: Connection, table: Table, columns: Sequence[str], rows: list[Row], conflict: str
) -> None:
    name, column_list = _names(table, columns)
    lines = "\n".join("\t".join(map(_copy_text, row)) for row in rows) + "\n"
    cursor = connection.connection.cursor()
    try:
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
    encoder_of = _SQLITE_ENCODERS.get
    cursor = connection.connection.cursor()
    try:
        cursor.executemany(
            f"INSERT INTO {name} ({column_list}) VALUES ({marks}){conflict}",
            [
                [encode(value) if (encode := encoder_of(type(value))) else value for value in row]
                for row in rows
            ],
        )
    finally:
        cursor.close()


def _copy_text(value: Any) -> str:
    if value is None:
        return "\\N"
    encode = _COPY_ENCODERS.get(type(value))
    return encode(value) if encode else str(value).translate(_COPY_ESCAPES)


def _utc_text(value: datetime) -> str:
    utc = value if value.tzinfo is timezone.utc else value.astimezone(timezone.utc)
    return utc.isoformat(" ", "microseconds")[:26]


def _list_text(value: Sequence[Any]) -> str:
    return to_json(value) if value else "[]"


_COPY_ENCODERS: dict[type, Callable[[Any], str]] = {
    int: str,
    float: repr,
    bool: lambda value: "t" if value else "f",
    datetime: lambda value: _utc_text(value) + "+00",
    date: date.isoformat,
    dict: lambda value: to_json(value).translate(_COPY_ESCAPES),
    list: lambda value: _list_text(value).translate(_COPY_ESCAPES),
    tuple: lambda value: _list_text(value).translate(_COPY_ESCAPES),
}


_SQLITE_ENCODERS: dict[type, Callable[[Any], Any]] = {
    str: lambda value: value.replace("\x00", "") if "\x00" in value else value,
    datetime: _utc_text,  # the text that SQLAlchemy's own DateTime writes and reads
    date: date.isoformat,
    dict: to_json,
    list: _list_text,
    tuple: _list_text,
}
