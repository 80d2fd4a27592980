"""What it takes to read a day on from where it was read to: places in files, and sessions that may go on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from heapq import nlargest
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from .blocks import FileFault
from .discovery import LogFile
from .file_index import FileIndex, fingerprint
from .piece import Piece
from .plain_pieces import piece_of, plain_piece
from .read_report import ReadReport
from .sessioniser import Key
from .stretches import Reached, Stretch, StretchReader, stretches_of

FORM = 1
"""Of what is kept. A reading of another form, or of another version of this software, is not read on."""
_AFTER_CLOSE = timedelta(minutes=10)
"""So long after its close a session is kept: what is logged later is read with the whole day."""
_MAX_SESSIONS = 5_000
_MAX_BYTES = 16 * 1024 * 1024


class FileReading(NamedTuple):
    """A file as it was read for a day. `reached` None: if it changed, the day is read whole."""

    state: tuple[int, int, int]
    head: str
    form: Any
    stretches: list[list[int]]
    reached: Reached | None

    def rest(self, path: Path, index: FileIndex, stretches: list[Stretch]) -> list[Stretch] | None:
        """What is new in the file since; None if that cannot be told from what was read."""
        if self.reached is None:
            return [] if self.state == _state(index) and index.is_settled else None
        if index.fault is not None or (index.inode, index.head, index.form.to_plain()) != (
            self.state[2],
            self.head,
            self.form,
        ):
            return None
        known, offset = len(self.stretches), self.reached.offset
        begins = [[part.start, part.first_line] for part in stretches[:known]]
        ends = [part.end for part in stretches[: known - 1]]
        if (begins, ends) != ([part[:2] for part in self.stretches], [p[2] for p in self.stretches[:-1]]):
            return None
        last = stretches[known - 1]
        try:
            if last.end < offset or fingerprint(path, offset) != self.reached.before:
                return None
        except FileFault:
            return None
        more = [last._replace(start=offset, first_line=self.reached.line)] if last.end > offset else []
        return more + stretches[known:]


@dataclass
class DayReading:
    """A day as it was read: its files, the counts, and by sensor and id the sessions that may go on."""

    files: dict[str, FileReading]
    counts: dict[str, int]
    sessions: dict[Key, Piece]

    def rest(self, file: LogFile, index: FileIndex, day: date) -> list[Stretch] | None:
        """What is new of the day in a file; None if that cannot be told from what was read of it."""
        stretches = stretches_of(index, day, day)
        known = self.files.get(file.name)
        return stretches if known is None else known.rest(file.path, index, stretches)

    @property
    def quarantined(self) -> dict[str, int]:
        """Of each file that can be read on how many lines of the day were told one by one."""
        return {name: file.reached.rejected for name, file in self.files.items() if file.reached}

    def has_read(self, name: str, offset: int) -> bool:
        """Whether what is at this byte of a file was read for the day."""
        file = self.files[name]
        within = any(start <= offset < end for start, _, end in file.stretches)
        return file.reached is not None and within and offset < file.reached.offset

    def rejected(self, file: LogFile) -> int:
        """How many lines of the file are in quarantine one by one."""
        known = self.files.get(file.name)
        return known.reached.rejected if known and known.reached else 0

    def dump(self, version: str) -> str:
        """As text; `version` is that of the software. Of very many sessions the last are kept."""
        sessions, size = [], 0
        for key, piece in self.sessions.items():
            text = orjson.dumps([*key, plain_piece(piece)])
            size += len(text)
            if size > _MAX_BYTES:
                break
            sessions.append(orjson.Fragment(text))
        files = {name: [*file[:-1], file.reached and list(file.reached)] for name, file in self.files.items()}
        plain = {"form": [FORM, version], "files": files, "counts": self.counts}
        return orjson.dumps({**plain, "sessions": sessions}).decode()

    @classmethod
    def load(cls, text: str, version: str) -> DayReading | None:
        """The inverse of `dump`; None if another version wrote it."""
        plain = orjson.loads(text)
        if plain["form"] != [FORM, version]:
            return None
        files = {
            name: FileReading(tuple(state), head, form, parts, None if reached is None else Reached(*reached))
            for name, (state, head, form, parts, reached) in plain["files"].items()
        }
        sessions = {(sensor, name): piece_of(piece) for sensor, name, piece in plain["sessions"]}
        return cls(files, plain["counts"], sessions)


class DayKeeper:
    """Keeps what is read of a day in `logs`, after what was `known`; `reading` None: it cannot be read on."""

    def __init__(self, day: date, logs: Mapping[LogFile, FileIndex], known: DayReading | None = None) -> None:
        self._day, self._logs, self._known = day, logs, known
        self.reading: DayReading | None = None

    def read(
        self, feeds: Iterable[StretchReader], pieces: Mapping[Key, Piece], report: ReadReport
    ) -> DayReading | None:
        """What is to be known next time, once all is read and nothing given out yet."""
        counts = report.sums()
        files = dict(self._known.files) if self._known else {}
        by_name = {file.name: index for file, index in self._logs.items()}
        for feed in feeds:
            if feed.reached is not None:
                for name, number in feed.unfinished.items():
                    counts[name] -= number
            files[feed.name] = _file_reading(by_name[feed.name], self._day, feed.reached)
        if self._known:
            counts = {name: number + counts[name] for name, number in self._known.counts.items()}
        if not any(file.reached for file in files.values()):
            return None
        return DayReading(files, counts, _going_on(pieces))


def _file_reading(index: FileIndex, day: date, reached: Reached | None) -> FileReading:
    stretches = [[part.start, part.first_line, part.end] for part in stretches_of(index, day, day)]
    return FileReading(_state(index), index.head, index.form.to_plain(), stretches, reached)


def _state(index: FileIndex) -> tuple[int, int, int]:
    return index.size, index.mtime_ns, index.inode


def _going_on(pieces: Mapping[Key, Piece]) -> dict[Key, Piece]:
    """The sessions that are not closed, or were a short while before their sensor's newest event."""
    ends = {key: max(part.ended for part in piece.all()) for key, piece in pieces.items()}
    newest: dict[str, str] = {}
    for (sensor, _), ended in ends.items():
        newest[sensor] = max(ended, newest.get(sensor, ""))
    since = {sensor: _before(moment) for sensor, moment in newest.items()}
    kept = [
        key
        for key, piece in pieces.items()
        if ends[key] >= since[key[0]] or any(part.closed_at is None for part in piece.all())
    ]
    return {key: pieces[key] for key in nlargest(_MAX_SESSIONS, kept, key=ends.__getitem__)}


def _before(moment: str) -> str:
    return (datetime.fromisoformat(moment) - _AFTER_CLOSE).isoformat("T", "microseconds")
