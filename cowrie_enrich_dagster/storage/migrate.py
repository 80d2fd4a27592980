"""Schema versions: where the database stands, and moving it with Alembic."""

from __future__ import annotations

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from cowrie_enrich_dagster.storage.engine import Database

_alembic_lock = threading.Lock()  # Alembic keeps its environment in module globals


class SchemaOutdated(Exception):
    """The database's schema is not the one this code works on; the message says how to mend it."""


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
    """Bring the schema up to `revision`; safe to call from several threads and processes at once."""
    with _alembic_lock:
        command.upgrade(_config(database), revision)


def downgrade(database: Database, revision: str) -> None:
    """Take the schema down to `revision` (`-1`: one step), dropping only what the later revisions added."""
    with _alembic_lock:
        command.downgrade(_config(database), revision)


def require_current(database: Database, *, embedded: bool) -> None:
    """Make sure the schema is current. The `embedded` default database is upgraded on the spot.

    Raises `SchemaOutdated` for any other database: changing a shared schema is the operator's decision.
    """
    have, want = current(database), head(database)
    if have == want:
        return
    if embedded:
        upgrade(database)
        return
    state = "has no tables yet" if have is None else f"is at schema {have}"
    raise SchemaOutdated(f"The database {state}, this version works on {want}. Run: cowrie-enrich db upgrade")
