"""Lines of a file that could not be read: the first thousand one by one, the others by reason, counted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from .read_report import QuarantinedLine, excerpt

MAX_ROWS = 1000
"""So many quarantined lines of a file are told one by one."""


class Rejected(NamedTuple):
    """A line, or the first of several that are not told one by one; how many, and the last one's number."""

    first: QuarantinedLine
    lines: int
    last: int

    def to_plain(self) -> list[Any]:
        """As plain JSON values."""
        return [list(self.first), self.lines, self.last]

    @classmethod
    def from_plain(cls, plain: list[Any]) -> Rejected:
        """The inverse of `to_plain`."""
        first, lines, last = plain
        return cls(QuarantinedLine(*first), lines, last)

    def told(self) -> QuarantinedLine:
        """It as a line whose reason tells of the others."""
        if self.lines == 1:
            return self.first
        others = f"(and so {self.lines - 1} more lines, up to line {self.last})"
        return self.first._replace(reason=f"{self.first.reason} {others}")


class Quarantine:
    """What a reading of one file rejects, in the file's order; `rows` are told one by one."""

    def __init__(self, path: str, rows: int = 0) -> None:
        self._path = path
        self.rows = rows
        self._more: dict[str, Rejected] = {}

    def reject(self, line: int, offset: int, reason: str, raw: bytes) -> Rejected | None:
        """Take note of a line; it comes back if it is one of the first, else with others from `more`."""
        if self.rows < MAX_ROWS:
            self.rows += 1
            return Rejected(QuarantinedLine(self._path, line, reason, excerpt(raw), offset), 1, line)
        if known := self._more.get(reason):
            self._more[reason] = Rejected(known.first, known.lines + 1, line)
        else:
            first = QuarantinedLine(self._path, line, reason, excerpt(raw), offset)
            self._more[reason] = Rejected(first, 1, line)
        return None

    def more(self) -> Iterable[Rejected]:
        """The lines that are not told one by one, by reason."""
        return self._more.values()


def together(parts: Iterable[Rejected]) -> list[Rejected]:
    """What several readings of parts of one file have rejected, as one reading of all of it would tell."""
    in_order = sorted(parts, key=lambda part: part.first.line)
    if in_order and in_order[0].first.line == 0:  # of the file itself, which each of them found broken
        in_order = [in_order[0], *(part for part in in_order if part.first.line)]
    kept: list[Rejected] = []
    more: dict[str, Rejected] = {}
    rows = 0
    for part in in_order:
        reason, known = part.first.reason, more.get(part.first.reason)
        if part.first.line == 0:
            kept.append(part)
        elif part.lines == 1 and rows < MAX_ROWS:
            rows += 1
            kept.append(part)
        elif known is None:
            more[reason] = part
        else:
            more[reason] = Rejected(known.first, known.lines + part.lines, max(known.last, part.last))
    return [*kept, *more.values()]
