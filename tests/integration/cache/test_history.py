"""What was told stays told: an unchanged answer once, with every moment at which it was told."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import text

from cowrie_enrich_dagster.cache import CacheEntry, DatabaseCache, archive, archive_expired
from cowrie_enrich_dagster.services import OWN_MOMENTS
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import downgrade
from cowrie_enrich_dagster.storage.tables import Json, UtcDateTime

START = datetime(2025, 11, 1, 10, 0, 0, 250000, tzinfo=timezone.utc)
WEEK = timedelta(days=7)


def tell(database: Database, week: int, payload: dict[str, Any] | None, key: str = "192.0.2.1") -> datetime:
    """What a worker does with an answer: the one before goes into the history."""
    moment = START + week * WEEK
    entry = CacheEntry.of_answer("dshield", key, payload, fetched_at=moment, ttl=WEEK)
    with database.write() as connection:
        archive(database, connection, OWN_MOMENTS, "dshield", [key])
        DatabaseCache(database).store(connection, [entry])
    return moment


def told(database: Database) -> list[tuple[datetime, Any]]:
    query = text("SELECT fetched_at, payload FROM answers WHERE service = 'dshield' ORDER BY 1")
    with database.read() as connection:
        found = connection.execute(query.columns(fetched_at=UtcDateTime, payload=Json))
        return [tuple(row) for row in found]


def rows(database: Database) -> int:
    with database.read() as connection:
        number: int = connection.execute(text("SELECT count(*) FROM observations")).scalar_one()
        return number


def about(count: int, updated: str = "then") -> dict[str, Any]:
    return {"ip": {"number": "192.0.2.1", "count": count, "updated": updated}}


def test_an_unchanged_answer_is_kept_once(database: Database) -> None:
    """Fifty weeks, two answers: two rows beside the present one, and fifty-one moments."""
    moments = [tell(database, week, about(1 if week < 30 else 2)) for week in range(51)]
    assert rows(database) == 2
    assert told(database) == [(moment, about(1 if week < 30 else 2)) for week, moment in enumerate(moments)]


def test_what_only_says_when_it_was_made_is_no_change(database: Database) -> None:
    """DShield's `updated`: the first text of it stays."""
    moments = [tell(database, week, about(1, updated=f"in week {week}")) for week in range(5)]
    assert rows(database) == 1
    assert [moment for moment, _ in told(database)] == moments
    assert told(database)[3] == (moments[3], about(1, updated="in week 0"))


def test_an_answer_that_comes_back_is_another_one(database: Database) -> None:
    """Between the two something else was true."""
    answers = [about(1), about(2), about(1), None, None, about(1), about(3)]
    moments = [tell(database, week, answer) for week, answer in enumerate(answers)]
    assert rows(database) == 5
    assert told(database) == list(zip(moments, answers, strict=True))


@pytest.mark.parametrize("times", [1, 2])
def test_what_expires_joins_what_it_repeats(database: Database, times: int) -> None:
    """Also when the clean-up is killed in between and done again; keys do not mix."""
    for week in range(3):
        tell(database, week, about(1))
        tell(database, week, about(1), key="192.0.2.2")
    for _ in range(times):
        archive_expired(database, OWN_MOMENTS, [])
    assert rows(database) == 2
    with database.write() as connection:
        connection.execute(text("DELETE FROM enrichment_cache"))
    assert [moment for moment, _ in told(database)] == sorted([START + n * WEEK for n in range(3)] * 2)


def test_a_downgrade_tells_each_moment_apart(database: Database) -> None:
    """As v15 keeps them: a row with the answer for each."""
    for week in range(4):
        tell(database, week, about(1))
    downgrade(database, "v15")
    query = text("SELECT fetched_at, payload FROM observations ORDER BY 1")
    with database.read() as connection:
        found = connection.execute(query.columns(fetched_at=UtcDateTime, payload=Json))
        assert [tuple(row) for row in found] == [(START + n * WEEK, about(1)) for n in range(3)]
