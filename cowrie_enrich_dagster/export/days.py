"""Exporting a range of days in one of the formats."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from pathlib import Path

from cowrie_enrich_dagster.export.destination import opened
from cowrie_enrich_dagster.export.fields import Wanted
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.vocabulary import Days

EVERYDAY = Wanted()


class ExportFormat(str, Enum):
    """What can be written. `JSON` is one document a line; every format but `PARQUET` is text in UTF-8."""

    PARQUET = "parquet"
    CSV = "csv"
    JSON = "json"
    STIX = "stix"
    BLOCKLIST = "blocklist"

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True)
class ExportReport:
    """What was written: `rows` sessions (or sightings, addresses), where, and the bytes (None: stdout)."""

    rows: int
    path: Path | None
    size: int | None


def export_days(
    database: Database,
    days: Days,
    file_format: ExportFormat,
    destination: Path | None,
    wanted: Wanted = EVERYDAY,
) -> ExportReport:
    """Write the enriched sessions of `days`, all of one moment, in no promised order.

    A file appears whole or not at all, and replaces what was there; its folder must exist. Memory does not
    grow with the sessions (STIX and blocklist: with the addresses only). Passwords and whole answers are in
    it where they are `wanted`, but never in STIX and blocklist. Raises `ValueError` for Parquet without a
    destination, `OSError` where the file cannot be written.
    """
    if destination is None and file_format is ExportFormat.PARQUET:
        raise ValueError("parquet is not text: name a file to write it to")
    # Only the one that is needed: pyarrow and stix2 take a second to load.
    writer = import_module(f"{__package__}.as_{file_format.value}")
    with opened(destination) as stream:
        rows = writer.write(database, days, stream, wanted)
    return ExportReport(rows, destination, destination.stat().st_size if destination else None)
