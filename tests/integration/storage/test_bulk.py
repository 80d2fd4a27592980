"""Bulk writes keep hostile values intact on both engines."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, select

from cowrie_enrich_dagster.storage.bulk import (
    insert_packed_rows,
    insert_plain_rows,
    insert_rows,
    upsert_rows,
)
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.packed_rows import pack_rows
from cowrie_enrich_dagster.storage.tables import EnrichmentCache, QuarantinedLine
from cowrie_enrich_dagster.vocabulary import utc_now

CACHE = EnrichmentCache.__table__
LINES = QuarantinedLine.__table__
CACHE_COLUMNS = [
    "service", "cache_key", "cache_value", "status", "fetched_at",
    "created_at", "accessed_at", "expires_at", "hit_count",
]  # fmt: skip


def cache_row(key: str, payload: dict | None, fetched_at):
    return [
        "dshield",
        key,
        payload,
        "found",
        fetched_at,
        fetched_at,
        fetched_at,
        fetched_at + timedelta(days=7),
        0,
    ]


def test_hostile_strings_survive_copy(database: Database) -> None:
    """Tabs, newlines, backslashes, quotes and COPY's own markers come back as they were; NUL is dropped."""
    hostile = [
        "\\N",
        "\\.",
        "a\tb\nc\rd",
        "'; DROP TABLE sessions;--",
        '{"x"}',
        "\\u0000",
        "é\U0001f600",
        "",
        "a\x00b",
    ]
    with database.write() as connection:
        insert_rows(
            connection, LINES, ["path", "line", "byte_offset", "reason", "excerpt"],
            [["f", n, 0, "r", value] for n, value in enumerate(hostile)],
        )  # fmt: skip
    with database.read() as connection:
        back = list(connection.execute(select(LINES.c.excerpt).order_by(LINES.c.line)).scalars())
    assert back == [*hostile[:-1], "ab"]


PLAIN = ["path", "line", "byte_offset", "reason", "excerpt"]
HOSTILE = ["\\N", "\\.", "a\tb\nc\rd", "'; DROP TABLE s;--", "\\", "[]", "é\U0001f600", "\t", "1"]


@pytest.mark.parametrize("way", ["bound here", "packed elsewhere"])
def test_plain_rows_with_and_without_their_usual_end(database: Database, tmp_path: Path, way: str) -> None:
    """Whatever is in them, also in the end that is not theirs; packed rows as those that are not."""
    end = ("it's", "[]")
    rows: list[tuple[Any, ...]] = [(value, n, 0) for n, value in enumerate(HOSTILE)]
    rows += [("f", 100 + n, 0, value, value) for n, value in enumerate(HOSTILE)]
    expected = sorted((*row, *end) if len(row) == 3 else row for row in rows)
    packed = tmp_path / "rows" if way == "packed elsewhere" else None
    if packed:
        pack_rows(packed, iter(rows), len(PLAIN), end, for_sqlite=database.is_sqlite)
    for _ in range(2):  # the connection of the pool can have it attached again
        with database.write(packed=packed) as connection:
            connection.execute(delete(LINES))
            if packed:
                insert_packed_rows(connection, LINES, PLAIN, packed, end)
            else:
                insert_plain_rows(connection, LINES, PLAIN, rows, end)
    with database.read() as connection:
        back = connection.execute(select(*(LINES.c[name] for name in PLAIN))).all()
    assert sorted(map(tuple, back)) == expected


def test_nul_in_a_payload_is_dropped_and_the_rest_kept(database: Database) -> None:
    """JSONB refuses \\u0000: it is removed from keys and values, a literal backslash-u0000 is not touched."""
    payload = {"a\x00": ["x\x00y", {"b": "\\u0000"}], "n": None, "t": True, "f": 1.25}
    with database.write() as connection:
        upsert_rows(
            connection,
            CACHE,
            CACHE_COLUMNS,
            [cache_row("k", payload, utc_now())],
            key=["service", "cache_key"],
        )
    with database.read() as connection:
        value = connection.execute(select(CACHE.c.cache_value)).scalar_one()
    assert value == {"a": ["xy", {"b": "\\u0000"}], "n": None, "t": True, "f": 1.25}


def test_upsert_replaces_only_where_the_condition_holds(database: Database) -> None:
    """The newer answer wins whatever the order of arrival, and kept columns stay."""
    now = utc_now()
    newer = "excluded.fetched_at > enrichment_cache.fetched_at"
    for payload, moment in (
        ({"v": 2}, now),
        ({"v": 1}, now - timedelta(hours=1)),
        ({"v": 3}, now + timedelta(hours=1)),
    ):
        with database.write() as connection:
            upsert_rows(
                connection, CACHE, CACHE_COLUMNS, [cache_row("k", payload, moment)],
                key=["service", "cache_key"], keep=["created_at"], only_if=newer,
            )  # fmt: skip
    with database.read() as connection:
        row = connection.execute(select(CACHE)).mappings().one()
    assert row["cache_value"] == {"v": 3}
    assert row["fetched_at"] == now + timedelta(hours=1)
    assert row["created_at"] == now


def test_more_rows_than_one_chunk(database: Database) -> None:
    """50,000 rows arrive from a generator."""
    with database.write() as connection:
        sent = insert_rows(
            connection, LINES, ["path", "line", "byte_offset", "reason", "excerpt"],
            (["f", n, 0, "r", "e"] for n in range(50_000)),
        )  # fmt: skip
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(LINES)).scalar_one() == sent == 50_000
