"""Logs to enriched sessions with every answer cached: time, growth and memory, stage by stage.

    python -m benchmarks.pipeline --sessions 5000 50000 500000 [--engine postgresql|sqlite] [--json]

Each size runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson

from benchmarks.generate import generate
from cowrie_enrich_dagster.cache import CacheEntry
from cowrie_enrich_dagster.enrichment.enricher import Enricher
from cowrie_enrich_dagster.settings import load_settings
from cowrie_enrich_dagster.storage.engine import Database
from cowrie_enrich_dagster.storage.migrate import upgrade
from cowrie_enrich_dagster.vocabulary import Days, utc_now
from tests.servers import PostgresServer

DAYS = 30
LAST_DAY = "2025-11-30"


def measure(url: str, logs: Path) -> dict[str, Any]:
    """One warm run over the logs, stage by stage; a first run fills what the warm one finds."""
    database = Database(url)
    upgrade(database)
    database.close()
    days = Days.parse(f"2025-11-01..{LAST_DAY}")
    environment = {
        "COWRIE_LOG_DIR": str(logs),
        "DATABASE_URL": url,
        "ENABLE_REDIS_CACHE": "false",
        "ENRICH_SERVICES": "dshield",
        "COWRIE_ENRICH_HOME": str(logs),
    }
    with Enricher(load_settings(environment)) as enricher:
        enricher.ingest(days)
        enricher.summarise_addresses(days)
        wanted = enricher.plan(days).services["dshield"].wanted
        now = utc_now()
        enricher.cache.set_many(
            CacheEntry.of_answer("dshield", ip, _answer(ip), fetched_at=now, ttl=timedelta(days=7))
            for ip in wanted
        )
    stages: dict[str, float] = {}
    with Enricher(load_settings(environment)) as enricher:
        started = time.perf_counter()
        report = enricher.ingest(days)
        stages["ingest"] = time.perf_counter() - started
        summarised = enricher.summarise_addresses(days)
        stages["addresses"] = time.perf_counter() - started - sum(stages.values())
        plan = enricher.plan(days)
        stages["plan"] = time.perf_counter() - started - sum(stages.values())
        joined = enricher.enrich(days)
        stages["enrich"] = time.perf_counter() - started - sum(stages.values())
    seconds = sum(stages.values())
    assert joined.sessions == report.sessions
    assert not plan.services["dshield"].wanted
    warm = stages["plan"] + stages["enrich"]
    return {
        "sessions": report.sessions,
        "events": report.read.events,
        "addresses": summarised.distinct,
        "seconds": round(seconds, 2),
        "stages_s": {name: round(value, 2) for name, value in stages.items()},
        "ingest_events_per_s": round(report.read.events / stages["ingest"]),
        "cached_enrichment_sessions_per_s": round(report.sessions / warm),
        "bare_json_s": round(_bare_decoding(logs), 2),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def _answer(ip: str) -> dict[str, Any]:
    number = sum(map(ord, ip))
    facts = {"number": ip, "count": number, "attacks": number % 90, "maxdate": "2025-11-01"}
    return {
        "ip": {
            **facts,
            "as": 64_000 + number % 500,
            "asname": "EXAMPLE-NET",
            "ascountry": "NL",
            "comment": "x" * 200,
        }
    }


def _bare_decoding(logs: Path) -> float:
    started = time.perf_counter()
    for path in logs.rglob("cowrie.json*"):
        with path.open("rb") as file:
            for line in file:
                orjson.loads(line)
    return time.perf_counter() - started


def main() -> None:
    """Generate the logs of each size and measure each in a child process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, nargs="+", default=[5_000, 50_000, 500_000])
    parser.add_argument("--engine", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    parser.add_argument("--child", nargs=2, metavar=("URL", "LOGS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.child[0], Path(arguments.child[1]))))
        return
    server = PostgresServer() if arguments.engine == "postgresql" else None
    results = []
    try:
        for sessions in arguments.sessions:
            with tempfile.TemporaryDirectory() as folder:
                logs = Path(folder) / "logs"
                generate(logs, sessions=sessions, days=DAYS, sensors=4, ips=max(100, sessions // 10))
                url = server.new_database() if server else f"sqlite:///{folder}/bench.db"
                child = [sys.executable, "-m", "benchmarks.pipeline", "--child", url, str(logs)]
                results.append(json.loads(subprocess.run(child, check=True, stdout=subprocess.PIPE).stdout))
    finally:
        if server:
            server.close()
    if not arguments.json:
        for result in results:
            print("  ".join(f"{name}={value}" for name, value in result.items()))
    print(json.dumps({"engine": arguments.engine, "runs": results}))


if __name__ == "__main__":
    main()
