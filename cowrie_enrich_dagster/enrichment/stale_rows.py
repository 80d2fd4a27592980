"""Which rows of a growing day do not say what is known: those to be written, and no others.

A row is stale where it differs from its session, of which those are looked at that changed since
(`changed_sessions`), and where something was learned of one of its keys, or an answer expired, since the
day's rows were written (`written_days`). That tells all, as long as what else they rest on is the same
(`basis`): this software, settings, services, lists and feeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from hashlib import blake2b

from sqlalchemy import Connection, Date, bindparam, text

from cowrie_enrich_dagster.cache import versioned
from cowrie_enrich_dagster.enrichment.changed_sessions import ENRICHED, Changes, changes, note_any_changed
from cowrie_enrich_dagster.enrichment.join import REPEATED
from cowrie_enrich_dagster.enrichment.keys import touch, touch_none
from cowrie_enrich_dagster.enrichment.knowledge import ttl_of
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
    INSERT INTO touched SELECT DISTINCT s.sensor, s.session_id, s.started_at, s.day, s.src_ip
    FROM {changed} sessions AS s LEFT JOIN enriched_sessions AS e
    ON e.sensor = s.sensor AND e.session_id = s.session_id AND e.event_start = s.started_at
    WHERE {of_day} AND (e.sensor IS NULL OR {differs})
"""
_CHANGED_SESSIONS = "changed_sessions AS c CROSS JOIN"
_IS_CHANGED = f"""
    c.day = :day AND c.follower = '{ENRICHED}' AND s.sensor = c.sensor AND s.session_id = c.session_id
"""
_ANSWERS = (LookupStatus.FOUND, LookupStatus.NOT_FOUND)
_EXPIRED = " OR ".join(
    f"(status = '{status}' AND coalesce(told_until, fetched_at) BETWEEN :{status}_since AND :{status}_now)"
    for status in _ANSWERS
)
_CHANGED = f"""
    SELECT key FROM {{among}} lookups WHERE {{of_day}} service = :service AND updated_at >= :since
    UNION SELECT key FROM {{among}} (
        SELECT cache_key AS key, service, fetched_at, created_at, expires_at FROM enrichment_cache) AS c
    WHERE {{of_day}} service = :versioned AND (
        fetched_at >= :since OR created_at >= :since OR (expires_at >= :since AND expires_at <= :now))
    UNION SELECT key FROM {{among}} observations WHERE {{of_day}} service = :service AND ({_EXPIRED})
"""
"""What expires in the cache may be in the history alone by the time that this is asked. An answer may come
long after it was fetched: it was imported, or Redis or the old files alone had it."""
_OF_DAY = {"among": "session_ips AS a CROSS JOIN", "of_day": "a.day = :day AND a.src_ip = key AND"}
"""CROSS: so SQLite looks each of the addresses up, and not all that a service was ever asked about."""
_OF_ALL_DAYS = {"among": "", "of_day": ""}
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
            moments = {"since": since, "now": now}
            for status in _ANSWERS:
                ttl = ttl_of(service, status)
                moments |= {f"{status}_since": since - ttl, f"{status}_now": now - ttl}
            is_of_day = service.subject is Subject.IP
            statement = text(_CHANGED.format(**(_OF_DAY if is_of_day else _OF_ALL_DAYS))).bindparams(
                *(bindparam(bound, moment, UtcDateTime()) for bound, moment in moments.items()),
                *([bindparam("day", day, Date)] if is_of_day else []),
            )
            values = {"service": name, "versioned": versioned(name, versions)}
            found = connection.execute(statement, values).scalars()
            changed.setdefault(service.subject, set()).update(found)
    return {subject: sorted(keys) for subject, keys in changed.items()}


def touch_stale(
    database: Database, connection: Connection, day: date, changed: Mapping[Subject, list[str]]
) -> Changes:
    """Put the sessions of the day whose rows are stale into `touched`, which is made anew.

    Returns the changes of sessions that are followed with that.
    """
    changes_of_day = changes(connection, ENRICHED, Days(day, day))
    touch_none(connection)
    if changes_of_day.tokens:
        differs = " OR ".join(f"e.{column} {database.is_other} {value}" for column, value in REPEATED.items())
        if changes_of_day.any:
            statement = _OTHER.format(differs=differs, changed="", of_day="s.day = :day")
        else:
            of_day = f"{database.not_by('s.day')} = :day AND {_IS_CHANGED}"
            statement = _OTHER.format(differs=differs, changed=_CHANGED_SESSIONS, of_day=of_day)
        connection.execute(text(statement).bindparams(bindparam("day", day, Date)))
    touch(database, connection, changed, Days(day, day))
    return changes_of_day


def forget_gone(connection: Connection, day: date) -> int:
    """Delete the rows of the day whose sessions are not there any more; returns how many rows there are.

    Where somebody else took rows away, all sessions are looked at next time.
    """
    of_day = bindparam("day", day, Date)
    rows, sessions = connection.execute(text(_NUMBERS).bindparams(of_day)).one()
    if rows < sessions:
        note_any_changed(connection, [day])
    if rows <= sessions:  # each session has its row by now
        return int(rows)
    return int(rows) - connection.execute(text(_GONE).bindparams(of_day)).rowcount
