"""The database tier on SQLite and PostgreSQL: what it adds to the verbs all tiers have."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, select, text, update

from cowrie_enrich_dagster.cache import CacheEntry, DatabaseCache
from cowrie_enrich_dagster.storage.tables import EnrichmentCache
from tests.integration.cache.conftest import SERVICE, WEEK, Now, answer

TABLE = EnrichmentCache.__table__


def rows(cache: DatabaseCache) -> dict[str, Any]:
    with cache.database.read() as connection:
        found = connection.execute(select(TABLE).order_by(TABLE.c.cache_key)).mappings().all()
    return {row["cache_key"]: row for row in found}


def statements(cache: DatabaseCache) -> list[str]:
    seen: list[str] = []

    @event.listens_for(cache.database.engine, "before_cursor_execute")
    def record(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    return seen


def test_the_row_is_what_the_adr_describes(database_cache: DatabaseCache, now: Now) -> None:
    """The payload lies in `cache_value` as it came, beside status and moments, for anybody to query."""
    found = answer("198.51.100.7", now() - timedelta(days=1))
    missing = CacheEntry.of_answer(SERVICE, "198.51.100.8", None, fetched_at=now(), ttl=timedelta(hours=12))
    database_cache.set(found)
    database_cache.set(missing)
    assert database_cache.get(SERVICE, found.key) == found
    assert database_cache.get(SERVICE, "198.51.100.9") is None
    first, second = rows(database_cache).values()
    assert (first["service"], first["status"], first["cache_value"]) == (SERVICE, "found", found.payload)
    assert (first["fetched_at"], first["expires_at"]) == (found.fetched_at, found.expires_at)
    assert (first["created_at"], first["accessed_at"], first["hit_count"]) == (now(), now(), 0)
    assert (second["status"], second["cache_value"]) == ("not_found", None)
    with database_cache.database.read() as connection:
        inside = "cache_value -> 'ip' ->> 'number'"
        number = connection.execute(
            text(f"SELECT {inside} FROM enrichment_cache WHERE status = 'found'")
        ).scalar_one()
    assert number == "198.51.100.7"


def test_any_number_of_keys_is_one_query(database_cache: DatabaseCache, now: Now) -> None:
    """3,000 keys cost one SELECT, and reading writes nothing."""
    keys = [f"k{n}" for n in range(3_000)]
    database_cache.set_many(answer(key, now()) for key in keys[::2])
    seen = statements(database_cache)
    assert len(database_cache.get_many(SERVICE, keys)) == 1_500
    assert [statement.split()[0] for statement in seen if statement != "BEGIN"] == ["SELECT"]


def test_hits_are_written_in_batches_apart_from_reading(database_cache: DatabaseCache, now: Now) -> None:
    """`hit_count` and `accessed_at` follow at the flush, add up, and survive a newer answer."""
    database_cache.set_many(answer(key, now()) for key in ("a", "b", "c"))
    created = now()
    for _ in range(3):
        database_cache.get_many(SERVICE, ["a", "b", "unknown"])
    database_cache.get_many(SERVICE, ["a"])
    assert rows(database_cache)["a"]["hit_count"] == 0
    now.forward(hours=1)
    assert database_cache.flush_hits() == 2
    database_cache.get(SERVICE, "a")
    assert database_cache.flush_hits() == 1
    assert database_cache.flush_hits() == 0
    now.forward(hours=1)
    database_cache.set(answer("a", now()))
    after = rows(database_cache)
    assert [after[key]["hit_count"] for key in "abc"] == [5, 3, 0]
    assert after["a"]["accessed_at"] == after["b"]["accessed_at"] == created + timedelta(hours=1)
    assert after["c"]["accessed_at"] == after["b"]["created_at"] == created
    assert after["a"]["fetched_at"] == after["a"]["created_at"] == now()


def test_hits_are_kept_when_the_database_fails(sqlite_cache: DatabaseCache, now: Now) -> None:
    """A flush that fails loses no counts; the next one writes them."""
    sqlite_cache.set(answer("a", now()))
    sqlite_cache.get(SERVICE, "a")
    with sqlite_cache.database.write() as connection:
        connection.execute(text("ALTER TABLE enrichment_cache RENAME TO away"))
    with pytest.raises(Exception, match="no such table"):
        sqlite_cache.flush_hits()
    with sqlite_cache.database.write() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO enrichment_cache"))
    assert sqlite_cache.flush_hits() == 1
    assert rows(sqlite_cache)["a"]["hit_count"] == 1


def test_an_answer_is_stored_with_what_else_happens_or_not_at_all(
    database_cache: DatabaseCache, now: Now
) -> None:
    """`store` belongs to the caller's transaction: rolled back, nothing is left."""

    def finish_a_lookup() -> None:
        with database_cache.database.write() as connection:
            assert database_cache.store(connection, [answer("a", now())]) == 1
            raise RuntimeError("something else went wrong")

    with pytest.raises(RuntimeError, match="something else"):
        finish_a_lookup()
    assert rows(database_cache) == {}
    with database_cache.database.write() as connection:
        database_cache.store(connection, [answer("a", now())])
    assert rows(database_cache).keys() == {"a"}


def test_cleanup_counts_by_service_and_deletes_only_what_expired(
    database_cache: DatabaseCache, now: Now
) -> None:
    """A dry run deletes nothing; the grace keeps answers that may still serve while a service is down."""
    for key, age in (("old", 9), ("older", 30), ("fresh", 6)):
        database_cache.set(answer(key, now() - timedelta(days=age)))
    database_cache.set(
        CacheEntry.of_answer("urlhaus", "u", {"x": 1}, fetched_at=now() - WEEK, ttl=timedelta(days=3))
    )
    expected = {SERVICE: 2, "urlhaus": 1}
    assert database_cache.cleanup_expired(dry_run=True) == expected
    assert len(rows(database_cache)) == 4
    assert database_cache.cleanup_expired(dry_run=True, grace=WEEK) == {SERVICE: 1}
    assert database_cache.cleanup_expired(grace=WEEK) == {SERVICE: 1}
    assert database_cache.cleanup_expired() == {SERVICE: 1, "urlhaus": 1}
    assert database_cache.cleanup_expired() == {}
    assert rows(database_cache).keys() == {"fresh"}


def test_cleanup_leaves_out_what_is_being_refreshed(postgres_cache: DatabaseCache, now: Now) -> None:
    """It neither waits for the writer nor deletes the answer that the writer is about to store."""
    postgres_cache.set_many([answer(key, now() - 2 * WEEK) for key in ("a", "b")])
    counts: list[dict[str, int]] = []
    cleaner = threading.Thread(target=lambda: counts.append(postgres_cache.cleanup_expired()))
    with postgres_cache.database.write() as connection:
        postgres_cache.store(connection, [answer("a", now())])
        cleaner.start()
        cleaner.join(1.0)
    cleaner.join(10)
    assert counts == [{SERVICE: 1}]
    assert rows(postgres_cache).keys() == {"a"}


def test_stats_by_service(database_cache: DatabaseCache, now: Now) -> None:
    """What there is of each service, how much of it has expired, and how old it is."""
    assert database_cache.stats() == {}
    oldest, newest = now() - timedelta(days=9), now() - timedelta(days=1)
    database_cache.set_many([answer("a", oldest), answer("b", newest, {"x": "é" * 100})])
    database_cache.set(CacheEntry.of_answer("urlhaus", "u", None, fetched_at=now(), ttl=WEEK))
    stats = database_cache.stats()
    assert stats["urlhaus"] == {
        "entries": 1, "found": 0, "not_found": 1, "expired": 0, "bytes": 0,
        "oldest": now().isoformat(), "newest": now().isoformat(),
    }  # fmt: skip
    size = stats[SERVICE].pop("bytes")
    assert 200 < size < 400
    assert stats[SERVICE] == {
        "entries": 2, "found": 2, "not_found": 0, "expired": 1,
        "oldest": oldest.isoformat(), "newest": newest.isoformat(),
    }  # fmt: skip


POISON: dict[str, dict[str, Any]] = {
    "a status that is no answer": {"status": "rate_limited", "cache_value": None},
    "a word that is no status": {"status": "?"},
    "a list": {"cache_value": [1, 2]},
    "blank": {"cache_value": {}},
    "found without a payload": {"cache_value": None},
}


@pytest.mark.parametrize("poison", POISON)
def test_a_row_that_is_no_entry_is_not_there_until_it_is_replaced(
    poison: str, database_cache: DatabaseCache, now: Now
) -> None:
    """It is counted, costs none of its neighbours, and gives way to the next answer."""
    database_cache.set_many([answer("good", now()), answer("bad", now() - timedelta(days=1))])
    with database_cache.database.write() as connection:
        connection.execute(update(TABLE).where(TABLE.c.cache_key == "bad").values(**POISON[poison]))
    assert database_cache.get_many(SERVICE, ["good", "bad"]).keys() == {"good"}
    assert database_cache.metrics.as_dict()["totals"]["database"]["dropped"] == 1
    database_cache.set(answer("bad", now()))
    assert database_cache.get_many(SERVICE, ["good", "bad"]).keys() == {"good", "bad"}


@pytest.mark.parametrize("column", ["cache_value", "fetched_at", "expires_at"])
def test_sqlite_text_that_cannot_be_parsed(column: str, sqlite_cache: DatabaseCache, now: Now) -> None:
    """SQLite keeps any text in any column: such a row is dropped and replaced like the others."""
    sqlite_cache.set_many([answer("good", now()), answer("bad", now() - timedelta(days=1))])
    with sqlite_cache.database.write() as connection:
        connection.execute(text(f"UPDATE enrichment_cache SET {column} = 'zzz{{' WHERE cache_key = 'bad'"))
    assert sqlite_cache.get_many(SERVICE, ["good", "bad"]).keys() == {"good"}
    assert "good" in sqlite_cache.fetched_at(SERVICE, ["good", "bad"])
    sqlite_cache.set(answer("bad", now()))
    assert sqlite_cache.get_many(SERVICE, ["good", "bad"]).keys() == {"good", "bad"}


def test_an_answer_from_the_future_gives_way(database_cache: DatabaseCache, now: Now) -> None:
    """What a container with a wrong clock wrote does not stand in the way for years."""
    database_cache.set(answer("a", now() + timedelta(days=365), {"clock": "wrong"}))
    database_cache.set(answer("a", now(), {"clock": "right"}))
    entry = database_cache.get(SERVICE, "a")
    assert entry is not None
    assert entry.payload == {"clock": "right"}


def test_a_changed_answer_format_hides_the_old_entries(database_cache: DatabaseCache, now: Now) -> None:
    """Both formats live side by side in the table, each seen by those who understand it."""
    new = DatabaseCache(database_cache.database, versions={SERVICE: 2})
    database_cache.set(answer("a", now(), {"format": 1}))
    assert new.get(SERVICE, "a") is None
    new.set(answer("a", now(), {"format": 2}))
    first, second = database_cache.get(SERVICE, "a"), new.get(SERVICE, "a")
    assert first is not None
    assert second is not None
    assert (first.payload, second.payload) == ({"format": 1}, {"format": 2})
    assert second.service == SERVICE
    assert new.stats().keys() == {SERVICE, f"{SERVICE}@2"}
    assert new.flush_hits() == 1
    assert new.delete(SERVICE) == 1
    assert database_cache.get(SERVICE, "a") is not None
