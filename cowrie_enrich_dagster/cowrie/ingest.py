"""Log files in, pieces of sessions out, day by day."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, MutableMapping
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from cowrie_enrich_dagster.vocabulary import Days

from .file_index import index_files
from .read_report import QuarantinedLine, ReadProgress, ReadReport, passed_over
from .sessioniser import Heads, Sessioniser
from .sessions import Row
from .stretches import StretchReader


class DayOfPieces(NamedTuple):
    """A UTC day and, by sensor and id, what it holds of sessions: the pieces of each id, in time order.

    They are rows, which `Session.of_row` reads; gone once the next day is asked for. `sessions_of` makes
    sessions of the pieces of all days.
    """

    day: date
    pieces: Iterator[list[Row]]


class PieceStream(Iterator[DayOfPieces]):
    """Every day of a reading, in order, also those without any; `report` is final after the last."""

    def __init__(self, days: Iterator[DayOfPieces], report: ReadReport) -> None:
        self._days = days
        self.report = report

    def __next__(self) -> DayOfPieces:
        return next(self._days)


def read_pieces(
    root: Path,
    first_day: date,
    last_day: date,
    *,
    index_cache: MutableMapping[str, dict[str, Any]] | None = None,
    on_quarantine: Callable[[QuarantinedLine], None] | None = None,
    progress: Callable[[ReadProgress], None] | None = None,
) -> PieceStream:
    """Read what the logs under `root` hold of sessions on the UTC days `first_day` to `last_day`.

    Only what may hold events of these days is read, each byte once (but see `Sessioniser.tangled`); a day's
    pieces come as soon as all there is of that day is read, so memory holds the sessions of about two days,
    however large the files are. `index_cache` is as for `index_files`. `on_quarantine` gets each line that
    could not be read, and each file that is broken (as its line 0), as they are met; `progress` is called
    after every block.

    Raises FileNotFoundError if `root` is not a folder and ValueError if the days are the wrong way round, but
    nothing for what the files are or hold.
    """
    if first_day > last_day:
        raise ValueError(f"the first day, {first_day}, is after the last, {last_day}")
    report = ReadReport()
    sessions = Sessioniser(first_day, last_day, report)
    indexes = index_files(root, index_cache)
    logs = {file: index for file, index in indexes.items() if index.passed_over is None}
    feeds = [
        StretchReader(file, index, first_day, last_day, sessions, on_quarantine or _pass, report)
        for file, index in logs.items()
    ]
    report.passed_over = passed_over(
        (file.name, index.passed_over) for file, index in indexes.items() if index.passed_over is not None
    )
    report.files_found = len(feeds)
    feeds = [feed for feed in feeds if feed.is_needed]

    def again(day: date, tangled: Heads) -> Sessioniser:
        aside = ReadReport()
        only = Sessioniser(day, day, aside, tangled)
        for file, index in logs.items():
            feed = StretchReader(file, index, day, day, only, _pass, aside)
            if feed.is_needed:
                deque(feed.advance(day), maxlen=0)
        return only

    return PieceStream(_days(feeds, sessions, Days(first_day, last_day), report, progress, again), report)


def _pass(line: QuarantinedLine) -> None:
    """What nobody wants to know."""


def _days(
    feeds: list[StretchReader],
    sessions: Sessioniser,
    days: Days,
    report: ReadReport,
    progress: Callable[[ReadProgress], None] | None,
    again: Callable[[date, Heads], Sessioniser],
) -> Iterator[DayOfPieces]:
    total = sum(feed.size for feed in feeds)
    for day in days:
        for feed in feeds:
            for _ in feed.advance(day):
                if progress is not None:
                    done = (report.bytes, total, report.events)
                    progress(ReadProgress(feed.name, report.files, len(feeds), *done))
        if tangled := sessions.tangled(day):
            sessions.replace(day, again(day, tangled))
        of_day = sessions.finish(day)
        yield DayOfPieces(day, of_day)
        deque(of_day, maxlen=0)  # what the caller left over must be counted, too
