"""`make soak`: days of traffic in minutes, under fire; the exit code is 1 when an invariant did not hold.

Real `cowrie-enrich` processes, PostgreSQL, Redis and the simulated services over HTTP and whois. While logs
grow and rotate, every kind of fault is done `--faults` times in random order (`--seed`). Then the traffic
ends, one last run finishes what is open, and the judge looks at the simulator's own log and at the rows: no
limit exceeded, nothing asked inside a Retry-After, nothing asked again that had been answered, nothing lost,
and every row as it is in an undisturbed run over the same logs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from cowrie_enrich_dagster.enrichment import Enricher
from cowrie_enrich_dagster.services import Limits
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.simulator import (
    FixedWindow,
    Limit,
    SimulatorClient,
    SimulatorConfig,
    SimulatorProcess,
    TokenBucket,
)
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import upgrade
from cowrie_enrich_dagster.vocabulary import Days
from tests import all_services
from tests.servers import PostgresServer, RedisServer
from tests.soak import judge
from tests.soak.chaos import Chaos
from tests.soak.crew import Crew, run_to_the_end
from tests.soak.traffic import Traffic

RATES = {
    "dshield": 4.0, "abuseipdb": 3.0, "urlhaus": 3.0, "spur": 2.0, "hibp": 2.0, "cymru": 0.5,
    "virustotal": 4 / 60,
}  # fmt: skip
"""Requests a second, ours and the server's alike; VirusTotal's is its real one."""
WORKERS = 3
DAY_S = 15.0
SESSIONS_A_DAY = 500
SETTLE_S = 900.0


def limits() -> dict[str, Limit]:
    """Each service as strict as can be: no burst; VirusTotal counts its minute."""
    strict = {
        name: Limit(rules=(TokenBucket(per_minute=60 * rate, burst=1),)) for name, rate in RATES.items()
    }
    return {**strict, "virustotal": Limit(rules=(FixedWindow(limit=4, seconds=60, align="clock"),))}


def environment(
    home: Path, logs: Path, url: str, simulator: SimulatorClient, redis: RedisServer
) -> dict[str, str]:
    """One worker's settings."""
    return {
        "COWRIE_ENRICH_HOME": str(home),
        "COWRIE_LOG_DIR": str(logs),
        "DATABASE_URL": url,
        "DSHIELD_EMAIL": "soak@example.org",
        "ENRICH_FEEDS": "none",
        "ENRICH_MAX_WAIT_SECONDS": "8",
        "ENRICH_SERVICES": ",".join(RATES),
        "REDIS_PORT": str(redis.port),
        **{f"{name.upper()}_API_URL": simulator.url(name) for name in RATES},
        **{f"{name.upper()}_RATE_LIMIT": str(rate) for name, rate in RATES.items()},
        **{f"{name.upper()}_API_KEY": "key" for name in all_services.KEYED if name in RATES},
    }


def migrated(server: PostgresServer) -> str:
    """The URL of a new database with its tables."""
    url = server.new_database()
    with closing(Database(url)) as database:
        upgrade(database)
    return url


def rows_of(url: str) -> dict[Any, dict[str, Any]]:
    """Every session's row, without what depends on when it was asked."""
    query = text("""
        SELECT s.sensor, s.session_id, s.started_at, s.day, s.event_count, s.src_ip, s.username,
            s.file_hashes, e.source_ip,
            e.source_as_number, e.source_as_organization_name, e.source_geo_country_iso_code,
            e.source_abuse_score, e.source_reports, e.source_is_proxy, e.file_malicious, e.file_label,
            e.passwords_breached, e.passwords_novel, e.intel
        FROM sessions AS s LEFT JOIN enriched_sessions AS e
        ON e.sensor = s.sensor AND e.session_id = s.session_id AND e.event_start = s.started_at
    """)
    with closing(Database(url)) as database, database.read() as connection:
        found = {}
        for row in connection.execute(query).mappings():
            intel = row["intel"] or {}
            told = {f"{name} status": (intel.get(name) or {}).get("status") for name in RATES}
            found[row["sensor"], row["session_id"], row["started_at"]] = {**row, **told, "intel": None}
    return found


def undisturbed(server: PostgresServer, base: dict[str, str], days: Days) -> dict[Any, dict[str, Any]]:
    """The same logs without faults and limits, in a database of their own."""
    url = migrated(server)
    unlimited = Limits(rate=500, source="the soak's yardstick")
    with SimulatorProcess() as simulator, all_services.limits_of(dict.fromkeys(RATES, unlimited)):
        changes = {f"{name.upper()}_API_URL": simulator.url(name) for name in RATES}
        changes |= {f"{name.upper()}_RATE_LIMIT": "500" for name in RATES}
        changes |= {"DATABASE_URL": url, "ENABLE_REDIS_CACHE": "false", "ENRICH_MAX_RUN_SECONDS": "3600"}
        settings = load_settings({**base, **changes})
        with Enricher(settings) as enricher:
            report = enricher.run(days)
    assert report.status == "complete", report.as_dict()
    return rows_of(url)


def soak(faults: int, seed: int, say: Console) -> dict[str, Any]:
    """One soak; the figures, and under `violations` what did not hold, by invariant."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(closing(PostgresServer()))
        redis = stack.enter_context(closing(RedisServer()))
        config = SimulatorConfig(limits={**limits()})
        simulator = stack.enter_context(SimulatorProcess(config, log_file=home / "requests.jsonl"))
        logs = home / "logs"
        traffic = Traffic(logs, ips=40 + 40 * faults, day_s=DAY_S, sessions_a_day=SESSIONS_A_DAY, seed=seed)
        base = environment(home, logs, migrated(server), simulator, redis)
        crew = Crew(base, home, lambda: traffic.days, WORKERS, seed)
        chaos = Chaos(crew, simulator, redis, server, tuple(RATES), seed)
        began = time.monotonic()
        traffic.start()
        with crew:
            time.sleep(5)
            for number, kind in enumerate(chaos.wreak(faults), 1):
                say.print(f"{time.monotonic() - began:5.0f} s  {number:3}  {kind}", highlight=False)
        traffic.stop()
        under_fire_s = time.monotonic() - began
        days = Days(traffic.days[0], traffic.days[-1])
        say.print(f"{len(traffic.days)} days of traffic written; finishing what is open")
        last = run_to_the_end({**base, "ENRICH_MAX_WAIT_SECONDS": "120"}, str(days), SETTLE_S, say.print)
        log = simulator.requests()
        rows = rows_of(base["DATABASE_URL"])
        yardstick = undisturbed(server, base, days)
        with closing(Database(base["DATABASE_URL"])) as database, database.read() as connection:
            query = text("SELECT count(*) FROM lookups WHERE next_attempt_at IS NOT NULL")
            still_open = connection.execute(query).scalar_one()
    lost = {
        "sessions": sum(traffic.sessions.values()) - len(rows),
        "events": traffic.events - sum(row["event_count"] for row in rows.values()),
        "rubbish lines": traffic.rubbish - int(str(last["quarantined"])),
        "open lookups": still_open,
    }
    violations = {
        "over a limit": judge.over_limit(log),
        "asked inside a Retry-After": judge.asked_in_a_stop(log, chaos.stops),
        "asked again": judge.asked_again(log, crew.kills),
        "lost": [f"{number} {what}" for what, number in lost.items() if number],
        "not as in an undisturbed run": judge.differences(rows, yardstick),
        "workers that failed by themselves": judge.failed_workers(crew.endings, chaos.outages),
    }
    return {
        "seed": seed,
        "seconds_under_fire": round(under_fire_s),
        "seconds_in_all": round(time.monotonic() - began),
        "days_of_traffic": len(traffic.days),
        "sessions": len(rows),
        "events": traffic.events,
        "rubbish_lines": traffic.rubbish,
        "addresses": len({row["src_ip"] for row in rows.values()}),
        "faults": chaos.counts,
        "workers": {
            "killed": len(crew.kills),
            "ended": len(crew.endings),
            "ended with an error in an outage": sum(e.exit_code != 0 for e in crew.endings),
        },
        "requests": dict(Counter(record.service for record in log)),
        "requests without an answer": sum(not judge.is_answered(record) for record in log),
        "answers that died with their worker": judge.excused(log, crew.kills),
        "violations": violations,
    }


def main() -> int:
    """Soak and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faults", type=int, default=10, help="of each kind (default: 10)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    arguments = parser.parse_args()
    say = Console(stderr=True)
    figures = soak(arguments.faults, arguments.seed, say)
    violations: dict[str, list[str]] = figures["violations"]
    table = Table("figure", "value", show_edge=False)
    for name, value in figures.items():
        if name != "violations":
            parts = value.items() if isinstance(value, dict) else [("", value)]
            for part, number in parts:
                table.add_row(f"{name} {part}".strip().replace("_", " "), f"{number:,}")
    for name, found in violations.items():
        table.add_row(name, f"[red]{len(found)}[/red]" if found else "0")
    (say if arguments.json else Console()).print(table)
    for name, found in violations.items():
        for line in found[:20]:
            say.print(f"{name}: {line}", style="red", markup=False)
    if arguments.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    return int(any(violations.values()))


if __name__ == "__main__":
    sys.exit(main())
