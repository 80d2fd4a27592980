"""Which rows of a growing day do not say what is known: those to be written, and no others.

A row is stale where it differs from its session, and where something was learned of one of its keys, or an
answer expired, since the day's rows were written (`written_days`). That tells all, as long as what else they
rest on is the same (`basis`): this software, settings, services, lists and feeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from hashlib import blake2b

from sqlalchemy import Connection, Date, bindparam, text

from cowrie_enrich_dagster.cache import versioned
from cowrie_enrich_dagster.enrichment.join import REPEATED
from cowrie_enrich_dagster.enrichment.keys import occurring, touch, touch_none
from cowrie_enrich_dagster.enrichment.knowledge import ttl_of
from cowrie_enrich_dagster.lookups.model import Among
from cowrie_enrich_dagster.services import Service
from cowrie_enrich_dagster.services.feeds import FEEDS
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.outages import survives_outage
from cowrie_enrich_dagster.storage.tables import UtcDateTime
from cowrie_enrich_dagster.vocabulary import Days, LookupStatus, Subject

_GONE = """
    DELETE FROM enriched_sessions WHERE day = :day AND NOT EXISTS (
        SELECT 1 FROM sessions AS s WHERE s.sensor = enriched_sessions.sensor
        AND s.session_id = enriched_sessions.session_id AND s.started_at = enriched_sessions.event_start
        AND s.day = enriched_sessions.day)
"""
_NUMBERS = """
    SELECT (SELECT count(*) FROM enriched_sessions WHERE day = :day),
        (SELECT count(*) FROM sessions WHERE day = :day)
"""
_OTHER = """
    INSERT INTO touched SELECT s.sensor, s.session_id, s.started_at, s.day, s.src_ip
    FROM sessions AS s LEFT JOIN enriched_sessions AS e
    ON e.sensor = s.sensor AND e.session_id = s.session_id AND e.event_start = s.started_at
    WHERE s.day = :day AND (e.sensor IS NULL OR {differs})
"""
_ANSWERS = (LookupStatus.FOUND, LookupStatus.NOT_FOUND)
_EXPIRED = " OR ".join(
    f"(status = '{status}' AND coalesce(told_until, fetched_at) BETWEEN :{status}_since AND :{status}_now)"
    for status in _ANSWERS
)
_CHANGED = f"""
    SELECT key FROM lookups WHERE service = :service AND updated_at >= :since AND {{among}}
    UNION SELECT key FROM (
        SELECT cache_key AS key, service, fetched_at, created_at, expires_at FROM enrichment_cache) AS c
    WHERE service = :versioned AND {{among}} AND (
        fetched_at >= :since OR created_at >= :since OR (expires_at >= :since AND expires_at <= :now))
    UNION SELECT key FROM observations WHERE service = :service AND {{among}} AND ({_EXPIRED})
"""
"""What expires in the cache may be in the history alone by the time that this is asked. An answer may come
long after it was fetched: it was imported, or Redis or the old files alone had it."""
_LATE = timedelta(minutes=1)
"""So long after the moment that it writes down a transaction may end: what it wrote was not seen before."""


def basis_of(database: Database, *parts: object) -> str:
    """A hash of what rows rest on beside sessions and answers: of `parts`, and of when feeds were read."""
    names = ", ".join(f"'{name}'" for name in FEEDS)
    query = text(f"SELECT max(updated_at) FROM lookups WHERE service IN ({names})")
    with database.read() as connection:
        read_at = connection.execute(query).scalar_one()
    return blake2b(repr((parts, read_at)).encode(), digest_size=16).hexdigest()


@survives_outage
def changed_keys(
    database: Database,
    services: Mapping[str, Service],
    versions: Mapping[str, int],
    day: date,
    since: datetime,
) -> dict[Subject, list[str]]:
    """The keys of which a lookup ended, or an answer came or expired, since the moment.

    Of addresses those of the day: of all days there may be a million open lookups.
    """
    since -= _LATE
    changed: dict[Subject, set[str]] = {}
    with database.read() as connection:
        now = database.now(connection)
        for name, service in services.items():
            if service.subject is Subject.IP:
                among = occurring(database, Days(day, day), service.subject)
            else:
                among = Among("true", {})
            moments = {"since": since, "now": now}
            for status in _ANSWERS:
                ttl = ttl_of(service, status)
                moments |= {f"{status}_since": since - ttl, f"{status}_now": now - ttl}
            statement = text(_CHANGED.format(among=among.condition)).bindparams(
                *(bindparam(bound, moment, UtcDateTime()) for bound, moment in moments.items()),
                *(bindparam(bound, value, Date) for bound, value in among.parameters.items()),
            )
            values = {"service": name, "versioned": versioned(name, versions)}
            found = connection.execute(statement, values).scalars()
            changed.setdefault(service.subject, set()).update(found)
    return {subject: sorted(keys) for subject, keys in changed.items()}


def touch_stale(
    database: Database, connection: Connection, day: date, changed: Mapping[Subject, list[str]]
) -> None:
    """Put the sessions of the day whose rows are stale into `touched`, which is made anew."""
    differs = " OR ".join(f"e.{column} {database.is_other} {value}" for column, value in REPEATED.items())
    of_day = bindparam("day", day, Date)
    touch_none(connection)
    connection.execute(text(_OTHER.format(differs=differs)).bindparams(of_day))
    touch(database, connection, changed, Days(day, day))


def forget_gone(connection: Connection, day: date) -> int:
    """Delete the rows of the day whose sessions are not there any more; returns how many rows there are."""
    of_day = bindparam("day", day, Date)
    rows, sessions = connection.execute(text(_NUMBERS).bindparams(of_day)).one()
    if rows == sessions:  # each session has its row by now
        return int(rows)
    return int(rows) - connection.execute(text(_GONE).bindparams(of_day)).rowcount
