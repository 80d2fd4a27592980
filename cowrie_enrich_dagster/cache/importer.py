"""Moving what the reference implementation kept into the database, ages kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cowrie_enrich_dagster.cache.database_tier import DatabaseCache
from cowrie_enrich_dagster.cache.entry import CacheEntry
from cowrie_enrich_dagster.cache.filesystem_tier import FilesystemCache, ScannedFile
from cowrie_enrich_dagster.cache.tiers import newest
from cowrie_enrich_dagster.storage.chunks import chunks
from cowrie_enrich_dagster.vocabulary import Clock, utc_now


@dataclass
class ImportReport:
    """What became of each of the `files` (or rows of a table): the five outcomes add up to it.

    `already_there`: the database holds this answer or a newer one. `key_lost`: good answers whose key cannot
    be told from a hashed path; a lookup by key still finds them where they are. `bad`: path and reason.
    """

    files: int = 0
    imported: int = 0
    already_there: int = 0
    expired: int = 0
    key_lost: list[str] = field(default_factory=list)
    bad: list[tuple[str, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "files": self.files,
            "imported": self.imported,
            "already_there": self.already_there,
            "expired": self.expired,
            "key_lost": self.key_lost,
            "bad": [{"path": path, "reason": reason} for path, reason in self.bad],
        }


def import_directory(
    source: FilesystemCache,
    database: DatabaseCache,
    *,
    progress: Callable[[ImportReport], None] | None = None,
    batch: int = 1_000,
    clock: Clock = utc_now,
) -> ImportReport:
    """Import every unexpired answer of a filesystem cache; `progress` is called after each `batch` of files.

    `fetched_at` is the file's mtime, or what the file itself says if that is earlier: nothing lives longer
    for having been moved. Each batch is one transaction: after an interruption, a second call goes on where
    the first one ended. The files stay. Raises `FileNotFoundError` or `NotADirectoryError` where there is no
    folder.
    """
    report = ImportReport()
    for files in chunks(source.scan(), batch):
        _import(files, database, report, clock)
        if progress:
            progress(report)
    return report


def import_records(
    records: Iterable[ScannedFile],
    database: DatabaseCache,
    *,
    batch: int = 1_000,
    clock: Clock = utc_now,
) -> ImportReport:
    """Import every unexpired answer among records, as `import_directory` does."""
    report = ImportReport()
    for some in chunks(records, batch):
        _import(some, database, report, clock)
    return report


def _import(
    files: Iterable[ScannedFile], database: DatabaseCache, report: ImportReport, clock: Clock
) -> None:
    fresh: dict[str, list[CacheEntry]] = defaultdict(list)
    for file in files:
        report.files += 1
        if file.key_lost:
            report.key_lost.append(_printable(file.path))
        elif file.entry is None:
            report.bad.append((_printable(file.path), file.problem))
        elif not file.entry.is_fresh(clock()):
            report.expired += 1
        else:
            fresh[file.entry.service].append(file.entry)
    for service, entries in fresh.items():
        held = database.fetched_at(service, [entry.key for entry in entries])
        newer = [
            entry for entry in newest(entries) if entry.key not in held or entry.fetched_at > held[entry.key]
        ]
        imported = database.set_many(newer)
        report.imported += imported
        report.already_there += len(entries) - imported


def _printable(path: Path) -> str:
    text = str(path)
    return text if text.isprintable() else text.encode("unicode_escape").decode()
