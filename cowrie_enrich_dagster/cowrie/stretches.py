"""One log file as a source of events that is read on as far as a day needs, and no byte twice."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from datetime import date, timedelta
from itertools import zip_longest
from math import inf
from typing import Any, NamedTuple

from .blocks import FileFault, is_compressed, read_blocks
from .discovery import LogFile
from .events import UNKNOWN_SIZE, Take
from .file_index import FileIndex, fingerprint
from .forms import Form
from .joined import JoinedReader
from .prefixes import PREFIXES
from .quarantine import Quarantine, Rejected
from .read_report import QuarantinedLine, ReadRange, ReadReport
from .reader import RecordReader
from .sessioniser import Sessioniser
from .wrappers import unwrap

_FILE_ENDS = "the file ends inside this record: it may still be being written"
_FILE_BREAKS_OFF = "the file breaks off inside this record"
_NEXT_STARTS = "cut off: the next record starts before this one ends"


class Stretch(NamedTuple):
    """Bytes of a file, from where line `first_line` begins, and the first day that they may be of."""

    first_day: date
    start: int
    end: int
    first_line: int
    last_line: int | None


class Reached(NamedTuple):
    """Where a reading of a file ended: byte and line, and how many lines it had rejected.

    `before` is a fingerprint of the bytes before that, by which it is seen whether they are the same.
    """

    offset: int
    line: int
    rejected: int
    before: str


class StretchReader:
    """Reads what may be of the days `first_day` to `last_day` in one file, and gives it to `sessions`.

    The file stays open from the first `advance` to the last one needed, or to `close`. A file without any
    timestamp is read whole, whatever the days. What is found wrong goes to `on_reject`, what is counted to
    `report`.
    `reached` is known at the end, None: it cannot be read on; and `unfinished`, what was counted of the bytes
    after that, where a record begins that may go on.
    """

    def __init__(
        self,
        file: LogFile,
        index: FileIndex,
        first_day: date,
        last_day: date,
        sessions: Sessioniser,
        on_reject: Callable[[Rejected], None],
        report: ReadReport,
        *,
        stretches: list[Stretch] | None = None,
        rejected: int = 0,
    ) -> None:
        """With `stretches` nothing else of the file is read, of which `rejected` lines are known already."""
        self.reached: Reached | None = None
        self.unfinished: dict[str, int] = {}
        self.name = file.name
        self._file = file
        self._index = index
        self._sessions = sessions
        self._on_reject = on_reject
        self._lines = Quarantine(file.name, rejected)
        self._report = report
        self._stretches = stretches_of(index, first_day, last_day) if stretches is None else stretches
        self._ranges = _joined(self._stretches)
        self._blocks = self._read()
        self._position = -1.0

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to read."""
        return bool(self._stretches)

    @property
    def size(self) -> int:
        """How many decompressed bytes will be read in all."""
        return sum(stretch.end - stretch.start for stretch in self._ranges)

    def advance(self, day: date) -> Iterator[None]:
        """Read on until no unread event can be of `day` or earlier; yields after each block."""
        if self._position == inf:
            return
        needed = [stretch.end for stretch in self._stretches if stretch.first_day <= day]
        target: float = max(needed, default=-inf)
        if all(stretch.first_day <= day + timedelta(days=1) for stretch in self._stretches):
            target = inf  # rather a few sessions of the day after in memory than many files open
        while self._position <= target and self._position < inf:
            self._position = next(self._blocks, inf)
            yield

    def close(self) -> None:
        """Read no further. The file would stay open until the garbage collector comes by."""
        self._blocks.close()

    def _read(self) -> Generator[float, None, None]:
        name, report = self.name, self._report
        report.files += 1
        report.ranges.append(ReadRange(name, 0, 0))
        report.ranges.extend(ReadRange(name, part.first_line, part.last_line) for part in self._ranges)
        take = self._sessions.taker(self._file.sensor)
        reader = reader_of(self._index.form, take, self._reject, report)
        lines = {stretch.start: stretch.first_line for stretch in self._stretches}
        position = -1
        fault, fault_at = self._index.fault, self._index.length
        try:
            self._check_unchanged()
            ranges = [(stretch.start, stretch.end) for stretch in self._stretches]
            for offset, block in read_blocks(self._file.path, ranges):
                if offset in lines:  # a record begins here, so what the reader still holds is of days before
                    reader.end(_NEXT_STARTS)
                    reader.begin(lines[offset], offset)
                reader.feed(block)
                position = offset + len(block)
                report.bytes += len(block)
                yield position
        except FileFault as error:
            fault, fault_at = str(error), max(position, 0)
        (reached, counted), before = self._reached(reader), report.sums()
        if self._ranges[-1].last_line is not None:
            reader.end(_NEXT_STARTS)
        else:
            reader.end(_FILE_ENDS if fault is None else _FILE_BREAKS_OFF)
        for rejected in self._lines.more():
            self._on_reject(rejected)
            reached = None
        if fault is not None:
            report.files_broken += 1
            self._on_reject(Rejected(QuarantinedLine(name, 0, fault, "", fault_at), 1, 0))
        elif reached is not None:
            self.unfinished = {name: number - before[name] for name, number in report.sums().items()}
            self.unfinished["bytes"] = position - reached.offset
            self.unfinished["lines_in"] += counted
            if not self.unfinished["events"]:  # else what it begins with was a whole record
                self.reached = reached

    def _reached(self, reader: RecordReader | JoinedReader) -> tuple[Reached | None, int]:
        """Where the reading ends, and how many lines are counted of what is unfinished there."""
        if not isinstance(reader, RecordReader) or is_compressed(self._file.path) or not self._index.segments:
            return None, 0
        offset, line, counted = reader.unfinished
        try:
            return Reached(offset, line, self._lines.rows, fingerprint(self._file.path, offset)), counted
        except FileFault:  # gone since
            return None, 0

    def _reject(self, line: int, offset: int, reason: str, raw: bytes) -> None:
        rejected = self._lines.reject(line, offset, reason, raw)
        if rejected is not None:
            self._on_reject(rejected)

    def _check_unchanged(self) -> None:
        # Rotation may have put another file in its place since, and the offsets are not for that one.
        try:
            stat = self._file.path.stat()
        except OSError as error:
            raise FileFault(f"cannot be read: {error.strerror}") from error
        if stat.st_ino != self._index.inode or stat.st_size < self._index.size:
            raise FileFault("was replaced or cut while it was being read: read its days again")


def reader_of(
    form: Form,
    take: Take,
    quarantine: Callable[[int, int, str, bytes], None],
    report: ReadReport,
) -> RecordReader | JoinedReader:
    """What reads logs of this form, and hands on the events in their records."""

    def take_wrapped(record: Any, size: int) -> None:
        take(unwrap(record, form.way), UNKNOWN_SIZE)

    taker = take_wrapped if form.way else take
    if form.joined:
        return JoinedReader(taker, quarantine, report, form.start.encode())
    return RecordReader(taker, quarantine, report, PREFIXES.get(form.prefix), salvage=form.sure)


def stretches_of(index: FileIndex, first_day: date, last_day: date) -> list[Stretch]:
    """The stretches of a file that may be of these days; of a file without dates all of it."""
    if not index.segments:
        return [Stretch(first_day, 0, index.length, 1, None)]
    stretches = []
    for segment, following in zip_longest(index.segments, index.segments[1:]):
        if segment.first_day <= last_day and segment.last_day >= first_day:
            end = index.length if following is None else following.offset
            last_line = None if following is None else following.line - 1
            stretches.append(Stretch(segment.first_day, segment.offset, end, segment.line, last_line))
    return stretches


def _joined(stretches: list[Stretch]) -> list[Stretch]:
    """The same with neighbours made one."""
    joined: list[Stretch] = []
    for stretch in stretches:
        if joined and joined[-1].end == stretch.start:
            joined[-1] = joined[-1]._replace(end=stretch.end, last_line=stretch.last_line)
        else:
            joined.append(stretch)
    return joined
