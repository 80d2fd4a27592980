"""Which UTC days lie where in each log file, found without decoding any JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from hashlib import blake2b
from itertools import zip_longest
from pathlib import Path
from typing import Any

from .blocks import FileFault, is_compressed, read_blocks
from .dayscan import DayScanner, Segment
from .discovery import LogFile, find_log_files
from .forms import Form, NotALog, form_of_file, is_named_by_cowrie
from .reports import PassedOver, passed_over

_EVERYTHING = 1 << 62
_HEAD_BYTES = 1024
_UNSETTLED = -1  # in place of a modification time: no later look at the file finds it unchanged


@dataclass(frozen=True)
class FileIndex:
    """What one scan of a log file learned.

    `size`, `mtime_ns` and `inode` are the file's at the time; `length` counts its decompressed bytes.
    `segments` cover all of it, in file order; they are empty if no timestamp was found ("undated"). `fault`
    says why the file could not be read (to its end), else None. `resume` is the byte and line where the last
    record begins, `head` a fingerprint of the first bytes: with them a grown file is scanned on from there.
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

    @classmethod
    def of_no_log(cls, reason: str, size: int = 0, mtime_ns: int = _UNSETTLED, inode: int = 0) -> FileIndex:
        """The index of a file that is passed over."""
        return cls(size, mtime_ns, inode, 0, (), None, (0, 1), "", Form(), reason)

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


def catalogue(
    root: Path, index_cache: MutableMapping[str, dict[str, Any]] | None = None
) -> dict[LogFile, FileIndex]:
    """The index of every file under `root`, sorted by name, also of those that are passed over.

    `index_cache` (name -> `FileIndex.to_dict()`) spares scanning again what has not changed; it is brought up
    to date, and entries of vanished files are removed. Raises FileNotFoundError if `root` is not a folder.
    """
    cache: MutableMapping[str, dict[str, Any]] = {} if index_cache is None else index_cache
    indexes: dict[LogFile, FileIndex] = {}
    for file in find_log_files(root):
        if file.unseen:
            indexes[file] = FileIndex.of_no_log(file.unseen)
            continue
        known = _restored(cache.get(file.name))
        index = indexes[file] = index_file(file.path, known)
        if index is not known:
            cache[file.name] = index.to_dict()
    for name in set(cache) - {file.name for file in indexes}:
        del cache[name]
    return indexes


def days_touched(
    root: Path, index_cache: MutableMapping[str, dict[str, Any]] | None = None
) -> dict[str, set[date]]:
    """The UTC days each log file under `root` may hold events of; see `catalogue`."""
    indexes = catalogue(root, index_cache).items()
    return {file.name: index.days_touched for file, index in indexes if index.passed_over is None}


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


def index_file(path: Path, known: FileIndex | None = None) -> FileIndex:
    """Scan one file, or only what was appended to it since `known`; `known` itself if nothing changed.

    Never raises for what the file is or holds: see `FileIndex.fault`.
    """
    try:
        stat = path.stat()
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        if not is_named_by_cowrie(path):
            return FileIndex.of_no_log(reason)
        return FileIndex(0, _UNSETTLED, 0, 0, (), reason, (0, 1), "", Form(), None)
    if known is not None and known.is_of(stat):
        return known
    form, scanner = Form(), DayScanner()
    end = _EVERYTHING if is_compressed(path) else stat.st_size
    fault, mtime_ns, head = None, stat.st_mtime_ns, ""
    try:
        if known is not None and known.inode == stat.st_ino and _only_grew(path, known):
            form = known.form
            scanner = DayScanner(known.segments, known.resume, form.start_of_record, form.quote)
        else:
            form = form_of_file(path)
            scanner = DayScanner((), (0, 1), form.start_of_record, form.quote)
        for _, block in read_blocks(path, [(scanner.length, end)]):
            scanner.feed(block)
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
    )


def _restored(plain: dict[str, Any] | None) -> FileIndex | None:
    if plain is None:
        return None
    try:
        return FileIndex.from_dict(plain)
    except (KeyError, TypeError, ValueError):
        return None  # written by another version


def _only_grew(path: Path, known: FileIndex) -> bool:
    if not (known.segments and known.form.sure):
        return False  # what had no day or no event yet may not have been enough to tell the form by
    return not is_compressed(path) and known.fault is None and _head(path, known.length) == known.head


def _head(path: Path, length: int) -> str:
    first = b"".join(block for _, block in read_blocks(path, [(0, min(length, _HEAD_BYTES))]))
    return blake2b(first, digest_size=8).hexdigest()
