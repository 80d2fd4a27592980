"""Days that are too old to be kept: their rows go, and what only they needed.

Everything is decided by what is there now, in transactions of bounded size, so that it may be killed and
repeated; a dry run counts by the same conditions. What goes:

- the rows of the older days in `sessions` (with their pieces, readings and changes), `session_ips`,
  `enriched_sessions` and `session_artefacts`, and campaigns that have no other sessions; the others keep
  their ids;
- quarantined lines that lie in a stretch of their file that holds older days alone, and what is said of a
  whole file (its line 0) when all its days are older. A line of a file without dates, or whose file the
  index does not know (to its end), stays;
- open lookups of keys (addresses, file hashes, password prefixes) that no kept day has;
- of the history (`observations`) what was told of such keys; and of others what was replaced, and had
  expired, before the first kept day began: no kept session can show it;
- of what lists said, the spans that ended before then.

Answers in `enrichment_cache` stay: they may be asked for again, and expire by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date, datetime, time, timezone
from itertools import pairwise
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Date,
    Table,
    TextClause,
    bindparam,
    delete,
    func,
    select,
    text,
)

from cowrie_enrich_dagster.cowrie import FileIndex
from cowrie_enrich_dagster.enrichment import list_store
from cowrie_enrich_dagster.enrichment.campaigns import forget_campaigns_of
from cowrie_enrich_dagster.enrichment.keys import keys_seen_since
from cowrie_enrich_dagster.services import ALL, Service
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.json_text import to_json
from cowrie_enrich_dagster.storage.tables import (
    ChangedSession,
    DayReading,
    EnrichedSession,
    LogFile,
    QuarantinedLine,
    SessionArtefacts,
    SessionIp,
    SessionPiece,
    SessionRecord,
    UtcDateTime,
    table_of,
)

CHUNK = 5_000
"""Rows, or keys, of one transaction."""
_FILES, _LINES = table_of(LogFile), table_of(QuarantinedLine)
_ARTEFACTS = table_of(SessionArtefacts)


@dataclass
class Forgotten:
    """How many rows were deleted, or in a dry run would be; `keep_from` None: every day is kept."""

    keep_from: date | None
    dry_run: bool
    sessions: int = 0
    session_ips: int = 0
    enriched_sessions: int = 0
    session_artefacts: int = 0
    quarantined_lines: int = 0
    lookups: int = 0
    observations: int = 0
    list_entries: int = 0

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "keep_from": self.keep_from.isoformat() if self.keep_from else None}


def forget_days_before(database: Database, keep_from: date, *, dry_run: bool) -> Forgotten:
    """Delete what only the days before `keep_from` needed; with `dry_run` count it."""
    gone = Forgotten(keep_from, dry_run)
    gone.enriched_sessions = _rows_of_days(database, table_of(EnrichedSession), keep_from, dry_run)
    gone.session_ips = _rows_of_days(database, table_of(SessionIp), keep_from, dry_run)
    gone.sessions = _rows_of_days(database, table_of(SessionRecord), keep_from, dry_run)
    for table in (SessionPiece, DayReading, ChangedSession):
        _rows_of_days(database, table_of(table), keep_from, dry_run)
    gone.session_artefacts = _artefacts(database, keep_from, dry_run)
    gone.quarantined_lines = _lines(database, keep_from, dry_run)
    for service in ALL.values():
        gone.lookups += _lookups(database, service, keep_from, dry_run)
        gone.observations += _observations(database, service, keep_from, dry_run)
    gone.list_entries = list_store.prune(database, beginning_of(keep_from), dry_run=dry_run)
    return gone


def beginning_of(day: date) -> datetime:
    """The moment at which a UTC day begins."""
    return datetime.combine(day, time(), timezone.utc)


def _rows_of_days(database: Database, table: Table, keep_from: date, dry_run: bool) -> int:
    before = bindparam("keep_from", keep_from, Date)
    if dry_run:
        with database.read() as connection:
            return connection.execute(
                select(func.count()).select_from(table).where(table.c.day < before)
            ).scalar_one()
    if database.is_sqlite:
        chosen = f"rowid IN (SELECT rowid FROM {table.name} WHERE day < :keep_from LIMIT {CHUNK})"
    else:  # an array is looked up row by row; a subquery would read the whole table for each chunk
        chosen = f"ctid = ANY(ARRAY(SELECT ctid FROM {table.name} WHERE day < :keep_from LIMIT {CHUNK}))"
    statement = text(f"DELETE FROM {table.name} WHERE {chosen}").bindparams(before)
    total, number = 0, CHUNK
    while number:
        with database.write() as connection:
            number = connection.execute(statement).rowcount
        total += number
    return total


def _artefacts(database: Database, keep_from: date, dry_run: bool) -> int:
    old = _ARTEFACTS.c.day < keep_from
    by_day = select(_ARTEFACTS.c.day, func.count()).where(old).group_by(_ARTEFACTS.c.day)
    with database.read() as connection:
        counts = {row[0]: row[1] for row in connection.execute(by_day.order_by(_ARTEFACTS.c.day))}
    for day in () if dry_run else counts:
        forget_campaigns_of(database, day)
    return sum(counts.values())


def _lines(database: Database, keep_from: date, dry_run: bool) -> int:
    total, after = 0, ""
    files = (
        select(_FILES.c.path, _FILES.c.file_index)
        .where(_FILES.c.path > bindparam("after"))
        .where(select(_LINES.c.id).where(_LINES.c.path == _FILES.c.path).exists())
        .order_by(_FILES.c.path)
        .limit(100)
    )
    while True:
        with database.read() as connection:
            page = connection.execute(files, {"after": after}).all()
        if not page:
            return total
        after = page[-1].path
        for path, plain in page:
            for first, end in _old_stretches(plain, keep_from):
                lines = (_LINES.c.path == path) & (_LINES.c.line >= first)
                if end is not None:
                    lines &= _LINES.c.line < end
                total += _count_or_delete(database, lines, dry_run)


def _count_or_delete(database: Database, lines: ColumnElement[bool], dry_run: bool) -> int:
    if dry_run:
        with database.read() as connection:
            return connection.execute(select(func.count()).select_from(_LINES).where(lines)).scalar_one()
    with database.write() as connection:
        return connection.execute(delete(_LINES).where(lines)).rowcount


def _old_stretches(plain: dict[str, Any], keep_from: date) -> Iterator[tuple[int, int | None]]:
    """The lines of a file (first, end; None: all) that are of older days alone; if all are, line 0 too."""
    try:
        index = FileIndex.from_dict(plain)
    except (KeyError, TypeError, ValueError):
        return  # written by another version
    segments = index.segments
    if segments and index.complete and all(segment.last_day < keep_from for segment in segments):
        yield 0, None
        return
    for segment, following in pairwise(segments):
        if segment.last_day < keep_from:
            yield segment.line, following.line
    if segments and index.complete and segments[-1].last_day < keep_from:
        yield segments[-1].line, None


def _lookups(database: Database, service: Service, keep_from: date, dry_run: bool) -> int:
    is_open = (
        "service = :service AND next_attempt_at IS NOT NULL "
        "AND (claim_expires_at IS NULL OR claim_expires_at <= :now)"
    )
    with database.read() as connection:
        now = bindparam("now", database.now(connection), UtcDateTime())
    page = text(f"SELECT key FROM lookups WHERE {is_open} AND key > :after ORDER BY key LIMIT {CHUNK}")
    remove = text(f"DELETE FROM lookups WHERE {is_open} AND {database.among('key')}").bindparams(now)
    total = 0
    for connection, _, unneeded in _pages(database, service, keep_from, page.bindparams(now), dry_run):
        values = {"service": service.name, "keys": to_json(unneeded)}
        total += len(unneeded) if dry_run else connection.execute(remove, values).rowcount
    return total


def _observations(database: Database, service: Service, keep_from: date, dry_run: bool) -> int:
    begin = beginning_of(keep_from)
    expired = begin - max(service.ttl, service.not_found_ttl)
    page = text(
        "SELECT DISTINCT key FROM observations WHERE service = :service AND key > :after "
        f"ORDER BY key LIMIT {CHUNK}"
    )
    action = "SELECT count(*)" if dry_run else "DELETE"
    whole = f"{action} FROM observations WHERE service = :service AND {database.among('key')}"
    replaced = (
        f"{whole} AND coalesce(told_until, fetched_at) <= :expired AND EXISTS "
        "(SELECT 1 FROM observations AS newer WHERE newer.service = observations.service "
        "AND newer.key = observations.key AND newer.fetched_at > observations.fetched_at "
        "AND newer.fetched_at <= :begin)"
    )
    moments = (bindparam("begin", begin, UtcDateTime()), bindparam("expired", expired, UtcDateTime()))
    of_needed, of_unneeded = text(replaced).bindparams(*moments), text(whole)
    total = 0
    for connection, needed, unneeded in _pages(database, service, keep_from, page, dry_run):
        for statement, keys in ((of_needed, needed), (of_unneeded, unneeded)):
            result = connection.execute(statement, {"service": service.name, "keys": to_json(keys)})
            total += result.scalar_one() if dry_run else result.rowcount
    return total


def _pages(
    database: Database, service: Service, keep_from: date, page: TextClause, dry_run: bool
) -> Iterator[tuple[Connection, list[str], list[str]]]:
    """The keys that `page` gives, bit by bit, a transaction each: those that a kept day has, and the rest."""
    after = ""
    while True:
        with database.read() if dry_run else database.write() as connection:
            keys = list(connection.execute(page, {"service": service.name, "after": after}).scalars())
            if not keys:
                return
            needed = keys_seen_since(database, connection, service.subject, keys, keep_from)
            yield connection, sorted(needed), [key for key in keys if key not in needed]
        after = keys[-1]
