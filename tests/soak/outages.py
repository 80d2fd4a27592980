"""`pytest tests/soak/outages.py`: PostgreSQL fails while a run or a drain is at work, in each phase.

Nothing may be lost, nothing asked twice. Takes minutes, and a machine that is not overloaded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extensions
import pytest
from sqlalchemy import Engine, event, text

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.simulator import Simulator, SimulatorConfig
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import upgrade
from cowrie_enrich_dagster.vocabulary import Days
from tests.logs import routable_ips, write_logs
from tests.servers import PostgresServer

DAY = Days.parse("2025-11-01")
IPS = routable_ips(6)
LASTS_S = 1.0
PHASES = {
    "ingest": "COPY sessions",
    "addresses": "COPY session_ips",
    "plan": "INSERT INTO lookups",
    "fetch": "UPDATE lookups SET ready = false",
    "store": "INTO enrichment_cache",
    "join": "INTO enriched_sessions",
}
"""What is first said to the database in each."""

GROUPS = 40
"""Statements that are spoilt in one run are this far from each other: a step is done three times at most,
and the longest, that of campaigns, says some seventy."""

Due = Callable[[str, list[str]], bool]
"""Whether a statement is to be spoilt, after those that were."""

Spoil = Callable[[int], None]
"""Something happens to the backend that is about to execute a statement."""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One of our own: it is harmed."""
    with closing(PostgresServer()) as running:
        yield running


def administer(url: str, *statements: str) -> None:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        for statement in statements:
            connection.cursor().execute(statement)


def later(work: Callable[[], object]) -> None:
    threading.Timer(LASTS_S, work).start()


def fails_over(server: PostgresServer) -> Spoil:
    """Read-only for a while, for new connections and old (SQLSTATE 25006)."""

    def turn(what: str) -> None:
        administer(server.url("postgres"), what, "SELECT pg_reload_conf()")

    def spoil(backend: int) -> None:
        turn("ALTER SYSTEM SET default_transaction_read_only = on")
        administer(server.url("postgres"), f"SELECT pg_terminate_backend({backend})")
        undo = "SET default_transaction_read_only = off"
        reset = "ALTER SYSTEM RESET default_transaction_read_only"
        later(lambda: administer(server.url("postgres"), undo, reset, "SELECT pg_reload_conf()"))

    return spoil


def restarts(server: PostgresServer) -> Spoil:
    """Killed, and started again after a while."""

    def spoil(_: int) -> None:
        server.kill()
        later(server.start)

    return spoil


def is_full(server: PostgresServer) -> Spoil:
    """Every place is taken for a while ("too many clients")."""

    def spoil(_: int) -> None:
        administer(
            server.url("postgres"),
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
        )
        taken: list[Any] = []
        with suppress(psycopg2.OperationalError):
            while True:
                taken.append(psycopg2.connect(server.url("postgres")))
        later(lambda: [connection.close() for connection in taken])

    return spoil


def ends_backends(server: PostgresServer) -> Spoil:
    """The backend is ended, by an administrator or for want of memory."""

    def spoil(backend: int) -> None:
        administer(server.url("postgres"), f"SELECT pg_terminate_backend({backend})")

    return spoil


OUTAGES = [fails_over, restarts, is_full, ends_backends]


@contextmanager
def spoilt(engine: Engine, is_due: Due, spoil: Spoil) -> Iterator[list[str]]:
    """Statements that are due are spoilt, each once; gives those for which that was done.

    Looked at in the driver: COPY goes past SQLAlchemy.
    """
    done: list[str] = []
    lock = threading.Lock()

    class Watched(psycopg2.extensions.cursor):
        def look(self, query: Any) -> None:
            statement = (query.decode() if isinstance(query, bytes) else str(query)).partition("VALUES")[0]
            with lock:
                if statement in done or not is_due(statement, done):
                    return
                done.append(statement)
                spoil(self.connection.info.backend_pid)

        def execute(self, query: Any, values: Any = None) -> None:
            self.look(query)
            super().execute(query, values)

        def copy_expert(self, query: Any, file: Any, size: int = 8192) -> None:
            self.look(query)
            super().copy_expert(query, file, size)

    def watch(connection: Any, record: Any, proxy: Any) -> None:
        connection.cursor_factory = Watched

    event.listen(engine, "checkout", watch)
    try:
        yield done
    finally:
        event.remove(engine, "checkout", watch)
        engine.dispose()  # those that were watched


def work(server: PostgresServer, simulator: Simulator, folder: Path, spoil: Spoil, is_due: Due) -> list[str]:
    """A run over new logs, then a drain of what was opened anew; both are spoilt once where it is due."""
    url = server.new_database()
    with closing(Database(url)) as database:
        upgrade(database)
    simulator.reset()
    settings = load_settings(
        {
            "COWRIE_ENRICH_HOME": str(folder),
            "COWRIE_LOG_DIR": str(folder / "logs"),
            "DATABASE_URL": url,
            "DSHIELD_API_URL": simulator.url("dshield"),
            "DSHIELD_EMAIL": "tests@example.org",
            "DSHIELD_RATE_LIMIT": "1000",
            "ENABLE_REDIS_CACHE": "false",
            "ENRICH_FEEDS": "none",
            "ENRICH_SERVICES": "dshield",
        },
        cwd=folder,
    )
    with Enricher(settings) as enricher:
        with spoilt(enricher.database.engine, is_due, spoil) as done:
            report = enricher.run(DAY).as_dict()
        assert report["status"] == "complete", report
        assert simulator.calls_per_key("dshield") == dict.fromkeys(IPS, 1)
        assert rows(enricher) == len(IPS)
        with enricher.database.write() as connection:
            connection.execute(text("DELETE FROM enrichment_cache"))
        enricher.queue.reopen("dshield", IPS)
        with spoilt(enricher.database.engine, is_due, spoil) as again:
            drained = enricher.drain(until=time.monotonic() + 60)
        assert not drained.run.pending
        assert simulator.calls_per_key("dshield") == dict.fromkeys(IPS, 2)
        assert rows(enricher) == len(IPS)
    return done + again


def rows(enricher: Enricher) -> int:
    """Sessions that have an answer."""
    query = text(
        "SELECT count(*) FROM enriched_sessions WHERE intel::jsonb->'dshield'->>'status' <> 'deferred'"
    )
    with enricher.database.read() as connection:
        return int(connection.execute(query).scalar_one())


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(SimulatorConfig()) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("outages")
    write_logs(made / "logs", IPS)
    return made


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("outage", OUTAGES)
def test_an_outage_in_each_phase(
    server: PostgresServer,
    simulator: Simulator,
    folder: Path,
    outage: Callable[[PostgresServer], Spoil],
    phase: str,
) -> None:
    """The run ends complete, and so does the drain: every answer once, every session with its row."""

    def is_due(statement: str, done: list[str]) -> bool:
        return not done and PHASES[phase] in statement

    assert work(server, simulator, folder, outage(server), is_due)


@pytest.mark.timeout(900)
def test_a_backend_may_end_at_any_statement(
    server: PostgresServer, simulator: Simulator, folder: Path
) -> None:
    """Of all that a run and a drain say to the database, each is once the last of its connection."""
    said: dict[str, int] = {}

    def note(statement: str, _: list[str]) -> bool:
        said.setdefault(statement, len(said))
        return False

    work(server, simulator, folder, ends_backends(server), note)
    assert len(said) > 30
    died = []
    for group in range(GROUPS):

        def is_due(statement: str, _: list[str], group: int = group) -> bool:
            return statement in said and said[statement] % GROUPS == group

        try:
            work(server, simulator, folder, ends_backends(server), is_due)
        except Exception as problem:  # noqa: BLE001 (all of them are told)
            died.append(f"group {group}: {type(problem).__name__}: {str(problem)[:600]}")
    assert not died, "\n\n".join(died)
