"""What a run tells of the log folder: files passed over, days without logs, sensors behind NAT, rubbish."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.enrichment.doctor import examine
from cowrie_enrich_dagster.storage.tables import QuarantinedLine, table_of
from cowrie_enrich_dagster.vocabulary import Days
from tests.unit.cowrie.logs import connect, line
from tests.unit.cowrie.test_not_logs import BESIDE

Open = Callable[..., Enricher]
DAY = Days.parse("2025-11-02")
_QUARANTINE = table_of(QuarantinedLine).c


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A log folder with one session."""
    (tmp_path / "pot").mkdir()
    (tmp_path / "pot" / "cowrie.json").write_bytes(line(connect(src_ip="45.155.205.10")))
    return tmp_path / "pot"


def logs_part(enricher: Enricher) -> str:
    return next(part.detail for part in examine(enricher.settings).parts if part.name == "logs")


def test_what_is_passed_over_is_named_and_leaves_nothing(
    open_enricher: Open, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By a run, which has it in its report, and by `doctor`; not a byte of it is in any table."""
    for name in ("cowrie.log", "id_rsa", "cowrie.cfg", "dionaea.json"):
        (folder / name).write_text(BESIDE[name])
    (folder / "downloads").mkdir()
    (folder / "downloads" / "cowrie.json").write_bytes(line(connect("evil")))
    enricher = open_enricher(COWRIE_LOG_DIR=str(folder))
    report = enricher.run(DAY).as_dict()
    assert (report["status"], report["sessions"], report["quarantined"]) == ("complete", 1, 0)
    told = {name: passed["reason"] for passed in report["passed_over"] for name in passed["names"]}
    assert set(told) == {"cowrie.log", "id_rsa", "cowrie.cfg", "dionaea.json", "downloads"}
    assert "passed over: dionaea.json: JSON, but no events of Cowrie's" in caplog.messages
    assert "1 log files under" in logs_part(enricher)
    assert "passed over: downloads: a folder in which attackers place files" in logs_part(enricher)
    with enricher.database.read() as connection:
        for table in ("sessions", "session_ips", "quarantined_lines", "log_files", "enriched_sessions"):
            kept = repr(connection.execute(text(f"SELECT * FROM {table}")).all())
            assert not any(word in kept for word in ("evil", "OPENSSH", "api_key", "accept")), table


def test_days_without_logs_are_not_complete(
    open_enricher: Open, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They are named, and a run over only such days says so; with one day that has logs it is complete."""
    enricher = open_enricher(COWRIE_LOG_DIR=str(folder))
    report = enricher.run(Days.parse("2024-01-01..2024-01-05")).as_dict()
    assert (report["status"], report["sessions"]) == ("no_logs", 0)
    assert "no log has 2024-01-01, 2024-01-02, 2024-01-03 and 2 more days" in caplog.messages
    caplog.clear()
    assert enricher.run(Days.parse("2025-11-01..2025-11-02")).as_dict()["status"] == "complete"
    assert caplog.messages == ["no log has 2025-11-01"]
    (folder / "cowrie.json").unlink()
    assert enricher.run(DAY).as_dict()["status"] == "complete"


def test_a_sensor_behind_nat_is_asked_about(
    open_enricher: Open, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where nearly all sessions of one sensor have one private source; another sensor does not hide it."""
    translated = [connect(f"{n:04x}", src_ip="172.17.0.1", sensor="inside") for n in range(57)]
    others = [connect(f"{n:04x}", src_ip=f"45.155.205.{n}", sensor="outside") for n in range(99)]
    few = [connect(f"{n:04x}", src_ip="10.0.0.1", sensor="new") for n in range(3)]
    direct = [connect(f"f{n:03x}", src_ip=f"45.155.205.{n}", sensor="inside") for n in range(3)]
    (folder / "cowrie.json").write_bytes(b"".join(map(line, translated + others + few + direct)))
    enricher = open_enricher(COWRIE_LOG_DIR=str(folder))
    enricher.run(DAY)
    question = (
        "57 of 60 sessions of the sensor inside come from 172.17.0.1, a private address: "
        "does it sit behind NAT or a proxy that hides who connects?"
    )
    assert caplog.messages == [question]
    parts = examine(enricher.settings).parts
    assert [part.detail for part in parts if part.name == "sources"] == [question]


def test_a_hundred_thousand_lines_of_rubbish(open_enricher: Open, folder: Path) -> None:
    """A few hundred bytes leave a thousand rows and one that counts the others; the report has all."""
    rubbish = line(connect("aa12")) + b"x\n" * 100_000
    (folder / "cowrie.json.1.gz").write_bytes(gzip.compress(rubbish))
    enricher = open_enricher(COWRIE_LOG_DIR=str(folder))
    report = enricher.ingest(DAY)
    assert (report.read.lines_in, report.read.lines_quarantined) == (100_002, 100_000)
    with enricher.database.read() as connection:
        assert connection.execute(select(func.count(_QUARANTINE.id))).scalar_one() == 1001
        last = connection.execute(select(func.max(_QUARANTINE.line))).scalar_one()
        row = connection.execute(select(_QUARANTINE.reason).where(_QUARANTINE.line == last)).scalar_one()
    assert row == "not a JSON object (and so 98999 more lines, up to line 100001)"


def test_unchanged_files_that_are_no_logs_cost_no_look(open_enricher: Open, folder: Path) -> None:
    """The index in the database remembers what they are: of a changed content nothing is seen."""
    enricher = open_enricher(COWRIE_LOG_DIR=str(folder))
    other = folder / "session-1.log"
    other.write_bytes(b"\0" * 300)
    enricher.ingest(DAY)
    stat = other.stat()
    other.write_bytes(line(connect("late")).ljust(300))
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert enricher.ingest(DAY).sessions == 1
    assert "session-1.log: nothing but blanks" in logs_part(enricher)
    os.utime(other)
    assert enricher.ingest(DAY).sessions == 2
