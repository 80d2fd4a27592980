"""How many cores this process may use."""

from __future__ import annotations

import os
from math import ceil
from pathlib import Path

_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(limit: Path = _LIMIT) -> int:
    """The cores that this process may run on, or that the limit of its container is worth, if that is less.

    `limit` is cgroup v2's `cpu.max`: microseconds in so many, or `max`.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        cores = os.cpu_count() or 1
    try:
        quota, period = map(int, limit.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return cores
    return max(1, min(cores, ceil(quota / period)))
