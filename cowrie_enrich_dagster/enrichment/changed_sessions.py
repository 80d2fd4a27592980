"""Which sessions changed that a table does not follow yet (`changed_sessions`): a tick looks at those alone.

Whoever writes sessions says so here, in the same transaction: which of a day he wrote, or that he wrote any.
A follower reads what is said, before it reads sessions, and takes that away in the transaction in which it
follows. What is said meanwhile has another token, and stays.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from sqlalchemy import Connection, Date, bindparam, text

from cowrie_enrich_dagster.enrichment.keys import Chosen
from cowrie_enrich_dagster.storage.bulk import insert_rows
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import to_json
from cowrie_enrich_dagster.storage.tables import ChangedSession, table_of
from cowrie_enrich_dagster.vocabulary import Days

IPS, ENRICHED = "session_ips", "enriched_sessions"
FOLLOWERS = (IPS, ENRICHED)
_CHANGED = table_of(ChangedSession)
_ANY = ("", "", "")
"""Instead of a sensor, an id and an address: any sessions of the day may have changed."""
_OF_DAYS = "day BETWEEN :first AND :last AND follower = :follower"


@dataclass(frozen=True)
class Changes:
    """What a table does not follow yet, as far as it was said: `any` sessions of a day, or some."""

    follower: str
    days: Days
    tokens: tuple[str, ...]
    any: bool


def note_any_changed(connection: Connection, days: Iterable[date]) -> None:
    """Any sessions of these days may have changed, in the caller's transaction."""
    token = _token()
    rows = [(day, follower, token, *_ANY) for day in sorted(days) for follower in FOLLOWERS]
    insert_rows(connection, _CHANGED, list(_CHANGED.columns.keys()), rows)


def note_some_changed(database: Database, connection: Connection, day: date, keys: str) -> None:
    """The day's sessions with these (sensor, id), as SQL, changed, in the caller's transaction.

    That one is gone, or is of another address, followers see by numbers.
    """
    followers = " UNION ALL ".join(f"SELECT '{follower}' AS follower" for follower in FOLLOWERS)
    statement = text(f"""
        INSERT INTO changed_sessions (day, follower, token, sensor, session_id, src_ip)
        SELECT DISTINCT s.day, f.follower, :token, s.sensor, s.session_id, coalesce(s.src_ip, '')
        FROM sessions AS s CROSS JOIN ({followers}) AS f
        WHERE {database.not_by("s.day")} = :day AND (s.sensor, s.session_id) IN ({keys})
    """)
    connection.execute(statement.bindparams(bindparam("day", day, Date)), {"token": _token()})


def changes(connection: Connection, follower: str, days: Days) -> Changes:
    """What the follower is to follow on these days."""
    query = f"""
        SELECT token, max(CASE WHEN session_id = '' THEN 1 ELSE 0 END)
        FROM changed_sessions WHERE {_OF_DAYS} GROUP BY token
    """
    found = connection.execute(Chosen.of_days(days).bound(query), {"follower": follower}).all()
    return Changes(follower, days, tuple(row[0] for row in found), any(row[1] for row in found))


def follow(database: Database, connection: Connection, done: Changes) -> None:
    """The follower does follow, in the caller's transaction."""
    statement = f"DELETE FROM changed_sessions WHERE {_OF_DAYS} AND {database.among('token')}"
    values = {"follower": done.follower, "keys": to_json(done.tokens)}
    if done.tokens:
        connection.execute(Chosen.of_days(done.days).bound(statement), values)


def _token() -> str:
    return secrets.token_hex(8)
