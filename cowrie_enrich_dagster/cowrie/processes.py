"""Days of logs read by several processes, each a stretch of them at a time; one process takes what they read.

They are started as commands, not forked: so it does not matter what the asking process has open, which of
its threads asks, or what started it.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import date
from io import BufferedWriter, RawIOBase
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Literal, cast

from cowrie_enrich_dagster.vocabulary import Days

from .discovery import LogFile
from .file_index import FileIndex
from .frames import receive, send
from .quarantine import Rejected, together
from .read_days import DayOfPieces
from .read_report import ReadReport
from .sessions import Row

_BEGIN = (
    "import sys; sys.path[:] = sys.argv[1:]; from cowrie_enrich_dagster.cowrie.worker import main; main()"
)

Packed = Literal["sqlite", "postgresql"]
"""The database that packed rows are for."""
_File = tuple[str, str, str, dict[str, Any]]
"""Of a log file: its path, name and sensor, and its index; all JSON."""
_Packing = tuple[str, bool]
"""The folder for packed rows, and whether they are for SQLite."""
OnReject = Callable[[Rejected], None]


class ReadingFailed(Exception):
    """A process that read days of logs could not be started, ended or failed; the message says which and how.

    None of what was given out is wrong, but it is not all.
    """


class _Reader:
    """One process, and the stretches that it reads, the first of them now."""

    def __init__(self) -> None:
        command = [sys.executable, "-I", "-c", _BEGIN, *sys.path]
        try:
            # Nothing may wait in a buffer of ours when we look whether there is something to read.
            self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
        except OSError as problem:
            raise ReadingFailed(f"no process that reads logs could be started: {problem}") from problem
        self._asked = BufferedWriter(cast(RawIOBase, self._process.stdin))
        self.answers = cast(BinaryIO, self._process.stdout)
        self._stretches = deque[Days]()

    @property
    def is_busy(self) -> bool:
        return bool(self._stretches)

    def ask(self, files: list[_File], days: Days, all_days: Days, packing: _Packing | None) -> None:
        self._stretches.append(days)
        self._tell(files, days.ends, all_days.ends, packing)

    def take(self) -> None:
        """Say that a packed day was taken."""
        self._tell("taken")

    def _tell(self, *message: Any) -> None:
        with suppress(BrokenPipeError):  # that it has ended is told where its answer is waited for
            send(self._asked, *message)

    def answer(self) -> list[Any]:
        """What it says next. Raises ReadingFailed."""
        message = receive(self.answers)
        if message is None:
            raise ReadingFailed(f"the process that read {self._stretches[0]} {_how(self._process.wait())}")
        if message[0] == "failed":
            raise ReadingFailed(f"the process that read {self._stretches[0]} failed: {message[1]}")
        if message[0] == "done":
            self._stretches.popleft()
        return message

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._asked, self.answers):
            with suppress(OSError):
                stream.close()


class _Readers:
    """The processes that are there, ended at the end of a `with` block, whatever ends it."""

    def __init__(self) -> None:
        self._all: list[_Reader] = []
        self._selector = selectors.DefaultSelector()
        self._ready: list[_Reader] = []

    def __enter__(self) -> _Readers:
        return self

    def __exit__(self, *_: object) -> None:
        for reader in self._all:
            reader.end()
        self._selector.close()

    def __iter__(self) -> Iterator[_Reader]:
        return iter(self._all)

    def start(self) -> _Reader:
        reader = _Reader()
        self._all.append(reader)
        self._selector.register(reader.answers, selectors.EVENT_READ, reader)
        return reader

    @property
    def are_busy(self) -> bool:
        return bool(self._selector.get_map())

    def next(self) -> _Reader:
        """The next one that has something to say; each in turn, if several have."""
        if not self._ready:
            self._ready = [key.data for key, _ in self._selector.select()]
        return self._ready.pop()

    def release(self, reader: _Reader) -> None:
        """Nothing more is asked of it."""
        self._selector.unregister(reader.answers)
        reader.end()


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}; was there too little memory?"
    return f"was ended by signal {-code}"


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


def read_by_processes(
    logs: Mapping[LogFile, FileIndex],
    stretches: Sequence[Days],
    workers: int,
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
        readers = stack.enter_context(_Readers())
        for days in islice(waiting, workers):
            readers.start().ask(files[days], days, all_days, packing)
        # Each has one to go on with when it is done: what it has read has yet to be taken then.
        for reader, days in zip(readers, waiting, strict=False):
            reader.ask(files[days], days, all_days, packing)
        while readers.are_busy:
            reader = readers.next()
            kind, *content = reader.answer()
            if kind == "rejected":
                gathered.reject(*content)
            elif kind == "done":
                gathered.count(*content)
                if (more := next(waiting, None)) is not None:
                    reader.ask(files[more], more, all_days, packing)
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
                    reader.take()
    gathered.finish()


def _pieces(reader: _Reader, first: list[list[Row]]) -> Iterator[list[Row]]:
    """All pieces of a day, of which the first have come; the last message of a day has none."""
    pieces = first
    while pieces:
        yield from pieces
        _, _, pieces = reader.answer()


def _files_of(logs: Mapping[LogFile, FileIndex], stretches: Sequence[Days]) -> dict[Days, list[_File]]:
    """What each stretch has to be read from; files without dates belong to the first."""
    files: dict[Days, list[_File]] = {days: [] for days in stretches}
    for file, index in logs.items():
        path = os.fsencode(file.path).decode("latin-1")
        plain = (path, file.name, file.sensor, index.to_dict())
        for days in stretches if index.segments else stretches[:1]:
            if not index.segments or any(
                segment.first_day <= days.last and segment.last_day >= days.first
                for segment in index.segments
            ):
                files[days].append(plain)
    return files
