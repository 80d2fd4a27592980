"""Log files looked through, and days of them read, by several processes; one takes what they found."""

from __future__ import annotations

import os
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import date
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from cowrie_enrich_dagster.vocabulary import Days

from .discovery import LogFile
from .file_index import FileIndex
from .quarantine import Rejected, together
from .read_days import DayOfPieces
from .read_report import ReadReport
from .readers import Reader, Readers
from .sessions import Row

Packed = Literal["sqlite", "postgresql"]
"""The database that packed rows are for."""
_File = tuple[str, str, str, dict[str, Any]]
"""Of a log file: its path, name and sensor, and its index; all JSON."""
OnReject = Callable[[Rejected], None]


class _Gathered:
    """What the processes have rejected and counted."""

    def __init__(self, files: Iterable[list[_File]], on_reject: OnReject, report: ReadReport) -> None:
        stretches_of = Counter(name for of_stretch in files for _, name, *_ in of_stretch)
        self._parted = {name for name, number in stretches_of.items() if number > 1}
        self._held = defaultdict[str, list[Rejected]](list)
        self._broken = set[str]()
        self._on_reject = on_reject
        self._report = report

    def reject(self, plain: list[Any]) -> None:
        """Tell lines; of a file that lies in several stretches once all of it is read."""
        for one in map(Rejected.from_plain, plain):
            path = one.first.path
            if one.first.line == 0:
                self._broken.add(path)
            if path in self._parted:
                self._held[path].append(one)
            else:
                self._on_reject(one)

    def count(self, plain: dict[str, Any]) -> None:
        self._report.add(plain)
        self._report.files_broken = len(self._broken)

    def finish(self) -> None:
        for parts in self._held.values():
            for one in together(parts):
                self._on_reject(one)


def index_by_processes(
    changed: Mapping[LogFile, FileIndex | None], readers: Readers
) -> Iterator[tuple[LogFile, FileIndex]]:
    """Like `one_by_one`, in any order. Raises ReadingFailed."""
    waiting = list(changed.items())[::-1]
    asked = dict[Reader, LogFile]()

    def ask(reader: Reader) -> None:
        file, known = waiting.pop()
        asked[reader] = file
        reader.ask(file.name, "index", _plain(file.path), known and known.to_dict())

    for reader in readers.first(len(waiting)):
        ask(reader)
    while asked:
        reader = readers.next()
        _, plain = reader.answer()
        file, index = asked.pop(reader), FileIndex.from_dict(plain)
        if not index.complete:
            waiting.append((file, index))
        if waiting:
            ask(reader)
        yield file, index


def read_by_processes(
    logs: Mapping[LogFile, FileIndex],
    stretches: Sequence[Days],
    readers: Readers,
    on_reject: OnReject,
    report: ReadReport,
    packed_for: Packed | None = None,
) -> Generator[DayOfPieces, None, None]:
    """Like `read_days`, for the days of all stretches (see `shares`), which come in any order.

    A process that has read a day waits until that is taken; if they are packed, only when it is some days
    ahead. Raises ReadingFailed.
    """
    all_days = Days(stretches[0].first, stretches[-1].last)
    files = _files_of(logs, stretches)
    gathered = _Gathered(files.values(), on_reject, report)
    waiting = iter(stretches)
    with ExitStack() as stack:
        packing = None
        if packed_for:
            folder = stack.enter_context(
                TemporaryDirectory(prefix="cowrie-enrich-", ignore_cleanup_errors=True)
            )
            packing = folder, packed_for == "sqlite"

        def ask(reader: Reader, days: Days) -> None:
            reader.ask(str(days), "read", files[days], days.ends, all_days.ends, packing)

        stack.enter_context(readers)
        # Each has two, one to go on with when it is done: what it has read has yet to be taken then.
        for _ in range(2):
            asked = list(islice(waiting, readers.number))
            for reader, days in zip(readers.first(len(asked)), asked, strict=True):
                ask(reader, days)
        while readers.are_busy:
            reader = readers.next()
            kind, *content = reader.answer()
            if kind == "rejected":
                gathered.reject(*content)
            elif kind == "done":
                gathered.count(*content)
                if (more := next(waiting, None)) is not None:
                    ask(reader, more)
                elif not reader.is_busy:
                    readers.release(reader)
            else:
                packed = Path(*content) if kind == "packed" else None
                day, pieces = reader.answer()[1:] if packed else content
                of_day = _pieces(reader, pieces)
                yield DayOfPieces(date.fromisoformat(day), of_day, packed)
                deque(of_day, maxlen=0)
                if packed:
                    packed.unlink()
                    reader.tell("taken")
    gathered.finish()


def _pieces(reader: Reader, first: list[list[Row]]) -> Iterator[list[Row]]:
    """All pieces of a day, of which the first have come; the last message of a day has none."""
    pieces = first
    while pieces:
        yield from pieces
        _, _, pieces = reader.answer()


def _files_of(logs: Mapping[LogFile, FileIndex], stretches: Sequence[Days]) -> dict[Days, list[_File]]:
    """What each stretch has to be read from; files without dates belong to the first."""
    files: dict[Days, list[_File]] = {days: [] for days in stretches}
    for file, index in logs.items():
        plain = (_plain(file.path), file.name, file.sensor, index.to_dict())
        for days in stretches if index.segments else stretches[:1]:
            if not index.segments or any(
                segment.first_day <= days.last and segment.last_day >= days.first
                for segment in index.segments
            ):
                files[days].append(plain)
    return files


def _plain(path: Path) -> str:
    return os.fsencode(path).decode("latin-1")
