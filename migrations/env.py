"""Alembic environment: runs every migration in one transaction on the project's own `Database`."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.tables import Base

UPGRADE_LOCK = 0x636F7772  # any number that nobody else uses as an advisory lock in this database

database: Database = context.config.attributes["database"]

with database.write() as connection:
    if not database.is_sqlite:  # on SQLite the write transaction itself is the lock
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": UPGRADE_LOCK})
    context.configure(connection=connection, target_metadata=Base.metadata, transactional_ddl=True)
    context.run_migrations()
