"""Sets that cost little while they are small, as nearly all of a session's are."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import TypeVar

_PLAIN_MARKS = 256
_PLAIN_VALUES = 16
_MARK_BYTES = 8
_mark = Struct("<q").pack
_BUCKET_BITS = 0xFFF

MarkSet = bytes | dict[int, bytes]
"""A set of 64-bit numbers: 8 bytes each, one after the other; if many, in buckets by their lowest bits."""

Value = TypeVar("Value", str, bytes)
ValueSet = tuple[Value, ...] | set[Value]
"""A set of strings, a tuple while it is small."""


def with_mark(marks: MarkSet, number: int) -> MarkSet | None:
    """`marks` (which may be changed) with `number`, a signed 64-bit integer; None if it is in it already."""
    mark = _mark(number)
    if isinstance(marks, bytes):
        if mark in marks and _holds(marks, mark):
            return None
        if len(marks) < _PLAIN_MARKS * _MARK_BYTES:
            return marks + mark
        buckets: dict[int, bytes] = {}
        for at in range(0, len(marks), _MARK_BYTES):
            known = marks[at : at + _MARK_BYTES]
            key = int.from_bytes(known, "little") & _BUCKET_BITS
            buckets[key] = buckets.get(key, b"") + known
        marks = buckets
    key = number & _BUCKET_BITS
    bucket = marks.get(key, b"")
    if _holds(bucket, mark):
        return None
    marks[key] = bucket + mark
    return marks


def with_new_mark(marks: MarkSet, number: int) -> MarkSet:
    """`marks` (which may be changed) with a `number` that is not in it yet."""
    if isinstance(marks, bytes) and len(marks) < _PLAIN_MARKS * _MARK_BYTES:
        return marks + _mark(number)
    return with_mark(marks, number) or marks


def value_set(values: Iterable[Value]) -> ValueSet[Value]:
    """The values, which are distinct, as `with_value` keeps them."""
    kept = tuple(values)
    return kept if len(kept) <= _PLAIN_VALUES else set(kept)


def with_value(values: ValueSet[Value], value: Value, limit: int) -> ValueSet[Value]:
    """`values` (which may be changed) with `value`; far beyond `limit`, only the `limit` smallest are kept.

    So `smallest(..., limit)` of the result does not depend on the order in which values came.
    """
    if value in values:
        return values
    if isinstance(values, tuple):
        if len(values) < _PLAIN_VALUES:
            return (*values, value)
        values = set(values)
    values.add(value)
    return set(smallest(values, limit)) if len(values) > 2 * limit else values


def smallest(values: ValueSet[Value], limit: int) -> tuple[Value, ...]:
    """The first `limit` values in sorted order."""
    return tuple(sorted(values)[:limit])


def _holds(marks: bytes, mark: bytes) -> bool:
    at = marks.find(mark)
    while at % _MARK_BYTES and at >= 0:
        at = marks.find(mark, at + 1)
    return at >= 0
