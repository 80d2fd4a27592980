"""What there is to ask about on some days: addresses, file hashes, password prefixes, each with its worth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import ColumnElement, Executable, FromClause, case, func, literal, select, true

from cowrie_enrich_dagster.services import Service
from cowrie_enrich_dagster.storage.engine import Database, repeats_after_outage
from cowrie_enrich_dagster.storage.tables import Lookup, SessionIp, SessionRecord, table_of
from cowrie_enrich_dagster.vocabulary import Days, LookupStatus, Scope, Subject

_ADDRESSES = table_of(SessionIp)
_SESSIONS = table_of(SessionRecord)
_LOOKUPS = table_of(Lookup)
PREFIX_CHARS = 5
"""How much of a password's SHA-1 leaves the machine (HIBP's k-anonymity)."""


@dataclass(frozen=True)
class Key:
    """One distinct key over a range of days: in how many sessions it occurs, and when the first began."""

    value: str
    scope: Scope
    priority: int
    sessions: int
    first_seen: datetime
    known_scanner: bool = False

    @property
    def may_be_sent(self) -> bool:
        """Whether services may be asked about it."""
        return self.scope is Scope.GLOBAL and not self.known_scanner


@repeats_after_outage
def keys_of(database: Database, days: Days, subject: Subject) -> list[Key]:
    """The distinct keys of `days`, most valuable first; among equals the most recently seen first."""
    query = {
        Subject.IP: _addresses,
        Subject.FILE_SHA256: _file_hashes,
        Subject.PASSWORD_SHA1_PREFIX: _password_prefixes,
    }[subject](database, days)
    with database.read() as connection:
        return [
            Key(row[0], Scope(row[1]), int(row[2]), int(row[3]), row[4], known_scanner=bool(row[5]))
            for row in connection.execute(query)
        ]


def _addresses(database: Database, days: Days) -> Executable:
    last_day, priority = func.max(_ADDRESSES.c.day), func.max(_ADDRESSES.c.priority)
    scanner = func.max(case((_ADDRESSES.c.known_scanner, 1), else_=0))
    scope, sessions = func.max(_ADDRESSES.c.scope), func.sum(_ADDRESSES.c.sessions)
    return (
        select(_ADDRESSES.c.src_ip, scope, priority, sessions, func.min(_ADDRESSES.c.first_seen), scanner)
        .where(_ADDRESSES.c.day.between(days.first, days.last))
        .group_by(_ADDRESSES.c.src_ip)
        .order_by(priority.desc(), last_day.desc(), _ADDRESSES.c.src_ip)
    )


def _file_hashes(database: Database, days: Days) -> Executable:
    item = each(database, _SESSIONS.c.file_hashes)
    return _counted(item.c.value, days)


def _password_prefixes(database: Database, days: Days) -> Executable:
    item = each(database, _SESSIONS.c.passwords_sha1)
    return _counted(func.substr(item.c.value, 1, PREFIX_CHARS), days)


def each(database: Database, array: ColumnElement[object]):  # type: ignore[no-untyped-def]
    """The items of a JSON array column as a table with the column `value`, to be joined laterally."""
    unnest = func.json_each if database.is_sqlite else func.jsonb_array_elements_text
    return unnest(array).table_valued("value", joins_implicitly=True)


def _counted(value: ColumnElement[str], days: Days) -> Executable:
    sessions, first_seen = func.count(), func.min(_SESSIONS.c.started_at)
    return (
        select(value, literal(Scope.GLOBAL.value), sessions, sessions, first_seen, literal(0))
        .select_from(_SESSIONS)
        .where(_SESSIONS.c.day.between(days.first, days.last))
        .group_by(value)
        .order_by(sessions.desc(), func.max(_SESSIONS.c.day).desc(), value)
    )


def password_hashes(database: Database, days: Days) -> list[str]:
    """The distinct SHA-1 hashes (upper-case hex) of the passwords tried on these days."""
    item = each(database, _SESSIONS.c.passwords_sha1)
    query = (
        select(item.c.value)
        .distinct()
        .select_from(_SESSIONS)
        .where(_SESSIONS.c.day.between(days.first, days.last))
    )
    with database.read() as connection:
        return list(connection.execute(query).scalars())


def days_answered_since(database: Database, moment: datetime, services: Iterable[Service]) -> list[date]:
    """The days whose sessions have a key, of whatever kind, that was answered since the moment."""
    answers = [status.value for status in LookupStatus if status.is_answer]
    found: set[date] = set()
    with database.read() as connection:
        for service in services:
            day, key, source = _occurrences(database, service.subject)
            query = (
                select(day)
                .distinct()
                .select_from(source.join(_LOOKUPS, _LOOKUPS.c.key == key))
                .where(_LOOKUPS.c.service == service.name)
                .where(_LOOKUPS.c.updated_at >= moment, _LOOKUPS.c.status.in_(answers))
            )
            found.update(connection.execute(query).scalars())
    return sorted(found)


def _occurrences(
    database: Database, subject: Subject
) -> tuple[ColumnElement[date], ColumnElement[str], FromClause]:
    if subject is Subject.IP:
        return _ADDRESSES.c.day, _ADDRESSES.c.src_ip, _ADDRESSES
    if subject is Subject.FILE_SHA256:
        item = each(database, _SESSIONS.c.file_hashes)
        return _SESSIONS.c.day, item.c.value, _SESSIONS.join(item, true())
    item = each(database, _SESSIONS.c.passwords_sha1)
    return _SESSIONS.c.day, func.substr(item.c.value, 1, PREFIX_CHARS), _SESSIONS.join(item, true())
