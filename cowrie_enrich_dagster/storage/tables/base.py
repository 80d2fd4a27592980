"""What all tables are made of: their base, and types that both engines know.

Moments are aware UTC datetimes everywhere (`timestamptz`; text on SQLite) except in `service_limits`, where
they are seconds since the epoch: the limiter does arithmetic on them on the database's own clock.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, cast

from sqlalchemy import BigInteger, DateTime, Index, Integer, Table, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import JSON, TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime on every engine (SQLite itself keeps no zone)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a moment without a time zone cannot be stored: {value!r}")
        value = value.astimezone(timezone.utc)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value.astimezone(timezone.utc)


def moment_of(value: Any) -> datetime:
    """An aware moment from what a driver gives for a plain column: a datetime, or SQLite's text (no zone).

    For thousands of rows, where `UtcDateTime` as the type of the column takes twice as long.
    """
    if isinstance(value, datetime):
        return value
    return datetime.fromisoformat(value).replace(tzinfo=timezone.utc)


Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
BigId = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER keys count up by themselves on SQLite


class Base(DeclarativeBase):
    """Declarative base; `Base.metadata` is what the migrations are compared with in the tests."""


def table_of(model: type[Base]) -> Table:
    """The table behind a model, for statements on sets of rows."""
    return cast(Table, model.__table__)


def partial_index(name: str, where: str, *columns: Any) -> Index:
    """An index of the rows for which the SQL condition `where` holds."""
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))
