"""What is written of many logs, as one digest each: a change that only makes reading cheaper changes none.

Written by `python -m tests.rows` to `tests/data/rows.json`, which says what the tables held when each
log there was last read as it should be; tests/integration/enrichment/test_rows_stay.py compares.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import cache
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any

import orjson
from sqlalchemy import select, text

from benchmarks.generate import generate
from cowrie_enrich_dagster.enrichment.ingest import IngestReport, ingest_days, log_days
from cowrie_enrich_dagster.storage import tables
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import upgrade
from cowrie_enrich_dagster.vocabulary import Days
from tests.fuzz.catalogue import ALL
from tests.integration.enrichment.test_independent_count import WRAPPINGS, files_of
from tests.integration.enrichment.test_sessions import log_of
from tests.unit.cowrie.logs import SAMPLES

GOLDEN = Path(__file__).parent / "data" / "rows.json"
CASES = SAMPLES.parent / "cases" / "logs"
_MOST_DAYS = 366
_NESTED = re.compile(rb'(?:\[|\{\s*"[^"]{0,9}"\s*:\s*){90,}')
_TABLES = (tables.SessionRecord, tables.SessionPiece, tables.QuarantinedLine, tables.LogFile)
_OF_A_FILE = ("size", "length", "segments", "fault", "resume", "head", "form", "passed_over", "complete")
_COUNTS = (
    *("files_found", "files", "files_broken", "bytes", "lines_in", "lines_parsed", "lines_quarantined"),
    *("events", "duplicate_events", "events_of_other_days"),
)
Write = Callable[[Path], None]


def inputs() -> dict[str, Write]:
    """Name -> what writes the logs into a folder."""
    return dict(
        [
            ("samples", lambda folder: _copy(SAMPLES, folder)),
            *_cases(),
            *_generated(),
            *((f"ids used again {seed}", _again(seed)) for seed in range(6)),
            *_fuzzed(),
        ]
    )


def _copy(source: Path, folder: Path) -> None:
    shutil.copytree(source, folder, dirs_exist_ok=True)


def _file(content: bytes, name: str) -> Write:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return write


def _cases() -> Iterator[tuple[str, Write]]:
    for path in sorted(CASES.rglob("*")):
        if path.is_file():
            yield f"case {path.name}", _file(path.read_bytes(), path.name)
    yield "cases together", lambda folder: _copy(CASES, folder)


@cache
def _lines() -> dict[Path, list[bytes]]:
    """Generated logs by their paths; what wraps them leaves the lists as they are."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), sessions=1500, days=5, sensors=3, ips=200, seed=7)
        return files_of(Path(folder))


def _generated() -> Iterator[tuple[str, Write]]:
    def wrapped(wrap: Callable[[list[bytes]], bytes]) -> Write:
        def write(folder: Path) -> None:
            for path, lines in _lines().items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(wrap(lines))

        return write

    for name, wrap in WRAPPINGS.items():
        yield f"generated, {name}", wrapped(wrap)


def _again(seed: int) -> Write:
    """Each day in a file and all days in another, out of order: ids used again, and every event twice."""

    def write(folder: Path) -> None:
        rng = Random(seed)
        days = log_of(rng)
        for day, lines in days.items():
            (folder / f"cowrie.json.{day}").write_bytes(b"".join(lines))
        everything = [one for lines in days.values() for one in lines]
        (folder / "cowrie.json").write_bytes(b"".join(rng.sample(everything, len(everything) // 2)))

    return write


def _fuzzed() -> Iterator[tuple[str, Write]]:
    corpus = ALL["log_file"].corpus_files()
    for name, target in ALL.items():
        if target.corpus != "log":
            continue
        seeds = target.seeds()
        suffix = {"log_gzip": ".gz", "log_xz": ".xz", "log_zstd": ".zst", "log_bzip2": ".bz2"}.get(name, "")
        for number in range(4):
            content = target.input(3, number, seeds)
            if not suffix:  # how deep JSON may be nested depends on how deep the calls are that decode it
                content = _NESTED.sub(b"[[[[", content)
            yield f"{name} {number}", _file(content, f"cowrie.json{'.1' * bool(suffix)}{suffix}")
    for path in corpus:
        yield f"corpus {path.name}", _file(path.read_bytes(), "cowrie.json")

    def all_of_it(folder: Path) -> None:
        for number, path in enumerate(corpus):
            (folder / f"s{number % 3}").mkdir(exist_ok=True)
            (folder / f"s{number % 3}" / f"cowrie.json.{number}").write_bytes(path.read_bytes())

    yield "corpus together", all_of_it


def days_of(database: Database, folder: Path) -> Days:
    """The days that the logs in the folder have, of a year at most."""
    found = [day for day in log_days(database, folder).days if day >= date(2015, 1, 1)]
    first = min(found, default=date(2025, 11, 1))
    return Days(first, min(max(found, default=first), first + timedelta(days=_MOST_DAYS)))


def told(database: Database, report: IngestReport) -> dict[str, Any]:
    """The rows that stand in the database, and what the reading counted."""
    found: dict[str, Any] = {}
    with database.read() as connection:
        for model in _TABLES:
            table = tables.table_of(model)
            rows = [dict(row) for row in connection.execute(select(table)).mappings()]
            for row in rows:
                row.pop("id", None)
                if "file_index" in row:
                    row["file_index"] = {name: row["file_index"][name] for name in _OF_A_FILE}
            found[str(table.name)] = sorted(_text(row) for row in rows)
            if database.is_sqlite and table.name.startswith("session"):  # byte for byte
                raw = connection.execute(text(f"SELECT * FROM {table.name}"))
                found[f"{table.name}, raw"] = sorted(repr(tuple(row)) for row in raw)
    read = report.read
    found["counts"] = _text({name: getattr(read, name) for name in _COUNTS})
    found["passed over"] = _text([list(passed) for passed in read.passed_over])
    found["days"] = _text(
        [
            sorted((str(day), n) for day, n in report.sessions_by_day.items()),
            sorted((str(day), n.pieces, n.events) for day, n in read.days.items() if n.pieces or n.events),
            report.kept_days,
            report.moved_days,
        ]
    )
    found["ranges"] = _text(sorted(map(str, read.ranges)))
    return found


def _text(value: Any) -> str:
    return orjson.dumps(value, default=str, option=orjson.OPT_SORT_KEYS).decode()


def digest(found: dict[str, Any]) -> str:
    """Of what both engines hold alike."""
    alike = {name: value for name, value in found.items() if not name.endswith(", raw")}
    return blake2b(orjson.dumps(alike), digest_size=8).hexdigest()


def digest_of_bytes(found: dict[str, Any]) -> str:
    """Of the very bytes that SQLite holds."""
    raw = {name: value for name, value in found.items() if name.endswith(", raw")}
    return blake2b(orjson.dumps(raw), digest_size=8).hexdigest()


def emptied(database: Database) -> None:
    """No row is left of an earlier reading."""
    with database.write() as connection:
        for name in (
            *(tables.table_of(model).name for model in _TABLES),
            *("moved_days", "days_without_campaigns", "day_readings"),
        ):
            connection.execute(text(f"DELETE FROM {name}"))


def main() -> None:
    """Read every input with the code as it is, and write down what it gave."""
    golden = {}
    with tempfile.TemporaryDirectory() as home:
        database = Database(f"sqlite:///{home}/rows.db")
        upgrade(database)
        for name, write in inputs().items():
            with tempfile.TemporaryDirectory() as folder:
                write(Path(folder))
                emptied(database)
                report = ingest_days(database, Path(folder), days_of(database, Path(folder)))
                found = told(database, report)
                golden[name] = [digest(found), digest_of_bytes(found)]
        database.close()
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
