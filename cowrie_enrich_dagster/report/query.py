"""Querying the database about some days: one transaction, bound values, typed moments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime
from enum import Enum
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Date, Row, bindparam, text

from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.tables import Json, UtcDateTime
from cowrie_enrich_dagster.vocabulary import Days

T = TypeVar("T")
_AT_ONCE = 5_000


@dataclass(frozen=True)
class Top(Generic[T]):
    """The first of a list, in its order, and of how many."""

    shown: tuple[T, ...]
    total: int

    @property
    def left_out(self) -> int:
        """How many there are that are not shown."""
        return self.total - len(self.shown)

    @classmethod
    def of(cls, rows: Sequence[Row[Any]], made: Callable[[Row[Any]], T]) -> Top[T]:
        """From rows that say in `of_all` how many there are."""
        return cls(tuple(map(made, rows)), rows[0].of_all if rows else 0)

    @classmethod
    def among(cls, every: Sequence[T], number: int) -> Top[T]:
        """The first `number` of all."""
        return cls(tuple(every[:number]), len(every))


@dataclass(frozen=True)
class Query:
    """Questions about `days`; in SQL they are `day BETWEEN :first AND :last`, those before `day < :first`."""

    database: Database
    connection: Connection
    days: Days

    def rows(
        self, query: str, *moments: str, days: Sequence[str] = (), lists: Sequence[str] = (), **values: Any
    ) -> Sequence[Row[Any]]:
        """All rows; the columns named in `moments` are moments, those in `days` days, in `lists` JSON."""
        kinds = {**dict.fromkeys(days, Date()), **dict.fromkeys(lists, Json)}
        return self.connection.execute(self._statement(query, values, moments, kinds), values).all()

    def stream(self, query: str, *moments: str, **values: Any) -> Iterator[Row[Any]]:
        """Rows as they come: memory does not grow with them."""
        statement = self._statement(query, values, moments, {}).execution_options(yield_per=_AT_ONCE)
        for some in self.connection.execute(statement, values).partitions():
            yield from some

    def _statement(
        self, query: str, values: Mapping[str, Any], moments: Sequence[str], others: Mapping[str, Any]
    ) -> Any:
        days = {"first": self.days.first, "last": self.days.last}
        bound = [bindparam(name, day, Date) for name, day in days.items() if f":{name}" in query]
        bound += [
            bindparam(name, type_=UtcDateTime())
            for name, value in values.items()
            if isinstance(value, datetime)
        ]
        return text(query).bindparams(*bound).columns(**dict.fromkeys(moments, UtcDateTime()), **others)

    @property
    def session_key(self) -> str:
        """What tells the sessions of a `session_...` view apart, as one value."""
        start = self.dialect(sqlite="started_at", postgresql="CAST(started_at AS text)")
        return f"sensor || session_id || {start}"

    def dialect(self, *, sqlite: str, postgresql: str) -> str:
        """The words of this engine."""
        return sqlite if self.database.is_sqlite else postgresql


def plain(value: Any) -> Any:
    """Data as JSON has it: objects, lists, texts, numbers; days and moments in ISO 8601."""
    if isinstance(value, Top):
        return {"shown": plain(value.shown), "total": value.total, "left_out": value.left_out}
    if isinstance(value, Days):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
