"""The schema moves up and down on both engines, with data in the tables, and matches the models."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from datetime import date, datetime, timedelta, timezone

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import bindparam, inspect, text
from sqlalchemy.exc import DBAPIError

from cowrie_enrich_dagster.enrichment.campaigns import find_campaigns
from cowrie_enrich_dagster.enrichment.list_store import take
from cowrie_enrich_dagster.lookups.queue import LookupQueue
from cowrie_enrich_dagster.services.lists import ReadList
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
from cowrie_enrich_dagster.vocabulary import utc_now
from tests import warm


@pytest.fixture
def empty(empty_url: str):
    opened = Database(empty_url)
    yield opened
    opened.close()


def tables(database: Database) -> set[str]:
    with database.read() as connection:
        return set(inspect(connection).get_table_names()) - {"alembic_version"}


def test_migrations_build_what_the_models_describe(database: Database) -> None:
    """A migrated database and the models have no difference in tables, columns, keys and indexes."""
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_v11_to_v12_and_back_touches_only_the_cache(empty: Database) -> None:
    """Upgrading adds `enrichment_cache`; downgrading drops it and leaves every other table and row."""
    upgrade(empty, "v11")
    before = tables(empty)
    with empty.write() as connection:
        columns = "path, line, byte_offset, reason, excerpt"
        connection.execute(text(f"INSERT INTO quarantined_lines ({columns}) VALUES ('f', 1, 0, 'r', 'e')"))
    upgrade(empty, "v12")
    assert tables(empty) - before == {"enrichment_cache"}
    now = utc_now()
    with empty.write() as connection:
        connection.execute(
            Base.metadata.tables["enrichment_cache"].insert(),
            {
                "service": "dshield", "cache_key": "192.0.2.1", "cache_value": {"a": 1}, "status": "found",
                "fetched_at": now, "created_at": now, "accessed_at": now, "expires_at": now, "hit_count": 0,
            },
        )  # fmt: skip
    downgrade(empty, "v11")
    assert tables(empty) == before
    upgrade(empty)
    with empty.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM quarantined_lines")).scalar_one() == 1
        assert connection.execute(text("SELECT count(*) FROM enrichment_cache")).scalar_one() == 0
    assert current(empty) == head(empty)


def upgrade_url(url: str) -> None:
    upgrade(Database(url))


def test_simultaneous_upgrades_of_an_empty_database_all_succeed(empty: Database, empty_url: str) -> None:
    """Several worker processes starting at once upgrade once and do not trip over each other."""
    with ProcessPoolExecutor(4, mp_context=warm.context()) as pool:
        list(pool.map(upgrade_url, [empty_url] * 4))
    assert current(empty) == head(empty)


def test_a_shared_database_is_never_upgraded_by_a_run(empty: Database) -> None:
    """A run against an old schema says which command upgrades it, and changes nothing; a file by a look."""
    with pytest.raises(SchemaOutdated, match="cowrie-enrich db upgrade"):
        require_current(empty, makes=not empty.is_sqlite)
    assert tables(empty) == set()


def test_a_json_column_gives_back_what_was_put_in(database: Database) -> None:
    """Values come back as the same Python objects on both engines, dates and JSON null included."""
    runs = Base.metadata.tables["enrichment_runs"]
    row = {
        "run_id": "r1", "kind": "run", "first_day": date(2025, 11, 1), "last_day": None, "status": "complete",
        "started_at": utc_now(), "finished_at": None, "report": {"text": "ü\u2028", "none": None, "n": 1.5},
    }  # fmt: skip
    with database.write() as connection:
        connection.execute(runs.insert(), row)
    with database.read() as connection:
        assert dict(connection.execute(runs.select()).mappings().one()) == row


def test_the_queue_of_v14_goes_on_in_v15_and_back(empty: Database) -> None:
    """What is open stays open and is counted; what a limit put off is due, what failed keeps its own time."""
    upgrade(empty, "v14")
    columns = (
        "service, key, priority, status, attempts, next_attempt_at, valid_until, claimed_by, "
        "claim_expires_at, created_at, updated_at"
    )
    then, later = "2025-11-01 10:00:00.000000", "2035-11-01 10:00:00.000000"
    rows = [
        ("intruder", 10_001, "deferred", 0, then, None, None, None),
        ("put-off", 7, "deferred", 0, later, None, None, None),
        ("failed", 5_007, "error", 3, later, None, None, None),
        ("claimed", 9, "deferred", 0, then, None, "worker", then),
        ("answered", 10_002, "found", 1, None, later, None, None),
    ]
    with empty.write() as connection:
        for key, priority, status, attempts, due, until, worker, expires in rows:
            values = {
                "key": key, "priority": priority, "status": status, "attempts": attempts, "due": due,
                "until": until, "worker": worker, "expires": expires, "then": then,
            }  # fmt: skip
            statement = (
                f"INSERT INTO lookups ({columns}) VALUES ('dshield', :key, :priority, :status, :attempts, "
                ":due, :until, :worker, :expires, :then, :then)"
            )
            connection.execute(text(statement), values)
    upgrade(empty)
    queue = LookupQueue(empty)
    assert queue.backlog_of("dshield").total == 4
    assert queue.claim("dshield", "w", 9) == ["intruder", "claimed", "put-off"]
    downgrade(empty, "v14")
    with empty.read() as connection:
        kept = connection.execute(text("SELECT key, priority, attempts FROM lookups ORDER BY key")).all()
    assert [tuple(row) for row in kept] == sorted((key, p, n) for key, p, _, n, *_ in rows)
    upgrade(empty)
    assert queue.backlog_of("dshield").total == 4


OLD_SESSION = (
    "sensor, session_id, day, src_ip, started_at, ended_at, duration_ms, has_connect, has_closed, "
    "event_count, login_failures, login_successes, commands, commands_failed, downloads, uploads, "
    "tunnel_requests, tunnel_data, file_hashes, urls, passwords_sha1"
)
OLD_ENRICHED = (
    "sensor, session_id, day, source_ip, event_start, event_end, event_duration_ms, login_failures, "
    "login_successes, commands, downloads, uploads, source_scope, intel, knowledge"
)


def put_v15_sessions(database: Database, number: int) -> None:
    """Sessions and their enriched rows as v15 has them."""
    with database.write() as connection:
        for n in range(number):
            at = f"2025-11-01 10:00:{n:02}.000000"
            connection.exec_driver_sql(
                f"INSERT INTO sessions ({OLD_SESSION}) VALUES ('hp', 'aa{n:02}', '2025-11-01', "
                f"'192.0.2.{n}', '{at}', '{at}', 5, true, true, 3, 1, 0, 0, 0, 1, 0, 0, 0, "
                "'[\"ab\"]', '[]', '[\"CD\"]')"
            )
            connection.exec_driver_sql(
                f"INSERT INTO enriched_sessions ({OLD_ENRICHED}) VALUES ('hp', 'aa{n:02}', '2025-11-01', "
                f"'192.0.2.{n}', '{at}', '{at}', 5, 1, 0, 0, 1, 0, 'reserved', '{{\"x\": {{}}}}', 'unknown')"
            )
        connection.exec_driver_sql("INSERT INTO log_files (path, file_index) VALUES ('cowrie.json', '{}')")


def put(database: Database, row: str) -> None:
    """Write a row, as SQL; a version of then knows no columns of later ones."""
    with database.write() as connection:
        connection.execute(text(row))


def count(database: Database, table: str) -> int:
    with database.read() as connection:
        number: int = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
        return number


def test_sessions_of_v15_stay_and_later_ones_of_an_id_go_on_the_way_down(empty: Database) -> None:
    """Up keeps every row; down keeps the first session of an id, and what v15 knows of it."""
    upgrade(empty, "v15")
    put_v15_sessions(empty, 9)
    with empty.read() as connection:
        before = connection.execute(text(f"SELECT {OLD_SESSION} FROM sessions ORDER BY 2")).all()
    upgrade(empty)
    assert count(empty, "log_files") == 0
    sessions, enriched = Base.metadata.tables["sessions"], Base.metadata.tables["enriched_sessions"]
    with empty.write() as connection:
        again = dict(
            connection.execute(sessions.select().where(sessions.c.session_id == "aa03")).mappings().one()
        )
        assert again["logins"] is None
        later = again["started_at"] + timedelta(days=30)
        changes = {"started_at": later, "day": later.date(), "src_ip": "192.0.2.77", "logins": []}
        connection.execute(sessions.insert(), {**again, **changes})
        row = dict(
            connection.execute(enriched.select().where(enriched.c.session_id == "aa03")).mappings().one()
        )
        connection.execute(enriched.insert(), {**row, "event_start": later, "day": later.date()})
    assert (count(empty, "sessions"), count(empty, "enriched_sessions")) == (10, 10)
    downgrade(empty, "v15")
    with empty.read() as connection:
        assert connection.execute(text(f"SELECT {OLD_SESSION} FROM sessions ORDER BY 2")).all() == before
    assert count(empty, "enriched_sessions") == 9
    upgrade(empty)
    assert (count(empty, "sessions"), current(empty)) == (9, head(empty))
    with empty.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_sessions_of_v17_get_their_campaigns_and_go_back(empty: Database) -> None:
    """Up: what stands is to be looked through; down: only campaigns go; up again: the same ones."""
    upgrade(empty, "v15")
    put_v15_sessions(empty, 9)
    upgrade(empty, "v17")
    worm = [{"sha256": "ab" * 32, "url": None, "name": None, "how": "upload"}]
    with empty.write() as connection:
        update = text("UPDATE sessions SET files = :files WHERE session_id < 'aa05'")
        connection.execute(update.bindparams(bindparam("files", worm, Json)))
    found = []
    for _ in range(2):
        upgrade(empty)
        assert count(empty, "days_without_campaigns") == 1
        find_campaigns(empty)
        assert (count(empty, "days_without_campaigns"), count(empty, "session_campaigns")) == (0, 5)
        with empty.read() as connection:
            found.append(connection.execute(Base.metadata.tables["campaigns"].select()).all())
        downgrade(empty, "v17")
        assert (count(empty, "sessions"), count(empty, "enriched_sessions")) == (9, 9)
    assert found[0] == found[1]
    assert len(found[0]) == 1


def test_an_older_version_is_locked_out_and_told_why(empty: Database) -> None:
    """What it does first fails with the versions and the way; what it would write is refused."""
    upgrade(empty)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cowrie_enrich_dagster.storage.migrate.head", lambda database: "v15")
        with pytest.raises(SchemaOutdated, match="is at schema v24, this version works on v15"):
            require_current(empty, makes=False)
    old = "INSERT INTO sessions (sensor) VALUES ('a') ON CONFLICT (sensor, session_id) DO NOTHING"
    with pytest.raises(DBAPIError, match="ON CONFLICT"), empty.write() as connection:
        connection.exec_driver_sql(old)


def test_answers_that_stand_only_in_rows_are_kept_and_put_back(empty: Database) -> None:
    """Up: they go into the history, whoever has them in his row; down: every row has its answer again."""
    upgrade(empty, "v15")
    put_v15_sessions(empty, 4)
    payload = {"ip": {"number": "x", "count": 3, "text": 'a"b\u2028'}}
    at = "2025-11-01T10:00:00{}+00:00"
    intel = {
        "dshield": {"status": "found", "fetched_at": at.format(".250000"), "stale": True, "answer": payload},
        "cymru": {"status": "not_found", "fetched_at": at.format(""), "stale": False, "answer": None},
        "spur": {"status": "deferred", "detail": "later"},
        "files": {"ab" * 32: {"virustotal": {"status": "found", "fetched_at": at.format("")}}},
    }
    provenance = {
        "source_reports": {"service": "dshield", "fetched_at": at.format(".250000")},
        "source_is_scanner": {"service": "list", "fetched_at": None},
    }
    written = text("UPDATE enriched_sessions SET intel = :intel, provenance = :provenance, source_ip = :ip "
                   "WHERE session_id <> 'aa03'")  # fmt: skip
    with empty.write() as connection:
        connection.execute(
            written.bindparams(bindparam("intel", type_=Json), bindparam("provenance", type_=Json)),
            {"intel": intel, "provenance": provenance, "ip": "192.0.2.1"},
        )
    rows = text("SELECT intel, provenance FROM enriched_sessions ORDER BY session_id")
    rows = rows.columns(intel=Json, provenance=Json)
    with empty.read() as connection:
        before = [tuple(row) for row in connection.execute(rows)]
    upgrade(empty)
    answers = text("SELECT service, key, fetched_at, status, payload FROM answers ORDER BY service")
    with empty.read() as connection:
        told = [tuple(row) for row in connection.execute(rows)]
        found = connection.execute(answers.columns(fetched_at=UtcDateTime, payload=Json))
        moment = datetime(2025, 11, 1, 10, tzinfo=timezone.utc)
        assert [tuple(row) for row in found] == [
            ("cymru", "192.0.2.1", moment, "not_found", None),
            ("dshield", "192.0.2.1", moment + timedelta(microseconds=250000), "found", payload),
        ]
    without = {name: {k: v for k, v in of.items() if k != "answer"} for name, of in intel.items()}
    origins = {"source_reports": "dshield", "source_is_scanner": "list"}
    assert told == [(without, origins)] * 3 + [({"x": {}}, None)]
    # As a run writes it since: to the second, and not stale where it does not say so.
    anew = {**without, "dshield": {"status": "found", "fetched_at": "2025-11-01T10:00:00Z"}}
    written = text("UPDATE enriched_sessions SET intel = :intel WHERE session_id = 'aa02'")
    with empty.write() as connection:
        connection.execute(written.bindparams(bindparam("intel", type_=Json)), {"intel": anew})
    downgrade(empty, "v15")
    given = {"status": "found", "fetched_at": "2025-11-01T10:00:00Z", "stale": False, "answer": payload}
    with empty.read() as connection:
        found = [tuple(row) for row in connection.execute(rows)]
    assert found[2][0] == {**intel, "dshield": given}
    assert [*found[:2], found[3]] == [*before[:2], before[3]]


def test_lists_come_with_v21_and_go_with_it(empty: Database) -> None:
    """Up keeps every row; down loses what lists said, and nothing else."""
    upgrade(empty, "v20")
    put(
        empty,
        "INSERT INTO session_ips (day, src_ip, sessions, sensors, first_seen, last_seen, login_failures, "
        "login_successes, commands, downloads, uploads, scope, priority) VALUES ('2025-11-01', "
        "'11.0.0.1', 1, 1, '2025-11-01 10:00:00', '2025-11-01 10:00:01', 0, 0, 0, 0, 0, 'global', 1)",
    )
    upgrade(empty)
    read = ReadList({(4, 32, 0x0B000001), (6, 32, 0x2A00 << 112)})
    assert (take(empty, "exits", "tor", read).came, take(empty, "exits", "tor", read).came) == (2, 0)
    with empty.write() as connection:
        connection.execute(text("UPDATE session_ips SET scanner_list = 'list:scan'"))
    downgrade(empty, "v20")
    assert {"address_lists", "list_entries"}.isdisjoint(tables(empty))
    with empty.read() as connection:
        assert connection.execute(text("SELECT src_ip, sessions FROM session_ips")).all() == [("11.0.0.1", 1)]
    upgrade(empty)
    with empty.read() as connection:
        assert connection.execute(text("SELECT scanner_list FROM session_ips")).scalars().all() == [None]


def test_whoever_follows_sessions_looks_at_all_of_them_once_after_v24(empty: Database) -> None:
    """Up notes each day that has sessions for both tables that follow; down loses nothing else."""
    upgrade(empty, "v23")
    put(
        empty,
        "INSERT INTO sessions (sensor, session_id, started_at, day, ended_at, duration_ms, "
        "has_connect, has_closed, event_count, login_failures, login_successes, commands, "
        "commands_failed, downloads, uploads, tunnel_requests, tunnel_data) VALUES ('hp', 'aa01', "
        "'2025-11-01 10:00:00', '2025-11-01', '2025-11-01 10:00:01', 1, true, true, 1, "
        "0, 0, 0, 0, 0, 0, 0, 0)",
    )
    upgrade(empty)
    noted = text("SELECT follower, session_id FROM changed_sessions ORDER BY follower")
    with empty.read() as connection:
        assert connection.execute(noted).all() == [("enriched_sessions", ""), ("session_ips", "")]
    downgrade(empty, "v23")
    assert "changed_sessions" not in tables(empty)
    with empty.read() as connection:
        assert connection.execute(text("SELECT session_id FROM sessions")).scalars().all() == ["aa01"]
