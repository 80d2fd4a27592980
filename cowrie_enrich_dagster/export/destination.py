"""Where an export goes: a file that appears whole or not at all, or stdout."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from cowrie_enrich_dagster.terminal import VisibleStream


@contextmanager
def opened(destination: Path | None) -> Iterator[IO[bytes]]:
    """A binary stream to `destination`, else to stdout (on a terminal: see `terminal`).

    The file is written under another name in the same folder and renamed at the end, so a reader never sees
    half of it; when the block raises, it is removed and what was there before stays.
    """
    if destination is None:
        if sys.stdout.isatty():
            with VisibleStream(sys.stdout.buffer) as shown:
                yield cast(IO[bytes], shown)
        else:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        return
    partial = destination.with_name(f".{destination.name}.{uuid.uuid4().hex}.part")
    try:
        with partial.open("xb") as raw:
            yield raw
            raw.flush()
            os.fsync(raw.fileno())
        partial.replace(destination)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
