"""What a reading of logs tells about itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple

_EXCERPT_CHARS = 200
_NAMED_FILES = 3
_SUMS = (
    *("bytes", "lines_in", "lines_parsed", "lines_quarantined"),
    *("events", "duplicate_events", "events_of_other_days"),
)


class QuarantinedLine(NamedTuple):
    """A line that could not be (wholly) read; readable records on the same line were still used.

    Of each file the first 1,000 are given, and for each reason of the others the first, its `reason` saying
    how many and up to which line.

    `path` is relative to the log root; `line` counts from 1, and 0 means the file itself, which is broken at
    decompressed byte `byte_offset`. `excerpt` is printable, at most 200 characters.
    """

    path: str
    line: int
    reason: str
    excerpt: str
    byte_offset: int


class ReadRange(NamedTuple):
    """Lines of a file that were read, both ends included; `last_line` None: to its end and all beyond.

    Each file that was opened also has the range 0..0, for what may be wrong with the file itself.
    """

    path: str
    first_line: int
    last_line: int | None


class PassedOver(NamedTuple):
    """Files and folders that were passed over for one reason: how many, and the names of the first few."""

    reason: str
    files: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        more = f" and {self.files - len(self.names)} more" if self.files > len(self.names) else ""
        return printable(f"{', '.join(self.names)}{more}: {self.reason}")


def passed_over(reasons: Iterable[tuple[str, str]]) -> list[PassedOver]:
    """From (name, reason) of every file that was passed over, sorted by reason; the commonest last."""
    names = defaultdict[str, list[str]](list)
    for name, reason in reasons:
        names[reason].append(name)
    return [
        PassedOver(reason, len(all_names), tuple(all_names[:_NAMED_FILES]))
        for reason, all_names in sorted(names.items(), key=lambda item: (len(item[1]), item[0]))
    ]


@dataclass(slots=True)
class DayCounts:
    """The pieces of sessions that were read of one UTC day, and the events in them."""

    pieces: int = 0
    events: int = 0


@dataclass(slots=True)
class ReadReport:
    """Counts of one reading; final once the stream is exhausted.

    `files` were read, of the `files_found` that are logs; others were `passed_over`. `files_broken` could not
    be read to their end. `bytes` are decompressed. Always `lines_in == lines_parsed + lines_quarantined`;
    blank lines count in none of them.
    `events` are the valid events read. Two kinds of them are in no session: `duplicate_events` repeated
    another one, and `events_of_other_days` were of none of the days asked for.
    """

    files_found: int = 0
    passed_over: list[PassedOver] = field(default_factory=list)
    files: int = 0
    files_broken: int = 0
    bytes: int = 0
    lines_in: int = 0
    lines_parsed: int = 0
    lines_quarantined: int = 0
    events: int = 0
    duplicate_events: int = 0
    events_of_other_days: int = 0
    days: dict[date, DayCounts] = field(default_factory=dict)
    ranges: list[ReadRange] = field(default_factory=list)

    def sums(self) -> dict[str, int]:
        """What was counted of all files, by name."""
        return {name: getattr(self, name) for name in _SUMS}

    def count(self, sums: dict[str, int]) -> None:
        """Add what another reading has counted of all files."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + sums[name])

    def to_plain(self) -> dict[str, Any]:
        """What was counted, as plain JSON values; what was found in the folder is not in it."""
        days = {day.isoformat(): [counts.pieces, counts.events] for day, counts in self.days.items()}
        return {**self.sums(), "days": days, "ranges": [list(part) for part in self.ranges]}

    def add(self, plain: dict[str, Any]) -> None:
        """Count what another reading, of other parts of the same files or of other files, has counted."""
        self.count(plain)
        for day, counts in plain["days"].items():
            self.days[date.fromisoformat(day)] = DayCounts(*counts)
        self.ranges = _together([*self.ranges, *(ReadRange(*part) for part in plain["ranges"])])
        self.files = sum(part.last_line == 0 for part in self.ranges)


def _together(ranges: list[ReadRange]) -> list[ReadRange]:
    """The same lines, neighbours made one."""
    joined: list[ReadRange] = []
    for part in sorted(set(ranges), key=lambda part: (part.path, part.first_line)):
        before = joined[-1] if joined else None
        if before and before.path == part.path and before.last_line == part.first_line - 1 > 0:
            joined[-1] = part._replace(first_line=before.first_line)
        else:
            joined.append(part)
    return joined


def excerpt(raw: bytes) -> str:
    """The beginning of `raw`, printable whatever it holds."""
    return printable(raw[: _EXCERPT_CHARS * 4].decode("utf-8", "backslashreplace"))[:_EXCERPT_CHARS]


def printable(text: str) -> str:
    """`text` with everything escaped that is not printable."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
