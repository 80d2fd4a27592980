"""The database: one engine, explicit read and write transactions, one clock."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import tenacity
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError

from cowrie_enrich_dagster.storage.json_text import from_json, to_json
from cowrie_enrich_dagster.vocabulary import Clock, utc_now

SQLITE_BUSY_TIMEOUT_S = 60.0
OUTAGE_PATIENCE_S = 60.0
_IMMEDIATE = "cowrie_enrich_begin_immediate"


class DatabaseUnusable(Exception):
    """The SQLite file cannot be opened or made, or is none; the message names it and says why."""


P = ParamSpec("P")
R = TypeVar("R")


def _is_outage(problem: BaseException) -> bool:
    if not isinstance(problem, DBAPIError):
        return False
    if type(problem.orig).__module__.startswith("sqlite3"):
        return "locked" in str(problem.orig)
    return problem.connection_invalidated or isinstance(problem, (OperationalError, InterfaceError))


_ended: ContextVar[threading.Event | None] = ContextVar("ended", default=None)


@contextmanager
def patient_until(ended: threading.Event) -> Iterator[None]:
    """In this thread, while the block lasts: no outage is waited for once `ended` is set."""
    token = _ended.set(ended)
    try:
        yield
    finally:
        _ended.reset(token)


def _gives_up(state: tenacity.RetryCallState) -> bool:
    ended = _ended.get()
    return bool(ended and ended.is_set()) or (state.seconds_since_start or 0.0) >= OUTAGE_PATIENCE_S


def _pause(seconds: float) -> None:
    ended = _ended.get()
    if ended is None:
        time.sleep(seconds)
    else:
        ended.wait(seconds)


def survives_outage(work: Callable[P, R]) -> Callable[P, R]:
    """Decorator: repeat a whole transaction while the database restarts, for up to a minute.

    The last error is raised unchanged after that; an error that is no outage is raised at once.
    """
    return tenacity.retry(
        retry=tenacity.retry_if_exception(_is_outage),
        stop=_gives_up,
        wait=tenacity.wait_exponential(multiplier=0.1, max=2.0),
        sleep=_pause,
        reraise=True,
    )(work)


def normalise_url(url: str) -> URL:
    """The SQLAlchemy URL for what operators write: `postgres://` and `postgresql://` mean psycopg2.

    Raises `ValueError` for a URL that cannot be parsed or an engine other than PostgreSQL and SQLite; the
    message never shows the URL, which may hold a password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError(
            "DATABASE_URL is not a database URL (expected postgresql://... or sqlite:///...)"
        ) from None
    backend = parsed.drivername.split("+")[0]
    if backend in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg2")
    if backend == "sqlite":
        return parsed.set(drivername="sqlite+pysqlite")
    raise ValueError(f"DATABASE_URL names {backend!r}; supported are postgresql and sqlite")


def _open_sqlite(path: str | None, connect: Callable[[], sqlite3.Connection]) -> sqlite3.Connection:
    """A connection ready for use. The file's folder is made if need be, for nobody but us to look into."""
    if path and path != ":memory:":
        folder = Path(path).parent
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as problem:
            raise DatabaseUnusable(f"the folder {folder} cannot be made: {problem.strerror}") from problem
    try:
        connection = connect()
        # The driver's own implicit BEGIN is deferred: two writers would then fail on upgrade with SQLITE_BUSY
        # at once instead of queueing. We begin ourselves, on the engine's event.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")
    except sqlite3.Error as problem:
        if "locked" in str(problem):
            raise
        raise DatabaseUnusable(f"{path} cannot be opened: {problem}") from problem
    return connection


class Database:
    """A PostgreSQL or SQLite database.

    `clock` replaces the database's own clock (tests). Safe to share between threads, not between forks.
    Whatever needs a connection raises `DatabaseUnusable` for a SQLite file that there cannot be.
    """

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self.url = normalise_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._clock = clock
        self.engine = self._sqlite_engine() if self.is_sqlite else self._postgres_engine()

    def _postgres_engine(self) -> Engine:
        return create_engine(
            self.url,
            pool_pre_ping=True,
            pool_size=10,
            max_overflow=20,
            json_serializer=to_json,
            json_deserializer=from_json,
            connect_args={"connect_timeout": 10, "options": "-c timezone=utc"},
        )

    def _sqlite_engine(self) -> Engine:
        engine = create_engine(
            self.url,
            json_serializer=to_json,
            json_deserializer=from_json,
            connect_args={"timeout": SQLITE_BUSY_TIMEOUT_S},
        )

        @event.listens_for(engine, "do_connect")
        def _connect(dialect: Any, record: Any, arguments: Any, parameters: Any) -> sqlite3.Connection:
            return _open_sqlite(self.url.database, lambda: dialect.connect(*arguments, **parameters))

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            immediate = connection.get_execution_options().get(_IMMEDIATE, False)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

        return engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes; on SQLite it waits for the write lock before its first statement."""
        with self.engine.connect().execution_options(**{_IMMEDIATE: True}) as connection, connection.begin():
            yield connection

    def now(self, connection: Connection) -> datetime:
        """The moment on the clock that all workers of this database share."""
        if self._clock is not None:
            return self._clock()
        if self.is_sqlite:  # one file, one machine: its clock is the shared one
            return utc_now()
        moment: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        return moment

    def among(self, column: str) -> str:
        """SQL condition: `column` is one of the strings in `:keys`, a JSON array of any length."""
        if self.is_sqlite:
            return f"{column} IN (SELECT value FROM json_each(:keys))"
        return f"{column} IN (SELECT jsonb_array_elements_text(CAST(:keys AS jsonb)))"

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()
