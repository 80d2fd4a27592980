"""L2: the database, the tier that all containers share and that survives them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, Select, Table, bindparam, delete, func, select, text

from cowrie_enrich_dagster.cache.entry import CacheEntry, Unstorable, payload_text
from cowrie_enrich_dagster.cache.metrics import CacheMetrics
from cowrie_enrich_dagster.cache.tiers import collector_paused, newest, storable, versioned
from cowrie_enrich_dagster.storage.bulk import upsert_rows
from cowrie_enrich_dagster.storage.chunks import chunks
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import from_json
from cowrie_enrich_dagster.storage.outages import survives_outage
from cowrie_enrich_dagster.storage.tables import EnrichmentCache, UtcDateTime, moment_of
from cowrie_enrich_dagster.vocabulary import LookupStatus

BATCH_ROWS = 20_000

_TABLE: Table = EnrichmentCache.__table__  # type: ignore[assignment]
_COLUMNS = (
    "service", "cache_key", "cache_value", "status", "fetched_at",
    "created_at", "accessed_at", "expires_at", "hit_count",
)  # fmt: skip
_KEY = ("service", "cache_key")
_KEPT = ("accessed_at", "hit_count")
# The answer fetched last wins. One dated after now (excluded.created_at) comes from a clock that ran ahead,
# and would otherwise stand in the way of true answers until that clock's time has come.
_NEWER = (
    "excluded.fetched_at > enrichment_cache.fetched_at OR enrichment_cache.fetched_at > excluded.created_at"
)

# One value holds all the keys: an array on PostgreSQL, JSON text on SQLite.
_OF_KEYS = {
    "postgresql": "service = :service AND cache_key = ANY(:keys)",
    "sqlite": "service = :service AND cache_key IN (SELECT value FROM json_each(:keys))",
}
_PAYLOAD = {"postgresql": "CAST(cache_value AS text)", "sqlite": "cache_value"}
_PAYLOAD_BYTES = {
    "postgresql": "pg_column_size(cache_value)",
    "sqlite": "length(CAST(cache_value AS blob))",
}
_NOW = bindparam("now", type_=UtcDateTime())
_ADD_HITS = {
    # Rows are locked in the order in which upserts lock them: two workers can then not block each other.
    "postgresql": text("""
        WITH held AS MATERIALIZED (
            SELECT c.id, h.hits FROM enrichment_cache AS c
            JOIN jsonb_to_recordset(CAST(:hits AS jsonb)) AS h(service text, key text, hits bigint)
              ON c.service = h.service AND c.cache_key = h.key
            ORDER BY c.service, c.cache_key FOR UPDATE OF c
        )
        UPDATE enrichment_cache AS c
        SET hit_count = c.hit_count + held.hits, accessed_at = greatest(c.accessed_at, :now)
        FROM held WHERE c.id = held.id
    """).bindparams(_NOW),
    "sqlite": text("""
        UPDATE enrichment_cache SET hit_count = hit_count + :hits, accessed_at = max(accessed_at, :now)
        WHERE service = :service AND cache_key = :key
    """).bindparams(_NOW),
}


class DatabaseCache:
    """Entries in `enrichment_cache`; `cache_value` is the service's own JSON, as it came.

    Errors of the database are raised (SQLAlchemy's), after waiting out a restart of it for up to a minute.
    Rows that are not entries count as dropped and are not there; the next answer replaces them.
    """

    name = "database"

    def __init__(self, database: Database, *, versions: Mapping[str, int] | None = None) -> None:
        self.metrics = CacheMetrics()
        self.database = database
        self.versions = versions or {}
        self._dialect = "sqlite" if database.is_sqlite else "postgresql"
        self._hits: dict[str, Counter[str]] = {}
        self._hits_lock = threading.Lock()

    def get(self, service: str, key: str) -> CacheEntry | None:
        """The entry for one key, fresh or expired."""
        return self.get_many(service, [key]).get(key)

    def get_many(self, service: str, keys: Collection[str]) -> dict[str, CacheEntry]:
        """The entries there are, fresh or expired, by one query for any number of keys."""
        wanted = storable(keys)
        found: dict[str, CacheEntry] = {}
        if not wanted:
            return found
        rows = self._rows(service, wanted, f"{_PAYLOAD[self._dialect]}, status, fetched_at, expires_at")
        with collector_paused():
            for key, payload, status, fetched_at, expires_at in rows:
                try:
                    found[key] = CacheEntry(
                        service,
                        key,
                        LookupStatus(status),
                        None if payload is None else from_json(payload),
                        moment_of(fetched_at),
                        moment_of(expires_at),
                    )
                except (ValueError, TypeError):  # somebody else's row; Unstorable is a ValueError
                    self.metrics.dropped(self.name, service)
        with self._hits_lock:
            self._hits.setdefault(versioned(service, self.versions), Counter()).update(found.keys())
        return found

    def fetched_at(self, service: str, keys: Collection[str]) -> dict[str, datetime]:
        """When each answer there is was fetched, without reading it or counting a hit."""
        moments: dict[str, datetime] = {}
        for key, moment in self._rows(service, storable(keys), "fetched_at"):
            with suppress(ValueError):  # a row that is no entry
                moments[key] = moment_of(moment)
        return moments

    def standing(
        self, service: str, keys: Collection[str]
    ) -> Iterator[tuple[str, LookupStatus, datetime, datetime]]:
        """Key, status, moments of fetching and expiring of each answer there is, which is not read."""
        for key, status, fetched_at, expires_at in self._rows(
            service, storable(keys), "status, fetched_at, expires_at"
        ):
            with suppress(ValueError):  # a row that is no entry
                yield key, LookupStatus(status), moment_of(fetched_at), moment_of(expires_at)

    def expiring(self, connection: Connection, service: str, before: datetime) -> set[str]:
        """The keys whose answers have expired at the moment `before`, in the caller's transaction."""
        query = select(_TABLE.c.cache_key).where(
            _TABLE.c.service == versioned(service, self.versions), _TABLE.c.expires_at <= before
        )
        return set(connection.execute(query).scalars())

    @survives_outage
    def _rows(self, service: str, keys: list[str], columns: str) -> list[Any]:
        # Plain columns, decoded one by one above: a typed result would fail as a whole on one broken row.
        if self.database.is_sqlite:
            rows = f"{self.database.rows_among('enrichment_cache', 'cache_key')} AND service = :service"
        else:
            rows = f"enrichment_cache WHERE {_OF_KEYS[self._dialect]}"
        query = text(f"SELECT cache_key, {columns} FROM {rows}")
        with self.database.read() as connection:
            return list(connection.execute(query, self._keys_of(service, keys)).all())

    def _keys_of(self, service: str, keys: list[str]) -> dict[str, Any]:
        name = versioned(service, self.versions)
        return {"service": name, "keys": orjson.dumps(keys).decode() if self.database.is_sqlite else keys}

    def set(self, entry: CacheEntry) -> None:
        """Keep one entry, as `set_many` does."""
        self.set_many([entry])

    def set_many(self, entries: Iterable[CacheEntry]) -> int:
        """Keep all of `entries` in one transaction; see `store`."""
        return self._set_all(newest(entries))

    @survives_outage
    def _set_all(self, entries: list[CacheEntry]) -> int:
        if not entries:
            return 0
        with self.database.write() as connection:
            return self.store(connection, entries)

    def store(self, connection: Connection, entries: Iterable[CacheEntry]) -> int:
        """Keep entries inside the caller's transaction; returns how many were sent.

        Where an entry is held already, the one fetched later stays, with the row's `accessed_at`
        and `hit_count`. An entry whose payload cannot be stored counts as dropped. Rows are
        locked in the order of (service, key); a caller who stores twice in one transaction should keep it.
        """
        now = self.database.now(connection)
        rows = []
        stores: Counter[str] = Counter()
        for entry in newest(entries):
            try:
                payload = None if entry.payload is None else payload_text(entry.payload)
            except Unstorable:
                self.metrics.dropped(self.name, entry.service)
                continue
            service = versioned(entry.service, self.versions)
            status = entry.status.value
            rows.append(
                (service, entry.key, payload, status, entry.fetched_at, now, now, entry.expires_at, 0)
            )
            stores[entry.service] += 1
        if rows:
            upsert_rows(connection, _TABLE, _COLUMNS, rows, key=_KEY, keep=_KEPT, only_if=_NEWER)
        for service, number in stores.items():
            self.metrics.stored(self.name, service, number)
        return len(rows)

    @survives_outage
    def delete(self, service: str | None = None, keys: Collection[str] | None = None) -> int:
        """Delete these keys, the whole service (in its current answer format), or everything; how many rows.

        Raises `ValueError` for keys without a service.
        """
        doomed = select(_TABLE.c.id).order_by(_TABLE.c.service, _TABLE.c.cache_key).with_for_update()
        parameters: dict[str, Any] = {}
        if keys is not None:
            if service is None:
                raise ValueError("keys need a service")
            doomed = doomed.where(text(_OF_KEYS[self._dialect]))
            parameters = self._keys_of(service, storable(keys))
        elif service is not None:
            doomed = doomed.where(_TABLE.c.service == versioned(service, self.versions))
        with self.database.write() as connection:
            gone = connection.execute(delete(_TABLE).where(_TABLE.c.id.in_(doomed)), parameters)
            return gone.rowcount

    def cleanup_expired(self, *, dry_run: bool = False, grace: timedelta = timedelta(0)) -> dict[str, int]:
        """Delete what expired more than `grace` ago; returns how many went (or would), by service.

        Works in batches, each a transaction of its own, and leaves out rows that somebody else is changing.
        """
        gone: Counter[str] = Counter()
        if dry_run:
            with self.database.read() as connection:
                expired = _TABLE.c.expires_at < self.database.now(connection) - grace
                query = select(_TABLE.c.service, func.count()).where(expired).group_by(_TABLE.c.service)
                return {row[0]: row[1] for row in connection.execute(query)}
        while batch := self._delete_expired(grace):
            gone.update(batch)
        return dict(gone)

    @survives_outage
    def _delete_expired(self, grace: timedelta) -> Counter[str]:
        with self.database.write() as connection:
            limit = self.database.now(connection) - grace
            expired: Select[Any] = (
                select(_TABLE.c.id, _TABLE.c.service)
                .where(_TABLE.c.expires_at < limit)
                .limit(BATCH_ROWS)
                .with_for_update(skip_locked=True)
            )
            rows = connection.execute(expired).all()
            ids = [row_id for row_id, _ in rows]
            connection.execute(delete(_TABLE).where(_TABLE.c.id.in_(ids)))
            return Counter(service for _, service in rows)

    def flush_hits(self) -> int:
        """Add the hits counted since the last flush to `hit_count`, and set `accessed_at` to now.

        Returns how many entries had hits. Meant for the end of a run or batch: reads never write. When the
        database fails, the counts are kept for the next flush.
        """
        with self._hits_lock:
            hits, self._hits = self._hits, {}
        pending: list[dict[str, Any]] = [
            {"service": service, "key": key, "hits": number}
            for service, counts in hits.items()
            for key, number in counts.items()
        ]
        written = 0
        try:
            for batch in chunks(pending, BATCH_ROWS):
                with self.database.write() as connection:
                    self._add_hits(connection, batch)
                written += len(batch)
        finally:
            with self._hits_lock:
                for row in pending[written:]:
                    self._hits.setdefault(row["service"], Counter())[row["key"]] += row["hits"]
        return written

    def _add_hits(self, connection: Connection, batch: list[dict[str, Any]]) -> None:
        now = self.database.now(connection)
        if self.database.is_sqlite:
            connection.execute(_ADD_HITS["sqlite"], [{**row, "now": now} for row in batch])
        else:
            connection.execute(_ADD_HITS["postgresql"], {"hits": orjson.dumps(batch).decode(), "now": now})

    def stats(self) -> dict[str, dict[str, Any]]:
        """By service: `entries`, `found`, `not_found`, `expired`, `bytes`, `oldest`, `newest`.

        Ages are ISO 8601 texts of `fetched_at`; bytes those of the payloads as stored (PostgreSQL compresses
        large ones). A service whose answer format has changed appears as `name@2` beside `name`.
        """
        query = text(f"""
            SELECT service, count(*), count(*) FILTER (WHERE status = 'found'),
                   count(*) FILTER (WHERE status = 'not_found'), count(*) FILTER (WHERE expires_at <= :now),
                   coalesce(sum({_PAYLOAD_BYTES[self._dialect]}), 0), min(fetched_at), max(fetched_at)
            FROM enrichment_cache GROUP BY service ORDER BY service
        """).bindparams(_NOW)
        with self.database.read() as connection:
            rows = connection.execute(query, {"now": self.database.now(connection)}).all()
        return {
            service: {
                "entries": entries,
                "found": found,
                "not_found": not_found,
                "expired": expired,
                "bytes": int(size),
                "oldest": _iso(oldest),
                "newest": _iso(newest_),
            }
            for service, entries, found, not_found, expired, size, oldest, newest_ in rows
        }


def _iso(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else f"{value.replace(' ', 'T')}+00:00"
