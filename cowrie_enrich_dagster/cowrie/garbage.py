"""Python's search for cyclic garbage, while there is none to be found."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_OBJECTS_BETWEEN_COLLECTIONS = 70_000


@contextmanager
def few_collections() -> Iterator[None]:
    """Let Python look for cyclic garbage a hundred times less often: pieces of sessions are none.

    They come by the ten thousand, and each look walks through all that came since the last one, or through
    everything that the process has in memory.
    """
    usual = gc.get_threshold()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)
