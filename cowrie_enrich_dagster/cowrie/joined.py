"""Bytes of a log whose records are joined, in a JSON array or one behind the other on a line, to records."""

from __future__ import annotations

import re
from collections.abc import Callable

import orjson

from .events import UNKNOWN_SIZE, InvalidEvent, Take
from .large import LARGE_BYTES, without_long_texts
from .read_report import ReadReport
from .salvage import end_of_object, split_records

MAX_RECORD_BYTES = 4 * 1024 * 1024
_BETWEEN = re.compile(rb"[\s\0,\[\]]*(?:\xef\xbb\xbf[\s\0,\[\]]*)*")
_VISIBLE = re.compile(rb"[^\s\0]")
_OBJECT_OR_LINE = re.compile(rb'(?=\{\s*")|\n')
_LINE = re.compile(rb"\n")
_BRACE = ord("{")
_KEPT_OF_A_LINE = 1024
_KEPT_OF_RUBBISH = 64  # longer than what it ends with: a line's end and the beginning of a record
_MAX_RESTARTS = 16


class JoinedReader:
    """Like `RecordReader`, for records that need not begin a line; blanks, commas and `[` `]` part them.

    A line that holds anything unreadable is quarantined, and what else it holds is used. A line that begins
    with `start` begins a record, whatever was before; if `start` is empty no line need, and after something
    unreadable reading goes on at the next `{"`, at most 16 times on a line. Memory: one record, at most
    4 MiB; a longer one is quarantined.
    """

    def __init__(
        self,
        take: Take,
        quarantine: Callable[[int, int, str, bytes], None],
        report: ReadReport,
        start: bytes,
    ) -> None:
        self._take = take
        self._quarantine = quarantine
        self._report = report
        self._start = b"\n" + start if start else b""
        self._restart = re.compile(rb"\n(?=" + re.escape(start) + rb")") if start else _OBJECT_OR_LINE
        self._buffer = bytearray()
        self._enough = 0  # the buffer is looked at again when it holds so many bytes
        self._rubbish = ""  # why what comes is passed over, up to the next start of a record
        self.begin(1, 0)

    def begin(self, line: int, offset: int) -> None:
        """The next bytes are from byte `offset` on, where line `line` begins; nothing may be incomplete."""
        self._offset = offset  # of the buffer's first byte
        self._line = line
        self._line_offset = offset
        self._head = b""  # the first bytes of the line
        self._is_blank = True
        self._reason = ""  # why the line is quarantined
        self._restarts = 0  # on the line

    def feed(self, block: bytes) -> None:
        """Read the next bytes."""
        self._buffer += block
        if len(self._buffer) >= self._enough:
            self._read("")

    def end(self, reason: str) -> None:
        """No more bytes follow these; `reason` says why what is still incomplete is not read."""
        self._read(reason)
        self._rubbish = ""
        if not self._is_blank:
            self._end_line(self._offset)

    def _read(self, cut_off: str) -> None:
        """Read what is complete in the buffer; all of it, if `cut_off` says why the rest never will be."""
        buffer = self._buffer
        position = 0
        while position < len(buffer):
            if self._rubbish:
                position = self._pass_rubbish(position, at_end=bool(cut_off))
                if self._rubbish:
                    break
            match = _BETWEEN.match(buffer, position)
            if match is not None:
                self._pass(position, match.end())
                position = match.end()
            if position == len(buffer):
                break
            following = buffer.find(self._start, position) if self._start else -1
            stop = following if following >= 0 else len(buffer)
            is_object = buffer[position] == _BRACE
            end = end_of_object(buffer, position, stop) if is_object else -1
            if end > 0:
                self._pass(position, end, self._use(buffer[position:end]))
                position = end
            elif is_object and following >= 0:
                self._pass(position, following + 1, "cut off: the next record starts before this one ends")
                position = following + 1
            elif not is_object or cut_off or len(buffer) - position > MAX_RECORD_BYTES:
                self._rubbish = cut_off if is_object and cut_off else "not a JSON object"
                if len(buffer) - position > MAX_RECORD_BYTES:
                    self._rubbish = f"longer than {MAX_RECORD_BYTES // 1024**2} MiB"
                self._pass(position, position + 1, self._rubbish)
                position += 1
            else:
                break
        self._offset += position
        del buffer[:position]
        self._enough = 2 * len(buffer)

    def _pass_rubbish(self, position: int, *, at_end: bool) -> int:
        restart = self._restart if self._restarts < _MAX_RESTARTS else _LINE
        match = restart.search(self._buffer, position)
        if match is not None:
            end = match.end()
        else:
            end = len(self._buffer) if at_end else max(position, len(self._buffer) - _KEPT_OF_RUBBISH)
        self._pass(position, end, self._rubbish)
        if match is not None:
            self._rubbish = ""
            self._restarts += 1
        return end

    def _use(self, raw: bytearray) -> str:
        """Hand one object on; why it could not be, or nothing."""
        short = bytes(raw) if len(raw) <= LARGE_BYTES else without_long_texts(raw)
        if short is None:
            return "too large to be read"
        size = len(short)
        try:
            record = orjson.loads(short)
        except orjson.JSONDecodeError:
            piece = next(split_records(short.decode("utf-8", "replace")))
            if piece.record is None:
                return piece.reason
            record, size = piece.record, UNKNOWN_SIZE
        try:
            self._take(record, size)
        except InvalidEvent as error:
            return str(error)
        return ""

    def _pass(self, start: int, end: int, reason: str = "") -> None:
        """Count the lines of what was read or passed over; `reason` if it was not readable."""
        buffer = self._buffer
        while (newline := buffer.find(b"\n", start, end)) >= 0:
            self._add(start, newline, reason)
            self._end_line(self._offset + newline + 1)
            start = newline + 1
        self._add(start, end, reason)

    def _add(self, start: int, end: int, reason: str) -> None:
        if len(self._head) < _KEPT_OF_A_LINE:
            self._head += self._buffer[start : min(end, start + _KEPT_OF_A_LINE)]
        if (self._is_blank or (reason and not self._reason)) and _VISIBLE.search(self._buffer, start, end):
            self._is_blank = False
            self._reason = self._reason or reason

    def _end_line(self, following: int) -> None:
        if not self._is_blank:
            self._report.lines_in += 1
            if self._reason:
                self._report.lines_quarantined += 1
                self._quarantine(self._line, self._line_offset, self._reason, self._head)
            else:
                self._report.lines_parsed += 1
        self._line += 1
        self._line_offset = following
        self._head, self._is_blank, self._reason, self._restarts = b"", True, "", 0
