"""The queue with a million open lookups: what a claim, a count, a refusal and a plan cost; its size.

    python -m benchmarks.queue [--json] [--open N] [--claims N] [--engine ENGINE]

First `--open` lookups are opened, 50,000 of them through the queue, in lots. Then: claims, one by one, as
workers make them; the counts that drains, ledger and sensor ask for; a drain that the limiter refuses; the
plan of a day with 3,000 addresses. Last, `--claims` keys are claimed and given an end in lots of 25, with the
sizes of table and indexes before and after, and after what vacuums them.
"""

from __future__ import annotations

import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

from sqlalchemy import bindparam, text

from benchmarks.report import Report, at_most, command_line
from benchmarks.workload import database_of
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.lookups.model import Outcome, Wanted
from cowrie_enrich_dagster.lookups.queue import LookupQueue
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import upgrade
from cowrie_enrich_dagster.storage.tables import UtcDateTime
from cowrie_enrich_dagster.vocabulary import Days, LookupStatus
from tests.logs import routable_ips, write_logs

SERVICE = "dshield"
LOT = 5_000
BY_LOTS = 50_000
SINGLE = 300
DAY = Days.parse("2025-11-01")


def milliseconds(work: Callable[[], object], times: int) -> tuple[float, float]:
    """The median and the 99th percentile."""
    spans = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        spans.append((time.perf_counter() - started) * 1000)
    spans.sort()
    return round(statistics.median(spans), 3), round(spans[int(len(spans) * 0.99)], 3)


def wanted(number: int) -> Wanted:
    """One of a million addresses: few got in, days spread over a year."""
    ip = f"{number % 200 + 20}.{number // 200 % 250}.{number // 50_000}.9"
    value_class = 2 if number % 997 == 0 else 1 if number % 101 == 0 else 0
    return Wanted(
        ip, value_class * 5_000 + number * 7 % 400, date(2025, 10, 31) - timedelta(days=number % 365)
    )


def fill(database: Database, number: int) -> None:
    """The rest of the queue by one statement, so that the setting up does not take the time."""
    numbers = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :number) SELECT i FROM n"
        if database.is_sqlite
        else "SELECT i FROM generate_series(1, :number) AS i"
    )
    day = (
        "date('2025-10-31', '-' || (i % 365) || ' days')"
        if database.is_sqlite
        else "date '2025-10-31' - i % 365"
    )
    statement = text(f"""
        INSERT INTO lookups (service, key, priority, value_class, last_day, is_refresh, ready, status,
            attempts, next_attempt_at, created_at, opened_at, updated_at)
        SELECT :service, 'filled-' || i, i * 7 % 400, 0, {day}, false, true, 'deferred',
            0, :now, :now, :now, :now
        FROM ({numbers}) AS numbers
    """).bindparams(bindparam("now", type_=UtcDateTime()))
    with database.write() as connection:
        now = database.now(connection)
        connection.execute(statement, {"service": SERVICE, "number": number, "now": now})


def sizes(database: Database) -> float:
    """MiB of the queue's table and indexes; on SQLite, whose file holds all, of the pages in use."""
    with database.read() as connection:
        if database.is_sqlite:
            pages = "SELECT page_count - freelist_count FROM pragma_page_count, pragma_freelist_count"
            return round(connection.execute(text(pages)).scalar_one() * 4096 / 2**20, 1)
        total = "SELECT pg_total_relation_size('lookups')"
        return round(connection.execute(text(total)).scalar_one() / 2**20, 1)


def finish(database: Database, queue: LookupQueue, keys: list[str]) -> None:
    with database.write() as connection:
        until = database.now(connection) + timedelta(days=7)
        outcomes = [Outcome(key, LookupStatus.FOUND, valid_until=until) for key in keys]
        queue.finish(connection, SERVICE, outcomes)


def measure(report: Report, engine: str, url: str, folder: Path, *, open_: int, claims: int) -> None:
    os.environ |= {
        "DATABASE_URL": url, "COWRIE_ENRICH_HOME": str(folder), "ENRICH_SERVICES": SERVICE,
        "ENABLE_REDIS_CACHE": "false", "DSHIELD_EMAIL": "bench@example.org",
        "COWRIE_LOG_DIR": str(write_logs(folder / "logs", routable_ips(3_000))),
    }  # fmt: skip
    upgrade(Database(url))
    with Enricher(load_settings()) as enricher:
        database, queue = enricher.database, enricher.queue
        started = time.perf_counter()
        for start in range(0, BY_LOTS, LOT):
            queue.open(SERVICE, map(wanted, range(start, start + LOT)))
        report.add(engine, "opened a second, in lots", round(BY_LOTS / (time.perf_counter() - started)))
        fill(database, open_ - BY_LOTS)
        if not database.is_sqlite:
            with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text("ANALYZE lookups"))
        claim = lambda: queue.claim(SERVICE, "bench", 1)  # noqa: E731
        median, worst = milliseconds(claim, SINGLE)
        report.add(engine, "claim, median ms", median, at_most(2.0))
        report.add(engine, "claim, p99 ms", worst)
        queue.release("bench")
        report.add(engine, "backlog of all services, median ms",
                   milliseconds(queue.backlog, 20)[0], at_most(20.0))  # fmt: skip
        report.add(engine, "ledger, median ms", milliseconds(enricher.ledger, 20)[0], at_most(20.0))
        report.add(engine, "askable, median ms", milliseconds(enricher.askable, 20)[0], at_most(20.0))
        enricher.source(SERVICE).limiter.pause(3600)
        before = sizes(database)
        started = time.perf_counter()
        enricher.drain()
        report.add(engine, "a refused drain, ms", round((time.perf_counter() - started) * 1000, 1))
        report.add(
            engine, "what it added to the queue, MiB", round(sizes(database) - before, 1), at_most(0.2)
        )
        enricher.ingest(DAY)
        enricher.summarise_addresses(DAY)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        started = time.perf_counter()
        plan = enricher.plan_and_open(DAY).services[SERVICE]
        report.add(
            engine, f"plan and open {plan.wanted} of a day, s", round(time.perf_counter() - started, 2)
        )
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - memory
        report.add(engine, "memory it took, MiB", round(grown, 1), at_most(50))
        report.add(engine, "size before, MiB", sizes(database))
        started = time.perf_counter()
        done = 0
        while done < claims and (keys := queue.claim(SERVICE, "bench", 25)):
            finish(database, queue, keys)
            done += len(keys)
        span = time.perf_counter() - started
        report.add(engine, f"{done} claimed and closed in lots of 25, a second", round(done / span))
        report.add(engine, "size after, MiB", sizes(database))
        queue.counts.fold()
        median, worst = milliseconds(lambda: finish(database, queue, claim()), SINGLE)
        report.add(engine, "claim and end after that, median ms", median)
        if not database.is_sqlite:
            with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text("VACUUM lookups"))
            report.add(engine, "size after a vacuum, MiB", sizes(database))


def main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--open", type=int, default=1_000_000)
    parser.add_argument("--claims", type=int, default=1_000_000)
    parser.add_argument("--engine", choices=["postgresql", "sqlite"], action="append")
    arguments = parser.parse_args()
    report = Report("queue", {"open": arguments.open})
    for engine in arguments.engine or ["sqlite", "postgresql"]:
        with tempfile.TemporaryDirectory() as folder, database_of(engine, Path(folder)) as url:
            measure(report, engine, url, Path(folder), open_=arguments.open, claims=arguments.claims)
    return report.finish(as_json=arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
