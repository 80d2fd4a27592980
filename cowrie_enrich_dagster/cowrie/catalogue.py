"""Which UTC days lie where in each log file, found without decoding any JSON."""

from __future__ import annotations

import os
from collections.abc import Callable, MutableMapping
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from functools import partial
from hashlib import blake2b
from itertools import zip_longest
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

from .blocks import FileFault, is_compressed, read_blocks
from .dayscan import DayScanner, Segment
from .discovery import LogFile, find_log_files

STEP_SECONDS = 5.0
"""After so much reading of one plain file what was learned of it is put into the cache."""
_EVERYTHING = 1 << 62
_HEAD_BYTES = 1024
_UNSETTLED = -1  # in place of a modification time: no later look at the file finds it unchanged


@dataclass(frozen=True, slots=True)
class FileIndex:
    """What one scan of a log file learned.

    `size`, `mtime_ns` and `inode` are the file's at the time; `length` counts its decompressed bytes.
    `segments` cover all of it, in file order; they are empty if no timestamp was found ("undated"). `fault`
    says why the file could not be read (to its end), else None. `resume` is the byte and line where the last
    record begins, `head` a fingerprint of the first bytes: with them a grown file is scanned on from there.
    Of a file that is not `complete` only the first `length` bytes were scanned; the next scan goes on there.
    """

    size: int
    mtime_ns: int
    inode: int
    length: int
    segments: tuple[Segment, ...]
    fault: str | None
    resume: tuple[int, int]
    head: str
    complete: bool = True

    @property
    def days_touched(self) -> set[date]:
        """The UTC days this file may hold events of."""
        return self.days_after(0)

    def days_after(self, offset: int) -> set[date]:
        """The UTC days which the bytes from decompressed `offset` on may hold events of.

        Given the `length` of an earlier index of the same file, the days touched by what was appended since.
        """
        return {
            segment.first_day + timedelta(days=number)
            for segment, following in zip_longest(self.segments, self.segments[1:])
            if (self.length if following is None else following.offset) > offset
            for number in range((segment.last_day - segment.first_day).days + 1)
        }

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        segments = [
            [s.first_day.isoformat(), s.last_day.isoformat(), s.offset, s.line] for s in self.segments
        ]
        return {**asdict(self), "segments": segments, "resume": list(self.resume)}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> FileIndex:
        """The inverse of `to_dict`. Raises KeyError, TypeError or ValueError for anything else."""
        segments = tuple(
            Segment(date.fromisoformat(first), date.fromisoformat(last), int(offset), int(line))
            for first, last, offset, line in plain["segments"]
        )
        offset, line = plain["resume"]
        return cls(**{**plain, "segments": segments, "resume": (int(offset), int(line))})


@dataclass(frozen=True)
class Scan:
    """A look at all log files: the indexes of those that are done with, by name.

    `bytes_done` of `bytes_total`, as they lie on the disk, were scanned by now, this time or before.
    """

    indexes: dict[LogFile, FileIndex]
    bytes_done: int
    bytes_total: int
    complete: bool


def catalogue(
    root: Path, index_cache: MutableMapping[str, dict[str, Any]] | None = None
) -> dict[LogFile, FileIndex]:
    """The index of every log file under `root`, sorted by name; see `scan`."""
    return scan(root, {} if index_cache is None else index_cache).indexes


def scan(
    root: Path,
    index_cache: MutableMapping[str, dict[str, Any]],
    seconds: float = inf,
    progress: Callable[[int, int], None] | None = None,
) -> Scan:
    """Bring the indexes of the log files under `root` up to date, for about `seconds`; 0: read nothing.

    `index_cache` (name -> `FileIndex.to_dict()`) spares scanning again what has not changed, which costs a
    `stat`. It is brought up to date file by file, and within a plain file every `STEP_SECONDS`, so that
    another scan goes on where this one ended or was killed; entries of vanished files are removed. A
    compressed file cannot be left in the middle: it is read whole, whatever the time. At least one file or
    block is read.
    `progress` gets the bytes done and in all. Raises FileNotFoundError if `root` is not a folder.
    """
    deadline = monotonic() + seconds
    indexes: dict[LogFile, FileIndex | None] = {}
    changed: dict[LogFile, FileIndex | None] = {}
    done = total = 0
    for file in find_log_files(root):
        known = _restored(index_cache.get(file.name))
        stat = _stat(file.path)
        size = 0 if isinstance(stat, OSError) else stat.st_size
        total += size
        if known and not isinstance(stat, OSError) and _is_same(known, stat):
            indexes[file] = known
            done += size
        else:
            indexes[file] = None
            changed[file] = known
            done += min(size, _bytes_scanned(known))
    for name in set(index_cache) - {file.name for file in indexes}:
        del index_cache[name]
    waiting = list(reversed(changed)) if seconds else []
    while waiting:
        file = waiting[-1]
        known, until = changed[file], min(monotonic() + STEP_SECONDS, deadline)
        index = changed[file] = index_file(file.path, known, partial(_is_past, until))
        index_cache[file.name] = index.to_dict()
        done += _bytes_scanned(index) - min(index.size, _bytes_scanned(known))
        if index.complete:
            indexes[file] = index
            waiting.pop()
        if progress:
            progress(done, total)
        if _is_past(deadline):
            break
    found = {file: index for file, index in indexes.items() if index is not None}
    return Scan(found, done, total, complete=len(found) == len(indexes))


def days_touched(
    root: Path, index_cache: MutableMapping[str, dict[str, Any]] | None = None
) -> dict[str, set[date]]:
    """The UTC days each log file under `root` may hold events of; see `catalogue`."""
    return {file.name: index.days_touched for file, index in catalogue(root, index_cache).items()}


def index_file(
    path: Path, known: FileIndex | None = None, enough: Callable[[], bool] = lambda: False
) -> FileIndex:
    """Scan one file, or only what was appended to it since `known`; `known` itself if nothing changed.

    A plain file is left, its index not `complete`, once `enough` says so after a block that is new.
    Never raises for what the file is or holds: see `FileIndex.fault`.
    """
    stat = _stat(path)
    if isinstance(stat, OSError):
        return FileIndex(0, _UNSETTLED, 0, 0, (), f"cannot be read: {stat.strerror}", (0, 1), "")
    if known is not None and _is_same(known, stat):
        return known
    scanner = DayScanner()
    plain = not is_compressed(path)
    end = stat.st_size if plain else _EVERYTHING
    fault, mtime_ns, head, complete, old = None, stat.st_mtime_ns, "", True, 0
    try:
        if known is not None and known.inode == stat.st_ino and _only_grew(path, known):
            scanner, old = DayScanner(known.segments, known.resume), known.length
        for _, block in read_blocks(path, [(scanner.length, end)]):
            scanner.feed(block)
            if plain and old < scanner.length < end and enough():
                complete, mtime_ns = False, _UNSETTLED
                break
        head = _head(path, scanner.length)
    except FileFault as broken:
        fault = str(broken)
        mtime_ns = stat.st_mtime_ns if broken.lasting else _UNSETTLED
    scanner.finish()
    return FileIndex(
        size=stat.st_size,
        mtime_ns=mtime_ns,
        inode=stat.st_ino,
        length=scanner.length,
        segments=tuple(scanner.segments),
        fault=fault,
        resume=scanner.record,
        head=head,
        complete=complete,
    )


def _is_past(moment: float) -> bool:
    return monotonic() >= moment


def _stat(path: Path) -> os.stat_result | OSError:
    try:
        return path.stat()
    except OSError as error:
        return error


def _is_same(known: FileIndex, stat: os.stat_result) -> bool:
    return (known.size, known.mtime_ns, known.inode) == (stat.st_size, stat.st_mtime_ns, stat.st_ino)


def _bytes_scanned(index: FileIndex | None) -> int:
    if index is None:
        return 0
    return index.size if index.complete else index.length


def _restored(plain: dict[str, Any] | None) -> FileIndex | None:
    if plain is None:
        return None
    try:
        return FileIndex.from_dict(plain)
    except (KeyError, TypeError, ValueError):
        return None  # written by another version


def _only_grew(path: Path, known: FileIndex) -> bool:
    return not is_compressed(path) and known.fault is None and _head(path, known.length) == known.head


def _head(path: Path, length: int) -> str:
    first = b"".join(block for _, block in read_blocks(path, [(0, min(length, _HEAD_BYTES))]))
    return blake2b(first, digest_size=8).hexdigest()
