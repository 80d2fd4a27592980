"""What a database does for a while, and what we do: failover, no free place, a backend that ends."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from cowrie_enrich_dagster.enrichment import ingest, pieces
from cowrie_enrich_dagster.storage import outages
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import current, require_current, upgrade
from cowrie_enrich_dagster.storage.outages import repeats_after_outage, survives_outage
from cowrie_enrich_dagster.vocabulary import Days
from tests.servers import PostgresServer, free_port

DAYS = Days.parse("2025-11-01..2025-11-03")


@pytest.fixture
def url(postgres_server: PostgresServer) -> str:
    return postgres_server.new_database()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database(url)
    upgrade(opened)
    yield opened
    opened.close()


def administer(url: str, *statements: str) -> None:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    connection.close()


def name_of(url: str) -> str:
    return url.rpartition("/")[2].partition("?")[0]


def test_a_database_that_is_read_only_for_a_while_is_waited_for(database: Database, url: str) -> None:
    """A failover (SQLSTATE 25006): what is to be written is written when it is a primary again."""
    name = name_of(url)
    administer(url, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    database.close()  # the sessions there are would not notice
    undo = f'ALTER DATABASE "{name}" RESET default_transaction_read_only'
    timer = threading.Timer(1.0, administer, (url, "SET default_transaction_read_only = off", undo))
    timer.start()
    tries: list[int] = []

    @survives_outage
    def write() -> None:
        tries.append(1)
        with database.write() as connection:
            connection.execute(text("DELETE FROM lookups"))

    write()
    timer.join()
    assert len(tries) > 1


def test_no_free_place_at_the_start_is_waited_for(url: str) -> None:
    """ "Too many connections" says that the database is there: a run begins when a place is free."""
    administer(url, "DROP ROLE IF EXISTS one_at_a_time", "CREATE ROLE one_at_a_time LOGIN CONNECTION LIMIT 1")
    first = psycopg2.connect(url, user="one_at_a_time")
    database = Database(url)
    database.engine.dispose()
    limited = Database(database.url.set(username="one_at_a_time").render_as_string(hide_password=False))
    with pytest.raises(DBAPIError, match="too many connections"):
        current(limited)
    timer = threading.Timer(1.0, first.close)
    timer.start()
    with pytest.raises(Exception, match="has no tables yet"):
        require_current(limited, makes=True)
    timer.join()
    limited.close()
    database.close()


def test_a_backend_that_ends_while_logs_are_read_costs_nothing(
    database: Database, url: str, sample_logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step is done again: every session is there once."""
    killed: list[int] = []
    plain = pieces.insert_rows

    def write(connection: Any, *arguments: Any, **options: Any) -> int:
        if not killed:
            backend = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            killed.append(backend)
            administer(url, f"SELECT pg_terminate_backend({backend})")
        return plain(connection, *arguments, **options)

    monkeypatch.setattr(pieces, "insert_rows", write)
    report = ingest.ingest_days(database, sample_logs, DAYS)
    assert killed
    assert report.sessions == 1400
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM sessions")).scalar_one() == 1400


def test_a_database_that_stays_away_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that can be repeated does not wait again for what one of its transactions waited for."""
    monkeypatch.setattr(outages, "OUTAGE_PATIENCE_S", 0.3)
    waited: list[int] = []
    monkeypatch.setattr(Database, "await_answer", lambda self: waited.append(1))
    away = Database(f"postgresql://postgres@127.0.0.1:{free_port()}/nobody")

    @repeats_after_outage
    def step(database: Database) -> None:
        database.moment()

    with pytest.raises(DBAPIError):
        step(away)
    assert not waited


def test_only_we_can_read_our_file(tmp_path: Path) -> None:
    """It holds passwords: 0600, its companions too, and also where it is there already with another mode."""
    path = tmp_path / "enrich.db"
    for _ in range(2):
        database = Database(f"sqlite:///{path}")
        require_current(database, makes=True)
        with database.write() as connection:
            connection.execute(text("DELETE FROM lookups"))
            modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()}
        assert set(modes.values()) == {0o600}, modes
        assert "enrich.db-wal" in modes
        database.close()
        path.chmod(0o644)
