"""Sessions enriched per second with every answer cached, beside one session at a time; and cold, by calls.

    python -m benchmarks.enrichment [--json]

Warm: 20,000 sessions from 2,000 addresses are in the database, and every answer is in one tier. Measured is
what a run does after reading the logs: open the pipeline, plan, find nothing to ask, write the enriched rows,
close. Answers that are to come from files are taken out of the database before each run.

One by one: the way of the reference implementation (design.md section 2), measured here, in the same run, on
the same servers, rows and answers, with this project's own cache: for each session in turn one `cache.get`,
one row upserted in a transaction of its own, and a status file rewritten. It is kinder than the original,
which goes through an ORM. Both are the best of three. The reference implementation itself is not run: its own
figures are quoted (`REFERENCE`).

Cold: no address is known. `cowrie-enrich run` in one and in four processes asks a simulator without limits,
in a process of its own, at two configured rates; calls are counted by the simulator.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from benchmarks.report import Report, at_least, command_line, exactly
from benchmarks.workload import (
    SERVICE,
    answer_everything,
    environment,
    migrated,
    reports_of,
    start_runs,
)
from cowrie_enrich_dagster.cache import CacheEntry
from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.simulator import SimulatorProcess
from cowrie_enrich_dagster.storage.tables import EnrichedSession, SessionRecord, table_of
from cowrie_enrich_dagster.vocabulary import Days
from tests.logs import routable_ips, write_logs
from tests.servers import PostgresServer, RedisServer

IPS = 2_000
SESSIONS_EACH = 10
SESSIONS = IPS * SESSIONS_EACH
ONE_BY_ONE = 2_000
"""So many of the sessions are enriched one by one: each takes as long as the others."""
REFERENCE = {"slowest": 457, "fastest": 487}
"""Sessions per second of the reference implementation, on its own; quoted from design.md section 10."""
TIMES_THE_REFERENCE = 50
COLD_RATES = (100, 2_000)
"""Requests per second that are configured: one that the limiter can give, and one beyond it."""
TIMES = 3
DAY = Days.parse("2025-11-01")
_SESSIONS, _ENRICHED = table_of(SessionRecord), table_of(EnrichedSession)


@dataclass(frozen=True)
class Setup:
    """Settings, the tier that is to have all answers, and how they come to be there and nowhere above."""

    name: str
    settings: dict[str, str]
    tier: str
    place: Callable[[Enricher, list[CacheEntry]], object]


def in_database(enricher: Enricher, entries: list[CacheEntry]) -> None:
    """Where `answer_everything` left them."""


def in_redis(enricher: Enricher, entries: list[CacheEntry]) -> None:
    enricher.cache.remember(entries)


def in_files(enricher: Enricher, entries: list[CacheEntry]) -> None:
    assert enricher.cache.filesystem is not None
    enricher.cache.filesystem.set_many(entries)
    enricher.cache.database.delete(SERVICE)


def all_at_once(setup: Setup, entries: list[CacheEntry]) -> int:
    """Sessions per second of a run, the logs being read."""
    with Enricher(load_settings(setup.settings)) as enricher:
        setup.place(enricher, entries)
    started = time.perf_counter()
    with Enricher(load_settings(setup.settings)) as enricher:
        plan = enricher.plan(DAY)
        joined = enricher.enrich(DAY)
    took = time.perf_counter() - started
    assert plan.services[SERVICE].cached == {setup.tier: IPS}
    assert joined.sessions == SESSIONS
    assert joined.coverage(SERVICE) == 1.0
    return round(SESSIONS / took)


def one_by_one(setup: Setup, status_file: Path) -> int:
    """Sessions per second of the loop that this project does without."""
    with Enricher(load_settings(setup.settings)) as enricher:
        insert = (sqlite if enricher.database.is_sqlite else postgresql).insert(_ENRICHED)
        changed = {column.name: insert.excluded[column.name] for column in _ENRICHED.columns}
        upsert = insert.on_conflict_do_update(
            index_elements=["sensor", "session_id", "event_start"], set_=changed
        )
        with enricher.database.read() as connection:
            sessions = connection.execute(select(_SESSIONS).limit(ONE_BY_ONE)).all()
        started = time.perf_counter()
        for number, session in enumerate(sessions, 1):
            hit = enricher.cache.get(SERVICE, session.src_ip)
            assert hit is not None
            assert hit.tier == setup.tier
            facts = enricher.services[SERVICE].facts(hit.entry.payload or {})
            row = {
                "sensor": session.sensor,
                "session_id": session.session_id,
                "day": session.day,
                "event_start": session.started_at,
                "event_end": session.ended_at,
                "event_duration_ms": session.duration_ms,
                "network_protocol": session.protocol,
                "source_ip": session.src_ip,
                "login_failures": session.login_failures,
                "login_successes": session.login_successes,
                "commands": session.commands,
                "downloads": session.downloads,
                "uploads": session.uploads,
                "source_scope": "global",
                "source_as_number": facts.as_number,
                "source_as_organization_name": facts.as_organization,
                "source_geo_country_iso_code": facts.country_iso_code,
                "intel": {SERVICE: hit.entry.payload},
                "knowledge": "unknown",
            }
            with enricher.database.write() as connection:
                connection.execute(upsert, row)
            status_file.write_text(json.dumps({"done": number, "of": len(sessions)}))
        return round(ONE_BY_ONE / (time.perf_counter() - started))


def add_warm(report: Report, setup: Setup, status_file: Path) -> None:
    """One setup, all at once and one by one."""
    entries = answer_everything(setup.settings, DAY)
    speed = max(all_at_once(setup, entries) for _ in range(TIMES))
    report.add(setup.name, "sessions_per_s", speed)
    for which, quoted in REFERENCE.items():
        reach = at_least(TIMES_THE_REFERENCE)
        report.add(setup.name, f"times_the_{which}_reference_as_quoted", round(speed / quoted, 1), reach)
    if setup.tier != "filesystem":  # from where a single lookup, too, moves the answer up
        loop = max(one_by_one(setup, status_file) for _ in range(TIMES))
        report.add(setup.name, "one_by_one_sessions_per_s", loop)
        report.add(setup.name, "times_one_by_one", round(speed / loop, 1))


def add_cold(report: Report, settings: dict[str, str], rate: int, processes: int) -> None:
    """As many processes as told ask about every address, then one more finds nothing left to ask."""
    where = f"cold, PostgreSQL, {processes} process{'es' if processes > 1 else ''}, rate {rate:,}/s"
    with SimulatorProcess() as simulator:
        url = simulator.url(SERVICE)
        settings = {**settings, "DSHIELD_API_URL": url, "DSHIELD_RATE_LIMIT": str(rate)}
        reports_of(start_runs(settings, str(DAY), processes))
        log = simulator.requests(SERVICE)
        calls = simulator.calls_per_key(SERVICE)
        again = reports_of(start_runs(settings, str(DAY), 1))[0]
        report.add(where, "calls", len(log), exactly(IPS))
        report.add(where, "addresses_asked", len(calls), exactly(IPS))
        report.add(where, "calls_per_s", round((len(log) - 1) / (log[-1].t - log[0].t)))
        report.add(where, "calls_of_a_second_run", len(simulator.requests(SERVICE)) - len(log), exactly(0))
        report.add(where, "coverage", again["coverage"][SERVICE], exactly(1))


def run() -> Report:
    """Every figure, on servers started for it."""
    report = Report("enrichment", {"sessions": SESSIONS, "addresses": IPS, "one_by_one": ONE_BY_ONE})
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        logs = write_logs(home / "logs", routable_ips(IPS), sessions_each=SESSIONS_EACH)
        postgres = stack.enter_context(closing(PostgresServer(durable=True)))
        redis = stack.enter_context(closing(RedisServer()))

        def on_postgres(**more: str) -> dict[str, str]:
            return environment(home, logs, migrated(postgres.new_database()), **more)

        redis_on = {"ENABLE_REDIS_CACHE": "true", "REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(redis.port)}
        on_sqlite = environment(home, logs, migrated(f"sqlite:///{home}/bench.db"))
        for setup in (
            Setup("warm, PostgreSQL", on_postgres(), "database", in_database),
            Setup("warm, Redis before PostgreSQL", on_postgres(**redis_on), "redis", in_redis),
            Setup("warm, SQLite", on_sqlite, "database", in_database),
            Setup(
                "warm, files, PostgreSQL empty",
                on_postgres(CACHE_DIR=str(home / "files")),
                "filesystem",
                in_files,
            ),
        ):
            add_warm(report, setup, home / "status.json")
        for rate, processes in product(COLD_RATES, (1, 4)):
            add_cold(report, on_postgres(), rate, processes)
    return report


if __name__ == "__main__":
    arguments = command_line(__doc__).parse_args()
    raise SystemExit(run().finish(as_json=arguments.json))
