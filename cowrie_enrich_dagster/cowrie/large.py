"""Records of many megabytes, made small before they are decoded: that can take thirty times their size."""

from __future__ import annotations

import re
from hashlib import blake2b

LARGE_BYTES = 1024 * 1024
"""What is longer is not decoded as it is."""
_KEPT_OF_A_TEXT = 64 * 1024
_MAX_TEXTS = 50_000
_UNITS = re.compile(rb"[^\\]+|\\u[0-9a-fA-F]{4}|\\.", re.DOTALL)


def masked(raw: bytes | bytearray) -> bytes | bytearray:
    """JSON of the same length in which every `"` begins or ends a text: what is escaped is made `__`."""
    return raw.replace(b"\\\\", b"__").replace(b'\\"', b"__")


def without_long_texts(raw: bytes | bytearray) -> bytes | None:
    """The record with all texts above 64 KiB cut; None if it is longer than 1 MiB even so.

    What was cut off leaves its hash, so that two records which differ there go on being two.
    """
    marks = masked(raw)
    pieces: list[bytes] = []
    size = done = position = 0
    for _ in range(_MAX_TEXTS):
        start = marks.find(b'"', position) + 1
        if not start:
            break
        end = marks.find(b'"', start)
        if end < 0:
            end = len(marks)
        position = end + 1
        if end - start > _KEPT_OF_A_TEXT:
            kept = _end_of_units(raw, start)
            lost = blake2b(memoryview(raw)[kept:end], digest_size=16).hexdigest()
            pieces += [bytes(memoryview(raw)[done:kept]), b"...", lost.encode()]
            size += kept - done
            done = end
            if size > LARGE_BYTES:
                return None
    if size + len(raw) - done > LARGE_BYTES:
        return None
    return b"".join([*pieces, bytes(memoryview(raw)[done:])])


def _end_of_units(raw: bytes | bytearray, start: int) -> int:
    """Where to cut a text of which about 64 KiB stay: not inside an escape or a character."""
    end = start
    for unit in _UNITS.finditer(raw, start, start + _KEPT_OF_A_TEXT):
        end = unit.end()
    while end > start and raw[end] & 0xC0 == 0x80:
        end -= 1
    return end
