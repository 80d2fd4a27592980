"""The keys of files and passwords: each with the sessions in whose arrays it stands, whatever beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.enrichment.keys import PREFIX_CHARS, Chosen, Key, keys_of
from cowrie_enrich_dagster.lookups.order import place_of
from cowrie_enrich_dagster.storage.tables import SessionRecord, table_of
from cowrie_enrich_dagster.vocabulary import Days, Scope, Subject

SESSIONS = table_of(SessionRecord).c
DAYS = Days.parse("2025-11-01..2025-11-03")


def counted(rows: list[Any], of: Callable[[Any], list[str]]) -> list[Key]:
    """The same in Python, row by row."""
    found: dict[str, list[Any]] = {}
    for row in rows:
        for item in of(row):
            found.setdefault(item, []).append(row)
    keys = [
        Key(
            item, Scope.GLOBAL, len(of_item), len(of_item),
            min(row.started_at for row in of_item), max(row.day for row in of_item),
        )
        for item, of_item in found.items()
    ]  # fmt: skip
    return sorted(keys, key=lambda key: place_of(key.wanted))


@pytest.mark.parametrize("days", [DAYS, Days(DAYS.first, DAYS.first)])
def test_keys_in_arrays(open_enricher: Callable[..., Enricher], sample_logs: Path, days: Days) -> None:
    """Some arrays are those of many sessions, some keys stand in several arrays, or twice in one."""
    enricher = open_enricher()
    enricher.ingest(DAYS)
    database = enricher.database
    with database.write() as connection:
        connection.exec_driver_sql(
            "UPDATE sessions SET passwords_sha1 = '[\"AAAAA1\", \"AAAAA2\"]' WHERE passwords_sha1 <> '[]' "
            "AND login_successes > 0"
        )
    with database.read() as connection:
        query = select(SESSIONS.started_at, SESSIONS.day, SESSIONS.file_hashes, SESSIONS.passwords_sha1)
        rows = list(connection.execute(query.where(SESSIONS.day.between(*days.ends))))
        arrays = [tuple(row.file_hashes) for row in rows if row.file_hashes]
        assert len(set(arrays)) < len(arrays) > 0

        chosen = Chosen.of_days(days)
        files = list(keys_of(database, connection, chosen, Subject.FILE_SHA256))
        assert files == counted(rows, lambda row: row.file_hashes)
        passwords = list(keys_of(database, connection, chosen, Subject.PASSWORD_SHA1_PREFIX))
        assert passwords == counted(rows, lambda row: [sha1[:PREFIX_CHARS] for sha1 in row.passwords_sha1])
        assert "AAAAA" in {key.value for key in passwords}
