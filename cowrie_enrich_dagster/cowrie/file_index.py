"""Which UTC days lie where in each log file, found without decoding any JSON."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping
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
from .forms import Form, NotALog, form_of_file, is_named_by_cowrie
from .read_report import PassedOver, passed_over

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
    record begins, `head` a fingerprint of the first bytes, `before` of those before that record: with them a
    grown file is scanned on from there, and one that was cut off meanwhile is known.
    Of a file that is not `complete` only the first `length` bytes were scanned; the next scan goes on there.
    `form` is how the file holds its events. `passed_over` says why it is no log, else None; of such a file
    nothing else is known.
    """

    size: int
    mtime_ns: int
    inode: int
    length: int
    segments: tuple[Segment, ...]
    fault: str | None
    resume: tuple[int, int]
    head: str
    form: Form
    passed_over: str | None
    complete: bool = True
    before: str | None = None

    @classmethod
    def of_no_log(cls, reason: str, size: int = 0, mtime_ns: int = _UNSETTLED, inode: int = 0) -> FileIndex:
        """The index of a file that is passed over."""
        return cls(size, mtime_ns, inode, 0, (), None, (0, 1), "", Form(), reason)

    @property
    def is_settled(self) -> bool:
        """Whether a file that has not changed since need not be looked at again."""
        return self.mtime_ns != _UNSETTLED

    def is_of(self, stat: os.stat_result) -> bool:
        """Whether the file has not changed since."""
        return (self.size, self.mtime_ns, self.inode) == (stat.st_size, stat.st_mtime_ns, stat.st_ino)

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
        form = self.form.to_plain()
        return {**asdict(self), "segments": segments, "resume": list(self.resume), "form": form}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> FileIndex:
        """The inverse of `to_dict`. Raises KeyError, TypeError or ValueError for anything else."""
        segments = tuple(
            Segment(date.fromisoformat(first), date.fromisoformat(last), int(offset), int(line))
            for first, last, offset, line in plain["segments"]
        )
        offset, line = plain["resume"]
        form = Form.from_plain(plain["form"])
        return cls(**{**plain, "segments": segments, "resume": (int(offset), int(line)), "form": form})


@dataclass(frozen=True)
class Scan:
    """A look at all files: the indexes of those that are done with, by name, also of what is passed over.

    `bytes_done` of `bytes_total`, as they lie on the disk, were scanned by now, this time or before.
    """

    indexes: dict[LogFile, FileIndex]
    bytes_done: int
    bytes_total: int
    complete: bool


Indexer = Callable[[Mapping[LogFile, FileIndex | None], int], Iterator[tuple[LogFile, FileIndex]]]
"""Given files with what is known of them, and how many bytes there are to look through: see `one_by_one`."""


def index_files(
    root: Path,
    index_cache: MutableMapping[str, dict[str, Any]] | None = None,
    by: Indexer | None = None,
) -> dict[LogFile, FileIndex]:
    """The index of every file under `root`, also of what is passed over, sorted by name; see `scan`."""
    return scan(root, {} if index_cache is None else index_cache, by=by).indexes


def scan(
    root: Path,
    index_cache: MutableMapping[str, dict[str, Any]],
    seconds: float = inf,
    progress: Callable[[int, int], None] | None = None,
    by: Indexer | None = None,
) -> Scan:
    """Bring the indexes of the files under `root` up to date, for about `seconds`; 0: read nothing.

    `index_cache` (name -> `FileIndex.to_dict()`) spares scanning again what has not changed, which costs a
    `stat`. It is brought up to date file by file, and within a plain file every `STEP_SECONDS`, so that
    another scan goes on where this one ended or was killed; entries of vanished files are removed. A
    compressed file cannot be left in the middle, nor can a record (as an array on one line is): it is read
    whole, whatever the time. At least one file or block is read. Of a file that is no log the first bytes are
    read; that counts as all of it.
    `progress` gets the bytes done and in all. `by` looks through the files, else it is done `one_by_one`.
    Raises FileNotFoundError if `root` is not a folder.
    """
    deadline = monotonic() + seconds
    indexes: dict[LogFile, FileIndex | None] = {}
    changed: dict[LogFile, FileIndex | None] = {}
    done = total = 0
    for file in find_log_files(root):
        if file.unseen:
            indexes[file] = FileIndex.of_no_log(file.unseen)
            continue
        known = _restored(index_cache.get(file.name))
        stat = _stat(file.path)
        size = 0 if isinstance(stat, OSError) else stat.st_size
        total += size
        if known and not isinstance(stat, OSError) and known.is_of(stat):
            indexes[file] = known
            done += size
        else:
            indexes[file] = None
            changed[file] = known
            done += min(size, _bytes_scanned(known))
    for name in set(index_cache) - {file.name for file in indexes if not file.unseen}:
        del index_cache[name]
    indexed = by(changed, total - done) if by else one_by_one(changed, deadline)
    for file, index in indexed if seconds else ():
        index_cache[file.name] = index.to_dict()
        done += _bytes_scanned(index) - min(index.size, _bytes_scanned(changed[file]))
        changed[file] = index
        if index.complete:
            indexes[file] = index
        if progress:
            progress(done, total)
        if _is_past(deadline):
            break
    found = {file: index for file, index in indexes.items() if index is not None}
    return Scan(found, done, total, complete=len(found) == len(indexes))


def one_by_one(
    changed: Mapping[LogFile, FileIndex | None], deadline: float = inf
) -> Iterator[tuple[LogFile, FileIndex]]:
    """Each file with its index, given what is known of it, every `STEP_SECONDS` until that is complete."""
    for file, known in changed.items():
        index = index_step(file.path, known, deadline)
        yield file, index
        while not index.complete:
            index = index_step(file.path, index, deadline)
            yield file, index


def index_step(path: Path, known: FileIndex | None, deadline: float = inf) -> FileIndex:
    """Scan one file, a plain one for `STEP_SECONDS` at most; see `index_file`."""
    return index_file(path, known, partial(_is_past, min(monotonic() + STEP_SECONDS, deadline)))


def survey(root: Path, index_cache: Mapping[str, dict[str, Any]]) -> tuple[int, list[PassedOver]]:
    """How many log files lie under `root`, and what is passed over there, without reading any log.

    Of a file that is new since `index_cache` only the first bytes are looked at. Raises FileNotFoundError.
    """
    logs, reasons = 0, []
    for file in find_log_files(root):
        reason = file.unseen or _verdict(file.path, _restored(index_cache.get(file.name)))
        if reason is None:
            logs += 1
        else:
            reasons.append((file.name, reason))
    return logs, passed_over(reasons)


def _verdict(path: Path, known: FileIndex | None) -> str | None:
    try:
        if known is not None and known.is_of(path.stat()):
            return known.passed_over
        form_of_file(path)
    except NotALog as verdict:
        return str(verdict)
    except (FileFault, OSError):
        return None  # a log that cannot be read, which is more than passed over
    return None


def index_file(
    path: Path, known: FileIndex | None = None, enough: Callable[[], bool] = lambda: False
) -> FileIndex:
    """Scan one file, or only what was appended to it since `known`; `known` itself if nothing changed.

    A plain file is left, its index not `complete`, once `enough` says so after a block that is new and a
    record that begins in it.
    Never raises for what the file is or holds: see `FileIndex.fault`.
    """
    stat = _stat(path)
    if isinstance(stat, OSError):
        reason = f"cannot be read: {stat.strerror}"
        if not is_named_by_cowrie(path):
            return FileIndex.of_no_log(reason)
        return FileIndex(0, _UNSETTLED, 0, 0, (), reason, (0, 1), "", Form(), None)
    if known is not None and known.is_of(stat):
        return known
    form, scanner, old, complete = Form(), DayScanner(), 0, True
    plain = not is_compressed(path)
    end = stat.st_size if plain else _EVERYTHING
    fault, mtime_ns, head = None, stat.st_mtime_ns, ""
    try:
        if known is not None and known.inode == stat.st_ino and _can_go_on(path, known, stat):
            form, old = known.form, known.length
            scanner = DayScanner(known.segments, known.resume, form.start_of_record, form.quote)
        else:
            form = form_of_file(path)
            scanner = DayScanner((), (0, 1), form.start_of_record, form.quote)
        begin = scanner.length
        for _, block in read_blocks(path, [(scanner.length, end)]):
            scanner.feed(block)
            # Left where the next scan need not begin where this one did: not within a record, however long.
            if plain and old < scanner.length < end and begin < scanner.record[0] and enough():
                complete, mtime_ns = False, _UNSETTLED
                break
        head = _head(path, scanner.length)
    except NotALog as verdict:
        settled = stat.st_mtime_ns if verdict.lasting else _UNSETTLED
        return FileIndex.of_no_log(str(verdict), stat.st_size, settled, stat.st_ino)
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
        form=form,
        passed_over=None,
        complete=complete,
        before=_before(path, scanner.record[0]) if plain and fault is None else None,
    )


def _is_past(moment: float) -> bool:
    return monotonic() >= moment


def _stat(path: Path) -> os.stat_result | OSError:
    try:
        return path.stat()
    except OSError as error:
        return error


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


def _can_go_on(path: Path, known: FileIndex, stat: os.stat_result) -> bool:
    """Whether the file merely grew since, and its form is known for good."""
    if known.passed_over is not None or known.fault is not None or is_compressed(path):
        return False
    if stat.st_size < known.length:
        return False
    if known.complete and not (known.segments and known.form.sure):
        return False  # what had no day or no event yet may not have been enough to tell the form by
    if known.before is not None and fingerprint(path, known.resume[0]) != known.before:
        return False
    return _head(path, known.length) == known.head


def _head(path: Path, length: int) -> str:
    return fingerprint(path, min(length, _HEAD_BYTES))


def _before(path: Path, offset: int) -> str | None:
    try:
        return fingerprint(path, offset)
    except FileFault:  # gone since
        return None


def fingerprint(path: Path, end: int) -> str:
    """Of the last 1,024 decompressed bytes before `end`. Raises FileFault."""
    last = b"".join(block for _, block in read_blocks(path, [(max(0, end - _HEAD_BYTES), end)]))
    return blake2b(last, digest_size=8).hexdigest()
