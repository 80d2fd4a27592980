"""What Redis was given to keep, and until when: so that what it lost can be told from what nobody gave it."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import bindparam, text

from cowrie_enrich_dagster.cache.entry import CacheEntry
from cowrie_enrich_dagster.cache.redis_tier import RedisCache
from cowrie_enrich_dagster.storage.chunks import chunks
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.outages import survives_outage
from cowrie_enrich_dagster.storage.tables import UtcDateTime
from cowrie_enrich_dagster.vocabulary import Clock

ROWS_AT_ONCE = 20_000
GRACE = timedelta(seconds=1)
"""How long before its time a key is no longer expected: its life began a moment before we noted it."""

_NOTE = {
    # Rows are locked in the order in which upserts lock them.
    "postgresql": """
        WITH held AS MATERIALIZED (
            SELECT c.id, g.until FROM enrichment_cache AS c
            JOIN jsonb_to_recordset(CAST(:rows AS jsonb)) AS g(service text, key text, until timestamptz)
              ON c.service = g.service AND c.cache_key = g.key
            ORDER BY c.service, c.cache_key FOR UPDATE OF c
        )
        UPDATE enrichment_cache AS c SET l1_until = held.until, l1_place = :place
        FROM held WHERE c.id = held.id
    """,
    "sqlite": """
        UPDATE enrichment_cache SET l1_until = :until, l1_place = :place
        WHERE service = :service AND cache_key = :key
    """,
}


class GivenToRedis:
    """Noted in memory as it happens, and written to the rows of the answers by `flush`. Thread-safe.

    A process that is killed before that leaves less to expect, never more.
    """

    def __init__(self, database: Database, redis: RedisCache, clock: Clock) -> None:
        self._database = database
        self._place = redis.place
        self._clock = clock
        self._until: dict[tuple[str, str], datetime] = {}
        self._lock = threading.Lock()
        redis.on_given = self._note

    def _note(self, entries: Sequence[tuple[CacheEntry, int]]) -> None:
        now = self._clock()
        with self._lock:
            for entry, life_ms in entries:
                until = now + timedelta(milliseconds=life_ms) - GRACE
                self._until[entry.service, entry.key] = until

    def flush(self) -> None:
        """Write down what was noted since the last time."""
        with self._lock:
            noted, self._until = self._until, {}
        for batch in chunks(sorted(noted.items()), ROWS_AT_ONCE):
            self._write(batch)

    @survives_outage
    def _write(self, batch: Iterable[tuple[tuple[str, str], datetime]]) -> None:
        rows: list[dict[str, Any]] = [
            {"service": service, "key": key, "until": until} for (service, key), until in batch
        ]
        with self._database.write() as connection:
            if self._database.is_sqlite:
                statement = text(_NOTE["sqlite"]).bindparams(bindparam("until", type_=UtcDateTime()))
                connection.execute(statement, [{**row, "place": self._place} for row in rows])
            else:
                values = {"rows": orjson.dumps(rows).decode(), "place": self._place}
                connection.execute(text(_NOTE["postgresql"]), values)

    @survives_outage
    def expected(self, service: str, keys: Collection[str]) -> set[str]:
        """Those of the keys that this Redis was given and should still hold."""
        query = text(f"""
            SELECT cache_key FROM enrichment_cache
            WHERE service = :service AND {self._database.among("cache_key")}
              AND l1_until > :now AND l1_place = :place
        """).bindparams(bindparam("now", type_=UtcDateTime()))
        values = {"service": service, "keys": orjson.dumps(list(keys)).decode(), "place": self._place}
        with self._database.read() as connection:
            return set(connection.execute(query, {**values, "now": self._clock()}).scalars())
