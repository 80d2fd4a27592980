"""The database: one engine, explicit read and write transactions, one clock."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from datetime import datetime
from pathlib import Path
from stat import S_ISREG
from typing import Any

from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from cowrie_enrich_dagster.storage.json_text import from_json, to_json
from cowrie_enrich_dagster.storage.outages import READ_ONLY, survives_outage
from cowrie_enrich_dagster.storage.packed_rows import ATTACHED
from cowrie_enrich_dagster.vocabulary import Clock, utc_now

SQLITE_BUSY_TIMEOUT_S = 60.0
# 40 MiB, not 4, are noted before they go to their pages: of a large index each is written less often.
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "temp_store=MEMORY", "wal_autocheckpoint=10000")
_IMMEDIATE = "cowrie_enrich_begin_immediate"
_LASTING = "cowrie_enrich_lasting"
_SYNCHRONOUS = "cowrie_enrich_synchronous"


class DatabaseUnusable(Exception):
    """The SQLite file cannot be opened or made, or the database is not ours; the message says why."""


class NoDatabaseYet(DatabaseUnusable):
    """There is no SQLite file, or an empty one, and whoever asks is not to make it."""


_FOREIGN = "it is a database of cowrieprocessor, which is left as it is: name one of our own, an empty one"
_THEIRS, _OURS = ("raw_events", "session_summaries"), "alembic_version"
_TABLES_SQLITE = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
_TABLES_POSTGRES = "SELECT name FROM unnest(%s) AS name WHERE to_regclass(name) IS NOT NULL"


def _refuse_foreign(tables: Iterable[str]) -> None:
    """Raise `DatabaseUnusable` for one with tables of cowrieprocessor and without a revision of ours."""
    names = set(tables)
    if names.intersection(_THEIRS) and _OURS not in names:
        raise DatabaseUnusable(_FOREIGN)


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


def _is_there(path: str) -> bool:
    """Whether there is something that connecting would not make; what is wrong with it, connecting tells."""
    try:
        found = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return found.st_size > 0 or not S_ISREG(found.st_mode)


def _open_sqlite(
    path: str | None, connect: Callable[[], sqlite3.Connection], *, makes: bool
) -> sqlite3.Connection:
    """A connection ready for use. If it `makes` the file, its folder too, for nobody but us to look into."""
    if path and path != ":memory:" and not makes:
        if not _is_there(path):
            raise NoDatabaseYet(f"there is no database {path} yet; cowrie-enrich run makes it")
    elif path and path != ":memory:":
        folder = Path(path).parent
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite gives its companions (-wal, -shm) the mode of the file itself.
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        except OSError as problem:
            what = f"{path} cannot be opened" if folder.is_dir() else f"the folder {folder} cannot be made"
            raise DatabaseUnusable(f"{what}: {problem.strerror}") from problem
    try:
        connection = connect()
        # The driver's own implicit BEGIN is deferred: two writers would then fail on upgrade with SQLITE_BUSY
        # at once instead of queueing. We begin ourselves, on the engine's event.
        connection.isolation_level = None
        # Before the first statement that would change a file.
        _refuse_foreign(name for (name,) in connection.execute(_TABLES_SQLITE))
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
    except sqlite3.Error as problem:
        if "locked" in str(problem):
            raise
        raise DatabaseUnusable(f"{path} cannot be opened: {problem}") from problem
    return connection


@contextmanager
def _attached(connection: Connection, path: Path) -> Iterator[None]:
    """Of this SQLite connection, which is in no transaction: another file is part of it."""
    driver: Any = connection.connection.driver_connection
    driver.execute(f"ATTACH DATABASE ? AS {ATTACHED}", (str(path),))
    try:
        yield
    finally:
        driver.execute(f"DETACH DATABASE {ATTACHED}")


@contextmanager
def _spooled(connection: Connection) -> Iterator[None]:
    """Of this SQLite connection, which is in no transaction: temporary content lies in a file."""
    driver: Any = connection.connection.driver_connection
    driver.execute("PRAGMA temp_store=FILE")
    try:
        yield
    finally:
        driver.execute("PRAGMA temp_store=MEMORY")


def _options(url: URL) -> str:
    """What a URL asks of its sessions, a `search_path` of its own among it, and what we do."""
    asked = url.query.get("options", "")
    path = url.query.get("search_path", "")
    options = [asked if isinstance(asked, str) else " ".join(asked)]
    if path:
        names = path if isinstance(path, str) else ",".join(path)
        options.append("-c search_path=" + names.replace("\\", "\\\\").replace(" ", "\\ "))
    return " ".join([*filter(None, options), "-c timezone=utc"])


class Database:
    """A PostgreSQL or SQLite database.

    `clock` replaces the database's own clock (tests). With `makes_file` False a SQLite file that is not there
    is not made, but raises `NoDatabaseYet`. Safe to share between threads, not between forks.
    Whatever needs a connection raises `DatabaseUnusable` for a SQLite file that there cannot be.
    """

    def __init__(self, url: str, *, clock: Clock | None = None, makes_file: bool = True) -> None:
        self.url = normalise_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._clock = clock
        self._makes_file = makes_file
        self.engine = self._sqlite_engine() if self.is_sqlite else self._postgres_engine()

    def _postgres_engine(self) -> Engine:
        engine = create_engine(
            self.url.difference_update_query(["options", "search_path"]),
            pool_pre_ping=True,
            pool_size=10,
            max_overflow=20,
            json_serializer=to_json,
            json_deserializer=from_json,
            connect_args={"connect_timeout": 10, "options": _options(self.url)},
        )

        @event.listens_for(engine, "connect")
        def _look(connection: Any, record: Any) -> None:
            with connection.cursor() as cursor:
                cursor.execute(_TABLES_POSTGRES, ([*_THEIRS, _OURS],))
                names = [name for (name,) in cursor.fetchall()]
            connection.rollback()
            _refuse_foreign(names)

        @event.listens_for(engine, "handle_error")
        def _leave_standby(context: ExceptionContext) -> None:
            # What the pool holds may lead to a server that has become a standby for good.
            if getattr(context.original_exception, "pgcode", None) == READ_ONLY:
                context.is_disconnect = True

        return engine

    def _sqlite_engine(self) -> Engine:
        engine = create_engine(
            self.url,
            json_serializer=to_json,
            json_deserializer=from_json,
            connect_args={"timeout": SQLITE_BUSY_TIMEOUT_S},
        )

        @event.listens_for(engine, "do_connect")
        def _connect(dialect: Any, record: Any, arguments: Any, parameters: Any) -> sqlite3.Connection:
            return _open_sqlite(
                self.url.database,
                lambda: dialect.connect(*arguments, **parameters),
                makes=self._makes_file,
            )

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            options = connection.get_execution_options()
            if options.get(_IMMEDIATE, False):
                # Of this connection, until it is said otherwise; not to be changed within a transaction.
                level = "FULL" if options[_LASTING] else "NORMAL"
                if connection.info.get(_SYNCHRONOUS) != level:
                    connection.exec_driver_sql(f"PRAGMA synchronous={level}")
                    connection.info[_SYNCHRONOUS] = level
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql("BEGIN")

        return engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(
        self, *, lasting: bool = True, large: bool = False, packed: Path | None = None
    ) -> Iterator[Connection]:
        """A transaction that writes; on SQLite it waits for the write lock before its first statement.

        One that is not `lasting` does not wait for the disk: should the server (SQLite: the machine) crash
        within the next second, it may never have been. What a `large` one changes in a statement SQLite notes
        in a file, not in memory: to drop a table is to note each of its pages. `packed` are rows that it can
        take whole (see `packed_rows`).
        """
        options = {_IMMEDIATE: True, _LASTING: lasting}
        with (
            self.engine.connect().execution_options(**options) as connection,
            _spooled(connection) if large and self.is_sqlite else nullcontext(),
            _attached(connection, packed) if packed and self.is_sqlite else nullcontext(),
            connection.begin(),
        ):
            if not (lasting or self.is_sqlite):
                connection.execute(text("SET LOCAL synchronous_commit = off"))
            yield connection

    def now(self, connection: Connection) -> datetime:
        """The moment on the clock that all workers of this database share."""
        if self._clock is not None:
            return self._clock()
        if self.is_sqlite:  # one file, one machine: its clock is the shared one
            return utc_now()
        moment: datetime = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
        return moment

    @survives_outage
    def moment(self) -> datetime:
        """The same, in a transaction of its own."""
        with self.read() as connection:
            return self.now(connection)

    @survives_outage
    def await_answer(self) -> None:
        """Return when the database takes writes; raises its error when it stays away."""
        with self.write() as connection:
            if not self.is_sqlite:
                table = "CREATE TEMPORARY TABLE takes_writes () ON COMMIT DROP"
                connection.execute(text(table))

    @property
    def is_same(self) -> str:
        """SQL operator: equal, or both null."""
        return "IS" if self.is_sqlite else "IS NOT DISTINCT FROM"

    @property
    def is_other(self) -> str:
        """SQL operator: not equal, and not both null."""
        return "IS NOT" if self.is_sqlite else "IS DISTINCT FROM"

    def not_by(self, column: str) -> str:
        """The column in SQL, such that rows are not looked up by it: without statistics any index looks good
        to SQLite, though half of the table is of one day."""
        return f"+{column}" if self.is_sqlite else column

    def among(self, column: str) -> str:
        """SQL condition: `column` is one of the strings in `:keys`, a JSON array of any length."""
        if self.is_sqlite:
            return f"{column} IN (SELECT value FROM json_each(:keys))"
        return f"{column} IN (SELECT jsonb_array_elements_text(CAST(:keys AS jsonb)))"

    def rows_among(self, table: str, column: str) -> str:
        """SQL, what follows FROM: the rows of a table whose `column` is one of the strings in `:keys`, a
        JSON array of distinct ones; it ends with a condition. Where these are thousands, `among` takes twice
        as long on SQLite, which sorts them first."""
        if self.is_sqlite:
            keys = "(SELECT value FROM json_each(:keys)) AS wanted_keys"
            return f"{keys} CROSS JOIN {table} WHERE {table}.{column} = wanted_keys.value"
        return f"{table} WHERE {self.among(column)}"

    def copy_beside(self, name: str) -> Path:
        """A copy of the SQLite file as it is now, beside it and for nobody else to read; where it is."""
        path = Path(f"{self.url.database}.{name}.bak")
        path.unlink(missing_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(path)) as copy, self.read() as connection:
            held: Any = connection.connection.driver_connection
            held.backup(copy)
        return path

    def keep_private(self) -> None:
        """Let nobody but us read the SQLite file that is ours: it holds passwords that people typed."""
        path = self.url.database if self.is_sqlite else None
        if not path or path == ":memory:":
            return
        for name in (path, f"{path}-wal", f"{path}-shm"):
            with suppress(OSError):  # another's, or not there
                if Path(name).stat().st_mode & 0o077:
                    Path(name).chmod(0o600)

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()
