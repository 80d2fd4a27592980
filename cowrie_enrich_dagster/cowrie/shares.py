"""Days of logs parted into stretches that can be read apart, by several processes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from datetime import date, timedelta

from cowrie_enrich_dagster.vocabulary import Days

from .file_index import FileIndex

LEAST_BYTES = 16 * 1024 * 1024
"""A process takes as long to start as one reads about a fifth of this."""
_SHARES_PER_WORKER = 8
"""The fewer, the longer the others wait for the last one."""


def is_enough(size: int, workers: int) -> bool:
    """Whether so many bytes are worth the start of that many processes."""
    return workers > 1 and size >= 2 * LEAST_BYTES


def shares(indexes: Collection[FileIndex], days: Days, workers: int) -> list[Days]:
    """The days, all of them, as stretches to be read apart by that many processes; one if it is not worth it.

    No two share a byte of a file that holds dates: it is cut only where no record, and no stretch of a file
    in which days alternate, belongs to both sides. What a packed file holds before a cut has to be unpacked
    for both, so it is not cut where that would be more than a share.
    """
    sizes, joined, unpacked = _weigh(indexes, days)
    total = sum(sizes.values())
    if not is_enough(total, workers):
        return [days]
    enough = max(LEAST_BYTES, total / (workers * _SHARES_PER_WORKER))
    found, first, size = [], days.first, 0
    for day in sorted(sizes):
        size += sizes[day]
        if size < enough or day in joined or unpacked[day] > enough or day >= days.last:
            continue
        found.append(Days(first, day))
        first, size = day + timedelta(days=1), 0
    return [*found, Days(first, days.last)]


def _weigh(indexes: Collection[FileIndex], days: Days) -> tuple[dict[date, int], set[date], dict[date, int]]:
    """Of each day: how many bytes begin with it; whether some are of the next one, too; what a cut after it
    costs, in bytes to be unpacked again."""
    sizes, unpacked = defaultdict[date, int](int), defaultdict[date, int](int)
    joined = set[date]()
    for index in indexes:
        if not index.segments:
            sizes[days.first] += index.length
        ends = [*(segment.offset for segment in index.segments[1:]), index.length]
        is_packed = index.length != index.size
        before: date | None = None
        for segment, end in zip(index.segments, ends, strict=bool(index.segments)):
            first, last = max(segment.first_day, days.first), min(segment.last_day, days.last)
            if first > last:
                continue
            sizes[first] += end - segment.offset
            joined.update(Days(first, last - timedelta(days=1)) if first < last else ())
            if is_packed and before is not None and before < first:
                for day in Days(before, first - timedelta(days=1)):
                    unpacked[day] += segment.offset
            before = first if before is None else max(before, first)
    return sizes, joined, unpacked
