"""Log files in, pieces of sessions out, day by day."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, MutableMapping
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from cowrie_enrich_dagster.vocabulary import Days

from .day_reading import DayKeeper, DayReading
from .discovery import LogFile
from .file_index import FileIndex, index_files, one_by_one
from .piece import Piece
from .processes import Packed, index_by_processes, read_by_processes
from .quarantine import Rejected
from .read_days import DayOfPieces, read_days
from .read_report import QuarantinedLine, ReadReport, passed_over
from .readers import Readers
from .sessioniser import Key, Sessioniser
from .sessions import Row
from .shares import is_enough, shares
from .stretches import StretchReader


class PieceStream(Iterator[DayOfPieces]):
    """Every day of a reading, also those without any; `report` is final after the last.

    `days_touched` are those that some log may hold events of, also before and after those that are read.
    """

    def __init__(
        self,
        days: Generator[DayOfPieces, None, None],
        report: ReadReport,
        days_touched: frozenset[date],
        keeper: DayKeeper | None = None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self._days = days
        self._keeper = keeper
        self._close = close
        self.report = report
        self.days_touched = days_touched

    @property
    def reading(self) -> DayReading | None:
        """What it takes to read on, if a single day was asked for and has come; None: it is read whole."""
        return self._keeper.reading if self._keeper else None

    def __next__(self) -> DayOfPieces:
        return next(self._days)

    def close(self) -> None:
        """Read no further: processes that read are ended, files closed."""
        self._days.close()
        self._close()


def read_pieces(
    root: Path,
    first_day: date,
    last_day: date,
    *,
    index_cache: MutableMapping[str, dict[str, Any]] | None = None,
    on_quarantine: Callable[[QuarantinedLine], None] | None = None,
    workers: int = 1,
    packed_for: Packed | None = None,
) -> PieceStream:
    """Read what the logs under `root` hold of sessions on the UTC days `first_day` to `last_day`.

    Only what may hold events of these days is read, each byte once; a day's pieces come as soon as all there
    is of that day is read, so memory holds the sessions of about two days, however large the files are.
    `index_cache` is as for `index_files`. `on_quarantine` gets each line that could not be read, and each
    file that is broken (as its line 0).

    With several `workers` so many processes look through the files and read them, where there is enough to
    read that it pays; then the days come in any order and, if that is asked for, packed.

    Raises FileNotFoundError if `root` is not a folder and ValueError if the days are the wrong way round, but
    nothing for what the files are or hold. With several workers this and the stream raise ReadingFailed; with
    one the same can be read.
    """
    if first_day > last_day:
        raise ValueError(f"the first day, {first_day}, is after the last, {last_day}")
    days = Days(first_day, last_day)
    report = ReadReport()

    def reject(rejected: Rejected) -> None:
        if on_quarantine is not None:
            on_quarantine(rejected.told())

    with ExitStack() as until_closed:
        readers = until_closed.enter_context(Readers(workers))
        logs = logs_in(root, report, index_cache, readers)
        touched = frozenset[date]().union(*(index.days_touched for index in logs.values()))
        stretches = shares(logs.values(), days, workers)
        if len(stretches) > 1:
            by_processes = read_by_processes(logs, stretches, readers, reject, report, packed_for)
            return PieceStream(by_processes, report, touched, close=until_closed.pop_all().close)
    keeper = DayKeeper(first_day, logs) if first_day == last_day else None
    return PieceStream(read_days(logs, days, reject, report, keep=keeper), report, touched, keeper)


class DayReadOn(NamedTuple):
    """What a day has come to hold: the pieces of each id that has new ones, as in `DayOfPieces`.

    `new` are the ids that were not among the sessions which may go on. `reading` is for the next time.
    """

    pieces: list[list[Row]]
    new: list[Key]
    reading: DayReading | None
    report: ReadReport


def read_on(
    root: Path,
    day: date,
    known: DayReading,
    *,
    index_cache: MutableMapping[str, dict[str, Any]] | None = None,
    on_quarantine: Callable[[QuarantinedLine], None] | None = None,
) -> DayReadOn | None:
    """Read what has come since the day was read; None if it has to be read whole.

    That is when a file of it was replaced, cut off, renamed or taken away, cannot be read on, or when an
    event is not later than all that is known of its session, for it may repeat one. It has to be, too, if the
    day had one of the `new` ids.

    What comes of it is what reading the whole day would give, but for the order of lines that were typed in
    the same microsecond and lie in different files. `report` counts what was read now. `known` is used up.
    """
    report = ReadReport()
    logs = logs_in(root, report, index_cache)
    rests = {file: known.rest(file, index, day) for file, index in logs.items()}
    if None in rests.values() or known.files.keys() - {file.name for file in logs}:
        return None

    def reject(rejected: Rejected) -> None:
        if on_quarantine is not None:
            on_quarantine(rejected.told())

    before = {key: _events(piece) for key, piece in known.sessions.items()}
    keeper = DayKeeper(day, logs, known)
    sessions = Sessioniser(day, day, report, known=known.sessions)
    feeds = [
        StretchReader(
            file, logs[file], day, day, sessions, reject, report,
            stretches=rest, rejected=known.rejected(file),
        )
        for file, rest in rests.items() if rest
    ]  # fmt: skip
    for feed in feeds:
        deque(feed.advance(day), maxlen=0)
    if sessions.tangled(day) or report.files_broken:
        return None
    pieces = sessions.pieces(day)
    reading = keeper.read(feeds, pieces, report)
    sessions.drop(day, [key for key, events in before.items() if _events(pieces[key]) == events])
    new = [key for key in pieces if key not in before]
    return DayReadOn(list(sessions.finish(day)), new, reading, report)


def _events(piece: Piece) -> int:
    return sum(part.event_count for part in piece.all())


def logs_in(
    root: Path,
    report: ReadReport,
    index_cache: MutableMapping[str, dict[str, Any]] | None = None,
    readers: Readers | None = None,
) -> dict[LogFile, FileIndex]:
    """The logs under `root`; how many they are, and what is passed over, goes to `report`."""

    def by(changed: Mapping[LogFile, FileIndex | None], size: int) -> Iterator[tuple[LogFile, FileIndex]]:
        if readers and len(changed) > 1 and is_enough(size, readers.number):
            return index_by_processes(changed, readers)
        return one_by_one(changed)

    indexes = index_files(root, index_cache, by)
    logs = {file: index for file, index in indexes.items() if index.passed_over is None}
    report.files_found = len(logs)
    report.passed_over = passed_over(
        (file.name, index.passed_over) for file, index in indexes.items() if index.passed_over is not None
    )
    return logs
