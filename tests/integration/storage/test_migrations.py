"""The schema moves up and down on both engines, with data in the tables, and matches the models."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from cowrie_enrich_dagster.enrichment.queue import LookupQueue
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import (
    SchemaOutdated,
    current,
    downgrade,
    head,
    require_current,
    upgrade,
)
from cowrie_enrich_dagster.storage.tables import Base
from cowrie_enrich_dagster.vocabulary import utc_now


@pytest.fixture
def empty(database_url: str):
    opened = Database(database_url)
    yield opened
    opened.close()


def tables(database: Database) -> set[str]:
    with database.read() as connection:
        return set(inspect(connection).get_table_names()) - {"alembic_version"}


def test_migrations_build_what_the_models_describe(database: Database) -> None:
    """A migrated database and the models have no difference in tables, columns, keys and indexes."""
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_v11_to_v12_and_back_touches_only_the_cache(empty: Database) -> None:
    """Upgrading adds `enrichment_cache`; downgrading drops it and leaves every other table and row."""
    upgrade(empty, "v11")
    before = tables(empty)
    with empty.write() as connection:
        columns = "path, line, byte_offset, reason, excerpt"
        connection.execute(text(f"INSERT INTO quarantined_lines ({columns}) VALUES ('f', 1, 0, 'r', 'e')"))
    upgrade(empty, "v12")
    assert tables(empty) - before == {"enrichment_cache"}
    now = utc_now()
    with empty.write() as connection:
        connection.execute(
            Base.metadata.tables["enrichment_cache"].insert(),
            {
                "service": "dshield", "cache_key": "192.0.2.1", "cache_value": {"a": 1}, "status": "found",
                "fetched_at": now, "created_at": now, "accessed_at": now, "expires_at": now, "hit_count": 0,
            },
        )  # fmt: skip
    downgrade(empty, "v11")
    assert tables(empty) == before
    upgrade(empty)
    with empty.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM quarantined_lines")).scalar_one() == 1
        assert connection.execute(text("SELECT count(*) FROM enrichment_cache")).scalar_one() == 0
    assert current(empty) == head(empty)


def upgrade_url(url: str) -> None:
    upgrade(Database(url))


def test_simultaneous_upgrades_of_an_empty_database_all_succeed(empty: Database, database_url: str) -> None:
    """Several worker processes starting at once upgrade once and do not trip over each other."""
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        list(pool.map(upgrade_url, [database_url] * 4))
    assert current(empty) == head(empty)


def test_a_shared_database_is_never_upgraded_by_a_run(empty: Database) -> None:
    """A run against an old schema says which command upgrades it, and changes nothing."""
    with pytest.raises(SchemaOutdated, match="cowrie-enrich db upgrade"):
        require_current(empty, embedded=False)
    assert tables(empty) == set()
    require_current(empty, embedded=True)
    assert current(empty) == head(empty)


def test_a_json_column_gives_back_what_was_put_in(database: Database) -> None:
    """Values come back as the same Python objects on both engines, dates and JSON null included."""
    runs = Base.metadata.tables["enrichment_runs"]
    row = {
        "run_id": "r1", "kind": "run", "first_day": date(2025, 11, 1), "last_day": None, "status": "complete",
        "started_at": utc_now(), "finished_at": None, "report": {"text": "ü\u2028", "none": None, "n": 1.5},
    }  # fmt: skip
    with database.write() as connection:
        connection.execute(runs.insert(), row)
    with database.read() as connection:
        assert dict(connection.execute(runs.select()).mappings().one()) == row


def test_the_queue_of_v14_goes_on_in_v15_and_back(empty: Database) -> None:
    """What is open stays open and is counted; what a limit put off is due, what failed keeps its own time."""
    upgrade(empty, "v14")
    columns = (
        "service, key, priority, status, attempts, next_attempt_at, valid_until, claimed_by, "
        "claim_expires_at, created_at, updated_at"
    )
    then, later = "2025-11-01 10:00:00.000000", "2035-11-01 10:00:00.000000"
    rows = [
        ("intruder", 10_001, "deferred", 0, then, None, None, None),
        ("put-off", 7, "deferred", 0, later, None, None, None),
        ("failed", 5_007, "error", 3, later, None, None, None),
        ("claimed", 9, "deferred", 0, then, None, "worker", then),
        ("answered", 10_002, "found", 1, None, later, None, None),
    ]
    with empty.write() as connection:
        for key, priority, status, attempts, due, until, worker, expires in rows:
            values = {
                "key": key, "priority": priority, "status": status, "attempts": attempts, "due": due,
                "until": until, "worker": worker, "expires": expires, "then": then,
            }  # fmt: skip
            statement = (
                f"INSERT INTO lookups ({columns}) VALUES ('dshield', :key, :priority, :status, :attempts, "
                ":due, :until, :worker, :expires, :then, :then)"
            )
            connection.execute(text(statement), values)
    upgrade(empty)
    queue = LookupQueue(empty)
    assert queue.backlog_of("dshield").total == 4
    assert queue.claim("dshield", "w", 9) == ["intruder", "claimed", "put-off"]
    downgrade(empty, "v14")
    with empty.read() as connection:
        kept = connection.execute(text("SELECT key, priority, attempts FROM lookups ORDER BY key")).all()
    assert [tuple(row) for row in kept] == sorted((key, p, n) for key, p, _, n, *_ in rows)
    upgrade(empty)
    assert queue.backlog_of("dshield").total == 4
