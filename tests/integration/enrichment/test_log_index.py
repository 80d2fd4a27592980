"""What was learned of the logs is in the database as it comes, and is not written without need."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlalchemy import text

from cowrie_enrich_dagster.enrichment import log_index
from cowrie_enrich_dagster.enrichment.ingest import ingest_days, log_days
from cowrie_enrich_dagster.enrichment.log_index import LogIndex
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.vocabulary import Days
from tests import warm

KILLED = """
import os, signal, sys
from pathlib import Path
from cowrie_enrich_dagster.cowrie import scan
from cowrie_enrich_dagster.enrichment import ingest, log_index
from cowrie_enrich_dagster.storage.engine import Database

sys.modules[scan.__module__].STEP_SECONDS = 1e-9
log_index.SAVE_SECONDS = 0.0
steps = 0

def progress(done, total):
    global steps
    steps += 1
    print(done, flush=True)
    if steps == 5:
        os.kill(os.getpid(), signal.SIGKILL)

ingest.log_days(Database(sys.argv[1]), Path(sys.argv[2]), progress=progress)
"""


@pytest.fixture
def logs(tmp_path: Path, sample_logs: Path) -> Path:
    """The sample logs, and one plain file of 2 MB before them."""
    root = Path(shutil.copytree(sample_logs, tmp_path / "logs"))
    line = '{"eventid":"cowrie.session.connect","timestamp":"2025-12-01T%02d:00:00Z","session":"%012x"}\n'
    (root / "cowrie.json").write_text("".join(line % (n // 1000, n) for n in range(21_000)))
    return root


def rows(database: Database, query: str) -> list[tuple[object, ...]]:
    with database.read() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def test_kill_9_loses_the_last_step_at_most(database: Database, logs: Path) -> None:
    """A process that is killed within a large file leaves what it had read, and the next goes on there."""
    url = database.url.render_as_string(hide_password=False)
    killed = warm.run("-c", KILLED, url, str(logs), timeout=60)
    assert killed.returncode == -9, killed.stderr
    done = [int(word) for word in killed.stdout.split()]
    assert len(done) == 5
    left = log_days(database, logs, seconds=0)
    assert (left.bytes_done, left.complete) == (done[-1], False)
    first: list[int] = []
    whole = log_days(database, logs, progress=lambda done, total: first.append(done))
    assert first[0] > done[-1]
    assert whole.complete
    assert str(max(whole.days)) == "2025-12-01"


def test_an_ingest_keeps_what_it_learned_before_it_reads(
    database: Database, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is killed while it reads sessions need not look for days again."""
    monkeypatch.setattr("cowrie_enrich_dagster.enrichment.ingest.replace_day", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ingest_days(database, logs, Days.parse("2025-11-01"))
    assert log_days(database, logs, seconds=0).complete


def test_unchanged_files_are_not_written(
    database: Database, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second look writes nothing; a third only the row of the file that grew."""
    written: list[list[str]] = []

    def count(connection, table, columns, rows, **more):  # type: ignore[no-untyped-def]
        written.append([name for name, _ in rows])

    log_days(database, logs)
    monkeypatch.setattr(log_index, "upsert_rows", count)
    log_days(database, logs)
    assert written == []
    with (logs / "cowrie.json").open("a") as log:
        log.write("{}\n")
    log_days(database, logs)
    assert written == [["cowrie.json"]]


def test_vanished_files_are_forgotten_unless_quarantine_has_lines_of_them(
    database: Database, logs: Path
) -> None:
    """The days of those lines are told by the file's row alone."""
    with (logs / "cowrie.json").open("a") as log:
        log.write("not JSON\n")
    ingest_days(database, logs, Days.parse("2025-12-01"))
    files = len(rows(database, "SELECT path FROM log_files"))
    vanished = ["cowrie.json", "hp-sensor-a/cowrie.json.2025-11-01.gz"]
    for name in vanished:
        (logs / name).unlink()
    for _ in range(2):
        assert "2025-12-01" not in map(str, log_days(database, logs).days)
        assert len(rows(database, "SELECT path FROM log_files")) == files - 1
    with database.write() as connection:
        connection.execute(text("DELETE FROM quarantined_lines"))
    log_days(database, logs)
    assert len(rows(database, "SELECT path FROM log_files")) == files - 2


def test_more_files_vanish_than_a_statement_takes_parameters(database: Database, tmp_path: Path) -> None:
    """40,000 rows of files that are gone are deleted."""
    with LogIndex(database) as index:
        for number in range(40_000):
            index[f"{number}/cowrie.json"] = {}
    assert rows(database, "SELECT count(*) FROM log_files") == [(40_000,)]
    empty = tmp_path / "logs"
    empty.mkdir()
    log_days(database, empty)
    assert rows(database, "SELECT count(*) FROM log_files") == [(0,)]
