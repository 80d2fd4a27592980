"""Fixtures shared by all tests: real servers, and a migrated database on each engine."""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from sqlalchemy import Engine, create_engine

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.simulator import Simulator, SimulatorConfig
from cowrie_enrich_dagster.storage import engine
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import upgrade
from cowrie_enrich_dagster.vocabulary import Days
from tests.once import once, shared
from tests.servers import PostgresServer, RedisServer

# On a busy machine an example may take any time.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

if os.access("/dev/shm", os.W_OK):  # a disk's fsync is most of what SQLite's tests would wait for
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/dev/shm")


def _refuse_moment(moment: datetime) -> str:
    raise TypeError(f"bound to a statement as {moment!r}; SQLite keeps moments as UtcDateTime writes them")


# The driver would write it in another form than our columns hold, and comparisons would be false in silence.
sqlite3.register_adapter(datetime, _refuse_moment)

SAMPLE_LOGS = Path(__file__).parent / "data" / "cowrie"
SAMPLE_DAYS = Days.parse("2025-11-01..2025-11-03")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two more than there are processors: many tests wait, for limits and for servers that were killed."""
    return (os.cpu_count() or 1) + 2


def pytest_configure(config: pytest.Config) -> None:
    """Workers, which are started after this, find the folder made. None of what tests import is garbage."""
    shared()
    gc.disable()


def pytest_collection_finish(session: pytest.Session) -> None:
    """What was imported stays: looking through it for garbage would be a tenth of the time. New garbage in
    circles is rare, too."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


class _Compiled(dict[Any, Any]):
    """What statements were compiled to, for all engines of a database: SQLAlchemy keeps it for one."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(self._shared(key), default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        super().__setitem__(self._shared(key), compiled)

    @staticmethod
    def _shared(key: Any) -> Any:
        dialect, *statement = key
        return (dialect.name, *statement)


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[dict[Any, Any]]:
    """A process opens a database once or twice, these tests thousands: to compile each statement for each
    of them anew was a fifth of the time of a run."""
    compiled = _Compiled()

    def sharing(*url: Any, **options: Any) -> Engine:
        return create_engine(*url, **options, execution_options={"compiled_cache": compiled})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "create_engine", sharing)
        yield compiled


@pytest.fixture(scope="session")
def sample_logs() -> Path:
    """Real Cowrie 3.1 logs: 1,400 sessions, 8,249 events, 178 addresses (174 routable), 2025-11-01..03."""
    return SAMPLE_LOGS


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
def sqlite_template() -> Path:
    """A SQLite file with the current schema and nothing in it, to be copied: migrating takes a hundred times
    as long."""
    return once("template.db", lambda path: _migrate(f"sqlite:///{path}"))


@pytest.fixture(scope="session")
def sqlite_sampled(sqlite_template: Path) -> Path:
    """The same file after a run over the sample days."""

    def make(path: Path) -> None:
        shutil.copy(sqlite_template, path)
        _run_samples(f"sqlite:///{path}", path.parent)

    return once("sampled.db", make)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL for all tests that do not harm it; tests that kill a server start their own.

    It has a database named `template`, with the current schema and nothing in it, for `new_database` to copy.
    """

    with closing(PostgresServer(like=_postgres_template())) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_sampled() -> Iterator[PostgresServer]:
    """Another, whose `template` is the same after a run over the sample days: most workers need none."""

    def make(path: Path) -> None:
        with closing(PostgresServer(like=_postgres_template())) as server:
            _run_samples(server.url("template"), path.parent)
            server.keep(path)

    with closing(PostgresServer(like=once("postgres-sampled", make))) as server:
        yield server


def _postgres_template() -> Path:
    def make(path: Path) -> None:
        with closing(PostgresServer()) as server:
            _migrate(server.new_database(name="template"))
            server.keep(path)

    return once("postgres-template", make)


def _migrate(url: str) -> None:
    with closing(Database(url)) as database:
        upgrade(database)


def _run_samples(url: str, home: Path) -> None:
    """As the tests' pipelines do: DShield alone, every address asked about once, and answered."""
    with Simulator(SimulatorConfig()) as simulator:
        environment = {
            "COWRIE_ENRICH_HOME": str(home),
            "COWRIE_LOG_DIR": str(SAMPLE_LOGS),
            "DATABASE_URL": url,
            "DSHIELD_API_URL": simulator.url("dshield"),
            "DSHIELD_EMAIL": "tests@example.org",
            "DSHIELD_RATE_LIMIT": "1000",
            "ENABLE_REDIS_CACHE": "false",
            "ENRICH_SERVICES": "dshield",
        }
        with Enricher(load_settings(environment, cwd=home)) as enricher:
            assert enricher.run(SAMPLE_DAYS).status == "complete"
        assert list(simulator.calls_per_key("dshield").values()) == [1] * 174


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database of the test's own with the current schema, on each engine in turn.

    There is nothing in it or, where the test is marked as `sampled`, what a run over the sample days left.
    """
    is_sampled = request.node.get_closest_marker("sampled") is not None
    if request.param == "sqlite":
        template = request.getfixturevalue("sqlite_sampled" if is_sampled else "sqlite_template")
        shutil.copy(template, tmp_path / "test.db")
        yield f"sqlite:///{tmp_path}/test.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres_sampled" if is_sampled else "postgres_server")
    url = server.new_database("template")
    yield url
    server.drop_database(url)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database with the current schema, on each engine in turn."""
    with closing(Database(database_url)) as opened:
        yield opened
