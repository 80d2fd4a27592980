"""Days that are not kept go with what only they needed; everything else stays as it was."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from cowrie_enrich_dagster.enrichment import Enricher, forget
from cowrie_enrich_dagster.enrichment.ingest import sessions_by_day
from cowrie_enrich_dagster.lookups.model import Wanted
from cowrie_enrich_dagster.vocabulary import Days
from tests.integration.enrichment.conftest import SAMPLE_DAYS

pytestmark = pytest.mark.sampled
Open = Callable[..., Enricher]
KEPT = date(2025, 11, 3)
TABLES = ("sessions", "session_ips", "enriched_sessions", "session_artefacts")


def keep_days() -> str:
    """The setting with which the third of the sample days is the first that is kept."""
    return str((datetime.now(timezone.utc).date() - KEPT).days)


@pytest.fixture
def enricher(open_enricher: Open, sample_logs: Path, tmp_path: Path) -> Enricher:
    """The three days enriched, then again with a plain file beside the samples with two bad lines a day."""
    root = Path(shutil.copytree(sample_logs, tmp_path / "logs"))
    body = "".join(
        f'{{"eventid":"cowrie.session.connect","timestamp":"{day}T10:00:00Z","session":"{n:012x}",'
        f'"src_ip":"198.51.100.{n}"}}\nbad of {day}\n{{"eventid": 7, "timestamp":"{day}T10:00:01Z"}}\n'
        for n, day in enumerate(SAMPLE_DAYS)
    )
    (root / "cowrie.json").write_text(body)
    enricher = open_enricher(ENRICH_KEEP_DAYS=keep_days(), COWRIE_LOG_DIR=str(root))
    everything = open_enricher(COWRIE_LOG_DIR=str(root))
    everything.run(SAMPLE_DAYS)
    return enricher


def rows(enricher: Enricher, query: str) -> list[Any]:
    with enricher.database.read() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def write(enricher: Enricher, statement: str, **values: Any) -> None:
    with enricher.database.write() as connection:
        connection.execute(text(statement), values)


def state(enricher: Enricher) -> dict[str, list[Any]]:
    order = {"quarantined_lines": "path, line", "lookups": "service, key", "enrichment_cache": "id"}
    order |= {"observations": "service, key, fetched_at"} | dict.fromkeys(TABLES, "1, 2")
    return {name: rows(enricher, f"SELECT * FROM {name} ORDER BY {by}") for name, by in order.items()}


def addresses(enricher: Enricher, last_day: str) -> list[str]:
    query = (
        "SELECT src_ip FROM session_ips WHERE scope = 'global' GROUP BY src_ip "
        f"HAVING max(day) {last_day} ORDER BY src_ip"
    )
    return [address for (address,) in rows(enricher, query)]


@pytest.mark.parametrize("chunk", [5000, 7])
def test_a_dry_run_counts_what_the_real_one_deletes(
    enricher: Enricher, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of the older days, and only they; whatever the size of a transaction; and only once."""
    monkeypatch.setattr(forget, "CHUNK", chunk)
    before = state(enricher)
    old = {name: rows(enricher, f"SELECT count(*) FROM {name} WHERE day < '2025-11-03'") for name in TABLES}
    kept = {
        name: rows(enricher, f"SELECT * FROM {name} WHERE day >= '2025-11-03' ORDER BY 1, 2")
        for name in TABLES
    }
    counted = enricher.forget_old_days(dry_run=True)
    assert state(enricher) == before
    assert {name: [(getattr(counted, name),)] for name in TABLES} == old
    assert counted.sessions > 800
    assert counted.quarantined_lines == 4
    done = enricher.forget_old_days(dry_run=False)
    assert done.as_dict() == {**counted.as_dict(), "dry_run": False}
    after = state(enricher)
    assert {name: after[name] for name in TABLES} == kept
    assert after["enrichment_cache"] == before["enrichment_cache"]
    assert after["lookups"] == before["lookups"]
    left = rows(enricher, "SELECT excerpt FROM quarantined_lines WHERE path = 'cowrie.json' ORDER BY line")
    assert [excerpt for (excerpt,) in left] == [
        "bad of 2025-11-03",
        '{"eventid": 7, "timestamp":"2025-11-03T10:00:01Z"}',
    ]
    again = enricher.forget_old_days(dry_run=False).as_dict()
    assert {name for name, number in again.items() if number} == {"keep_from"}


def test_open_lookups_that_no_kept_day_needs_go(enricher: Enricher) -> None:
    """Not those of addresses that came again, nor those that are being asked right now."""
    gone, claimed, *_ = addresses(enricher, "< '2025-11-03'")
    stays, *_ = addresses(enricher, "= '2025-11-03'")
    write(enricher, "DELETE FROM lookups")
    enricher.queue.open("dshield", map(Wanted, (gone, claimed, stays)))
    assert enricher.queue.claim("dshield", "worker", 1, among=enricher.queue.keys([claimed])) == [claimed]
    enricher.queue.open("virustotal", [Wanted("ab" * 32)])
    assert enricher.forget_old_days(dry_run=True).lookups == 2
    assert enricher.forget_old_days(dry_run=False).lookups == 2
    assert rows(enricher, "SELECT service, key FROM lookups ORDER BY key") == sorted(
        [("dshield", claimed), ("dshield", stays)], key=lambda row: row[1]
    )


def test_history_that_no_kept_session_can_show_goes(enricher: Enricher) -> None:
    """Of a key that is gone all; of a kept one what was replaced and had expired before the kept days."""
    gone, *_ = addresses(enricher, "< '2025-11-03'")
    stays, *_ = addresses(enricher, "= '2025-11-03'")
    begin = datetime(2025, 11, 3, tzinfo=timezone.utc)
    told = {"replaced": -30, "replaced, but not expired": -6, "the last before": -1, "later": 2}
    for key in (gone, stays):
        for days in told.values():
            moment = (begin + timedelta(days=days)).strftime("%Y-%m-%d %H:%M:%S.%f")
            zone = "" if enricher.database.is_sqlite else "+00"
            write(
                enricher,
                "INSERT INTO observations (service, key, fetched_at, status) "
                f"VALUES ('dshield', :key, '{moment}{zone}', 'found')",
                key=key,
            )
    assert enricher.forget_old_days(dry_run=True).observations == 5
    assert enricher.forget_old_days(dry_run=False).observations == 5
    assert rows(enricher, "SELECT key, count(*) FROM observations GROUP BY key") == [(stays, 3)]


def test_a_file_of_older_days_alone_goes_with_its_own_line(enricher: Enricher) -> None:
    """Line 0 says that a file is broken; files without dates, or unknown ones, keep their lines."""
    for path in ("hp-sensor-a/cowrie.json.2025-11-01.gz", "cowrie.json", "unknown/cowrie.json"):
        write(
            enricher,
            "INSERT INTO quarantined_lines (path, line, byte_offset, reason, excerpt) "
            "VALUES (:path, 0, 0, 'cut off', '')",
            path=path,
        )
    enricher.forget_old_days(dry_run=False)
    left = rows(enricher, "SELECT path FROM quarantined_lines WHERE line = 0 ORDER BY path")
    assert left == [("cowrie.json",), ("unknown/cowrie.json",)]


def test_days_that_are_not_kept_are_not_read_again(
    enricher: Enricher, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither alone nor as the beginning of a range; each time the days and the setting are named."""
    enricher.forget_old_days(dry_run=False)
    with caplog.at_level(logging.WARNING):
        assert enricher.ingest(SAMPLE_DAYS).sessions > 100
        assert enricher.ingest(Days.parse("2025-11-01")).sessions == 0
    assert rows(enricher, "SELECT DISTINCT day FROM sessions") == rows(
        enricher, "SELECT DISTINCT day FROM sessions WHERE day >= '2025-11-03'"
    )
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        f"{days}: older than ENRICH_KEEP_DAYS ({keep_days()}) keeps, not read"
        for days in ("2025-11-01..2025-11-02", "2025-11-01")
    ]


def test_without_the_setting_every_day_is_kept(open_enricher: Open) -> None:
    """Nothing is counted and nothing goes."""
    enricher = open_enricher()
    enricher.ingest(SAMPLE_DAYS)
    done = enricher.forget_old_days(dry_run=False)
    assert (done.keep_from, done.sessions) == (None, 0)
    assert sum(sessions_by_day(enricher.database, SAMPLE_DAYS).values()) == 1400
