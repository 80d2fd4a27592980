"""Logs -> `sessions` and `quarantined_lines`; each day replaced as a whole."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from hashlib import blake2b
from math import inf
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson
from sqlalchemy import Connection, bindparam, delete, func, select

from cowrie_enrich_dagster.cowrie import (
    PassedOver,
    PieceStream,
    QuarantinedLine,
    ReadingFailed,
    ReadRange,
    ReadReport,
    few_collections,
    read_on,
    read_pieces,
    scan,
    survey,
)
from cowrie_enrich_dagster.enrichment.by_day import count_by_day
from cowrie_enrich_dagster.enrichment.growing import Overtaken, keep_reading, known_reading
from cowrie_enrich_dagster.enrichment.log_index import LogIndex
from cowrie_enrich_dagster.enrichment.pieces import add_to_day, day_has, replace_day
from cowrie_enrich_dagster.storage import tables
from cowrie_enrich_dagster.storage.bulk import insert_rows
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.outages import repeats_after_outage, survives_outage
from cowrie_enrich_dagster.vocabulary import Days, Progress

logger = logging.getLogger(__name__)

_SESSIONS = tables.table_of(tables.SessionRecord)
_QUARANTINE = tables.table_of(tables.QuarantinedLine)
_LINES_FROM = delete(_QUARANTINE).where(
    _QUARANTINE.c.path == bindparam("of"), _QUARANTINE.c.line >= bindparam("first")
)
_LINES_BETWEEN = _LINES_FROM.where(_QUARANTINE.c.line <= bindparam("last"))
_NAMED_DAYS = 3
_NAMED_REASONS = 8


@dataclass
class IngestReport:
    """What was read, the sessions written by day, and the days left alone because no log file has them.

    Of these `empty_days` have no rows of an earlier reading either. `moved_days` are other days of which a
    session was completed, parted or moved by what was read. `whole` counts what was `read` now and, of a day
    that was read on, what was before: all that its sessions rest on.
    """

    read: ReadReport
    whole: ReadReport
    sessions_by_day: dict[date, int] = field(default_factory=dict)
    kept_days: list[date] = field(default_factory=list)
    empty_days: list[date] = field(default_factory=list)
    moved_days: list[date] = field(default_factory=list)

    @property
    def sessions(self) -> int:
        return sum(self.sessions_by_day.values())


@repeats_after_outage
def ingest_days(
    database: Database, root: Path, days: Days, progress: Progress | None = None, workers: int = 1
) -> IngestReport:
    """Replace what is known of `days`, and the quarantine of every line that was read for them.

    A day that no log file touches any more keeps its rows: deleting old logs must not delete what they said.
    With several `workers` so many processes read, where that pays, while this one writes. A day that was read
    alone before, and merely grew, is read on from there; the rows are those of reading it whole.
    """
    report = _add_to_day(database, root, days.first) if days.first == days.last else None
    try:
        report = report or _replace_days(database, root, days, progress, workers)
    except ReadingFailed as problem:
        logger.warning("%s; all is read again by one process", problem)
        report = _replace_days(database, root, days, progress, workers=1)
    if broken := report.read.files_broken:
        logger.warning(
            "%d log files are damaged or cut off: quarantined_lines has each as its line 0", broken
        )
    if kept := _with_rows(database, report.kept_days):
        logger.warning("no log file has %s any more; their rows are kept", _named(kept))
    report.empty_days = sorted(set(report.kept_days) - set(kept))
    if report.empty_days:
        logger.warning("no log has %s", _named(report.empty_days))
    for passed in report.read.passed_over[:_NAMED_REASONS]:
        logger.warning("passed over: %s", passed)
    return report


def _replace_days(
    database: Database, root: Path, days: Days, progress: Progress | None, workers: int
) -> IngestReport:
    written: list[date] = []
    tokens: dict[date, str] = {}
    with LogIndex(database) as index, tempfile.TemporaryFile() as file, few_collections():
        spool = _Spool(file)
        stream = read_pieces(
            root, *days.ends, index_cache=index, on_quarantine=spool.keep, workers=workers,
            packed_for="sqlite" if database.is_sqlite else "postgresql",
        )  # fmt: skip
        report = IngestReport(stream.report, stream.report)
        with closing(stream):
            index.save()
            for of_day in stream:
                if of_day.day not in stream.days_touched:
                    report.kept_days.append(of_day.day)
                    continue
                tokens[of_day.day] = replace_day(database, of_day, days)
                written.append(of_day.day)
                if progress:
                    progress("logs", len(written), (days.last - days.first).days + 1)
        _end_reading(database, days.first, tokens.get(days.first), stream, spool)
    report.kept_days.sort()
    # Not counted day by day: a day that is written later can complete what this one has the end of.
    counts = sessions_by_day(database, days) if written else {}
    report.sessions_by_day = {day: counts.get(day, 0) for day in sorted(written)}
    return report


@survives_outage
def _end_reading(
    database: Database, day: date, token: str | None, stream: PieceStream, spool: _Spool
) -> None:
    """Write down what could not be read and, of a single day, how far that was read."""
    with database.write() as connection:
        _replace_quarantine(connection, stream.report.ranges, spool)
        if token is not None and stream.reading is not None:
            with suppress(Overtaken):
                keep_reading(connection, day, token, stream.reading)


def _add_to_day(database: Database, root: Path, day: date) -> IngestReport | None:
    """Read what has come to a day since it was read; None if it has to be read whole."""
    known = known_reading(database, day)
    if known is None:
        return None
    with LogIndex(database) as index, tempfile.TemporaryFile() as file:
        spool = _Spool(file)
        before = dict(known.reading.counts)
        more = read_on(root, day, known.reading, index_cache=index, on_quarantine=spool.keep)
        if more is None or (more.new and day_has(database, day, more.new)):
            return None
        sessions = 0

        def then(connection: Connection) -> None:
            nonlocal sessions
            sessions = keep_reading(connection, day, known.token, more.reading)
            _replace_quarantine(connection, more.report.ranges, spool)

        try:
            add_to_day(database, day, more.pieces, then)
        except Overtaken:
            return None
    whole = ReadReport(files_found=more.report.files_found, passed_over=more.report.passed_over)
    whole.count(before)
    whole.count(more.report.sums())
    return IngestReport(more.report, whole, {day: sessions})


class _Spool:
    """Lines for `quarantined_lines`, on the disk until it is known that all was read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def keep(self, line: QuarantinedLine) -> None:
        self._file.write(orjson.dumps(tuple(line)) + b"\n")

    def rows(self) -> Iterator[list[Any]]:
        self._file.seek(0)
        return map(orjson.loads, self._file)


def survey_logs(database: Database | None, root: Path) -> tuple[int, list[PassedOver]]:
    """How many log files there are, and what is passed over; the index in `database` spares looking again."""
    if database is None:
        return survey(root, {})
    with LogIndex(database) as index:
        return survey(root, index)


def _named(days: list[date]) -> str:
    more = f" and {len(days) - _NAMED_DAYS} more days" if len(days) > _NAMED_DAYS else ""
    return ", ".join(map(str, days[:_NAMED_DAYS])) + more


@survives_outage
def _with_rows(database: Database, days: list[date]) -> list[date]:
    if not days:
        return []
    query = select(_SESSIONS.c.day).where(_SESSIONS.c.day.between(days[0], days[-1])).distinct()
    with database.read() as connection:
        return sorted(set(days) & set(connection.execute(query).scalars()))


class DayMark(NamedTuple):
    """Fingerprints of what the logs hold of a day.

    `files` changes when a file comes to hold some of it that did not before, or no longer does; `extent` also
    when a file merely grows. Renaming, rotating or compressing changes neither. Both are 16 hex digits.
    """

    files: str
    extent: str


@dataclass(frozen=True)
class LogDays:
    """The days in the logs with their marks, in order, of the files that were scanned so far (see `Scan`)."""

    days: dict[date, DayMark]
    bytes_done: int
    bytes_total: int
    complete: bool


def log_days(
    database: Database,
    root: Path,
    seconds: float = inf,
    progress: Callable[[int, int], None] | None = None,
) -> LogDays:
    """Look at the logs for about `seconds` (0: only at what is known), and keep what was learned as it comes.

    Files that have not changed since the last look are not read again, so that an archive, however large, is
    read once, in as many steps as it takes. `progress` gets the bytes read and in all.
    """
    parts: dict[date, list[tuple[str, int, int]]] = {}
    with LogIndex(database) as index:
        found = scan(root, index, seconds, progress)
    for file in found.indexes.values():
        if not file.segments:  # nothing in it has a date
            continue
        ends = [segment.offset for segment in file.segments[1:]] + [file.length]
        for segment, end in zip(file.segments, ends, strict=True):
            for day in Days(segment.first_day, segment.last_day):
                parts.setdefault(day, []).append((file.head, segment.offset, end))
    marks = {
        day: DayMark(_mark(sorted({head for head, _, _ in places})), _mark(sorted(places)))
        for day, places in sorted(parts.items())
    }
    return LogDays(marks, found.bytes_done, found.bytes_total, found.complete)


def _mark(places: list[Any]) -> str:
    return blake2b(orjson.dumps(places), digest_size=8).hexdigest()


def _replace_quarantine(connection: Connection, ranges: list[ReadRange], spool: _Spool) -> None:
    for path, first, last in ranges:
        lines = _LINES_FROM if last is None else _LINES_BETWEEN
        connection.execute(lines, {"of": path, "first": first, "last": last})
    insert_rows(connection, _QUARANTINE, list(QuarantinedLine._fields), spool.rows())


def sessions_by_day(database: Database, days: Days) -> dict[date, int]:
    """How many sessions started on each of the days that have any."""
    return count_by_day(database, _SESSIONS.c.day, days)


@survives_outage
def newest_session(database: Database) -> tuple[datetime | None, datetime]:
    """When the newest session began (None: there is none), and what time it is now."""
    with database.read() as connection:
        newest = connection.execute(select(func.max(_SESSIONS.c.started_at))).scalar_one()
        return newest, database.now(connection)
