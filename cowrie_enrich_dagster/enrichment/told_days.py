"""Which days of an address something has told about: asking now tells about now, not about then."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta, timezone

from sqlalchemy import BindParameter, Date, bindparam, text

from cowrie_enrich_dagster.enrichment.keys import rows_that_may_be_sent
from cowrie_enrich_dagster.enrichment.knowledge import FEED, HISTORY, ttl_of
from cowrie_enrich_dagster.services import Service
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import to_json
from cowrie_enrich_dagster.storage.outages import repeats_after_outage
from cowrie_enrich_dagster.storage.tables import Json, UtcDateTime, moment_of
from cowrie_enrich_dagster.vocabulary import Days, LookupStatus


def answers_for(ttl: timedelta, moment: datetime, day: date, now: datetime) -> bool:
    """Whether an answer of the moment, which holds for `ttl`, is one about the day.

    It is if it held at some time of the day, or came no later than `ttl` after it: asking now would tell
    about now, not about then. A fresh one does for any day, as in the cache.
    """
    if moment + ttl > now:
        return True
    begin = datetime.combine(day, time(), timezone.utc)
    return moment + ttl > begin and moment < begin + timedelta(days=1) + ttl


@repeats_after_outage
def unanswered(database: Database, service: Service, days: Days) -> dict[str, set[date]]:
    """The addresses that may be sent and have no fresh answer, each with its days that no answer is about."""
    query = text(f"""
        SELECT a.src_ip FROM session_ips AS a
        WHERE a.day BETWEEN :first AND :last AND {rows_that_may_be_sent(service)}
          AND NOT EXISTS (SELECT 1 FROM enrichment_cache AS c WHERE c.service = :service
                          AND c.cache_key = a.src_ip AND c.expires_at > :now)
        GROUP BY a.src_ip
    """).bindparams(*_span(days), bindparam("now", type_=UtcDateTime()))
    with database.read() as connection:
        values = {"service": service.name, "now": database.now(connection)}
        keys = list(connection.execute(query, values).scalars())
    told = _told_by_day(database, service, keys, days)
    return {key: open_days for key, (_, open_days) in told.items() if open_days}


def ever_told(database: Database, service: str, keys: Sequence[str]) -> set[str]:
    """Those of the keys of which the service, or a list of it, has ever told."""
    query = text(f"""
        SELECT key FROM observations WHERE service = :service AND {database.among("key")}
        UNION SELECT cache_key FROM enrichment_cache
        WHERE service = :service AND {database.among("cache_key")}
    """)
    with database.read() as connection:
        values = {"service": service, "keys": to_json(list(keys))}
        return set(connection.execute(query, values).scalars())


def told_in_time(database: Database, service: Service, keys: Sequence[str], days: Days) -> dict[str, str]:
    """The addresses for whose every day of `days` there is an answer, fresh or of that time; what had it.

    That is a feed, or the history: an answer that has expired or been replaced since.
    """
    told = _told_by_day(database, service, keys, days, answered_only=True)
    return {key: FEED if by_feed else HISTORY for key, (by_feed, open_days) in told.items() if not open_days}


def _told_by_day(
    database: Database, service: Service, keys: Sequence[str], days: Days, *, answered_only: bool = False
) -> dict[str, tuple[bool, set[date]]]:
    """For each address whether a feed answers for a day of it, and the days that nothing answers for.

    Those without any answer are left out, if `answered_only`.
    """
    seen = text(
        "SELECT src_ip, day FROM session_ips "
        f"WHERE day BETWEEN :first AND :last AND {database.among('src_ip')}"
    ).bindparams(*_span(days)).columns(day=Date())  # fmt: skip
    answers = text(f"""
        SELECT key, fetched_at, told_at, status, feed
        FROM {database.rows_among("observations", "key")} AND service = :service
        UNION ALL SELECT cache_key, fetched_at, NULL, status, NULL
        FROM {database.rows_among("enrichment_cache", "cache_key")} AND service = :service
    """).columns(fetched_at=UtcDateTime(), told_at=Json)
    wanted = to_json(list(keys))
    moments: dict[str, list[tuple[timedelta, datetime, bool]]] = {}
    told: dict[str, tuple[bool, set[date]]] = {}
    with database.read() as connection:
        now = database.now(connection)
        for row in connection.execute(answers, {"service": service.name, "keys": wanted}).all():
            ttl = ttl_of(service, LookupStatus(row.status))
            moments.setdefault(row.key, []).extend(
                (ttl, at, row.feed is not None) for at in (row.fetched_at, *map(moment_of, row.told_at or ()))
            )
        if answered_only:
            wanted = to_json(list(moments))
        for row in connection.execute(seen, {"keys": wanted}).all():
            by_feed, open_days = told.get(row.src_ip, (False, set()))
            answering = [
                feed for ttl, at, feed in moments.get(row.src_ip, ()) if answers_for(ttl, at, row.day, now)
            ]
            told[row.src_ip] = (by_feed or any(answering), open_days if answering else open_days | {row.day})
    return told


def _span(days: Days) -> tuple[BindParameter[date], BindParameter[date]]:
    return bindparam("first", days.first, Date), bindparam("last", days.last, Date)
