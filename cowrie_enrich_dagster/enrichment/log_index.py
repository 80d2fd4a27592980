"""What is known of the log files, in the database: which days lie where in each (`log_files`)."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Any

import orjson
from sqlalchemy import Text, cast, delete, select, text

from cowrie_enrich_dagster.storage import tables
from cowrie_enrich_dagster.storage.bulk import upsert_rows
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import to_json

SAVE_SECONDS = 5.0
_SAVE_ROWS = 5_000
_FILES = tables.table_of(tables.LogFile)


class LogIndex(MutableMapping[str, dict[str, Any]]):
    """`log_files` as a mapping of name -> `FileIndex.to_dict()`, written every few seconds and at the end.

    Use as a context manager. Only rows that differ are written, so what did not change costs nothing, and a
    process that is killed loses a few seconds' work. Of two that work at the same time the last to write a
    row wins: each is right for the file as it was looked at. Memory: the text of every row.

    The row of a file that is gone stays while `quarantined_lines` has lines of it, for it alone tells of
    which days they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows: dict[str, str | bytes] = {}
        self._changed: set[str] = set()
        self._gone: set[str] = set()
        self._saved_at = monotonic()

    def __enter__(self) -> LogIndex:
        with self._database.read() as connection:
            rows = connection.execute(select(_FILES.c.path, cast(_FILES.c.file_index, Text).label("entry")))
            self._rows = {row.path: row.entry for row in rows}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(*([Exception] if problem else [])):  # what ended the work is worth more
            self.save()

    def __getitem__(self, name: str) -> dict[str, Any]:
        entry: dict[str, Any] = orjson.loads(self._rows[name])
        return entry

    def __setitem__(self, name: str, entry: dict[str, Any]) -> None:
        if name in self._rows and self[name] == entry:
            return
        self._rows[name] = orjson.dumps(entry)
        self._changed.add(name)
        self._gone.discard(name)
        if len(self._changed) >= _SAVE_ROWS or monotonic() - self._saved_at >= SAVE_SECONDS:
            self.save()

    def __delitem__(self, name: str) -> None:
        del self._rows[name]
        self._changed.discard(name)
        self._gone.add(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def save(self) -> None:
        """Write what changed since the last time."""
        self._saved_at = monotonic()
        gone = self._without_lines()
        if self._changed or gone:
            rows = ((name, self[name]) for name in sorted(self._changed))  # sorted: two writers take turns
            with self._database.write() as connection:
                upsert_rows(connection, _FILES, ["path", "file_index"], rows, key=["path"])
                connection.execute(
                    delete(_FILES).where(text(self._database.among("path"))), {"keys": to_json(gone)}
                )
        self._changed.clear()
        self._gone.clear()

    def _without_lines(self) -> list[str]:
        """Those of the vanished files that have no line in quarantine."""
        if not self._gone:
            return []
        query = text(
            f"SELECT path FROM log_files WHERE {self._database.among('path')} AND NOT EXISTS "
            "(SELECT 1 FROM quarantined_lines AS line WHERE line.path = log_files.path)"
        )
        with self._database.read() as connection:
            return sorted(connection.execute(query, {"keys": to_json(sorted(self._gone))}).scalars())
