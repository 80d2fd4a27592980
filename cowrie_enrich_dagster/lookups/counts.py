"""How much is open and how much comes in: read off a few rows a day, however long the queue is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from statistics import median

from sqlalchemy import Connection, select, text
from sqlalchemy import func as sql

from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.outages import survives_outage
from cowrie_enrich_dagster.storage.tables import LookupCount, table_of

INFLOW_DAYS = 7
"""The days (UTC) that are over by whose median what comes in is told."""

_COUNTS = table_of(LookupCount)


@dataclass(frozen=True)
class Volume:
    """Of one service: lookups `open` now, and how many arrive on a usual day.

    That is the median of the last week's days that are over, from the first on which any came; of the present
    day where that is the first. What a backfill opens does not count as arriving: it comes once.
    """

    open: int
    per_day: float


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
        today = now.date()
        total = sql.sum(_COUNTS.c.opened - _COUNTS.c.closed)
        opened = select(_COUNTS.c.service, total).group_by(_COUNTS.c.service)
        arrived = (
            select(_COUNTS.c.service, _COUNTS.c.day, sql.sum(_COUNTS.c.arrived))
            .where(_COUNTS.c.day >= today - timedelta(days=INFLOW_DAYS))
            .group_by(_COUNTS.c.service, _COUNTS.c.day)
        )
        by_day: dict[str, dict[date, int]] = {}
        for service, day, number in connection.execute(arrived):
            by_day.setdefault(service, {})[day] = int(number)
        return {
            service: Volume(int(open_), _usual_day(by_day.get(service, {}), today))
            for service, open_ in connection.execute(opened)
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


def _usual_day(arrived: Mapping[date, int], today: date) -> float:
    first = min((day for day, number in arrived.items() if number), default=today)
    over = [arrived.get(first + timedelta(days=n), 0) for n in range((today - first).days)]
    return float(median(over or [arrived.get(today, 0)]))
