"""What was learned since the rows were written: the rows it concerns, whatever their day, written anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from sqlalchemy import Connection, Date, bindparam, text

from cowrie_enrich_dagster.enrichment.join import enrich_touched
from cowrie_enrich_dagster.enrichment.keys import (
    TOUCHED,
    Key,
    days_touched,
    keys_of,
    password_hashes,
    touch,
    touch_none,
)
from cowrie_enrich_dagster.enrichment.knowledge import Knowledge
from cowrie_enrich_dagster.enrichment.list_book import Spans
from cowrie_enrich_dagster.lookups.model import News
from cowrie_enrich_dagster.lookups.queue import LookupQueue
from cowrie_enrich_dagster.services import Service
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.outages import repeats_after_outage, survives_outage
from cowrie_enrich_dagster.storage.tables import UtcDateTime
from cowrie_enrich_dagster.vocabulary import Subject

NEWS_AT_ONCE = 2_000

SpansOf = Callable[[Sequence[Key]], Spans]
"""Tells when which lists held these addresses."""
KnowledgeOf = Callable[[Mapping[Subject, Sequence[Key]]], list[Knowledge]]
"""Gathers all that every service has told about these keys."""


@dataclass
class Learned:
    """How many lookups had news, how many rows were written for them, and the days of those rows."""

    lookups: int = 0
    sessions: int = 0
    days: set[date] = field(default_factory=set)

    def add(self, more: Learned) -> None:
        """Count what was learned later in, too."""
        self.lookups += more.lookups
        self.sessions += more.sessions
        self.days |= more.days


def write_news(
    database: Database,
    queue: LookupQueue,
    services: Mapping[str, Service],
    knowledge_of: KnowledgeOf,
    spans_of: SpansOf,
) -> Learned:
    """Write the outcome of every lookup that ended into the rows of the sessions in which its key occurs.

    Set-based: keys -> sessions -> rows, `NEWS_AT_ONCE` lookups at a time. Nothing is lost when it is killed:
    what is not marked as written is written by whoever comes next. So is what others learn meanwhile, who may
    ask on for days.
    """
    learned = Learned()
    subjects = {service.subject for service in services.values()} | {Subject.IP}
    while news := queue.news(services, NEWS_AT_ONCE):
        keys: dict[Subject, list[str]] = {}
        for service, key, _ in news:
            keys.setdefault(services[service].subject, []).append(key)
        days, found, passwords = _concerned(database, keys, subjects)

        def then(connection: Connection, news: list[News] = news, days: list[date] = days) -> None:
            queue.written(connection, news)
            note_changed(database, connection, days)

        knowledge = knowledge_of(found)
        addresses = found[Subject.IP]
        spans = spans_of(addresses)
        joined = enrich_touched(
            database,
            lambda connection, keys=keys: touch(database, connection, keys),  # type: ignore[misc]
            addresses,
            knowledge,
            passwords,
            then,
            spans,
        )
        learned.sessions += joined.sessions
        learned.lookups += len(news)
        learned.days.update(days)
        if len(news) < NEWS_AT_ONCE:
            break
    return learned


@repeats_after_outage
def _concerned(
    database: Database, news: Mapping[Subject, Sequence[str]], subjects: Iterable[Subject]
) -> tuple[list[date], dict[Subject, list[Key]], list[str]]:
    """Of the sessions in which these keys occur: their days, all their keys, and their passwords' hashes."""
    with database.read() as connection:
        touch_none(connection)
        touch(database, connection, news)
        days = days_touched(connection)
        found = {subject: list(keys_of(database, connection, TOUCHED, subject)) for subject in subjects}
        passwords = password_hashes(database, connection, TOUCHED)
        connection.execute(text("DROP TABLE touched"))
    return days, found, passwords


def note_changed(database: Database, connection: Connection, days: Sequence[date]) -> None:
    """The rows of these days are new, in the caller's transaction; see `days_to_say`."""
    statement = text("""
        INSERT INTO changed_days (day, changed_at) VALUES (:day, :now)
        ON CONFLICT (day) DO UPDATE SET changed_at = excluded.changed_at
    """).bindparams(bindparam("day", type_=Date()), bindparam("now", type_=UtcDateTime()))
    now = database.now(connection)
    if days:
        connection.execute(statement, [{"day": day, "now": now} for day in sorted(days)])


@survives_outage
def days_to_say(database: Database, every: timedelta) -> list[date]:
    """The days that changed since their partitions were last said to be new, those `every` so long ago."""
    query = text("""
        SELECT day, changed_at, said_at FROM changed_days
        WHERE said_at IS NULL OR said_at < changed_at ORDER BY day
    """).columns(day=Date(), changed_at=UtcDateTime(), said_at=UtcDateTime())
    with database.read() as connection:
        now = database.now(connection)
        return [
            row.day for row in connection.execute(query) if row.said_at is None or row.said_at <= now - every
        ]


@survives_outage
def note_said(database: Database, days: Sequence[date]) -> None:
    """The partitions of these days were said to be new, with all that changed until now."""
    statement = text("""
        INSERT INTO changed_days (day, changed_at, said_at) VALUES (:day, :now, :now)
        ON CONFLICT (day) DO UPDATE SET said_at = excluded.said_at
    """).bindparams(bindparam("day", type_=Date()), bindparam("now", type_=UtcDateTime()))
    with database.write() as connection:
        now = database.now(connection)
        if days:
            connection.execute(statement, [{"day": day, "now": now} for day in sorted(days)])
