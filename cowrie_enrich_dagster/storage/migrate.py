"""Schema versions: where the database stands, and moving it with Alembic."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError

from cowrie_enrich_dagster.storage.engine import Database, waits_for_turn

logger = logging.getLogger(__name__)

_alembic_lock = threading.Lock()  # Alembic keeps its environment in module globals


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
    "v17": "what was done in each session; of an id used again all sessions but the first",
    "v18": "campaigns and their ids; the same sessions give the same ids again",
}
"""What taking a revision back drops."""


def _config(database: Database) -> Config:
    package = Path(__file__).resolve().parents[1]
    folder = package / "_migrations"  # inside a wheel; in a checkout it stands beside the package
    config = Config()
    config.set_main_option(
        "script_location", str(folder if folder.is_dir() else package.parent / "migrations")
    )
    config.attributes["database"] = database
    return config


def current(database: Database) -> str | None:
    """The revision the database is at (None: nothing has been created yet)."""
    with database.read() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head(database: Database) -> str:
    """The newest revision this code knows, the one it works on."""
    revision = ScriptDirectory.from_config(_config(database)).get_current_head()
    if revision is None:
        raise SchemaOutdated("The migrations folder is empty: this installation is incomplete.")
    return revision


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema up to `revision`; safe to call from several threads and processes at once.

    Raises `UnknownRevision`, as `downgrade` does.
    """
    with _alembic_lock, _reachable(database, revision):
        command.upgrade(_config(database), revision)


def downgrade(database: Database, revision: str) -> None:
    """Take the schema down to `revision` (`-1`: one step), dropping only what the later revisions added."""
    with _alembic_lock, _reachable(database, revision):
        command.downgrade(_config(database), revision)


def dropped_by(database: Database, revision: str) -> list[str]:
    """What a downgrade to `revision` would drop, a line for each step; empty for no step."""
    script = ScriptDirectory.from_config(_config(database))
    with _reachable(database, revision):
        steps = list(script.iterate_revisions(current(database), revision, select_for_downgrade=True))
    return [f"{step.revision}: {_DROPPED[step.revision]}" for step in steps]


def revisions(database: Database) -> list[str]:
    """The revisions this code knows, oldest first."""
    script = ScriptDirectory.from_config(_config(database))
    return [step.revision for step in script.walk_revisions()][::-1]


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


def require_current(database: Database, *, embedded: bool) -> None:
    """Make sure the schema is current. An `embedded` one, a SQLite file, is made and upgraded on the spot.

    That is said, and what it held before an upgrade is copied beside it. Raises `SchemaOutdated` for any
    other database: changing a shared schema is the operator's decision.
    """
    have, want = waits_for_turn(current)(database), head(database)
    if have is not None:
        database.keep_private()
    if have == want:
        return
    if embedded:
        if have is None:
            logger.warning("a new database is made: %s", database.url.database)
        else:
            copy = database.copy_beside(have)
            logger.warning(
                "%s goes from schema %s to %s; a copy is %s", database.url.database, have, want, copy
            )
        upgrade(database)
        return
    state = "has no tables yet" if have is None else f"is at schema {have}"
    raise SchemaOutdated(f"The database {state}, this version works on {want}. Run: cowrie-enrich db upgrade")
