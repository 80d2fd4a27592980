"""An upgrade to v17 that is killed half way goes on where it was; nobody works on the database meanwhile."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import bindparam, text
from sqlalchemy.exc import DBAPIError

from cowrie_enrich_dagster.storage import migrate
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import (
    SchemaOutdated,
    current,
    downgrade,
    head,
    require_current,
    upgrade,
)
from cowrie_enrich_dagster.storage.tables import Base, Json, UtcDateTime
from tests import warm
from tests.integration.storage.test_migrations import OLD_ENRICHED, OLD_SESSION

DAYS, EACH = 8, 5
FIRST = datetime(2025, 11, 1, 10, tzinfo=timezone.utc)
KILLED = """
import sys, time
from cowrie_enrich_dagster.storage import migrate
from cowrie_enrich_dagster.storage.engine import Database

convert, lots = migrate._convert_lot, []

def wait_in_the_fourth(database, step):
    if len(lots) < 3:
        lots.append(step)
        return convert(database, step)
    with migrate.changing(database) as connection:
        step.module.lot(connection)
        print("in the middle", flush=True)
        time.sleep(600)

migrate._convert_lot = wait_in_the_fourth
migrate.upgrade(Database(sys.argv[1]))
"""


def answered(number: int) -> dict[str, Any]:
    """What v14 has in `intel`: the answers stand nowhere else."""
    at = (FIRST + timedelta(days=number // EACH, microseconds=number)).isoformat()
    return {
        "dshield": {"status": "found", "fetched_at": at, "stale": False, "answer": {"ip": {"n": number}}},
        "cymru": {"status": "not_found", "fetched_at": at, "stale": False, "answer": None},
        "spur": {"status": "deferred"},
    }


@pytest.fixture
def v14(empty_url: str) -> Database:
    """Forty sessions of eight days, each from an address of its own."""
    opened = Database(empty_url)
    upgrade(opened, "v14")
    enriched = text(
        f"INSERT INTO enriched_sessions ({OLD_ENRICHED}, provenance) VALUES ('hp', :id, :day, :ip, :at, :at, "
        "5, 1, 0, 0, 1, 0, 'global', :intel, 'before', :provenance)"
    ).bindparams(
        bindparam("day", type_=Base.metadata.tables["sessions"].c.day.type),
        *(bindparam(name, type_=Json) for name in ("intel", "provenance")),
        bindparam("at", type_=UtcDateTime),
    )
    with opened.write() as connection:
        for number in range(DAYS * EACH):
            at = FIRST + timedelta(days=number // EACH, seconds=number)
            told_at = answered(number)["dshield"]["fetched_at"]
            provenance = {"source_reports": {"service": "dshield", "fetched_at": told_at}}
            values = {"id": f"aa{number:02}", "day": at.date(), "ip": f"11.0.0.{number}", "at": at}
            connection.exec_driver_sql(
                f"INSERT INTO sessions ({OLD_SESSION}) VALUES ('hp', 'aa{number:02}', '{at.date()}', "
                f"'11.0.0.{number}', '{at:%Y-%m-%d %H:%M:%S.%f}', '{at:%Y-%m-%d %H:%M:%S.%f}', 5, "
                "true, true, 3, 1, 0, 0, 0, 1, 0, 0, 0, '[]', '[]', '[]')"
            )
            connection.execute(enriched, {**values, "intel": answered(number), "provenance": provenance})
    yield opened
    opened.close()


def kill_half_way(database: Database) -> None:
    url = database.url.render_as_string(hide_password=False)
    child = warm.Process("-c", KILLED, url, stdout=warm.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == "in the middle\n"
    child.kill()
    child.wait()
    child.stdout.close()


def rows(database: Database, table: str, *columns: str) -> list[Any]:
    query = text(f"SELECT {', '.join(columns)} FROM {table} ORDER BY 1, 2").columns(
        **{name: Json for name in columns if name in ("intel", "provenance", "payload")}
    )
    with database.read() as connection:
        return [tuple(row) for row in connection.execute(query)]


SESSIONS = ("sessions", *OLD_SESSION.split(", ")[1:])
ENRICHED = ("enriched_sessions", "session_id", "day", "source_ip", "event_start", "intel", "provenance")
ANSWERS = ("answers", "service", "key", "status", "payload")


def test_it_goes_on_where_it_was(v14: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was committed is not done again; then every row and answer is there, and down puts all back."""
    sessions, before = rows(v14, *SESSIONS), rows(v14, *ENRICHED)
    kill_half_way(v14)
    assert current(v14) == "v17_begun"
    lots: list[bool] = []
    convert = migrate._convert_lot

    def counted(database: Database, step: Any) -> bool:
        lots.append(convert(database, step))
        return lots[-1]

    monkeypatch.setattr(migrate, "_convert_lot", counted)
    upgrade(v14)
    assert current(v14) == head(v14)
    tables = 2 if v14.is_sqlite else 1
    assert lots == [True] * (tables * DAYS - 3) + [False]
    with v14.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    assert rows(v14, *SESSIONS) == sessions
    told = [
        {name: {k: v for k, v in of.items() if k != "answer"} for name, of in answered(n).items()}
        for n in range(DAYS * EACH)
    ]
    assert [row[4:] for row in rows(v14, *ENRICHED)] == [(t, {"source_reports": "dshield"}) for t in told]
    assert rows(v14, *ANSWERS) == sorted(
        (
            (service, f"11.0.0.{n}", of["status"], of["answer"])
            for n in range(DAYS * EACH)
            for service, of in answered(n).items()
            if "answer" in of
        ),
        key=lambda row: row[:2],
    )
    downgrade(v14, "v14")
    assert rows(v14, *SESSIONS) == sessions
    assert rows(v14, *ENRICHED) == before


def test_an_upgrade_that_was_killed_can_be_taken_back(v14: Database) -> None:
    """From half way down: every row is as it was."""
    sessions, before = rows(v14, *SESSIONS), rows(v14, *ENRICHED)
    kill_half_way(v14)
    downgrade(v14, "v14")
    assert (rows(v14, *SESSIONS), rows(v14, *ENRICHED)) == (sessions, before)
    upgrade(v14)
    assert len(rows(v14, *ANSWERS)) == 2 * DAYS * EACH


def test_nobody_works_on_it_meanwhile(v14: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """This version and older ones say how it is; one that had begun before is refused by the tables."""
    kill_half_way(v14)
    with pytest.raises(
        SchemaOutdated, match=r"is being upgraded to schema v17.*Run: cowrie-enrich db upgrade"
    ):
        require_current(v14, makes=False)
    old = "INSERT INTO sessions (sensor) VALUES ('a') ON CONFLICT (sensor, session_id) DO NOTHING"
    with pytest.raises(DBAPIError, match="ON CONFLICT"), v14.write() as connection:
        connection.exec_driver_sql(old)
    upgrade(v14)
    assert current(v14) == head(v14)
    assert len(rows(v14, *ENRICHED)) == DAYS * EACH


def test_a_table_that_goes_is_not_held_in_memory(tmp_path: Path) -> None:
    """Each page of it is noted while it is dropped: in a file, not in memory."""
    database = Database(f"sqlite:///{tmp_path}/large.db")
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE goes (content TEXT)")
        rows = [("x" * 4000,)] * 15_000
        connection.exec_driver_sql("INSERT INTO goes VALUES (?)", rows)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_kib()
    with migrate.changing(database) as connection:
        connection.exec_driver_sql("DROP TABLE goes")
    database.close()
    assert peak_kib() - before < 20_000


def peak_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
