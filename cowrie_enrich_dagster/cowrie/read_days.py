"""Some log files in, the pieces of sessions of some days out, in this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from datetime import date
from pathlib import Path
from typing import NamedTuple

from cowrie_enrich_dagster.vocabulary import Days

from .day_reading import DayKeeper
from .discovery import LogFile
from .file_index import FileIndex
from .quarantine import Rejected
from .read_report import ReadReport
from .sessioniser import Sessioniser, Tangled
from .sessions import Row
from .stretches import StretchReader


class DayOfPieces(NamedTuple):
    """A UTC day and, by sensor and id, what it holds of sessions: the pieces of each id, in time order.

    They are rows, which `Session.of_row` reads; gone once the next day is asked for. `sessions_of` makes
    sessions of the pieces of all days.

    If they are `packed` (see `packed_rows`), the ids of which there is one piece are in that file, and
    `pieces` has the others.
    """

    day: date
    pieces: Iterator[list[Row]]
    packed: Path | None = None

    def alone(self, others: list[list[Row]]) -> Iterator[Row]:
        """The pieces of the ids that have one; those of the others go to `others` as they are met."""
        for pieces in self.pieces:
            if len(pieces) == 1:
                yield pieces[0]
            else:
                others.append(pieces)


def read_days(
    logs: Mapping[LogFile, FileIndex],
    days: Days,
    on_reject: Callable[[Rejected], None],
    report: ReadReport,
    all_days: Days | None = None,
    keep: DayKeeper | None = None,
) -> Generator[DayOfPieces, None, None]:
    """Read what these files hold of the days, and give each of the days out, in order.

    Each byte is read once (but see `Sessioniser.tangled`); a day comes as soon as all there is of it is read,
    so memory holds the sessions of about two days. What is rejected goes to `on_reject`, what is counted to
    `report`.

    Of a single day `keep` keeps what it takes to read on.

    Raises OutOfPlace for an event that is not of these days but of another of `all_days`, which is where it
    would have to be read.
    """
    sessions = Sessioniser(days.first, days.last, report, all_days=all_days)
    feeds = [
        StretchReader(file, index, days.first, days.last, sessions, on_reject, report)
        for file, index in logs.items()
    ]
    feeds = [feed for feed in feeds if feed.is_needed]
    with ExitStack() as stack:
        for feed in feeds:
            stack.callback(feed.close)
        for day in days:
            for feed in feeds:
                deque(feed.advance(day), maxlen=0)
            if tangled := sessions.tangled(day):
                sessions.replace(day, _again(logs, day, tangled))
            if keep:
                keep.reading = keep.read(feeds, sessions.pieces(day), report)
            of_day = sessions.finish(day)
            yield DayOfPieces(day, of_day)
            deque(of_day, maxlen=0)  # what the caller left over must be counted, too


def _again(logs: Mapping[LogFile, FileIndex], day: date, tangled: Tangled) -> Sessioniser:
    """What there is of the tangled keys of a day, read once more."""
    aside = ReadReport()
    only = Sessioniser(day, day, aside, tangled)
    for file, index in logs.items():
        feed = StretchReader(file, index, day, day, only, _pass, aside)
        if feed.is_needed:
            with closing(feed):
                deque(feed.advance(day), maxlen=0)
    return only


def _pass(rejected: Rejected) -> None:
    """What nobody wants to know twice."""
