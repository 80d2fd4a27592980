"""Fixtures shared by all tests: real servers, and a migrated database on each engine."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import upgrade
from tests.servers import PostgresServer, RedisServer

if os.access("/dev/shm", os.W_OK):  # a disk's fsync is most of what SQLite's tests would wait for
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/dev/shm")


def _refuse_moment(moment: datetime) -> str:
    raise TypeError(f"bound to a statement as {moment!r}; SQLite keeps moments as UtcDateTime writes them")


# The driver would write it in another form than our columns hold, and comparisons would be false in silence.
sqlite3.register_adapter(datetime, _refuse_moment)

SAMPLE_LOGS = Path(__file__).parent / "data" / "cowrie"


@pytest.fixture(scope="session")
def sample_logs() -> Path:
    """Real Cowrie 3.1 logs: 1,400 sessions, 8,249 events, 178 addresses (174 routable), 2025-11-01..03."""
    return SAMPLE_LOGS


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL for all tests that do not harm it; tests that kill a server start their own."""
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One Redis for all tests that do not harm it; tests that kill a server start their own."""
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
def redis_port(redis_server: RedisServer) -> int:
    """The port of an empty Redis."""
    import redis

    with redis.Redis(port=redis_server.port) as client:
        client.flushall()
    return redis_server.port


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the current schema and nothing in it, to be copied: migrating takes a hundred times
    as long."""
    path = tmp_path_factory.mktemp("template") / "current.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    """The same on PostgreSQL: the URL of a database for `new_database` to copy."""
    url = postgres_server.new_database()
    _migrate(url)
    return url


def _migrate(url: str) -> None:
    with closing(Database(url)) as database:
        upgrade(database)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with the current schema and nothing in it, on each engine in turn."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "test.db")
        return f"sqlite:///{tmp_path}/test.db"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.new_database(request.getfixturevalue("postgres_template"))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database with the current schema, on each engine in turn."""
    with closing(Database(database_url)) as opened:
        yield opened
