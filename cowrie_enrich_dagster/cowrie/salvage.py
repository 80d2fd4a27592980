"""JSON objects out of text that is not simply one object."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from .fields import without_surrogates
from .large import masked

_FILLING = " \t\r\n\0\ufeff"
_SEPARATORS = re.compile(f"[{_FILLING}]*")
_OBJECT_START = re.compile(r'\{\s*"')
_MAX_RESTARTS = 16
_TOKENS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*("?)|([{\[])|[}\]]', re.DOTALL)
_STRUCTURE = re.compile(rb'"[^"]*"|["{}\[\]]')
_FIRST_WINDOW = 4096
_TRIED_ENDS = 4
_DECODER = json.JSONDecoder()


class Piece(NamedTuple):
    """A stretch `text[start:end]`: either an object (`record`), or not readable for `reason`."""

    start: int
    end: int
    record: dict[str, Any] | None
    reason: str


def split_records(text: str) -> Iterator[Piece]:
    """Everything in `text` but blanks, NULs and byte order marks: the objects, and what lies between them.

    After something unreadable it goes on at the next `{"`, so that a record which follows a half-written one
    is found; it gives up after 16 such restarts, which bounds the time spent on hostile text. Lone surrogates
    become U+FFFD. Never raises.
    """
    position = _skip(text, 0)
    restarts = 0
    while position < len(text):
        record, end, reason = _object_at(text, position)
        if record is None:
            restarts += 1
            start = _OBJECT_START.search(text, max(end, position + 1)) if restarts <= _MAX_RESTARTS else None
            end = start.start() if start else len(text)
            end = position + len(text[position:end].rstrip(_FILLING))
        yield Piece(position, end, record, reason)
        position = _skip(text, end)


def open_depth(line: bytes) -> int | None:
    """How many more `{` and `[` the line opens than it closes; None if it ends within a string."""
    depth = 0
    for token in _TOKENS.finditer(line):
        if token[2]:
            depth += 1
        elif token[1] is None:
            depth -= 1
        elif not token[1]:
            return None
    return depth


def end_of_object(buffer: bytearray, start: int, stop: int) -> int:
    """Where the object ends that begins at `start`, or -1 if that is not before `stop`."""
    end = start
    for _ in range(_TRIED_ENDS):  # most events hold few other objects and braces
        end = buffer.find(b"}", end, min(start + _FIRST_WINDOW, stop)) + 1
        if not end:
            break
        try:
            orjson.loads(memoryview(buffer)[start:end])
        except orjson.JSONDecodeError:
            continue
        return end
    window = _FIRST_WINDOW
    while True:
        until = min(start + window, stop)
        depth = 0
        for token in _STRUCTURE.finditer(masked(buffer[start:until])):
            mark = token[0]
            if mark in b"{[":
                depth += 1
            elif mark in b"}]":
                depth -= 1
                if not depth:
                    return start + token.end()
            elif mark == b'"':
                break  # a text that goes on
        if until == stop:
            return -1
        window *= 8


def _skip(text: str, position: int) -> int:
    match = _SEPARATORS.match(text, position)
    return match.end() if match else position


def _object_at(text: str, position: int) -> tuple[dict[str, Any] | None, int, str]:
    """The object that begins at `position`, and its end; or None, and the earliest place to look further."""
    if text[position] != "{":
        return None, position, "not a JSON object"
    try:
        value, end = _DECODER.raw_decode(text, position)
    except (ValueError, RecursionError) as error:
        return None, position, _reason(error)
    try:
        try:
            return orjson.loads(text[position:end]), end, ""
        except orjson.JSONDecodeError:
            # A lone surrogate is valid JSON by its grammar, and attackers can send one: not a way to hide.
            plain = json.dumps(value, ensure_ascii=False, allow_nan=False)
            return orjson.loads(without_surrogates(plain)), end, ""
    except (ValueError, RecursionError) as error:
        return None, end, _reason(error)


def _reason(error: Exception) -> str:
    # Which of the two decoders gives up first, and where, differs between versions of Python.
    if isinstance(error, RecursionError) or "depth limit" in str(error):
        return "nested too deep"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg}"
    return "not JSON: a number out of range"
