"""Log files in, sessions out, day by day."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, MutableMapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from .catalogue import catalogue
from .feed import FileFeed
from .reports import QuarantinedLine, ReadProgress, ReadReport, passed_over
from .sessioniser import SESSION_HORIZON, Sessioniser
from .sessions import Session


class DayOfSessions(NamedTuple):
    """A UTC day and the sessions that began on it, by sensor and id; gone once the next day is asked for."""

    day: date
    sessions: Iterator[Session]


class SessionStream(Iterator[DayOfSessions]):
    """Every day of a reading, in order, also those without sessions; `report` is final after the last."""

    def __init__(self, days: Iterator[DayOfSessions], report: ReadReport) -> None:
        self._days = days
        self.report = report

    def __next__(self) -> DayOfSessions:
        return next(self._days)


def read_sessions(
    root: Path,
    first_day: date,
    last_day: date,
    *,
    index_cache: MutableMapping[str, dict[str, Any]] | None = None,
    on_quarantine: Callable[[QuarantinedLine], None] | None = None,
    progress: Callable[[ReadProgress], None] | None = None,
) -> SessionStream:
    """Read the sessions that began on the UTC days `first_day` to `last_day` from the logs under `root`.

    Only what may hold events of these days or the days next to them is read, each byte once; a day's sessions
    come as soon as all there is of that day and the next is read, so memory holds the sessions of about three
    days, however large the files are. `index_cache` is as for `catalogue`. `on_quarantine` gets each
    line that could not be read, and each file that is broken (as its line 0), as they are met; `progress` is
    called after every block.

    Raises FileNotFoundError if `root` is not a folder and ValueError if the days are the wrong way round, but
    nothing for what the files are or hold.
    """
    if first_day > last_day:
        raise ValueError(f"the first day, {first_day}, is after the last, {last_day}")
    report = ReadReport()
    sessions = Sessioniser(first_day, last_day, report)
    indexes = catalogue(root, index_cache)
    feeds = [
        FileFeed(
            file,
            index,
            first_day - SESSION_HORIZON,
            last_day + SESSION_HORIZON,
            sessions,
            on_quarantine or (lambda line: None),
            report,
        )
        for file, index in indexes.items()
        if index.passed_over is None
    ]
    report.passed_over = passed_over(
        (file.name, index.passed_over) for file, index in indexes.items() if index.passed_over is not None
    )
    report.files_found = len(feeds)
    feeds = [feed for feed in feeds if feed.is_needed]
    return SessionStream(_days(feeds, sessions, first_day, last_day, report, progress), report)


def _days(
    feeds: list[FileFeed],
    sessions: Sessioniser,
    first_day: date,
    last_day: date,
    report: ReadReport,
    progress: Callable[[ReadProgress], None] | None,
) -> Iterator[DayOfSessions]:
    total = sum(feed.size for feed in feeds)
    day = first_day
    while day <= last_day:
        for feed in feeds:
            for _ in feed.advance(day + SESSION_HORIZON):
                if progress is not None:
                    done = (report.bytes, total, report.events)
                    progress(ReadProgress(feed.name, report.files, len(feeds), *done))
        of_day = sessions.finish_days_up_to(day)
        yield DayOfSessions(day, of_day)
        deque(of_day, maxlen=0)  # what the caller left over must be counted, too
        day += timedelta(days=1)
