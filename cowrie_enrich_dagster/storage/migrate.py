"""Schema versions: where the database stands, and moving it with Alembic."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from sqlalchemy import Connection, text

from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.outages import waits_for_turn
from cowrie_enrich_dagster.vocabulary import NEWS

logger = logging.getLogger(__name__)

_alembic_lock = threading.Lock()  # Alembic keeps its environment in module globals
_UPGRADE_LOCK = 0x636F7772  # any number that nobody else uses as an advisory lock in this database
_BEGUN = {"v17_begun": "v17"}
"""Revisions at which a database is while its rows are converted, and to what: no code works on it."""


class SchemaOutdated(Exception):
    """The database's schema is not the one this code works on; the message says how to mend it."""


class UnknownRevision(Exception):
    """There is no such revision to go to from here; the message names those there are."""


_DROPPED = {
    "v11": "every other table: sessions, enriched_sessions and what belongs to them",
    "v12": "enrichment_cache: every answer",
    "v13": "lookups and service_limits: the queue, and bans in force are forgotten",
    "v14": "observations (answers of old days), the file and password columns of enriched_sessions",
    "v15": "the order, states and counts of the queue; open lookups stay",
    "v16": "which answers Redis was given; all answers stay",
    "v17_begun": "what was done in each session; of an id used again all sessions but the first",
    "v18": "campaigns and their ids; the same sessions give the same ids again",
    "v19": "which slots are not told to have been used; no limit is forgotten",
    "v20": "what operators were told by webhook; what still holds is told again",
    "v21": "what public lists said when, and what each lookup was opened for; lists are fetched again",
    "v22": "how far growing days were read and written: they are read and written whole once",
    "v23": "how lists were to be read; each is fetched once more",
    "v24": "which sessions changed since other tables followed; these follow all once more",
}
"""What taking a revision back drops."""


def _config() -> Config:
    package = Path(__file__).resolve().parents[1]
    folder = package / "_migrations"  # inside a wheel; in a checkout it stands beside the package
    config = Config()
    config.set_main_option(
        "script_location", str(folder if folder.is_dir() else package.parent / "migrations")
    )
    return config


def _config_for(database: Database) -> Config:
    config = _config()
    config.attributes["database"] = database
    return config


@cache
def _scripts() -> ScriptDirectory:
    """All migrations: to read them takes most of the time of opening a database."""
    return ScriptDirectory.from_config(_config())


def current(database: Database) -> str | None:
    """The revision the database is at (None: nothing has been created yet)."""
    with database.read() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head(database: Database) -> str:
    """The newest revision this code knows, the one it works on."""
    revision = _scripts().get_current_head()
    if revision is None:
        raise SchemaOutdated("The migrations folder is empty: this installation is incomplete.")
    return revision


@contextmanager
def changing(database: Database) -> Iterator[Connection]:
    """A transaction that no other change of the schema runs beside."""
    with database.write(large=True) as connection:
        if not database.is_sqlite:  # on SQLite the write transaction itself is the lock
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
        yield connection


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema up to `revision`; safe to call from several threads and processes at once.

    A step that converts rows does it in lots, each committed: one that is killed goes on where it was.
    Raises `UnknownRevision`, as `downgrade` does.
    """
    with _alembic_lock, _reachable(database, revision):
        for step in _in_lots(database, revision):
            command.upgrade(_config_for(database), str(step.down_revision))
            while _convert_lot(database, step):
                pass
        command.upgrade(_config_for(database), revision)


def _in_lots(database: Database, revision: str) -> list[Script]:
    """The steps from here to `revision` that convert rows; of a database without any: none."""
    have = current(database)
    if have is None:
        return []
    steps = list(_scripts().iterate_revisions(revision, have))[::-1]
    return [step for step in steps if hasattr(step.module, "lot")]


def _convert_lot(database: Database, step: Script) -> bool:
    with changing(database) as connection:
        # Where another was quicker and ended it, nothing is left to do.
        begun = MigrationContext.configure(connection).get_current_revision() == step.down_revision
        return begun and bool(step.module.lot(connection))


def downgrade(database: Database, revision: str) -> None:
    """Take the schema down to `revision` (`-1`: one step), dropping only what the later revisions added."""
    with _alembic_lock, _reachable(database, revision):
        command.downgrade(_config_for(database), revision)


def dropped_by(database: Database, revision: str) -> list[str]:
    """What a downgrade to `revision` would drop, a line for each step; empty for no step."""
    with _reachable(database, revision):
        steps = list(_scripts().iterate_revisions(current(database), revision, select_for_downgrade=True))
    return [f"{_BEGUN.get(at, at)}: {_DROPPED[at]}" for at in (s.revision for s in steps) if at in _DROPPED]


def revisions(database: Database) -> list[str]:
    """The revisions this code knows, oldest first."""
    return [step.revision for step in _scripts().walk_revisions()][::-1]


@contextmanager
def _reachable(database: Database, revision: str) -> Iterator[None]:
    known = ["base", *revisions(database)]
    try:
        # Alembic itself takes the beginning of a name for the name, and fails at others in many ways.
        if revision not in (*known, "head") and not re.fullmatch(r"[+-]\d+", revision):
            raise RevisionError(revision)
        yield
    except (CommandError, RevisionError) as problem:
        here = current(database) or "base"
        raise UnknownRevision(
            f"there is no way from {here} to {revision!r}; the revisions are {', '.join(known)}"
        ) from problem


def require_current(database: Database, *, makes: bool) -> None:
    """Make sure the schema is current. Whoever `makes` SQLite files makes and upgrades them on the spot.

    That is said, and what it held before an upgrade is copied beside it. Else, and for any other database,
    raises `SchemaOutdated`: changing a shared schema is the operator's decision.
    """
    have, want = waits_for_turn(current)(database), head(database)
    if have is not None:
        database.keep_private()
    if have == want:
        return
    if makes and database.is_sqlite:
        if have is None:
            logger.warning("a new database is made: %s", database.url.database, extra=NEWS)
        elif have in _BEGUN:  # it was copied before that began
            logger.warning("the upgrade of %s to %s goes on", database.url.database, _BEGUN[have])
        else:
            copy = database.copy_beside(have)
            logger.warning(
                "%s goes from schema %s to %s; a copy is %s", database.url.database, have, want, copy
            )
        upgrade(database)
        return
    state = "has no tables yet" if have is None else f"is at schema {have}"
    if have in _BEGUN:
        state = f"is being upgraded to schema {_BEGUN[have]}, or that was broken off and can go on"
    which, others = "The database", ""
    if database.is_sqlite:
        which, others = f"{which} {database.url.database}", " (or run, drain, Dagster, which do it as well)"
    raise SchemaOutdated(
        f"{which} {state}, this version works on {want}. Run: cowrie-enrich db upgrade{others}"
    )
