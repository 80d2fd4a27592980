"""Bytes of a log to records, line by line; whatever is not a record is quarantined with its reason."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from io import BytesIO
from itertools import accumulate
from typing import Any, NamedTuple

import orjson

from .events import UNKNOWN_SIZE, InvalidEvent, Take
from .large import LARGE_BYTES, without_long_texts
from .read_report import ReadReport
from .salvage import open_depth, split_records

MAX_LINE_BYTES = 32 * 1024 * 1024
_MAX_RECORD_LINES = 10_000
_BOM = b"\xef\xbb\xbf"
_FILLING = b"\0 \t\r\v\f"
_KEPT_OF_TOO_LONG = 1024
_NO_OBJECT = "not a JSON object"


class _Line(NamedTuple):
    number: int
    offset: int
    raw: bytes


class RecordReader:
    """Takes a file's bytes in blocks of any size and hands every record to `take`.

    `take` gets one decoded JSON value, and raises InvalidEvent if it is no event. `quarantine` gets the line
    number, the byte offset, the reason, and the line (its beginning, if it is too long to be held). Lines are
    counted in `report`.

    A record is usually one line, but may span several (pretty-printed), and several may share a line. A line
    that starts with `{`, without blanks before it, always starts a record, so one that was cut off costs no
    other, and reading may begin at any such line. If there is a `prefix`, a record is what stands behind it
    on one line. Without `salvage` a line counts only if it is wholly a record.

    Memory: one line of at most 32 MiB; a longer one is quarantined without being held. Of one above 1 MiB
    texts are cut to 64 KiB before it is decoded. Of a record over several lines at most 1 MiB is held.
    """

    def __init__(
        self,
        take: Take,
        quarantine: Callable[[int, int, str, bytes], None],
        report: ReadReport,
        prefix: re.Pattern[bytes] | None = None,
        *,
        salvage: bool = True,
    ) -> None:
        self._prefix = prefix
        self._loads = orjson.loads if prefix is None else self._loads_behind_prefix
        self._salvage = salvage
        self._take = take
        self._quarantine = quarantine
        self._report = report
        self._line = 1
        self._offset = 0
        self._held = bytearray()  # of the line that is not complete yet
        self._held_bytes = 0
        self._too_long = False
        self._record: list[_Line] = []  # lines of the record that is not complete yet
        self._record_bytes = 0
        self._depth = 0

    def begin(self, line: int, offset: int) -> None:
        """The next bytes are from byte `offset` on, where line `line` begins; nothing may be incomplete."""
        self._line = line
        self._offset = offset

    @property
    def unfinished(self) -> tuple[int, int, int]:
        """The byte, and the line that begins there, from which on nothing is read; lines counted of it."""
        if self._record:
            return self._record[0].offset, self._record[0].number, len(self._record)
        return self._offset, self._line, 0

    def feed(self, block: bytes) -> None:
        """Read the next bytes."""
        lines = BytesIO(block).readlines()  # a fifth of the time of `split`
        rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        if self._held and lines:
            self._hold(lines[0][:-1])
            if self._too_long:
                self._drop_too_long()
                del lines[0]
                self._forget_held()
            elif self._held_bytes > LARGE_BYTES:
                self._read_large("")
                del lines[0]
            else:
                lines[0] = bytes(self._held) + b"\n"
                self._forget_held()
        self._read(lines)
        if rest:
            self._hold(rest)

    def end(self, reason: str) -> None:
        """No more bytes follow these; `reason` says why what is still incomplete is not read."""
        if self._too_long:
            self._drop_too_long()
        elif self._held_bytes > LARGE_BYTES:
            self._read_large(reason)
        elif self._held:
            self._read([bytes(self._held)], reason)
        self._forget_held()
        self._settle(reason)

    def _hold(self, piece: bytes) -> None:
        self._held_bytes += len(piece)
        if self._held_bytes > MAX_LINE_BYTES and not self._too_long:
            self._too_long = True
            self._held = (self._held or bytearray(piece))[:_KEPT_OF_TOO_LONG]
        if not self._too_long:
            self._held += piece

    def _forget_held(self) -> None:
        self._held = bytearray()
        self._held_bytes = 0
        self._too_long = False

    def _read_large(self, cut_off: str) -> None:
        """Read the line that is held, its long texts cut."""
        end = self._offset + self._held_bytes + 1
        short = without_long_texts(self._held)
        head = bytes(self._held[:_KEPT_OF_TOO_LONG])
        self._forget_held()
        if short is None:
            self._settle("cut off: a line that is too long follows")
            self._report.lines_in += 1
            self._reject(_Line(self._line, self._offset, head), "too large to be read")
            self._line += 1
        else:
            self._read([short], cut_off)
        self._offset = end

    def _loads_behind_prefix(self, line: bytes) -> Any:
        match = self._prefix.match(line) if self._prefix else None
        if match is None:
            raise orjson.JSONDecodeError("not behind the prefix", "", 0)
        return orjson.loads(line[match.end() :])

    def _drop_too_long(self) -> None:
        self._settle("cut off: a line that is too long follows")
        self._report.lines_in += 1
        self._reject(
            _Line(self._line, self._offset, bytes(self._held)),
            f"longer than {MAX_LINE_BYTES // 1024**2} MiB",
        )
        self._line += 1
        self._offset += self._held_bytes + 1

    def _read(self, lines: list[bytes], cut_off: str = "") -> None:
        """Read lines, each with its line feed, but for the last one of a file."""
        report = self._report
        start = 0
        while True:
            end = start if self._record else self._read_events(lines, start)
            report.lines_in += end - start
            report.lines_parsed += end - start
            self._line += end - start
            self._offset += sum(map(len, lines[start:end]))
            if end == len(lines):
                return
            line = lines[end]
            self._read_other(_Line(self._line, self._offset, line.removesuffix(b"\n")), cut_off)
            self._line += 1
            self._offset += len(line)
            start = end + 1

    def _read_events(self, lines: list[bytes], start: int) -> int:
        """Read lines that are each one event, from `start` on; the index of the first that is not."""
        loads, take = self._loads, self._take
        index = start
        try:
            for index in range(start, len(lines)):
                line = lines[index]
                take(loads(line), len(line))
        except (orjson.JSONDecodeError, InvalidEvent):
            return index
        return len(lines)

    def _read_other(self, line: _Line, cut_off: str) -> None:
        """Read a line that may be anything."""
        raw = line.raw
        if not self._record and b"{" in raw:
            try:
                self._take(self._loads(raw), len(raw))
            except InvalidEvent as error:
                self._report.lines_in += 1
                self._reject(line, str(error))
            except orjson.JSONDecodeError:
                self._read_hard(line, cut_off)
            else:
                self._report.lines_in += 1
                self._report.lines_parsed += 1
        elif self._record or self._prefix or raw[:1] <= b" " or raw[:1] > b"~":
            self._read_hard(line, cut_off)
        else:  # what the other way comes to, for millions of lines of rubbish
            self._report.lines_in += 1
            self._reject(line, _NO_OBJECT)

    def _read_hard(self, line: _Line, cut_off: str) -> None:
        """A line that is not exactly one JSON value, or may belong to a record begun on an earlier line."""
        body = line.raw.strip(_FILLING)
        if body.startswith(_BOM):
            body = body[len(_BOM) :].lstrip(_FILLING)
        if not body:
            if b"\0" in line.raw:
                self._report.lines_in += 1
                self._reject(line, "nothing but NUL bytes")
            return
        if self._prefix is not None or not self._salvage:
            self._report.lines_in += 1
            self._read_alone(line, cut_off)
            return
        if not self._record and b"{" not in body:
            self._report.lines_in += 1
            self._reject(line, _NO_OBJECT)
            return
        if self._record and body.startswith(b"{") and not line.raw[:1].isspace():
            self._settle("cut off: the next record starts before this one ends")
        self._report.lines_in += 1
        self._record.append(line)
        self._record_bytes += len(body)
        depth = open_depth(body)
        self._depth += depth or 0
        if depth is None:
            self._settle(cut_off)
        elif self._depth <= 0:
            self._settle("")
        elif len(self._record) > _MAX_RECORD_LINES or self._record_bytes > LARGE_BYTES:
            self._settle("a record over too many lines")

    def _read_alone(self, line: _Line, cut_off: str) -> None:
        """A line that should be exactly one JSON value, perhaps behind the prefix, and is not."""
        match = self._prefix.match(line.raw) if self._prefix else None
        reason = _NO_OBJECT if self._prefix is None else "does not begin like the lines of this log"
        if match is not None:
            piece = next(split_records(line.raw[match.end() :].decode("utf-8", "replace")))
            reason = piece.reason and (cut_off or piece.reason)
            if piece.record is not None:
                try:
                    self._take(piece.record, UNKNOWN_SIZE)
                except InvalidEvent as error:
                    reason = str(error)
        if reason:
            self._reject(line, reason)
        else:
            self._report.lines_parsed += 1

    def _settle(self, incomplete: str) -> None:
        """Read the lines held as one record; `incomplete` is the reason if that cannot be all of it."""
        lines, self._record = self._record, []
        self._record_bytes = self._depth = 0
        if not lines:
            return
        if not any(b"}" in line.raw for line in lines):  # no object ends here
            for line in lines:
                self._reject(line, incomplete or "not JSON: cut off")
            return
        texts = [line.raw.decode("utf-8", "replace") for line in lines]
        starts = list(accumulate((len(text) + 1 for text in texts), initial=0))
        faults: dict[int, str] = {}
        for piece in split_records("\n".join(texts)):
            reason = piece.reason
            if piece.record is not None:
                try:
                    self._take(piece.record, UNKNOWN_SIZE)
                    continue
                except InvalidEvent as error:
                    reason = str(error)
            elif incomplete:
                reason = incomplete
            first, last = bisect_right(starts, piece.start) - 1, bisect_right(starts, piece.end - 1) - 1
            for index in range(first, last + 1):
                faults.setdefault(index, reason)
        for index, line in enumerate(lines):
            if index in faults:
                self._reject(line, faults[index])
            else:
                self._report.lines_parsed += 1

    def _reject(self, line: _Line, reason: str) -> None:
        self._report.lines_quarantined += 1
        self._quarantine(line.number, line.offset, reason, line.raw)
