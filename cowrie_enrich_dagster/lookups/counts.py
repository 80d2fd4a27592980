"""How much is open and how much comes in: read off a few rows a day, however long the queue is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone

from sqlalchemy import Connection, select, text
from sqlalchemy import func as sql

from cowrie_enrich_dagster.storage.engine import Database, survives_outage
from cowrie_enrich_dagster.storage.tables import LookupCount, table_of

INFLOW_DAYS = 7
"""The days (UTC, today included) over which what comes in is averaged."""

_COUNTS = table_of(LookupCount)


@dataclass(frozen=True)
class Volume:
    """Of one service: lookups `open` now, and how many arrive, on average of the last week, in a second.

    What a backfill opens does not count as arriving: it comes once.
    """

    open: int
    per_second: float


class LookupCounts:
    """The counts that the triggers on `lookups` keep in `lookup_counts`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def volumes(self) -> dict[str, Volume]:
        """The volume of every service that ever had a lookup."""
        with self._database.read() as connection:
            now = self._database.now(connection)
            return self._volumes(connection, now)

    def _volumes(self, connection: Connection, now: datetime) -> dict[str, Volume]:
        since = now.date() - timedelta(days=INFLOW_DAYS - 1)
        lately = _COUNTS.c.day >= since
        query = select(
            _COUNTS.c.service,
            sql.sum(_COUNTS.c.opened - _COUNTS.c.closed),
            sql.coalesce(sql.sum(_COUNTS.c.arrived).filter(lately), 0),
            sql.min(_COUNTS.c.day).filter(lately, _COUNTS.c.arrived > 0),
        ).group_by(_COUNTS.c.service)
        return {
            service: Volume(int(open_), int(arrived) / _seconds_since(first or now.date(), now))
            for service, open_, arrived, first in connection.execute(query)
        }

    @survives_outage
    def fold(self) -> None:
        """Add up the rows of each day (on SQLite there is one already); several may do it at once."""
        if self._database.is_sqlite:
            return
        statement = text("""
            WITH gone AS (
                DELETE FROM lookup_counts WHERE id IN (SELECT id FROM lookup_counts FOR UPDATE SKIP LOCKED)
                RETURNING service, day, opened, arrived, closed
            )
            INSERT INTO lookup_counts (service, day, opened, arrived, closed)
            SELECT service, day, sum(opened), sum(arrived), sum(closed) FROM gone GROUP BY service, day
        """)
        with self._database.write() as connection:
            connection.execute(statement)


def _seconds_since(day: date, now: datetime) -> float:
    """At least a day: what came in an hour says little of the next."""
    begin = datetime.combine(day, time(), timezone.utc)
    return max(86_400.0, (now - begin).total_seconds())
