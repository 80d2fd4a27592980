"""How many rows a table has of each day: the figures of partitions."""

from __future__ import annotations

from datetime import date
from typing import Any

from sqlalchemy import func, select

from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.outages import survives_outage
from cowrie_enrich_dagster.vocabulary import Days


@survives_outage
def count_by_day(database: Database, day: Any, days: Days, *conditions: Any) -> dict[date, int]:
    """The rows of each of the days that have any; `day` is the column that tells a row's day.

    `count_by_day(database, sessions.c.day, days)` is `{date(2025, 11, 1): 412}` where only that day has some.
    """
    query = select(day, func.count()).where(day.between(*days.ends), *conditions).group_by(day)
    with database.read() as connection:
        return {row[0]: row[1] for row in connection.execute(query)}
