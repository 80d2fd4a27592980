"""Temporary tables, made where they are needed: a look at a growing day makes a dozen."""

from __future__ import annotations

from functools import cache

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateTable


def make_anew(connection: Connection, *tables: Table) -> None:
    """Make temporary tables (their `prefixes` say so), without rows, in place of what there is of them."""
    for table in tables:
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table.name}")
        connection.exec_driver_sql(_creation(table, connection.dialect.name))


@cache  # SQLAlchemy keeps what it has compiled, but not of statements that make tables
def _creation(table: Table, engine: str) -> str:
    dialect = postgresql.dialect() if engine == "postgresql" else sqlite.dialect()  # type: ignore[no-untyped-call]
    return str(CreateTable(table).compile(dialect=dialect))
