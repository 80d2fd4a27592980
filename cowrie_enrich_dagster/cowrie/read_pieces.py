"""Log files in, pieces of sessions out, day by day."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, MutableMapping
from datetime import date
from pathlib import Path
from typing import Any

from cowrie_enrich_dagster.vocabulary import Days

from .file_index import index_files
from .processes import read_by_processes
from .quarantine import Rejected
from .read_days import DayOfPieces, read_days
from .read_report import QuarantinedLine, ReadReport, passed_over
from .shares import shares


class PieceStream(Iterator[DayOfPieces]):
    """Every day of a reading, also those without any; `report` is final after the last."""

    def __init__(self, days: Generator[DayOfPieces, None, None], report: ReadReport) -> None:
        self._days = days
        self.report = report

    def __next__(self) -> DayOfPieces:
        return next(self._days)

    def close(self) -> None:
        """Read no further: processes that read are ended, files closed."""
        self._days.close()


def read_pieces(
    root: Path,
    first_day: date,
    last_day: date,
    *,
    index_cache: MutableMapping[str, dict[str, Any]] | None = None,
    on_quarantine: Callable[[QuarantinedLine], None] | None = None,
    workers: int = 1,
) -> PieceStream:
    """Read what the logs under `root` hold of sessions on the UTC days `first_day` to `last_day`.

    Only what may hold events of these days is read, each byte once; a day's pieces come as soon as all there
    is of that day is read, so memory holds the sessions of about two days, however large the files are.
    `index_cache` is as for `index_files`. `on_quarantine` gets each line that could not be read, and each
    file that is broken (as its line 0).

    With several `workers` so many processes read, where there is enough to read that it pays; then the days
    come in any order.

    Raises FileNotFoundError if `root` is not a folder and ValueError if the days are the wrong way round, but
    nothing for what the files are or hold. With several workers the stream raises ReadingFailed; with one the
    same can be read.
    """
    if first_day > last_day:
        raise ValueError(f"the first day, {first_day}, is after the last, {last_day}")
    days, report = Days(first_day, last_day), ReadReport()
    indexes = index_files(root, index_cache)
    logs = {file: index for file, index in indexes.items() if index.passed_over is None}
    report.files_found = len(logs)
    report.passed_over = passed_over(
        (file.name, index.passed_over) for file, index in indexes.items() if index.passed_over is not None
    )

    def reject(rejected: Rejected) -> None:
        if on_quarantine is not None:
            on_quarantine(rejected.told())

    stretches = shares(logs.values(), days, workers)
    if len(stretches) == 1:
        return PieceStream(read_days(logs, days, reject, report), report)
    return PieceStream(read_by_processes(logs, stretches, workers, reject, report), report)
