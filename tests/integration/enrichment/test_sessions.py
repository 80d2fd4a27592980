"""Sessions in the database: ids used again, days in any order, files that come late, what follows."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import text

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.tables import SessionPiece, SessionRecord, table_of
from cowrie_enrich_dagster.vocabulary import Days
from tests.unit.cowrie.logs import connect, event, line

Open = Callable[..., Enricher]
FIRST = date(2025, 11, 1)
FOLLOWING = ("sessions", "session_ips", "enriched_sessions")
DAYS = ("changed_days", "day_readings", "written_days")


def log_of(rng: Random) -> dict[date, list[bytes]]:
    """Three ids used again and again for eight days, over midnight too, by day."""
    days: dict[date, list[bytes]] = {}
    kinds = ["session.connect"] * 3 + ["session.closed"] * 2 + ["login.success", "command.input"]
    for number in range(60):
        at = datetime(2025, 11, 1, tzinfo=timezone.utc) + timedelta(minutes=rng.randrange(8 * 24 * 60))
        kind = rng.choice(kinds)
        fields: dict[str, Any] = {"src_ip": rng.choice(["8.8.8.8", "8.8.4.4"])} if "connect" in kind else {}
        stamp = f"{at:%Y-%m-%dT%H:%M:%S}.{number:06}Z"
        record = event(kind, f"aa0{rng.randrange(3)}", stamp, input=f"l{number}", password="p", **fields)
        days.setdefault(at.date(), []).append(line(record))
    return days


def rows(database: Database, table: str) -> list[Any]:
    with database.read() as connection:
        return sorted((tuple(row) for row in connection.execute(text(f"SELECT * FROM {table}"))), key=repr)


def told(enricher: Enricher) -> dict[str, list[Any]]:
    """What the tables say, but for when an answer that is not there would have been fetched."""
    return {name: rows(enricher.database, name) for name in FOLLOWING}


def write(folder: Path, days: dict[date, list[bytes]]) -> str:
    folder.mkdir(exist_ok=True)
    for day, lines in days.items():
        (folder / f"cowrie.json.{day}").write_bytes(b"".join(lines))
    return str(folder)


@pytest.fixture
def empty_tables(database_url: str) -> Callable[[], None]:
    def empty() -> None:
        database = Database(database_url)
        with database.write() as connection:
            for name in (*FOLLOWING, "session_pieces", "moved_days", "log_files", "lookups", *DAYS):
                connection.execute(text(f"DELETE FROM {name}"))
        database.close()

    return empty


@pytest.mark.parametrize(
    ("database_url", "seed"),
    [*(("sqlite", seed) for seed in range(5)), ("postgresql", 5)],
    indirect=["database_url"],
)
def test_any_order_of_runs_gives_the_same_rows(
    open_enricher: Open, tmp_path: Path, seed: int, empty_tables: Callable[[], None]
) -> None:
    """Days together, each alone in any order, some of them twice, and with a file that comes late."""
    rng = Random(seed)
    logs = log_of(rng)
    everything = Days(FIRST, FIRST + timedelta(days=7))
    environment = {"COWRIE_LOG_DIR": write(tmp_path / "logs", logs), "ENRICH_SERVICES": "maxmind"}
    with open_enricher(**environment) as enricher:
        enricher.run(everything)
        expected = told(enricher)
        assert len(expected["sessions"]) > 8
    for _ in range(2):
        empty_tables()
        late = rng.choice(list(logs))
        path = tmp_path / "logs" / f"cowrie.json.{late}"
        content = path.read_bytes()
        path.write_bytes(b"".join(rng.sample(logs[late], len(logs[late]) // 2)))
        order = [*rng.sample(list(everything), 8), *rng.sample(list(everything), 3)]
        with open_enricher(**environment) as enricher:
            for day in order:
                enricher.run(Days(day, day))
            path.unlink()
            (tmp_path / "logs" / f"late.json.{late}").write_bytes(content)
            enricher.run(Days(late, late))
            assert told(enricher) == expected
            assert rows(enricher.database, "moved_days") == []
        (tmp_path / "logs" / f"late.json.{late}").rename(path)


SESSION = [
    connect(at="2025-11-01T23:59:58Z"),
    event("login.success", at="2025-11-01T23:59:59Z", username="root", password="x"),
    event("command.input", at="2025-11-02T00:00:01Z", input="w"),
    event("session.closed", at="2025-11-03T13:00:00Z", duration=133202.0),
]


@pytest.mark.parametrize("order", list(permutations((1, 2, 3))), ids=str)
def test_a_session_of_three_days(open_enricher: Open, tmp_path: Path, order: tuple[int, ...]) -> None:
    """One row, on the day it began, whatever day is read first; each run says which other days moved."""
    days = {FIRST: SESSION[:2], date(2025, 11, 2): SESSION[2:3], date(2025, 11, 3): SESSION[3:]}
    folder = write(tmp_path / "logs", {day: list(map(line, part)) for day, part in days.items()})
    with open_enricher(COWRIE_LOG_DIR=folder) as enricher:
        moved = [
            [day.day for day in enricher.run(Days(date(2025, 11, n), date(2025, 11, n))).moved_days]
            for n in order
        ]
        database = enricher.database
        (session,) = rows(database, "sessions")
        assert rows(database, "session_pieces") != []
        with database.read() as connection:
            (row,) = connection.execute(table_of(SessionRecord).select()).mappings()
            found = connection.execute(text("SELECT day, sessions, login_successes FROM session_ips"))
            assert [(str(r[0]), *r[1:]) for r in found] == [("2025-11-01", 1, 1)]
            enriched = connection.execute(text("SELECT day, user_name FROM enriched_sessions"))
            assert [(str(r[0]), r[1]) for r in enriched] == [("2025-11-01", "root")]
        assert row["command_lines"] == ["w"]
        assert (row["event_count"], row["duration_ms"], row["has_closed"]) == (4, 133_202_000, True)
    assert all(n not in part for n, part in zip(order, moved, strict=True))
    if order == (1, 2, 3):
        assert moved == [[], [1], [1]]
    if order == (3, 2, 1):
        assert moved == [[], [3], [2]]
    again = enricher.run(Days(FIRST, FIRST))
    assert again.moved_days == []
    assert rows(enricher.database, "sessions") == [session]


def test_an_id_used_again_has_both_addresses(open_enricher: Open, tmp_path: Path) -> None:
    """On one day and on another: rows of their own, and both are asked about."""
    records = [
        connect(at="2025-11-01T10:00:00Z", src_ip="8.8.8.8"),
        event("login.success", at="2025-11-01T10:00:02Z", username="root", password="x"),
        event("session.closed", at="2025-11-01T10:00:03Z"),
        connect(at="2025-11-01T11:00:00Z", src_ip="8.8.4.4"),
        connect(at="2025-11-20T11:00:00Z", src_ip="9.9.9.9"),
    ]
    folder = write(tmp_path / "logs", {FIRST: list(map(line, records))})
    with open_enricher(COWRIE_LOG_DIR=folder) as enricher:
        report = enricher.run(Days(FIRST, date(2025, 11, 20)))
        assert (report.sessions, report.ips) == (3, 3)
        with enricher.database.read() as connection:
            found = connection.execute(
                text("SELECT source_ip, login_successes FROM enriched_sessions ORDER BY event_start")
            )
            assert [tuple(row) for row in found] == [("8.8.8.8", 1), ("8.8.4.4", 0), ("9.9.9.9", 0)]
            asked = connection.execute(text("SELECT key FROM lookups ORDER BY key")).scalars()
            assert list(asked) == ["8.8.4.4", "8.8.8.8", "9.9.9.9"]
        assert rows(enricher.database, "session_pieces") == []


def test_what_was_moved_is_followed_after_a_kill(
    open_enricher: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run does it, although nothing moves any more."""
    days = {FIRST: SESSION[:2], date(2025, 11, 2): SESSION[2:3]}
    folder = write(tmp_path / "logs", {day: list(map(line, part)) for day, part in days.items()})
    with open_enricher(COWRIE_LOG_DIR=folder) as enricher:
        enricher.run(Days(FIRST, FIRST))
        with monkeypatch.context() as patch:
            patch.setattr(Enricher, "summarise_addresses", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                enricher.run(Days(date(2025, 11, 2), date(2025, 11, 2)))
        report = enricher.run(Days(date(2025, 11, 2), date(2025, 11, 2)))
        assert report.moved_days == [FIRST]
        with enricher.database.read() as connection:
            assert connection.execute(text("SELECT commands FROM enriched_sessions")).scalar_one() == 1


@pytest.mark.sampled
def test_views_tell_every_deed(open_enricher: Open) -> None:
    """A row an item, which add up to the counts of the sessions."""
    with open_enricher() as enricher, enricher.database.read() as connection:

        def one(query: str) -> Any:
            return connection.execute(text(query)).scalar_one()

        assert one("SELECT sum(attempts) FROM session_logins") == one(
            "SELECT sum(login_failures + login_successes) FROM sessions"
        )
        assert one("SELECT count(*) FROM session_logins WHERE success") > 100
        assert one("SELECT count(*) FROM session_commands") == one("SELECT sum(commands) FROM sessions")
        assert one("SELECT sum(requests) FROM session_tunnels WHERE port > 0") == one(
            "SELECT sum(tunnel_requests) FROM sessions"
        )
        assert one("SELECT count(*) FROM session_files WHERE how = 'upload'") == one(
            "SELECT sum(uploads) FROM sessions"
        )
        first = connection.execute(
            text("SELECT * FROM session_commands ORDER BY day, started_at, position LIMIT 1")
        ).mappings()
        assert list(first.one()) == [
            "sensor", "session_id", "started_at", "day", "src_ip", "position", "command_line"
        ]  # fmt: skip
        answers = connection.execute(
            text("SELECT service, count(*) FROM answers WHERE status = 'found' GROUP BY service")
        )
        assert [tuple(row) for row in answers] == [
            ("dshield", one("SELECT count(*) FROM enrichment_cache WHERE status = 'found'"))
        ]
        differing = one("""
                SELECT count(*) FROM sessions AS s JOIN enriched_sessions AS e
                ON e.sensor = s.sensor AND e.session_id = s.session_id AND e.event_start = s.started_at
                WHERE CAST(s.logins AS text) <> CAST(e.logins AS text)
                   OR CAST(s.command_lines AS text) <> CAST(e.command_lines AS text)
                   OR CAST(s.tunnels AS text) <> CAST(e.tunnels AS text)
                   OR CAST(s.files AS text) <> CAST(e.files AS text)
            """)
        assert differing == 0


def test_hostile_deeds_are_kept_as_they_are(open_enricher: Open, tmp_path: Path) -> None:
    """Nothing in them breaks a statement, a COPY or a view."""
    hostile = [
        "a\tb\\N\\.",
        "'; DROP TABLE sessions; --",
        "x\r\ny",
        "\u2028\u202e{}[]",
        '"\\u0000"',
        "ü\ud800",
    ]
    records = [event("command.input", at=f"2025-11-01T10:00:0{n}Z", input=t) for n, t in enumerate(hostile)]
    records += [
        event("login.failed", at=f"2025-11-01T10:01:0{n}Z", username=t, password=t)
        for n, t in enumerate(hostile)
    ]
    path = tmp_path / "logs"
    path.mkdir()
    (path / "cowrie.json").write_text("".join(json.dumps(record) + "\n" for record in records))
    with open_enricher(COWRIE_LOG_DIR=str(path)) as enricher:
        enricher.run(Days(FIRST, FIRST))
        with enricher.database.read() as connection:
            lines = connection.execute(text("SELECT command_line FROM session_commands ORDER BY position"))
            assert list(lines.scalars()) == [*hostile[:-1], "ü\ufffd"]
            names = connection.execute(text("SELECT username FROM session_logins ORDER BY position"))
            assert list(names.scalars()) == [*hostile[:-1], "ü\ufffd"]


def test_pieces_have_the_columns_of_sessions() -> None:
    """So that a row is a piece where it is the only one."""
    assert [c.name for c in table_of(SessionPiece).columns] == [
        c.name for c in table_of(SessionRecord).columns
    ]
