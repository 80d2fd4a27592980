"""Alembic environment: runs migrations in one transaction on the project's own `Database`."""

from __future__ import annotations

from alembic import context

from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import changing
from cowrie_enrich_dagster.storage.tables import Base

database: Database = context.config.attributes["database"]

with changing(database) as connection:
    context.configure(connection=connection, target_metadata=Base.metadata, transactional_ddl=True)
    context.run_migrations()
